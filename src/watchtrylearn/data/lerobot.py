"""Any LeRobot v3.0 dataset of vectors as episodes: another robot, recorded with other tools.

Videos and images are left out, with a note in the log. LeRobot has no scenes, families or splits, so each
episode is its own scene, and all tasks are of one family, for training.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from watchtrylearn.data import layout
from watchtrylearn.data.parquet import matrix, read_table, scalars
from watchtrylearn.files import contained, read_json
from watchtrylearn.types import STATE, Channel, Episode, Spec, Task, WtlError

_log = logging.getLogger(__name__)
_META = ("episode_index", "length", "data/chunk_index", "data/file_index")


def read_lerobot(path: str | Path, suite: str = "lerobot") -> tuple[Spec, list[Episode]]:
    """The episodes of a LeRobot v3.0 dataset as demonstrations, and the spec that describes them.

    ``observation.<name>`` becomes the channel ``<name>``. An episode is a success unless ``next.success`` is
    recorded and never true; without ``next.reward`` the reward is zero. The bounds of the spec are the
    recorded range, widened by its own width on both sides. Raises ``WtlError`` naming what is missing or
    broken.
    """
    root = Path(path)
    info = _info(root)
    channels = _channels(info["features"])
    episodes = [
        _episode(number, task, rows, channels, file)
        for number, task, rows, file in _tables(root, info, channels, suite)
    ]
    if not episodes:
        raise WtlError(f"{root} holds no episodes")
    spec = _spec(info, channels, episodes)
    for number, episode in enumerate(episodes):
        found = episode.problems(spec)
        if found:
            raise WtlError(f"{root}: episode {number}: {found[0]}")
    return spec, episodes


# ------------------------------------------------------------------------------------------------ description


def _info(root: Path) -> dict[str, Any]:
    path = root / layout.INFO
    info = read_json(path)
    if not isinstance(info, dict) or not str(info.get("codebase_version", "")).startswith("v3."):
        version = info.get("codebase_version") if isinstance(info, dict) else None
        raise WtlError(f"{path}: codebase_version is {version!r}; only LeRobot v3.0 datasets can be read")
    fps = info.get("fps")
    if not isinstance(fps, int | float) or fps <= 0 or fps != int(fps):
        raise WtlError(f"{path}: fps is {fps!r}, expected a positive whole number")
    if not isinstance(info.get("features"), dict):
        raise WtlError(f"{path}: there are no features")
    return info


def _channels(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Column -> names of its numbers, for the action and every observation that is a vector of numbers."""
    found = {}
    for key, entry in features.items():
        if key != "action" and not key.startswith("observation."):
            continue
        shape = entry.get("shape") or []
        if entry.get("dtype") in ("video", "image", "string", "language") or len(shape) != 1 or shape[0] < 1:
            _log.warning("left out %s: %s of shape %s is not a vector", key, entry.get("dtype"), list(shape))
            continue
        found[key] = _names(key.removeprefix("observation."), entry.get("names"), shape[0])
    for key in (f"observation.{STATE}", "action"):
        if key not in found:
            raise WtlError(f"the dataset has no vector {key}; its features are {', '.join(features)}")
    return found


def _names(key: str, names: Any, size: int) -> tuple[str, ...]:
    """LeRobot's names come as a list, nested ({"motors": [...]}), as name -> position, or not at all."""
    if isinstance(names, dict) and len(names) == 1 and isinstance(next(iter(names.values())), list):
        names = next(iter(names.values()))
    elif isinstance(names, dict) and all(isinstance(position, int) for position in names.values()):
        names = sorted(names, key=names.__getitem__)
    if isinstance(names, list) and len(names) == size:
        return tuple(str(name) for name in names)
    return tuple(f"{key}_{i}" for i in range(size))


def _spec(info: Mapping[str, Any], channels: Mapping[str, tuple[str, ...]], episodes: Sequence[Episode]) -> Spec:
    observation = {
        name: _bounded(channels[f"observation.{name}"], [e.observation[name] for e in episodes])
        for name in episodes[0].observation
    }
    return Spec(
        fps=int(info["fps"]),
        horizon=max(len(episode) for episode in episodes),
        observation=observation,
        action=_bounded(channels["action"], [episode.action for episode in episodes]),
    )


