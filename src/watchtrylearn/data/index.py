"""The derived files of a dataset: ``info.json``, ``tasks.parquet`` and ``stats.json``.

LeRobot needs them; this library never believes them. They are a function of the episode files, and this
module is that function.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from watchtrylearn.data import images, layout
from watchtrylearn.data.layout import DATA_PATH, EPISODES_PATH, Header, numbered, read_checked
from watchtrylearn.data.parquet import decode_as, encode, matrix, read_table, texts
from watchtrylearn.data.records import Columns, Record, read_columns
from watchtrylearn.data.stats import COMBINED, combine, quantiles
from watchtrylearn.system.files import JSON_LIMIT, contained, read_typed, write_atomic, write_json
from watchtrylearn.types import WtlError

# feature -> statistic -> number by number; of an image, colour by colour, each as [[number]]
Statistics = dict[str, dict[str, list[float | list[list[float]]]]]


def sentences(records: Sequence[Record]) -> list[str]:
    """LeRobot's tasks: the different sentences, numbered in the order of first appearance."""
    return list(dict.fromkeys(record.task.sentence for record in records))


def info(header: Header, records: Sequence[Record]) -> dict[str, Any]:
    """What ``info.json`` should say."""
    frames = sum(record.length for record in records)
    return layout.info(header, len(records), frames, len(sentences(records)))


def write_index(root: Path, header: Header, records: Sequence[Record]) -> None:
    """Write the derived files; ``info.json`` last, so that its counters vouch for the others."""
    write_atomic(contained(root, layout.TASKS), encode(tasks_table(sentences(records))))
    limit = _limit(header)
    write_json(contained(root, layout.STATS), statistics(root, header, records), limit)
    write_json(contained(root, layout.INFO), info(header, records), limit)


def _limit(header: Header) -> int:
    """Bytes that a derived JSON file may have: more than others, by the names of all numbers (in ``info.json``) and
    nine statistics of each, of less than 50 bytes (in ``stats.json``)."""
    return JSON_LIMIT + len(json.dumps(layout.features(header))) + 9 * 50 * layout.numbers_per_step(header)


def stale(root: Path, header: Header, records: Sequence[Record]) -> list[str]:
    """How the derived files differ from what the episodes say, a sentence each."""
    checks = {layout.INFO: _stale_info, layout.TASKS: _stale_tasks, layout.STATS: _stale_statistics}
    found = []
    for file, check in checks.items():
        try:
            found += [f"{file}: {text}" for text in check(contained(root, file), header, records)]
        except WtlError as error:
            found.append(f"{file}: {error}")
    return found


def _stale_info(path: Path, header: Header, records: Sequence[Record]) -> list[str]:
    written = read_typed(path, dict[str, Any], _limit(header))
    return [
        f"{key} is {str(written.get(key))[:100]}, the episode files say {value!r}"
        for key, value in info(header, records).items()
        if written.get(key) != value
    ]


def _stale_tasks(path: Path, header: Header, records: Sequence[Record]) -> list[str]:
    right = texts(read_table(path), "task", path) == sentences(records)
    return [] if right else ["the sentences are not those of the episodes"]


def _stale_statistics(path: Path, header: Header, records: Sequence[Record]) -> list[str]:
    lengths = [record.length for record in records if not record.diverged]
    written = read_typed(path, Statistics, _limit(header))
    if set(written) != (set(layout.features(header)) if lengths else set()):
        return ["the features are not those of the dataset"]
    found = []
    for name in written:
        pictures = layout.features(header)[name]["dtype"] == "image"
        count = sum(len(images.sampled(length)) for length in lengths) if pictures else sum(lengths)
        if written[name].get("count") != [count]:
            found.append(f"{name} does not count {count} steps")
    return found


def read_statistics(root: Path, header: Header) -> Statistics:
    """What ``stats.json`` says."""
    return read_typed(contained(root, layout.STATS), Statistics, _limit(header))


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


def statistics(root: Path, header: Header, records: Sequence[Record]) -> Statistics:
    """What ``stats.json`` should say: over all steps except those of episodes whose physics broke down, exactly.

    The quantiles need every step, so this reads the whole dataset and takes the memory that its training takes.
    """
    sound = np.array([not record.diverged for record in records], bool)
    if not sound.any():
        return {}
    pictures = [f"observation.{name}" for name in header.spec.images]
    numbers = [name for name in layout.features(header) if name not in pictures]
    totals = pa.schema([(f"stats/{n}/{statistic}", pa.list_(pa.float64())) for n in numbers for statistic in COMBINED])
    histograms = pa.schema([(layout.HISTOGRAM.format(name), pa.list_(pa.int64())) for name in pictures])
    schema = pa.unify_schemas([totals, histograms])
    episodes: dict[str, list[np.ndarray]] = {column: [] for column in schema.names}
    steps: dict[str, list[np.ndarray]] = {name: [] for name in numbers}
    for file, group in groupby(records, key=lambda record: record.file):
        path = contained(root, numbered(EPISODES_PATH, file))
        table = decode_as(read_checked(root, EPISODES_PATH, file), path, schema)
        for column, parts in episodes.items():
            parts.append(matrix(table, column, path))
            if column in histograms.names:
                images.require_histograms(parts[-1], f"{path}: {column}")
        columns = _sound_steps(root, header.without_images(), file, list(group))
        for name, parts in steps.items():
            parts.append(columns[name])

    def whole(column: str) -> np.ndarray:
        return np.compress(sound, np.concatenate(episodes[column]), axis=0)

    found: dict[str, dict[str, Any]] = {}
    for name in layout.features(header):
        if name in pictures:
            count = sum(len(images.sampled(record.length)) for record in records if not record.diverged)
            found[name] = images.combine(whole(layout.HISTOGRAM.format(name))) | {"count": [count]}
        else:
            found[name] = {**combine({s: whole(f"stats/{name}/{s}") for s in COMBINED})}
            found[name] |= quantiles(np.concatenate(steps.pop(name)))
    return found


def _sound_steps(root: Path, header: Header, file: int, records: Sequence[Record]) -> Columns:
    """The steps in a data file, without those of diverged episodes."""
    path = contained(root, numbered(DATA_PATH, file))
    columns = read_columns(read_checked(root, DATA_PATH, file), header, path)
    sound = np.repeat([not record.diverged for record in records], [record.length for record in records])
    if len(sound) != len(columns["index"]):
        raise WtlError(f"{path} does not hold the {len(sound)} steps of its episodes")
    return columns if sound.all() else {name: values[sound] for name, values in columns.items()}
