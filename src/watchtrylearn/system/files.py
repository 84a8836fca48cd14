"""Files that are either whole or not there, read within bounds, in directories that one process at a time writes.

A file appears under its name only after its bytes are on the disk, so a crash, a ``kill -9`` or a full disk
leaves the old file intact. What an interrupted writer leaves behind has a name that no reader looks at, and
the next one to lock the directory removes it.

Only regular files of limited size are read, and symbolic links are not followed: a directory that came from
somewhere else can neither make its reader wait, nor fill its memory, nor lead it to write elsewhere.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import GenericAlias
from typing import Any, BinaryIO, TypeVar

import filelock
import msgspec

from watchtrylearn.errors import WtlError

T = TypeVar("T")

LOCK = ".lock"
JSON_LIMIT = 4 * 2**20  # bytes; a larger "JSON file" is not one of ours, and could become a hundred times as much
FILE_LIMIT = 2**30

_counter = itertools.count()
_TEMPORARY = re.compile(r"^\..+\.(?P<host>[^~]+)~(?P<pid>\d+)~\d+\.tmp$")
# a FIFO must not make the reader wait; Windows has neither flag, but one for bytes as they are
_READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


# ------------------------------------------------------------------------------------------------- writing


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Put ``content`` at ``path`` so that it survives a crash the moment this returns.

    Write to a temporary name in the same folder, fsync, rename over ``path``, fsync the folder. Raises
    ``WtlError`` naming path and cause (disk full, no permission ...); then the old file is untouched.
    """
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """``write_atomic`` piece by piece: what the block writes is at ``path`` once it has ended without an error."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{_host()}~{os.getpid()}~{next(_counter)}.tmp")
    try:
        try:
            make_folder(path.parent)
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise WtlError(f"cannot write {path}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Create a folder and its parents, each durably named in its own parent."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable: a rename is on the disk only after this (Windows has no such call)."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: str | Path, value: Any, limit: int = JSON_LIMIT) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are not JSON and are refused, and so is what
    takes more than ``limit`` bytes, which ``read_typed`` would refuse."""
    try:
        text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise WtlError(f"cannot write {path}: {error}") from error
    if len(text) > limit:  # characters are bytes: all of them are ASCII
        raise WtlError(f"cannot write {path}: {len(text)} bytes, more than {limit}, which would not be read")
    write_atomic(path, text)


# ------------------------------------------------------------------------------------------------- reading


def read_bytes(path: str | Path, limit: int = FILE_LIMIT, size: int | None = None) -> bytes:
    """The content of a regular file of at most ``limit`` bytes; every failure is a ``WtlError`` naming it.

    ``size`` is what it must hold, where that is known: it is compared before anything is read. A symbolic link
    in the last place of ``path`` is refused; ``contained`` refuses the others.
    """
    with open(open_regular(path), "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_size > limit:
            raise WtlError(f"refusing to read {path}: {found.st_size} bytes, more than {limit}")
        if size is not None and found.st_size != size:
            raise WtlError(f"{path} is damaged: it has {found.st_size} bytes instead of {size}")
        try:
            content = file.read(found.st_size + 1)
        except OSError as error:
            raise WtlError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) != found.st_size:
        raise WtlError(f"cannot read {path}: it does not hold the {found.st_size} bytes that it claims")
    return content


def open_regular(path: str | Path) -> int:
    """A handle for reading a regular file; every failure is a ``WtlError`` naming it. Links are not followed."""
    try:
        handle = os.open(path, _READ)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
    except FileNotFoundError as error:
        raise WtlError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        link = os.path.islink(path)
        cause = "it is a symbolic link, which is not followed" if link else getattr(error, "strerror", None) or error
        raise WtlError(f"cannot read {path}: {cause}") from error
    raise WtlError(f"cannot read {path}: it is not a regular file")


def read_typed(path: str | Path, kind: type[T] | GenericAlias, limit: int = JSON_LIMIT) -> T:
    """The value of type ``kind`` in a JSON file: a dataclass, TypedDict, msgspec Struct or plain annotation.

    Nothing is converted: a text is no number, a fraction no integer. A missing, oversized, broken or otherwise
    shaped file is a ``WtlError`` naming file and field. Fields that ``kind`` does not have are left out, unbuilt;
    a ``msgspec.Struct`` with ``forbid_unknown_fields`` refuses them.
    """
    return parse_typed(read_bytes(path, limit), kind, str(path))