def _bounded(names: tuple[str, ...], parts: Sequence[Float[np.ndarray, "_ size"]]) -> Channel:
    values = np.concatenate(parts).astype(np.float64)
    values = np.where(np.isfinite(values), values, 0.0)  # reported later, by episode and step
    low, high = values.min(axis=0), values.max(axis=0)
    width = np.maximum(high - low, 1e-3)
    return Channel(names, tuple((low - width).tolist()), tuple((high + width).tolist()))


# --------------------------------------------------------------------------------------------------- contents

_Rows = tuple[int, Task, pa.Table, Path]  # episode number, its task, its steps, their file


def _tables(root: Path, info: Mapping[str, Any], channels: Mapping[str, object], suite: str) -> Iterator[_Rows]:
    """Every episode's rows, file by file. A file may hold many episodes."""
    tasks = _tasks(root, suite)
    columns = [*channels, "next.reward", "next.success", "episode_index", "frame_index", "task_index"]
    template = str(info.get("data_path") or layout.DATA_PATH)
    for place, group in groupby(_episode_rows(root), key=lambda row: row[2:]):
        path = contained(root, layout.fill(template, *place))
        table = read_table(path, columns)
        owner = scalars(table, "episode_index", path)
        for number, length, *_ in group:
            rows = np.flatnonzero(owner == number)
            if len(rows) != length or length == 0:
                raise WtlError(f"{path}: episode {number} has {len(rows)} rows, expected {length}")
            steps = table.take(pa.array(rows[np.argsort(scalars(table, "frame_index", path)[rows])]))
            yield number, _task(steps, tasks, path), steps, path


def _episode_rows(root: Path) -> list[tuple[int, int, int, int]]:
    """Number, length, chunk and file of every episode, in order."""
    rows: list[tuple[int, int, int, int]] = []
    for path in sorted((root / "meta/episodes").glob("*/*.parquet")):
        path = contained(root, str(path.relative_to(root)))
        table = read_table(path, _META)
        rows += zip(*(scalars(table, name, path).tolist() for name in _META), strict=True)
    return sorted(rows)


def _tasks(root: Path, suite: str) -> dict[int, Task]:
    """LeRobot's tasks by number. pandas keeps the sentence as the index, named "task" or not at all."""
    path = root / layout.TASKS
    if not path.exists():
        return {0: Task(suite, suite, "task", "train", "")}
    table = read_table(contained(root, layout.TASKS))
    texts = [name for name in ("task", "__index_level_0__") if name in table.column_names]
    if not texts:
        raise WtlError(f"{path} has no column 'task'")
    numbers = scalars(table, "task_index", path).tolist()
    sentences = map(str, table.column(texts[0]).to_pylist())
    return {
        number: Task(suite, suite, f"{_slug(sentence)}-{number}", "train", sentence)
        for number, sentence in zip(numbers, sentences, strict=True)
    }


def _slug(sentence: str) -> str:
    return re.sub(r"\W+", "-", sentence.lower()).strip("-") or "task"


def _task(rows: pa.Table, tasks: Mapping[int, Task], path: Path) -> Task:
    """The (first) task of an episode."""
    number = int(scalars(rows, "task_index", path)[0]) if "task_index" in rows.column_names else 0
    if number not in tasks:
        raise WtlError(f"{path}: task_index {number} is not in {layout.TASKS}")
    return tasks[number]


def _episode(number: int, task: Task, rows: pa.Table, channels: Mapping[str, Sequence[str]], path: Path) -> Episode:
    values = {}
    for name, names in channels.items():
        values[name] = matrix(rows, name, path).astype(np.float32)
        if values[name].shape[1] != len(names):
            raise WtlError(f"{path}: {name} has {values[name].shape[1]} numbers, info.json says {len(names)}")

    def optional(name: str) -> np.ndarray | None:
        return scalars(rows, name, path) if name in rows.column_names else None

    reward, success = optional("next.reward"), optional("next.success")
    return Episode(
        task=task,
        kind="demo",
        seed=number,
        observation={n.removeprefix("observation."): v for n, v in values.items() if n != "action"},
        action=values["action"],
        reward=np.zeros(len(values["action"]), np.float32) if reward is None else reward.astype(np.float32),
        success=True if success is None else bool(success.any()),
    )
