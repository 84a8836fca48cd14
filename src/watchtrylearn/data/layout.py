"""Where everything is in a dataset (LeRobot v3.0), and what its columns are.

::

    meta/watchtrylearn.json                     ours: schema version, suite, Spec; written once
    data/chunk-000/file-000.parquet             the steps of one appended batch of episodes, images as PNG
    meta/final/chunk-000/file-000.parquet       ours: the batch's observations after the last action, where noted
    meta/checksums/chunk-000/file-000.json      ours: sizes and SHA-256 of that batch's Parquet files
    meta/episodes/chunk-000/file-000.parquet    one row per episode; its appearance commits the batch
    meta/info.json, tasks.parquet, stats.json   derived from the above, rewritten at will, never trusted

LeRobot reads such a dataset as it is; it ignores the files that are ours, and keeps our extra columns.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from watchtrylearn.system.files import (
    FILE_LIMIT,
    JSON_LIMIT,
    contained,
    parse_typed,
    read_bytes,
    read_typed,
    write_json,
)
from watchtrylearn.types import Channel, ImageChannel, Spec, WtlError

SCHEMA, WITH_IMAGES = 1, 2  # versions: what version 0.1 reads too, and what has images
CODEBASE = "v3.0"
HEADER = "meta/watchtrylearn.json"
INFO = "meta/info.json"
TASKS = "meta/tasks.parquet"
STATS = "meta/stats.json"
QUARANTINE = "quarantine"
ADOPTING = f"{QUARANTINE}/adopting"  # what another program added, while it is stored again (see ``adopt``)
JOURNAL = f"{ADOPTING}/journal.json"
CHUNK = 1000  # files per folder
EXECUTED = "executed_action"  # not "action.": LeRobot takes every feature that begins with "action" for an action
EXECUTED_BEFORE: Literal["action.executed"] = (
    "action.executed"  # what the column is called in datasets begun with version 0.1
)
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"  # LeRobot's; we write none
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FINAL_PATH = "meta/final/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
HISTOGRAM = "histogram/{}"  # column of meta/episodes: of an image feature, how often each value occurs in each colour
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
    """The numbers of the files of a kind that exist, in order."""
    folder = template.split("/chunk-")[0]
    found = []
    for chunk in _names_in(root, folder):
        for name in _names_in(root, f"{folder}/{chunk}") if chunk.startswith("chunk-") else ():
            match = _NUMBERED.fullmatch(f"{chunk}/{name}")
            number = int(match[1]) * CHUNK + int(match[2]) if match else -1
            if numbered(template, number) == f"{folder}/{chunk}/{name}":  # and not chunk-0000 beside chunk-000
                found.append(number)
    return sorted(found)


def _names_in(root: Path, folder: str) -> list[str]:
    path = contained(root, folder)
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WtlError(f"cannot read {path}: {error.strerror or error}") from error


Content = bytes  # a field has the name


@dataclass(frozen=True)
class Checksum:
    """What one file of a batch must be: its size in bytes and its SHA-256."""

    bytes: Annotated[int, Meta(ge=0, le=FILE_LIMIT)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

    @staticmethod
    def of(content: Content) -> Checksum:
        return Checksum(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Checksums:
    """The checksums of a batch's Parquet files; ``final`` is None if no episode of it has a final observation."""

    data: Checksum
    episodes: Checksum
    final: Checksum | None = None

    def __getitem__(self, template: str) -> Checksum | None:
        return {DATA_PATH: self.data, EPISODES_PATH: self.episodes, FINAL_PATH: self.final}[template]

    @staticmethod
    def of(content: Mapping[str, Content]) -> Checksums:
        """Those of the files' ``content``, by path template."""
        files = {"data": DATA_PATH, "episodes": EPISODES_PATH, "final": FINAL_PATH}
        return Checksums(**{name: Checksum.of(content[t]) for name, t in files.items() if t in content})

    def to_json(self) -> dict[str, Any]:
        """What of it there is, by name."""
        return {name: vars(checksum) for name, checksum in vars(self).items() if checksum is not None}

    @staticmethod
    def load(root: Path, file: int) -> Checksums:
        return read_typed(contained(root, numbered(CHECKSUM_PATH, file)), Checksums)


def read_checked(root: Path, template: str, file: int, checksums: Checksums | None = None) -> bytes:
    """The bytes of a Parquet file of a batch; a ``WtlError`` if they are not those that were written."""
    wanted = (checksums or Checksums.load(root, file))[template]
    path = contained(root, numbered(template, file))
    if wanted is None:
        raise WtlError(f"{path} has no checksum in {numbered(CHECKSUM_PATH, file)}")
    content = read_bytes(path, size=wanted.bytes)
    if Checksum.of(content) != wanted:
        raise WtlError(f"{path} is damaged: it does not match its checksum")
    return content


def without_checksum(root: Path, file: int) -> Path | None:
    """The file of batch number ``file`` for which no checksum vouches, if any: that of its episodes, or that
    of its final observations (not every batch has them: without this, they could vanish unnoticed)."""
    if not os.path.lexists(contained(root, numbered(CHECKSUM_PATH, file))):
        return contained(root, numbered(EPISODES_PATH, file))
    final = contained(root, numbered(FINAL_PATH, file))
    return final if os.path.lexists(final) and Checksums.load(root, file).final is None else None


