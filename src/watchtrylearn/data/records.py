"""Episodes to and from the columns of a dataset. The two directions sit beside each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from watchtrylearn.data import layout
from watchtrylearn.data.layout import Header
from watchtrylearn.data.parquet import decode_as, matrix, scalars, texts, vectors
from watchtrylearn.data.soundness import TaskFile, float32
from watchtrylearn.data.stats import per_episode
from watchtrylearn.types import Episode, Kind, Task, WtlError

T = TypeVar("T")
Columns = Mapping[str, np.ndarray]  # data column -> (row, size)

EPISODES = pa.schema(  # what is read of meta/episodes
    [
        ("episode_index", pa.int64()),
        ("dataset_from_index", pa.int64()),
        ("length", pa.int64()),
        ("kind", pa.string()),
        ("scene_seed", pa.int64()),
        ("success", pa.bool_()),
        ("diverged", pa.bool_()),
        ("terminated", pa.bool_()),
        ("has_executed", pa.bool_()),
        ("initial_state", pa.list_(pa.float64())),
        ("task_json", pa.string()),
        ("terms_json", pa.string()),
    ]
)
LATER = ("terminated",)  # columns that older datasets lack
_BYTES_PER_ROW = 8  # on the disk, at least: an episode's numbers and statistics take a hundred times that


@dataclass(frozen=True)
class Record:
    """What is known of a stored episode without reading its steps.

    ``index`` numbers the episodes of the dataset; its steps are rows ``begin`` to ``begin + length`` of the
    dataset, in data file number ``file``; ``executed``: it records the actions that reached the robot.
    """

    index: int
    file: int
    begin: int
    length: int
    task: Task
    kind: Kind
    seed: int
    success: bool
    diverged: bool
    terminated: bool
    executed: bool
    terms: Mapping[str, float]
    initial_state: Float[np.ndarray, "_"]


# ------------------------------------------------------------------------------------------- steps of a batch


def data_columns(
    episodes: Sequence[Episode], header: Header, first: tuple[int, int], task_index: Sequence[int]
) -> Columns:
    """The steps of ``episodes``; ``first`` is the number of the first episode and of its first row."""
    lengths = np.array([len(episode) for episode in episodes])
    frame = np.concatenate([np.arange(length) for length in lengths])
    last = np.cumsum(lengths) - 1
    success = np.zeros(len(frame), bool)
    success[last] = [episode.success for episode in episodes]
    columns = {
        **_numbers(episodes, header),
        "next.reward": float32(np.concatenate([episode.reward for episode in episodes])),
        "next.done": np.isin(np.arange(len(frame)), last),
        "next.success": success,
        "timestamp": layout.timestamps(frame, header.spec.fps),
        "frame_index": frame,
        "episode_index": np.repeat(first[0] + np.arange(len(episodes)), lengths),
        "index": first[1] + np.arange(len(frame)),
        "task_index": np.repeat(np.asarray(task_index), lengths),
    }
    return {name: values if values.ndim == 2 else values[:, None] for name, values in columns.items()}


def _numbers(episodes: Sequence[Episode], header: Header) -> dict[str, np.ndarray]:
    """Observations and actions as (row, size) float32."""
    parts: dict[str, list[np.ndarray]] = {
        f"observation.{name}": [episode.observation[name] for episode in episodes] for name in header.spec.observation
    }
    parts["action"] = [episode.action for episode in episodes]
    if header.executed:
        parts[header.executed_column] = [e.action if e.executed is None else e.executed for e in episodes]
    return {name: float32(np.concatenate(arrays)) for name, arrays in parts.items()}


def data_table(columns: Columns) -> pa.Table:
    """The data file of a batch."""
    return pa.table({name: vectors(values) for name, values in columns.items()})


def data_schema(header: Header) -> pa.Schema:
    """The columns of a data file."""
    types = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}

    def column(dtype: str, size: int) -> pa.DataType:
        return types[dtype] if size == 1 else pa.list_(types[dtype], size)

    return pa.schema([(n, column(f["dtype"], f["shape"][0])) for n, f in layout.features(header).items()])


def read_columns(content: bytes, header: Header, path: Path) -> Columns:
    """The inverse of ``data_table``, from the bytes of a data file that came from ``path``."""
    table = decode_as(content, path, data_schema(header))
    return {name: matrix(table, name, path) for name in layout.features(header)}


def rows_of(record: Record, columns: Columns, first: int, path: Path) -> Columns:
    """The steps of one episode; its data file starts at row ``first`` of the dataset."""
    begin = record.begin - first
    rows = {name: values[begin : begin + record.length] for name, values in columns.items()} if begin >= 0 else {}
    if not rows or len(rows["index"]) != record.length or (rows["episode_index"] != record.index).any():
        raise WtlError(f"{path} does not hold the {record.length} steps of episode {record.index}")
    return rows


def episode_of(record: Record, header: Header, columns: Columns, first: int, path: Path) -> Episode:
    """The episode of ``record``, whose data file starts at row ``first`` of the dataset."""
    rows = rows_of(record, columns, first, path)

    def numbers(name: str) -> np.ndarray:
        return rows[name].copy()  # so that one kept episode does not keep its whole file in memory

    return Episode(
        task=record.task,
        kind=record.kind,
        seed=record.seed,
        observation={name: numbers(f"observation.{name}") for name in header.spec.observation},
        action=numbers("action"),
        reward=numbers("next.reward")[:, 0],
        success=record.success,
        diverged=record.diverged,
        terminated=record.terminated,
        executed=numbers(header.executed_column) if record.executed else None,
        initial_state=record.initial_state,
        terms=record.terms,
    )


# ------------------------------------------------------------------------------------- one row per episode


def records_of(episodes: Sequence[Episode], file: int, first: tuple[int, int]) -> list[Record]:
    """The records that ``episodes`` get as data file number ``file``."""
    lengths = [len(episode) for episode in episodes]
    begins = first[1] + np.cumsum(lengths) - lengths
    return [
        Record(
            index=first[0] + number,
            file=file,
            begin=int(begins[number]),
            length=lengths[number],
            task=episode.task,
            kind=episode.kind,
            seed=int(episode.seed),
            success=bool(episode.success),
            diverged=bool(episode.diverged),
            terminated=bool(episode.terminated),
            executed=episode.executed is not None,
            terms={name: float(value) for name, value in episode.terms.items()},
            initial_state=np.asarray(episode.initial_state, np.float64),
        )
        for number, episode in enumerate(episodes)
    ]


def episodes_table(records: Sequence[Record], columns: Columns) -> pa.Table:
    """The rows of ``meta/episodes`` for a batch: LeRobot's columns, ours, and LeRobot's statistics."""
    chunk, file = divmod(records[0].file, layout.CHUNK)
    place = {"chunk_index": chunk, "file_index": file}
    own = {
        "episode_index": [r.index for r in records],
        "tasks": pa.array([[r.task.sentence] for r in records], pa.list_(pa.string())),
        "length": [r.length for r in records],
        "dataset_from_index": [r.begin for r in records],
        "dataset_to_index": [r.begin + r.length for r in records],
        **{f"{kind}/{key}": [n] * len(records) for kind in ("data", "meta/episodes") for key, n in place.items()},
        "kind": [r.kind for r in records],
        "family": [r.task.family for r in records],
        "split": [r.task.split for r in records],
        "scene_seed": pa.array([r.seed for r in records], pa.int64()),
        "success": [r.success for r in records],
        "diverged": [r.diverged for r in records],
        "terminated": [r.terminated for r in records],
        "has_executed": [r.executed for r in records],
        "initial_state": pa.array([r.initial_state for r in records], pa.list_(pa.float64())),
        "task_json": [layout.to_text(r.task.to_json()) for r in records],
        "terms_json": [layout.to_text(r.terms) for r in records],
    }
    return pa.table({**own, **_statistics(columns, np.array([r.length for r in records]))})


def _statistics(columns: Columns, lengths: Int[np.ndarray, "episode"]) -> dict[str, pa.Array]:
    return {
        f"stats/{name}/{statistic}": pa.array(list(values), pa.list_(pa.float64()))
        for name, rows in columns.items()
        for statistic, values in per_episode(rows, lengths).items()
    }


def read_records(content: bytes, file: int, path: Path) -> list[Record]:
    """The inverse of ``episodes_table``, from the bytes of file number ``file``.

    Whatever is wrong with it is a ``WtlError`` naming file, field and, where there is one, episode.
    """
    table = decode_as(content, path, EPISODES, LATER)
    if table.num_rows > 1000 + len(content) // _BYTES_PER_ROW:
        raise WtlError(f"refusing to read {path}: its {len(content)} bytes claim to hold {table.num_rows} episodes")
    columns: dict[str, list[Any]] = {
        name: scalars(table, column, path).tolist()
        for name, column in [
            ("index", "episode_index"),
            ("begin", "dataset_from_index"),
            ("length", "length"),
            ("seed", "scene_seed"),
            ("success", "success"),
            ("diverged", "diverged"),
            ("executed", "has_executed"),
        ]
    }
    noted = "terminated" in table.column_names
    columns["terminated"] = scalars(table, "terminated", path).tolist() if noted else [False] * table.num_rows
    columns["kind"] = texts(table, "kind", path)
    columns["task"] = _parsed(table, "task_json", path, TaskFile, _task)
    columns["terms"] = _parsed(table, "terms_json", path, dict[str, float], dict)
    columns["initial_state"] = _lists(table, "initial_state", path)
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    records = [Record(file=file, **row) for row in rows]
    if not records:
        raise WtlError(f"{path} holds no episodes")
    for record in records:
        if record.kind not in get_args(Kind):
            raise WtlError(f"{path}: episode {record.index}: kind: {record.kind[:40]!r} is neither demo nor trial")
        if record.index < 0 or record.begin < 0 or record.length < 1:
            text = f"{record.length} steps from row {record.begin}"
            raise WtlError(f"{path}: episode {record.index}: {text} is no place in a dataset")
    for before, record in pairwise(records):
        if (record.index, record.begin) != (before.index + 1, before.begin + before.length):
            raise WtlError(f"{path}: episode {record.index} from row {record.begin} does not follow {before.index}")
    return records


def _parsed(table: pa.Table, name: str, path: Path, kind: Any, build: Callable[[Any], T]) -> list[T]:
    """A column of JSON; equal texts are parsed once (hundreds of episodes share a task)."""
    column = texts(table, name, path)
    known = {}
    for text in set(column):
        try:
            known[text] = build(msgspec.convert(json.loads(text), kind, strict=True))
        except (msgspec.ValidationError, ValueError, OverflowError, RecursionError) as error:
            raise WtlError(f"{path}: {name}: {error}") from error
    return [known[text] for text in column]


def _task(found: TaskFile) -> Task:
    parameters = tuple(found.parameters.items())
    return Task(found.suite, found.family, found.name, found.split, found.sentence, parameters)


def _lists(table: pa.Table, name: str, path: Path) -> list[Float[np.ndarray, "_"]]:
    """A column of lists of numbers, each of its own length."""
    column = table.column(name).combine_chunks()
    if column.null_count or column.flatten().null_count:
        raise WtlError(f"{path}: {name} has missing numbers")
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False))
    values = column.flatten().to_numpy(zero_copy_only=False)
    return [part.copy() for part in np.split(values, ends[:-1])] if len(ends) else []
