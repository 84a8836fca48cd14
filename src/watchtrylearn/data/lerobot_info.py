"""What ``info.json`` of a LeRobot v3.0 dataset says, as far as it is needed to read the vectors and images in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from watchtrylearn.data import layout
from watchtrylearn.data.hub import file_in
from watchtrylearn.system.files import JSON_LIMIT, parse_typed, read_bytes
from watchtrylearn.types import STATE, WtlError

_NOT_VECTORS = ("video", "image", "string", "language")
_LARGEST = 10_000  # numbers in a vector
_NAMES: Any = list[str | int | float] | dict[str, int | list[str | int | float]]


class Feature(msgspec.Struct, frozen=True):
    """``names`` stays as it is written: it may be anything, and is built only of a vector, as what names can be."""

    dtype: str
    shape: list[int] = msgspec.field(default_factory=list)
    names: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True)
class Version:
    codebase_version: Any = None


@dataclass(frozen=True)
class Info:
    """What is needed of ``info.json``."""

    fps: int | float
    features: dict[str, Feature]
    data_path: str = layout.DATA_PATH
    video_path: str | None = None
    storage_format: str = "parquet"


def read_info(root: Path) -> Info:
    """``info.json`` of the dataset at ``root``; whatever is wrong with it is a ``WtlError`` that names it."""
    path = root / layout.INFO
    content = read_bytes(file_in(root, layout.INFO), JSON_LIMIT)
    version = parse_typed(content, Version, str(path)).codebase_version
    if not str(version).startswith("v3."):
        raise WtlError(f"{path}: codebase_version is {version!r}; only LeRobot v3.0 datasets can be read")
    info = parse_typed(content, Info, str(path))
    if info.storage_format != "parquet":
        raise WtlError(f"{path}: storage_format is {info.storage_format!r}; only Parquet can be read")
    if not 0 < info.fps < 1e6 or info.fps != int(info.fps):
        raise WtlError(f"{path}: fps is {info.fps!r}, expected a positive whole number")
    return info


def vectors(
    features: Mapping[str, Feature], path: Path, cameras: Collection[str] = ()
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Column -> names of its numbers, for the action and every observation that is a vector of numbers; and a note
    for every other observation but the ``cameras``."""
    found, left_out = {}, []
    for key, entry in features.items():
        if key in cameras or (key != "action" and not key.startswith("observation.")):
            continue
        if entry.dtype in _NOT_VECTORS or len(entry.shape) != 1 or not 1 <= entry.shape[0] <= _LARGEST:
            left_out.append(f"left out {key}: {entry.dtype} of shape {entry.shape} is not a vector")
            continue
        found[key] = _names(key.removeprefix("observation."), entry.names, entry.shape[0])
    for key in (f"observation.{STATE}", "action"):
        if key not in found:
            known = ", ".join(features) or "none"
            raise WtlError(f"{path}: the dataset has no vector {key}; its features are {known}")
    return found, left_out


def _names(key: str, written: msgspec.Raw, size: int) -> tuple[str, ...]:
    """LeRobot's names come as a list, nested ({"motors": [...]}), as name -> position, or not at all."""
    try:
        names = msgspec.json.decode(written, type=_NAMES)
    except (msgspec.DecodeError, ValueError, RecursionError):  # no names, or none that we know
        names = None
    if isinstance(names, dict) and len(names) == 1 and isinstance(next(iter(names.values())), list):
        names = next(iter(names.values()))
    elif isinstance(names, dict) and all(isinstance(position, int) for position in names.values()):
        names = sorted(names, key=names.__getitem__)
    if isinstance(names, list) and len(names) == size:
        return tuple(str(name) for name in names)
    return tuple(f"{key}_{i}" for i in range(size))
