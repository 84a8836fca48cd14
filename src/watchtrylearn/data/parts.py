"""The parts of a dataset: the files that one ``append`` writes together, to and from bytes.

The steps, one row per episode, and where they are known the observations after the last action, which neither LeRobot
nor version 0.1 look for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from watchtrylearn.data.layout import (
    DATA_PATH,
    EPISODES_PATH,
    FINAL_PATH,
    Checksums,
    Header,
    numbered,
    read_checked,
)
from watchtrylearn.data.parquet import encode
from watchtrylearn.data.records import (
    Columns,
    Record,
    columns_of,
    data_columns,
    data_schema,
    episodes_table,
    observed_columns,
    read_columns,
    read_records,
    table_of,
)
from watchtrylearn.system.files import FILE_LIMIT, contained
from watchtrylearn.types import Episode, WtlError

Content = dict[str, bytes]  # path template -> what is in the file


def part_of(
    root: Path, header: Header, episodes: Sequence[Episode], records: Sequence[Record], task_index: Sequence[int]
) -> Content:
    """The files of a part. Raises ``WtlError`` for one that could not be read back."""
    file, first = records[0].file, (records[0].index, records[0].begin)
    columns = data_columns(episodes, header, first, task_index)
    final = _final_columns(episodes, header, first[0])
    content = {DATA_PATH: encode(table_of(columns))}
    content |= {FINAL_PATH: encode(table_of(final))} if final else {}
    content[EPISODES_PATH] = encode(episodes_table(records, episodes, columns))
    for template, each in content.items():
        if len(each) > FILE_LIMIT:
            size = f"{len(each)} bytes, more than {FILE_LIMIT}"
            raise WtlError(f"refusing to write {root / numbered(template, file)}: {size}; store fewer episodes at once")
    parse_part(root, header, file, content)
    read_records(content[EPISODES_PATH], file, contained(root, numbered(EPISODES_PATH, file)))
    return content


def read_part(root: Path, header: Header, file: int, checksums: Checksums) -> tuple[Columns, dict[int, Columns]]:
    """The steps of part number ``file``, and of each episode that has one the observation after the last action
    (``parse_part``); of a ``header`` without images, without them. Raises ``WtlError`` if a file is damaged."""
    templates = [template for template in (DATA_PATH, FINAL_PATH) if checksums[template] is not None]
    return parse_part(root, header, file, {t: read_checked(root, t, file, checksums) for t in templates})


def parse_part(
    root: Path, header: Header, file: int, content: Mapping[str, bytes]
) -> tuple[Columns, dict[int, Columns]]:
    """``read_part`` of files that are in memory already, by path template."""
    columns = read_columns(content[DATA_PATH], header, contained(root, numbered(DATA_PATH, file)))
    if FINAL_PATH not in content:
        return columns, {}
    return columns, _read_final(content[FINAL_PATH], header, contained(root, numbered(FINAL_PATH, file)))


def _final_columns(episodes: Sequence[Episode], header: Header, first: int) -> Columns | None:
    """The observations after the last action, a row for each episode that has one; None if none of them has.

    ``first`` is the number of the first episode.
    """
    known = [(first + number, episode.final) for number, episode in enumerate(episodes) if episode.final]
    if not known:
        return None
    parts = [{name: values[None] for name, values in final.items()} for _, final in known]
    columns = {"episode_index": np.array([number for number, _ in known]), **observed_columns(parts, header)}
    return {name: values if values.ndim == 2 else values[:, None] for name, values in columns.items()}


def _read_final(content: bytes, header: Header, path: Path) -> dict[int, Columns]:
    """Episode -> its row of ``_final_columns``, from the bytes of a file that came from ``path``."""
    wanted = [f"observation.{name}" for name in header.spec.observation]
    schema = data_schema(header)
    schema = pa.schema([(name, schema.field(name).type) for name in ("episode_index", *wanted)])
    columns = columns_of(content, schema, path)
    numbers = columns["episode_index"][:, 0].tolist()
    return {number: {name: columns[name][i : i + 1] for name in wanted} for i, number in enumerate(numbers)}
