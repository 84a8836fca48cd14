"""Checkpoints and trained models: safetensors and JSON, hashed, whole or not there, never unpickled.

A *checkpoint* is a folder ``step-00000400/`` from which training goes on: every tensor, a JSON state, and a
manifest with the SHA-256 of both. It is written under a temporary name and renamed, so a crash leaves the old
ones and perhaps a leftover that nobody reads. A *model* is what training leaves behind for everyone else:
``model.safetensors`` and ``model.json`` (learner, config, spec), without the optimizer.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError

from watchtrylearn.system.files import (
    JSON_LIMIT,
    parse_typed,
    read_bytes,
    read_typed,
    sync_directory,
    write_atomic,
    write_json,
)
from watchtrylearn.types import WtlError, canonical_json

SCHEMA = 1  # raised whenever a reader of the old layout would misread the new one
KEEP = 2

_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_MODEL_TENSORS, _MODEL_STATE = "model.safetensors", "model.json"
_FOLDER = re.compile(r"^step-(\d{8,})$")
_LEFTOVER = re.compile(r"^\.step-\d{8,}\.(new|old)\.tmp$")
_TENSORS_LIMIT = 4 * 2**30  # bytes; four times what a learner may have (``learners.MOST_NUMBERS``), and room
_MODEL_LIMIT = 2 * JSON_LIMIT  # bytes; of any dataset whose header could be written the spec has room, and the rest
_HEADER_LIMIT = 4 * 2**20  # bytes; a header of 100,000 invented tensors takes longer to parse than to refuse

Tensors = Mapping[str, torch.Tensor]
State = TypeVar("State")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint(Generic[State]):
    """Where training stood after ``step`` steps: named tensors (on the CPU) and a state."""

    step: int
    tensors: dict[str, torch.Tensor]
    state: State
    path: Path


@dataclass(frozen=True)
class Model:
    """What ``model.json`` says: which learner for which spec, how it was trained (``fit``), and the weights' hash."""

    schema: int
    learner: str
    config: dict[str, Any]
    spec: dict[str, Any]
    tensors_sha256: str
    train: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Manifest:
    schema: int
    sha256: dict[str, str]


@dataclass(frozen=True)
class _Step:
    step: int


@dataclass(frozen=True)
class _Sealed:
    schema: int
    sha256: str


