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
from jaxtyping import Float, Shaped

from watchtrylearn.data import images, layout
from watchtrylearn.data.layout import Header
from watchtrylearn.data.parquet import FILES, decode_as, files, image_files, matrix, scalars, texts, vectors
from watchtrylearn.data.soundness import TaskFile, float32
from watchtrylearn.data.stats import per_episode
from watchtrylearn.types import Episode, Kind, Task, WtlError

T = TypeVar("T")
Columns = Mapping[str, np.ndarray]  # data column -> (row, size); of images (row, 1): a PNG file each, as bytes

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
        ("watched", pa.list_(pa.int64())),
    ]
)
LATER = ("terminated", "watched")  # columns that older datasets lack
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
    watched: tuple[int, ...]


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
        **observed_columns([episode.observation for episode in episodes], header),
        **_actions(episodes, header),
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


def observed_columns(parts: Sequence[Mapping[str, np.ndarray]], header: Header) -> dict[str, np.ndarray]:
    """Observations (time, *shape), one after the other, as columns."""
    found = {}
    for name, channel in header.spec.observation.items():
        values = [part[name] for part in parts]
        if channel.is_image:
            found[f"observation.{name}"] = np.array([file for part in values for file in images.encode(part)], object)
        else:
            found[f"observation.{name}"] = float32(np.concatenate(values))
    return found


def _actions(episodes: Sequence[Episode], header: Header) -> dict[str, np.ndarray]:
    parts = {"action": [episode.action for episode in episodes]}
    if header.executed:
        parts[header.executed_column] = [e.action if e.executed is None else e.executed for e in episodes]
    return {name: float32(np.concatenate(arrays)) for name, arrays in parts.items()}


def table_of(columns: Columns) -> pa.Table:
    """The columns as they are on the disk."""
    made = {n: image_files(v[:, 0].tolist()) if v.dtype == object else vectors(v) for n, v in columns.items()}
    return pa.table(made)


def data_schema(header: Header) -> pa.Schema:
    """The columns of a data file."""
    types = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}

    def column(dtype: str, size: int) -> pa.DataType:
        if dtype == "image":
            return FILES
        return types[dtype] if size == 1 else pa.list_(types[dtype], size)

    return pa.schema([(n, column(f["dtype"], f["shape"][0])) for n, f in layout.features(header).items()])


def read_columns(content: bytes, header: Header, path: Path) -> Columns:
    """The steps in the bytes of a data file that came from ``path``; of a ``header`` without images, without them."""
    return columns_of(content, data_schema(header), path)


def columns_of(content: bytes, schema: pa.Schema, path: Path) -> Columns:
    """The inverse of ``table_of``."""
    table = decode_as(content, path, schema)
    return {field.name: (files if field.type == FILES else matrix)(table, field.name, path) for field in schema}


def rows_of(record: Record, columns: Columns, first: int, path: Path) -> Columns:
    """The steps of one episode; its data file starts at row ``first`` of the dataset."""
    begin = record.begin - first
    rows = {name: values[begin : begin + record.length] for name, values in columns.items()} if begin >= 0 else {}
    if not rows or len(rows["index"]) != record.length or (rows["episode_index"] != record.index).any():
        raise WtlError(f"{path} does not hold the {record.length} steps of episode {record.index}")
    return rows


def episode_of(
    record: Record, header: Header, columns: Columns, first: int, path: Path, final: Columns | None = None
) -> Episode:
    """The episode of ``record``, whose data file starts at row ``first`` of the dataset; ``final``: its row of the file
    of final observations."""
    rows = rows_of(record, columns, first, path)
    where = f"{path}: episode {record.index}"

    def numbers(name: str) -> np.ndarray:
        return rows[name].copy()  # so that one kept episode does not keep its whole file in memory

    last = observation_of(final, header, f"{where}: final") if final else {}
    return Episode(
        task=record.task,
        kind=record.kind,
        seed=record.seed,
        observation=observation_of(rows, header, where),
        action=numbers("action"),
        reward=numbers("next.reward")[:, 0],
        success=record.success,
        diverged=record.diverged,
        terminated=record.terminated,
        executed=numbers(header.executed_column) if record.executed else None,
        initial_state=record.initial_state,
        terms=record.terms,
        final={name: values[0] for name, values in last.items()},
        watched=record.watched,
    )


def observation_of(rows: Columns, header: Header, where: str) -> dict[str, np.ndarray]:
    """The channels (time, *shape) in some rows, images unpacked: the inverse of ``observed_columns``.

    Raises ``WtlError`` that begins with ``where`` if an image is not what it should be.
    """
    found = {}
    cameras = header.spec.images
    for name in header.spec.observation:
        values = rows[f"observation.{name}"]
        if name in cameras:
            found[name] = images.decode(values[:, 0].tolist(), cameras[name], f"{where}: observation.{name}")
        else:
            found[name] = values.copy()
    return found


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
            watched=tuple(map(int, episode.watched)),
        )
        for number, episode in enumerate(episodes)
    ]


def episodes_table(records: Sequence[Record], episodes: Sequence[Episode], columns: Columns) -> pa.Table:
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
        "watched": pa.array([list(r.watched) for r in records], pa.list_(pa.int64())),
    }
    lengths = np.array([r.length for r in records])
    found: dict[str, pa.Array] = {}
    for name, rows in columns.items():
        if rows.dtype == object:
            found |= _image_statistics(name, [e.observation[name.removeprefix("observation.")] for e in episodes])
        else:
            for statistic, values in per_episode(rows, lengths).items():
                found[f"stats/{name}/{statistic}"] = pa.array(list(values), pa.list_(pa.float64()))
    return pa.table({**own, **found})


def _image_statistics(name: str, parts: Sequence[np.ndarray]) -> dict[str, pa.Array]:
    """LeRobot's statistics of a camera, and the histograms from which those of all episodes are made."""
    counts = [images.histogram(part) for part in parts]
    of_each = [images.nested(images.statistics(count)) for count in counts]
    deep = pa.list_(pa.list_(pa.list_(pa.float64())))
    return {
        **{f"stats/{name}/{key}": pa.array([found[key] for found in of_each], deep) for key in of_each[0]},
        f"stats/{name}/count": pa.array([[float(len(images.sampled(len(part))))] for part in parts]),
        layout.HISTOGRAM.format(name): pa.array([count.ravel() for count in counts], pa.list_(pa.int64())),
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
    columns["watched"] = [()] * table.num_rows
    if "watched" in table.column_names:
        columns["watched"] = [tuple(scenes.tolist()) for scenes in _lists(table, "watched", path)]
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


def _lists(table: pa.Table, name: str, path: Path) -> list[Shaped[np.ndarray, "_"]]:
    """A column of lists of numbers, each of its own length."""
    column = table.column(name).combine_chunks()
    if column.null_count or column.flatten().null_count:
        raise WtlError(f"{path}: {name} has missing numbers")
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False))
    values = column.flatten().to_numpy(zero_copy_only=False)
    return [part.copy() for part in np.split(values, ends[:-1])] if len(ends) else []