def parse_typed(content: bytes | str, kind: type[T] | GenericAlias, where: str) -> T:
    """``read_typed`` for JSON that is already in memory; ``where`` is what errors call it."""
    try:
        value: T = msgspec.json.decode(content, type=kind, strict=True)
        return value
    except msgspec.ValidationError as error:
        what, _, place = str(error).replace("`", "").partition(" - at $")
        field = f"{place.strip('.')}: " if place else ""
        raise WtlError(f"{where}: {field}{what[:1].lower()}{what[1:]}") from error
    except WtlError as error:  # a dataclass that checks its own fields
        raise WtlError(f"{where}: {error}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: bad UTF-8 inside a text
        raise WtlError(f"{where} is not valid JSON: {error}") from error


def contained(root: str | Path, relative: str) -> Path:
    """``root / relative``, refused if that leaves ``root`` (by "..", an absolute path or a symbolic link).

    The one place through which names below a directory that may come from somewhere else become paths. ``root``
    itself was chosen by the user, and may be a link.
    """
    inside = Path(relative)
    if "\0" in relative or inside.anchor or inside.drive or ".." in inside.parts:
        raise WtlError(f"refusing the path {relative!r}: it leads outside {root}")
    path = Path(root)
    for part in inside.parts:
        path = path / part
        if os.path.islink(path):
            raise WtlError(f"refusing the path {relative!r}: {path} is a symbolic link, which leads outside {root}")
    return path


# ------------------------------------------------------------------------------------------------- locking


@contextmanager
def directory_lock(path: str | Path, wait: float = 0.0) -> Iterator[None]:
    """Hold a directory for writing; a second process (or a second time in this one) is refused.

    It is refused at once, or after ``wait`` seconds of trying.

    The kernel drops the lock when its holder ends, however it ends, so a stale lock cannot exist; the pid,
    host and start time in the lock file only serve the message. The directory is created if missing, and
    what dead writers left half-written in it is removed. One that holds a symbolic link, however deep, is refused: who
    writes into it would write somewhere else.
    """
    path = Path(path)
    # never filelock's "soft" lock, a file that outlives its holder; neither of these follows a link
    kind = filelock.WindowsFileLock if os.name == "nt" else filelock.UnixFileLock
    lock = kind(path / LOCK, fallback_to_soft=False, preserve_lock_file=True, poll_interval=0.01, on_acquired=_sign)
    try:
        make_folder(path)
        lock.acquire(timeout=wait)
    except filelock.Timeout as error:
        raise WtlError(f"{path} is in use by {_holder(path / LOCK)}; wait for it or stop it") from error
    except OSError as error:
        link = os.path.islink(path / LOCK)
        cause = f"{LOCK} is a symbolic link, which is not followed" if link else error.strerror or error
        raise WtlError(f"cannot lock {path}: {cause}") from error
    try:
        _refuse_links(path)
        remove_leftovers(path)
        yield
    finally:
        lock.release()  # the file stays, since unlinking it would race with a newcomer


def _refuse_links(root: Path) -> None:
    try:
        folders = [os.fspath(root)]
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        raise WtlError(
                            f"refusing to work in {root}: {entry.path} is a symbolic link, which leads outside"
                        )
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
    except OSError as error:
        raise WtlError(f"cannot look into {root}: {error.strerror or error}") from error


def _sign(handle: int) -> None:
    """Say in the lock file who holds it; a file that has another name too, or is none, is not ours to write to."""
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise OSError(f"{LOCK} is not a regular file of its own")
    info = {"pid": os.getpid(), "host": _host(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, json.dumps(info).encode())


def _holder(path: Path) -> str:
    try:
        info = json.loads(read_bytes(path, 4096))
        return f"process {info['pid']} on {info['host']} since {info['since']}"
    except (WtlError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"


def leftovers(folder: Path) -> list[Path]:
    """The temporary files in ``folder`` whose writer (on this host) is dead; none where they cannot be listed."""
    try:
        return [path for path in folder.iterdir() if _is_leftover(path.name)]
    except OSError:
        return []


def remove_leftovers(folder: Path) -> None:
    """Delete what dead writers left half-written in ``folder``, where that is allowed."""
    for path in leftovers(folder):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _is_leftover(name: str) -> bool:
    found = _TEMPORARY.match(name)
    return found is not None and found["host"] == _host() and not _alive(int(found["pid"]))


def _alive(pid: int) -> bool:
    if os.name == "nt":  # there, os.kill is no question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _host() -> str:
    return socket.gethostname().replace("~", "-").replace("/", "-")