def put_aside(root: Path, path: Path) -> None:
    """Move a file of the dataset, or a folder of them, into the quarantine."""
    aside = contained(root, f"{QUARANTINE}/{path.parent.name}-{path.name}.{time.time_ns()}")
    try:
        aside.parent.mkdir(exist_ok=True)
        os.replace(path, aside)
    except OSError as error:
        raise WtlError(f"cannot put {path} aside: {error.strerror or error}") from error


def is_being_adopted(root: Path) -> bool:
    """Are episodes of another program put aside to be stored again, by ``adopt`` that runs or was interrupted?"""
    try:
        return os.path.lexists(contained(root, JOURNAL))
    except WtlError:  # through a link, which this library does not put there
        return False


# ------------------------------------------------------------------------------------------------- header


@dataclass(frozen=True)
class _HeaderFile:
    suite: str
    executed: bool
    spec: dict[str, Any]
    executed_column: Literal["executed_action", "action.executed"] = EXECUTED_BEFORE


@dataclass(frozen=True)
class _Version:
    schema: Any = None


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
        """Write the header; a ``WtlError`` if it could not be read back."""
        path = contained(root, HEADER)
        try:
            _parse_header(json.dumps(self.to_json()), f"the header of {root}")
        except TypeError as error:
            raise WtlError(f"the header of {root} cannot be written: {error}") from error
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": WITH_IMAGES if self.spec.images else SCHEMA,
            "suite": self.suite,
            "executed": self.executed,
            "executed_column": self.executed_column,
            "spec": self.spec.to_json(),
        }

    def without_images(self, but: Collection[str] = ()) -> Header:
        """The same without the cameras, ``but`` those: to read no more than is needed."""
        channels = self.spec.observation.items()
        kept = {name: channel for name, channel in channels if not channel.is_image or name in but}
        return replace(self, spec=replace(self.spec, observation=kept))

    def differences(self, spec: Spec | None, suite: str = "") -> list[str]:
        """How the dataset differs from what is wanted (of any suite, if "")."""
        found = [f"suite: {self.suite!r}, not {suite!r}"] if suite and self.suite != suite else []
        if spec is None:
            return found
        found += self.spec.differences(spec)
        for name in ("action", *self.spec.numbers):
            stored, wanted = (s.action if name == "action" else s.numbers.get(name) for s in (self.spec, spec))
            if stored is not None and wanted is not None and stored.size == wanted.size:
                found += _channel_differences(name, stored, wanted)
        return found

    @staticmethod
    def exists(root: Path) -> bool:
        """Is there a dataset? A folder without a header is none, whatever else is in it."""
        return os.path.lexists(root / HEADER)

    @staticmethod
    def load(root: Path) -> Header:
        if not Header.exists(root):
            raise WtlError(f"{root} is not a watchtrylearn dataset: there is no {HEADER} in it")
        path = contained(root, HEADER)
        return _parse_header(read_bytes(path, JSON_LIMIT), str(path))


def _channel_differences(channel: str, stored: Channel, wanted: Channel) -> list[str]:
    """The first difference in what the numbers of a channel mean, or in their bounds."""
    for number, (one, two) in enumerate(zip(_numbers(stored), _numbers(wanted), strict=True)):
        if one[0] != two[0]:
            return [f"{channel}: number {number} is {one[0]}, not {two[0]}"]
        if one != two:
            return [f"{channel}: {one[0]} is within [{one[1]:g}, {one[2]:g}], not [{two[1]:g}, {two[2]:g}]"]
    return []


def _numbers(channel: Channel) -> list[tuple[str, float, float]]:
    return list(zip(channel.names, channel.low, channel.high, strict=True))


def _parse_header(content: bytes | str, where: str) -> Header:
    schema = parse_typed(content, _Version, where).schema
    if schema not in (SCHEMA, WITH_IMAGES) or isinstance(schema, bool | float):
        known = f"{SCHEMA} and {WITH_IMAGES}"
        raise WtlError(f"{where} has schema version {str(schema)[:40]}; this version of watchtrylearn reads {known}")
    found = parse_typed(content, _HeaderFile, where)
    try:
        return Header(found.suite, Spec.from_json(found.spec), found.executed, found.executed_column)
    except WtlError as error:
        raise WtlError(f"{where} is damaged: {error}") from error


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
    observation = {f"observation.{name}": _feature(channel) for name, channel in header.spec.observation.items()}
    actions = ["action", *([header.executed_column] if header.executed else [])]
    scalars = {"next.reward": "float32", "next.done": "bool", "next.success": "bool", **_AUTOMATIC}
    return {
        **observation,
        **{name: _feature(header.spec.action) for name in actions},
        **{name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in scalars.items()},
    }


def _feature(channel: Channel | ImageChannel) -> dict[str, Any]:
    return {"dtype": channel.feature, "shape": list(channel.shape), "names": list(channel.names)}


def numbers_per_step(header: Header) -> int:
    """Numbers in one row of the data files, images apart."""
    return sum(entry["shape"][0] for entry in features(header).values() if entry["dtype"] != "image")


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
    """JSON for a text column, in the order given (the order of a task's parameters is part of the task).

    The terms of a diverged episode may be NaN or infinite, and are then written as Python does.
    """
    return json.dumps(value, separators=(",", ":"))
