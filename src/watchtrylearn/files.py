"""Files that are either whole or not there, and directories that one process at a time may write to.

A file appears under its name only after its bytes are on the disk, so a crash, a ``kill -9`` or a full disk
leaves the old file intact. What an interrupted writer leaves behind has a name that no reader looks at, and
the next one to lock the directory removes it.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from watchtrylearn.errors import WtlError

LOCK = ".lock"
JSON_LIMIT = 64 * 2**20  # bytes; a larger "JSON file" is not one of ours

_counter = itertools.count()
_TEMPORARY = re.compile(r"^\..+\.(?P<host>[^~]+)~(?P<pid>\d+)~\d+\.tmp$")


# ------------------------------------------------------------------------------------------------- writing


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Put ``content`` at ``path`` so that it survives a crash the moment this returns.

    Write to a temporary name in the same folder, fsync, rename over ``path``, fsync the folder. Raises
    ``WtlError`` naming path and cause (disk full, no permission ...); then the old file is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{_host()}~{os.getpid()}~{next(_counter)}.tmp")
    try:
        try:
            _write_synced(temporary, content.encode() if isinstance(content, str) else content)
            os.replace(temporary, path)
            sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise WtlError(f"cannot write {path}: {error.strerror or error}") from error


def _write_synced(path: Path, content: bytes) -> None:
    make_folder(path.parent)
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Create a folder and its parents, each durably named in its own parent."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable: a rename is on the disk only after this."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are not JSON and are refused."""
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError as error:
        raise WtlError(f"cannot write {path}: {error}") from error
    write_atomic(path, text + "\n")


# ------------------------------------------------------------------------------------------------- reading


def read_bytes(path: str | Path, limit: int | None = None) -> bytes:
    """The content of a file of at most ``limit`` bytes; every failure is a ``WtlError`` naming it."""
    try:
        size = os.stat(path).st_size
        if limit is not None and size > limit:
            raise WtlError(f"refusing to read {path}: {size} bytes, more than {limit}")
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise WtlError(f"there is no file {path}") from error
    except OSError as error:
        raise WtlError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; a missing, oversized or broken one is a ``WtlError`` naming it."""
    content = read_bytes(path, JSON_LIMIT)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # ValueError covers bad JSON and bad UTF-8
        raise WtlError(f"{path} is not valid JSON: {error}") from error


def contained(root: str | Path, relative: str) -> Path:
    """``root / relative``, refused if that leaves ``root`` (by "..", an absolute path or a symbolic link).

    The one place through which names found inside untrusted files become paths.
    """
    path = Path(root, relative)
    if "\0" in relative or not path.resolve().is_relative_to(Path(root).resolve()):
        raise WtlError(f"refusing the path {relative!r}: it leads outside {root}")
    return path


# ------------------------------------------------------------------------------------------------- locking


@contextmanager
def directory_lock(path: str | Path, wait: float = 0.0) -> Iterator[None]:
    """Hold a directory for writing; a second process (or a second time in this one) is refused.

    It is refused at once, or after ``wait`` seconds of trying.

    The kernel drops the lock when its holder ends, however it ends, so a stale lock cannot exist; the pid,
    host and start time in the lock file only serve the message. The directory is created if missing, and
    what dead writers left half-written in it is removed.
    """
    path = Path(path)
    try:
        make_folder(path)
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise WtlError(f"cannot lock {path}: {error.strerror or error}") from error
    try:
        _acquire(handle, path, time.monotonic() + wait)
        remove_leftovers(path)
        yield
    finally:
        os.close(handle)  # closing releases; the file stays, since unlinking it would race with a newcomer


def _acquire(handle: int, path: Path, deadline: float) -> None:
    info = {"pid": os.getpid(), "host": _host(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        while not _try_lock(handle):
            if time.monotonic() >= deadline:
                raise WtlError(f"{path} is in use by {_holder(handle)}; wait for it or stop it")
            time.sleep(0.01)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(info).encode(), 0)
    except OSError as error:
        raise WtlError(f"cannot lock {path}: {error.strerror or error}") from error


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(handle: int) -> str:
    try:
        info = json.loads(os.pread(handle, 4096, 0))
        return f"process {info['pid']} on {info['host']} since {info['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def leftovers(folder: Path) -> list[Path]:
    """The temporary files in ``folder`` whose writer (on this host) is dead."""
    return [path for path in folder.iterdir() if _is_leftover(path.name)]


def remove_leftovers(folder: Path) -> None:
    """Delete what dead writers left half-written in ``folder``."""
    for path in leftovers(folder):
        path.unlink(missing_ok=True)


def _is_leftover(name: str) -> bool:
    found = _TEMPORARY.match(name)
    return found is not None and found["host"] == _host() and not _alive(int(found["pid"]))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _host() -> str:
    return socket.gethostname().replace("~", "-").replace("/", "-")
