"""Episodes to and from the columns of a dataset. The two directions sit beside each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from watchtrylearn.data import layout
from watchtrylearn.data.layout import Header
from watchtrylearn.data.parquet import matrix, scalars, texts, vectors
from watchtrylearn.data.stats import per_episode
from watchtrylearn.types import Episode, Kind, Task, WtlError

Columns = Mapping[str, np.ndarray]  # data column -> (row, size)


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
        "next.reward": np.concatenate([episode.reward for episode in episodes]).astype(np.float32),
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
        parts["action.executed"] = [e.action if e.executed is None else e.executed for e in episodes]
    return {name: np.concatenate(arrays).astype(np.float32) for name, arrays in parts.items()}


def data_table(columns: Columns) -> pa.Table:
    """The data file of a batch."""
    return pa.table({name: vectors(values) for name, values in columns.items()})


def episode_of(record: Record, header: Header, table: pa.Table, first: int, path: Path) -> Episode:
    """The episode of ``record``, whose data file starts at row ``first`` of the dataset."""
    rows = table.slice(record.begin - first, record.length)
    if rows.num_rows != record.length or (scalars(rows, "episode_index", path) != record.index).any():
        raise WtlError(f"{path} does not hold the {record.length} steps of episode {record.index}")

    def numbers(name: str) -> np.ndarray:
        return np.array(matrix(rows, name, path), np.float32)

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
        executed=numbers("action.executed") if record.executed else None,
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


def read_records(table: pa.Table, file: int, path: Path) -> list[Record]:
    """The inverse of ``episodes_table``; a damaged row is a ``WtlError`` naming file, episode and field."""
    columns = {
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
    noted = "terminated" in table.column_names  # not in datasets of before there was such a column
    columns["terminated"] = scalars(table, "terminated", path).tolist() if noted else [False] * table.num_rows
    columns["kind"] = texts(table, "kind", path)
    columns["task"] = [_task(text, path) for text in texts(table, "task_json", path)]
    columns["terms"] = [_object(text, path) for text in texts(table, "terms_json", path)]
    columns["initial_state"] = [np.array(value, float) for value in _lists(table, "initial_state", path)]
    unknown = set(columns["kind"]) - set(get_args(Kind))
    if unknown:
        raise WtlError(f"{path}: unknown kind of episode {sorted(unknown)[0]!r}")
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return [Record(file=file, **row) for row in rows]


def _lists(table: pa.Table, name: str, path: Path) -> list[list[float]]:
    if name not in table.column_names:
        raise WtlError(f"{path} has no column {name!r}")
    return cast(list[list[float]], table.column(name).to_pylist())


@lru_cache(maxsize=4096)  # hundreds of episodes share a task
def _task(text: str, path: Path) -> Task:
    try:
        return Task.from_json(_object(text, path))
    except (TypeError, KeyError, AttributeError) as error:
        raise WtlError(f"{path}: a task_json is not a task: {error}") from error


def _object(text: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WtlError(f"{path}: a JSON column is damaged: {error}") from error
    if not isinstance(value, dict):
        raise WtlError(f"{path}: a JSON column holds {type(value).__name__}, not an object")
    return value
