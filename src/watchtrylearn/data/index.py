"""The derived files of a dataset: ``info.json``, ``tasks.parquet`` and ``stats.json``.

LeRobot needs them; this library never believes them. They are a function of the episode files, and this
module is that function.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from watchtrylearn.data import layout
from watchtrylearn.data.layout import Header
from watchtrylearn.data.parquet import encode, matrix, read_table, texts
from watchtrylearn.data.records import Record
from watchtrylearn.data.stats import QUANTILES, combine
from watchtrylearn.files import read_json, write_atomic, write_json
from watchtrylearn.types import WtlError


def sentences(records: Sequence[Record]) -> list[str]:
    """LeRobot's tasks: the different sentences, numbered in the order of first appearance."""
    return list(dict.fromkeys(record.task.sentence for record in records))


def info(header: Header, records: Sequence[Record]) -> dict[str, Any]:
    """What ``info.json`` should say."""
    frames = sum(record.length for record in records)
    return layout.info(header, len(records), frames, len(sentences(records)))


def write_index(root: Path, header: Header, records: Sequence[Record]) -> None:
    """Write the derived files; ``info.json`` last, so that its counters vouch for the others."""
    write_atomic(root / layout.TASKS, encode(tasks_table(sentences(records))))
    write_json(root / layout.STATS, statistics(root, header, records))
    write_json(root / layout.INFO, info(header, records))


def stale(root: Path, header: Header, records: Sequence[Record]) -> list[str]:
    """How the derived files differ from what the episodes say, a sentence each."""
    checks = {layout.INFO: _stale_info, layout.TASKS: _stale_tasks, layout.STATS: _stale_statistics}
    found = []
    for file, check in checks.items():
        try:
            found += [f"{file}: {text}" for text in check(root / file, header, records)]
        except WtlError as error:
            found.append(f"{file}: {error}")
    return found


def _stale_info(path: Path, header: Header, records: Sequence[Record]) -> list[str]:
    written = read_json(path)
    if not isinstance(written, dict):
        return ["it is not a JSON object"]
    return [
        f"{key} is {written.get(key)!r}, the episode files say {value!r}"
        for key, value in info(header, records).items()
        if written.get(key) != value
    ]


def _stale_tasks(path: Path, header: Header, records: Sequence[Record]) -> list[str]:
    right = texts(read_table(path), "task", path) == sentences(records)
    return [] if right else ["the sentences are not those of the episodes"]


def _stale_statistics(path: Path, header: Header, records: Sequence[Record]) -> list[str]:
    sound = any(not record.diverged for record in records)
    count = sum(record.length for record in records if not record.diverged)
    written = read_json(path)
    if not isinstance(written, dict) or set(written) != (set(layout.features(header)) if sound else set()):
        return ["the features are not those of the dataset"]
    counts = {name: dict(entry).get("count") for name, entry in written.items() if isinstance(entry, dict)}
    return [f"{name} counts {counts.get(name)} steps, not {count}" for name in written if counts.get(name) != [count]]


def tasks_table(tasks: Sequence[str]) -> pa.Table:
    """Sentence and number, with the metadata that make pandas (so LeRobot) take the sentence as the index."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})

    def column(name: str | None, kind: str, stored: str) -> dict[str, Any]:
        return {
            "name": name,
            "field_name": name,
            "pandas_type": kind,
            "numpy_type": stored,
            "metadata": {"encoding": "UTF-8"} if name is None else None,
        }

    pandas = {
        "index_columns": ["task"],
        "column_indexes": [column(None, "unicode", "object")],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def statistics(root: Path, header: Header, records: Sequence[Record]) -> dict[str, Any]:
    """What ``stats.json`` should say: over all episodes except those whose physics broke down."""
    sound = np.array([not record.diverged for record in records], bool)
    names = layout.features(header) if sound.any() else {}
    wanted = ("min", "max", "mean", "std", "count", *QUANTILES)
    columns = [f"stats/{name}/{statistic}" for name in names for statistic in wanted]
    paths = [root / layout.numbered(layout.EPISODES_PATH, n) for n in dict.fromkeys(r.file for r in records)]
    parts = [(path, read_table(path, columns)) for path in paths] if columns else []

    def whole(name: str) -> np.ndarray:
        values: np.ndarray = np.concatenate([matrix(table, name, path) for path, table in parts])
        return np.compress(sound, values, axis=0)

    return {name: combine({s: whole(f"stats/{name}/{s}") for s in wanted}) for name in names}
