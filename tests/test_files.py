"""Files are whole or not there; one process at a time; a crash leaves nothing to clean up by hand."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from watchtrylearn.system import files
from watchtrylearn.system.files import (
    contained,
    directory_lock,
    leftovers,
    read_bytes,
    read_typed,
    remove_leftovers,
    write_atomic,
    write_json,
)
from watchtrylearn.types import WtlError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_and_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "a.json", {"x": [1, 2.5, "é"]})
    assert read_typed(tmp_path / "deep" / "a.json", dict) == {"x": [1, 2.5, "é"]}
    write_atomic(tmp_path / "b", b"old")
    write_atomic(tmp_path / "b", b"new")
    assert read_bytes(tmp_path / "b") == b"new"
    assert names(tmp_path) == ["b", "deep"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    write_atomic(tmp_path / "file", b"old")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "write":
        monkeypatch.setattr("builtins.open", full)
    else:
        monkeypatch.setattr(os, step, full)
    with pytest.raises(WtlError, match=r"cannot write .*file: No space left on device"):
        write_atomic(tmp_path / "file", b"new")
    monkeypatch.undo()
    assert read_bytes(tmp_path / "file") == b"old"
    assert names(tmp_path) == ["file"]


def test_a_real_limit_on_file_size(tmp_path: Path) -> None:
    """The same without a patch: the operating system refuses the bytes half-way."""
    script = (
        "import resource, signal, sys; from watchtrylearn.system.files import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "write_atomic(sys.argv[1], b'old')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomic(sys.argv[1], b'x' * 5000)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    path = tmp_path / "file"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"WtlError cannot write {path}: File too large"
    assert names(tmp_path) == ["file"]
    assert read_bytes(path) == b"old"


def test_unwritable_and_unreadable(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"")
    with pytest.raises(WtlError, match="cannot write"):
        write_atomic(tmp_path / "file" / "below", b"")
    with pytest.raises(WtlError, match="there is no file"):
        read_typed(tmp_path / "missing", dict)
    write_atomic(tmp_path / "long", b"1234")
    with pytest.raises(WtlError, match="more than 3"):
        read_bytes(tmp_path / "long", limit=3)
    with pytest.raises(WtlError, match=r"not\.json: Out of range"):
        write_json(tmp_path / "not.json", float("nan"))
    with pytest.raises(WtlError, match=r"cannot write .*not\.json: 9 bytes, more than 8"):
        write_json(tmp_path / "not.json", "é", limit=8)


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": }', b"\xff\xfe\x00", b"[" * 100_000])
def test_broken_json_is_named(tmp_path: Path, content: bytes) -> None:
    write_atomic(tmp_path / "broken.json", content)
    with pytest.raises(WtlError, match=r"broken\.json is not valid JSON"):
        read_typed(tmp_path / "broken.json", list if content[:1] == b"[" else dict)


@dataclass(frozen=True)
class Sized:
    name: str
    sizes: tuple[int, ...]
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if not self.sizes:
            raise WtlError("sizes must not be empty")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"name": "x", "sizes": [1, 2.5]}', r"typed\.json: sizes\[1\]: expected int, got float"),
        (b'{"name": 3, "sizes": [1]}', "name: expected str, got int"),
        (b'{"name": "x", "sizes": ["1"]}', "expected int, got str"),
        (b'{"name": "x"}', "missing required field sizes"),
        (b'{"name": "x", "sizes": [1], "kind": "c"}', "kind: invalid enum value 'c'"),
        (b'{"name": "x", "sizes": []}', r"typed\.json: sizes must not be empty"),
        (b'{"name": "\xff", "sizes": [1]}', "not valid JSON"),
        (b'{"name": NaN, "sizes": [1]}', "not valid JSON"),
        (b"[1]", "expected object, got array"),
        (b'{"name": ' + b"[" * 100_000, r"typed\.json"),
        (b'{"deep": ' + b"[" * 100_000, "not valid JSON"),
        (b"", "not valid JSON"),
    ],
)
def test_typed_json_names_the_field(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "typed.json"
    path.write_bytes(b'{"name": "x", "sizes": [1, 2], "more": {"ignored": [0]}}')
    assert read_typed(path, Sized) == Sized("x", (1, 2))
    path.write_bytes(content)
    with pytest.raises(WtlError, match=message):
        read_typed(path, Sized)


def test_only_regular_files_of_stated_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "folder").mkdir()
    for name, message in [
        ("fifo", "not a regular file"),
        ("link", "symbolic link"),
        ("dangling", "symbolic link"),
        ("folder", "folder: "),
        ("x" * 300, "name too long"),
        ("a\0b", "null byte"),
    ]:
        with pytest.raises(WtlError, match=message):
            read_bytes(tmp_path / name)
    for path in ("/dev/zero", "/proc/self/status"):  # never ends; claims to hold nothing
        with pytest.raises(WtlError, match="cannot read"):
            read_bytes(path)


def test_paths_from_files_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "dangling").symlink_to("nothing")
    assert contained(root, "a/b") == root / "a/b"
    (tmp_path / "chosen").symlink_to(root)
    assert contained(tmp_path / "chosen", "a/b") == tmp_path / "chosen" / "a/b"
    for outside in ("../x", "a/../../x", "/etc/passwd", "link/x", "link", "dangling", "a\0b"):
        with pytest.raises(WtlError, match="leads outside"):
            contained(root, outside)


# ------------------------------------------------------------------------------------------------- locking

HOLD = """
import sys, time
from watchtrylearn.system.files import directory_lock
with directory_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_process_is_refused_and_a_killed_one_releases(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(WtlError, match=rf"in use by process {holder.pid} on \S+ since"),
            directory_lock(tmp_path),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with directory_lock(tmp_path):  # no manual work
        pass


def test_the_lock_is_released_and_not_reentrant(tmp_path: Path) -> None:
    refused = pytest.raises(WtlError, match=f"process {os.getpid()}")
    with directory_lock(tmp_path), refused, directory_lock(tmp_path, wait=0.05):
        pass
    with directory_lock(tmp_path), pytest.raises(ZeroDivisionError), directory_lock(tmp_path / "other"):
        raise ZeroDivisionError
    with directory_lock(tmp_path / "other"):
        pass


def test_a_damaged_lock_file_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / files.LOCK).write_bytes(b"\xff not json")
    with directory_lock(tmp_path):
        pass