def versions() -> dict[str, str]:
    """The software that produced a result: Python and the packages whose numbers depend on the version."""
    packages = ("watchtrylearn", "torch", "numpy", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


# ------------------------------------------------------------------------------------------------- writing


def save(directory: str | Path, step: int, tensors: Tensors, state: Mapping[str, Any]) -> Path:
    """Add the checkpoint of ``step`` to ``directory``, keeping it and the one before it.

    When this returns, the checkpoint is on the disk. Raises ``WtlError`` naming path and cause if it cannot
    be written; the earlier checkpoints are then untouched. Hold ``files.directory_lock`` on the run.
    """
    directory = Path(directory)
    folder = directory / f"step-{step:08d}"
    temporary = directory / f".{folder.name}.new.tmp"
    content = {_TENSORS: _pack(tensors), _STATE: canonical_json({"step": step, **state}).encode()}
    manifest = {"schema": SCHEMA, "sha256": {name: _sha(data) for name, data in content.items()}}
    try:
        remove_leftovers(directory)
        for name, data in content.items():
            write_atomic(temporary / name, data)
        write_json(temporary / _MANIFEST, manifest)
        _commit(temporary, folder)
        _prune(directory, step)
    except OSError as error:
        raise WtlError(f"cannot save the checkpoint {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _commit(temporary: Path, folder: Path) -> None:
    """Rename ``temporary`` to ``folder``; one of that name is moved out of the way, then removed."""
    if folder.exists():
        os.replace(folder, folder.with_name(f".{folder.name}.old.tmp"))
    os.replace(temporary, folder)
    sync_directory(folder.parent)


def _prune(directory: Path, newest: int) -> None:
    """Keep ``newest`` and those just before it; a later one is from a future that was not continued."""
    remove_leftovers(directory)
    earlier = [step for step in steps(directory) if step <= newest]
    for step in set(steps(directory)) - set(earlier[:KEEP]):
        _remove(directory / f"step-{step:08d}")


def _remove(folder: Path) -> None:
    """Delete our own files in a checkpoint folder, and the folder unless somebody put something there."""
    for name in (_MANIFEST, _STATE, _TENSORS):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def remove_leftovers(directory: Path) -> None:
    """Delete what a killed ``save`` left under a temporary name."""
    for path in directory.iterdir() if directory.is_dir() else ():
        found = _LEFTOVER.match(path.name)
        if found and found[1] == "new":
            shutil.rmtree(path, ignore_errors=True)
        elif found:
            _remove(path)


# ------------------------------------------------------------------------------------------------- reading


def load_latest(directory: str | Path, kind: type[State]) -> Checkpoint[State] | None:
    """The newest sound checkpoint in ``directory`` with a state of type ``kind``, None if there never was one.

    A damaged one is passed over with a warning that names it and says why. Raises ``WtlError`` if all of them
    are damaged, or if the newest was written by another version of the schema.
    """
    directory = Path(directory)
    damaged: list[str] = []
    for step in steps(directory):
        try:
            found = _load(directory / f"step-{step:08d}", step, kind)
        except _Damaged as error:
            damaged.append(str(error))
            continue
        for problem in damaged:
            logger.warning("skipped a damaged checkpoint: %s; continuing from %s", problem, found.path)
        return found
    if damaged:
        problems = "; ".join(damaged)
        raise WtlError(f"no checkpoint in {directory} can be read ({problems}); delete it to start anew")
    return None


class _Damaged(WtlError):
    """A checkpoint that is not what was written; an older one may still be sound."""


def steps(directory: Path) -> list[int]:
    """The steps that have a checkpoint in ``directory``, newest first."""
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    return sorted((int(found[1]) for found in map(_FOLDER.match, names) if found), reverse=True)


def _load(folder: Path, step: int, kind: type[State]) -> Checkpoint[State]:
    try:
        manifest = read_typed(folder / _MANIFEST, _Manifest)
        hashes = {name: manifest.sha256[name] for name in (_TENSORS, _STATE)}
    except (WtlError, KeyError) as error:
        raise _Damaged(f"{folder / _MANIFEST} is missing or broken ({error})") from error
    _require_schema(manifest.schema, folder / _MANIFEST)
    try:
        content = {name: _read_verified(folder / name, digest) for name, digest in hashes.items()}
        if parse_typed(content[_STATE], _Step, str(folder / _STATE)).step != step:
            raise WtlError(f"{folder} was renamed: its state is of another step")
        state = parse_typed(content[_STATE], kind, str(folder / _STATE))
        return Checkpoint(step, _unpack(content[_TENSORS], folder / _TENSORS), state, folder)
    except WtlError as error:
        raise _Damaged(str(error)) from error


def _read_verified(path: Path, digest: str) -> bytes:
    content = read_bytes(path, _TENSORS_LIMIT)
    if _sha(content) != digest:
        raise WtlError(f"{path} is not what was written (its SHA-256 differs; {len(content)} bytes)")
    return content


def _require_schema(schema: int, path: Path) -> None:
    if schema != SCHEMA:
        raise WtlError(f"{path} has schema {schema!r}, this version of watchtrylearn reads schema {SCHEMA}")


# --------------------------------------------------------------------------------------------------- models


def save_model(directory: str | Path, tensors: Tensors, meta: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` and ``model.json`` (``meta``, versions, hashes) into ``directory``.

    An old ``model.json`` is removed first and the new one written last: the pair is complete or absent. Raises
    ``WtlError``, with nothing written, if a number is not finite.
    """
    directory = Path(directory)
    _require_finite(tensors, f"refusing to write {directory / _MODEL_TENSORS}")
    content = _pack(tensors)
    body = {"schema": SCHEMA, **meta, "versions": versions(), "tensors_sha256": _sha(content)}
    (directory / _MODEL_STATE).unlink(missing_ok=True)
    write_atomic(directory / _MODEL_TENSORS, content)
    write_json(directory / _MODEL_STATE, {**body, "sha256": _sha(canonical_json(body).encode())}, _MODEL_LIMIT)


def load_model(path: str | Path) -> tuple[Model, dict[str, torch.Tensor]]:
    """The description and the tensors (on the CPU) of the trained model in the folder ``path``.

    Raises ``WtlError`` naming the file if it is missing, damaged, or of another schema version.
    """
    file = Path(path) / _MODEL_STATE
    if not file.exists():
        raise WtlError(f"there is no trained model in {path}: {_MODEL_STATE} is missing")
    content = read_bytes(file, _MODEL_LIMIT)
    seal = parse_typed(content, _Sealed, str(file))
    _require_schema(seal.schema, file)
    body = parse_typed(content, dict[str, Any], str(file))
    del body["sha256"]
    if seal.sha256 != _sha(canonical_json(body).encode()):
        raise WtlError(f"{file} is not what was written (its SHA-256 differs)")
    meta = parse_typed(content, Model, str(file))
    tensors = _unpack(_read_verified(Path(path) / _MODEL_TENSORS, meta.tensors_sha256), Path(path) / _MODEL_TENSORS)
    _require_finite(tensors, f"refusing {Path(path) / _MODEL_TENSORS}")
    return meta, tensors


def copy_model(source: str | Path, target: str | Path) -> None:
    """Put the trained model of the folder ``source`` into ``target``, unless it is there already.

    Raises ``WtlError`` if ``target`` holds another one.
    """
    meta, there = read_bytes(Path(source) / _MODEL_STATE, _MODEL_LIMIT), Path(target) / _MODEL_STATE
    if not there.exists():
        write_atomic(Path(target) / _MODEL_TENSORS, read_bytes(Path(source) / _MODEL_TENSORS, _TENSORS_LIMIT))
        write_atomic(there, meta)
    elif read_bytes(there, _MODEL_LIMIT) != meta:
        raise WtlError(f"{target} holds another model than {source}; choose another directory")


def model_sha256(path: str | Path) -> str:
    """The SHA-256 of the weights of the trained model in the folder ``path``: what its attempts belong to."""
    return _sha(read_bytes(Path(path) / _MODEL_TENSORS, _TENSORS_LIMIT))


# -------------------------------------------------------------------------------------------------- tensors


def _require_finite(tensors: Tensors, refusal: str) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WtlError(f"{refusal}: {name[:60]} holds numbers that are not finite, so its training went wrong")


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _pack(tensors: Tensors) -> bytes:
    # clone: safetensors refuses tensors that share memory (tied weights)
    return safetensors.torch.save({name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()})


def _unpack(content: bytes, path: Path) -> dict[str, torch.Tensor]:
    if int.from_bytes(content[:8], "little") > _HEADER_LIMIT:
        raise WtlError(f"refusing {path}: its header is larger than {_HEADER_LIMIT} bytes")
    try:
        # clone: into memory aligned by torch, on which the last bit of a vectorised sum may depend
        return {name: tensor.clone() for name, tensor in safetensors.torch.load(content).items()}
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise WtlError(f"{path} is not a valid safetensors file: {error}") from error
