"""Where everything is in a dataset (LeRobot v3.0), and what its columns are.

::

    meta/watchtrylearn.json                     ours: schema version, suite, Spec; written once
    data/chunk-000/file-000.parquet             the steps of one appended batch of episodes
    meta/checksums/chunk-000/file-000.json      ours: sizes and SHA-256 of that batch's two Parquet files
    meta/episodes/chunk-000/file-000.parquet    one row per episode; its appearance commits the batch
    meta/info.json, tasks.parquet, stats.json   derived from the above, rewritten at will, never trusted

LeRobot reads such a dataset as it is; it ignores the two files that are ours, and keeps our extra columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from watchtrylearn.files import read_json, write_json
from watchtrylearn.types import Channel, Spec, WtlError

SCHEMA = 1
CODEBASE = "v3.0"
HEADER = "meta/watchtrylearn.json"
INFO = "meta/info.json"
TASKS = "meta/tasks.parquet"
STATS = "meta/stats.json"
QUARANTINE = "quarantine"
CHUNK = 1000  # files per folder
EXECUTED = "executed_action"  # not "action.": LeRobot takes every feature that begins with "action" for an action
EXECUTED_BEFORE = "action.executed"  # what the column is called in datasets begun with version 0.1
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
CHECKSUM_PATH = "meta/checksums/chunk-{chunk_index:03d}/file-{file_index:03d}.json"

_PLACEHOLDER = re.compile(r"\{(chunk_index|file_index)(?::0?(\d)d?)?\}")
_NUMBERED = re.compile(r"chunk-(\d{3,9})/file-(\d{3})\.parquet")


def fill(template: str, chunk: int, file: int) -> str:
    """A path template with its numbers in place. Not ``str.format``: templates come from untrusted files."""
    numbers = {"chunk_index": chunk, "file_index": file}
    path = _PLACEHOLDER.sub(lambda found: f"{numbers[found[1]]:0{found[2] or 0}d}", template)
    if "{" in path or "}" in path:
        raise WtlError(f"cannot use the path template {template!r}: only chunk_index and file_index are known")
    return path


def numbered(template: str, number: int) -> str:
    """The relative path of the ``number``-th file."""
    return fill(template, number // CHUNK, number % CHUNK)


def numbers_in(root: Path, template: str) -> list[int]:
    """The numbers of the Parquet files of a kind that exist, in order."""
    folder = root / template.split("/chunk-")[0]
    found = [_NUMBERED.fullmatch(f"{p.parent.name}/{p.name}") for p in folder.glob("chunk-*/file-*.parquet")]
    return sorted(int(match[1]) * CHUNK + int(match[2]) for match in found if match)


@dataclass(frozen=True)
class Header:
    """What a dataset is: written once at its creation, and compared before anything is added or read.

    ``executed``: its episodes may record actions as they reached the robot, in the column ``executed_column``.
    """

    suite: str
    spec: Spec
    executed: bool = False
    executed_column: str = EXECUTED

    def save(self, root: Path) -> None:
        value = {
            "schema": SCHEMA,
            "suite": self.suite,
            "executed": self.executed,
            "executed_column": self.executed_column,
            "spec": self.spec.to_json(),
        }
        write_json(root / HEADER, value)

    @staticmethod
    def load(root: Path) -> Header:
        path = root / HEADER
        if not path.exists():
            raise WtlError(f"{root} is not a watchtrylearn dataset: there is no {HEADER} in it")
        value = read_json(path)
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            found = value.get("schema") if isinstance(value, dict) else None
            raise WtlError(f"{path} has schema version {found}; this version of watchtrylearn reads {SCHEMA}")
        column = value.get("executed_column", EXECUTED_BEFORE)
        if column not in (EXECUTED, EXECUTED_BEFORE):
            raise WtlError(f"{path} is damaged: executed_column is {column!r}")
        try:
            return Header(str(value["suite"]), Spec.from_json(value["spec"]), bool(value["executed"]), column)
        except (KeyError, TypeError, AttributeError, WtlError) as error:
            raise WtlError(f"{path} is damaged: {error!r}") from error


# ------------------------------------------------------------------------------------------------ features

_AUTOMATIC = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def features(header: Header) -> dict[str, dict[str, Any]]:
    """The ``features`` of ``info.json``: every column of a data file, with type, shape and names."""
    vectors = {f"observation.{name}": channel for name, channel in header.spec.observation.items()}
    vectors["action"] = header.spec.action
    if header.executed:
        vectors[header.executed_column] = header.spec.action
    scalars = {"next.reward": "float32", "next.done": "bool", "next.success": "bool", **_AUTOMATIC}
    return {
        **{name: _vector(channel) for name, channel in vectors.items()},
        **{name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in scalars.items()},
    }


def _vector(channel: Channel) -> dict[str, Any]:
    return {"dtype": "float32", "shape": [channel.size], "names": list(channel.names)}


def info(header: Header, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    """The content of ``info.json``."""
    return {
        "codebase_version": CODEBASE,
        "robot_type": header.suite or None,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": header.spec.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": None,
        "features": features(header),
    }


def timestamps(frame_index: np.ndarray, fps: int) -> np.ndarray:
    """Seconds since the start of the episode, as LeRobot computes them."""
    return (frame_index / fps).astype(np.float32)


def to_text(value: Mapping[str, Any]) -> str:
    """JSON for a text column, in the order given (the order of a task's parameters is part of the task)."""
    return json.dumps(value, separators=(",", ":"))