@pytest.mark.parametrize("target", ["precious", "nothing"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_lock_that_leads_elsewhere_is_not_written_through(tmp_path: Path, target: str, link: Callable) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "dataset").mkdir()
    if (link, target) == (os.link, "nothing"):
        os.mkfifo(tmp_path / "nothing")
    link(tmp_path / target, tmp_path / "dataset" / files.LOCK)
    before = names(tmp_path)
    with pytest.raises(WtlError, match=r"cannot lock .*dataset: \.lock is"), directory_lock(tmp_path / "dataset"):
        pass
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert names(tmp_path) == before


def test_without_fcntl_locking_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """As on a system that has none: importing works, and nothing is written unlocked."""
    script = (
        "import sys; sys.modules['fcntl'] = None\n"
        "import watchtrylearn, watchtrylearn.cli; from watchtrylearn.system.files import directory_lock\n"
        "try:\n    with directory_lock(sys.argv[1]): print('unsafe')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"WtlError cannot lock {tmp_path}: fcntl is unavailable")


def test_leftovers_of_dead_writers_are_removed(tmp_path: Path) -> None:
    script = (
        "import os, sys; from watchtrylearn.system import files\n"
        "files.os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "files.write_atomic(sys.argv[1], b'half')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "file"], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    mine = tmp_path / left.name.replace(left.name.split("~")[1], str(os.getpid()))
    mine.touch()  # a writer that is alive
    (tmp_path / "data.tmp").touch()  # not ours
    assert leftovers(tmp_path) == [left]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([mine.name, "data.tmp"])
