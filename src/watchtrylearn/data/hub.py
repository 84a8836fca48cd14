"""Where a dataset is: a folder, or a Hub name that LeRobot or the Hub's client has cached. Nothing is downloaded."""

from __future__ import annotations

import os
import re
from pathlib import Path

from watchtrylearn.system.files import contained, read_bytes
from watchtrylearn.types import WtlError

REVISIONS = ("v3.0", "main")  # LeRobot tags what its version 3.0 can read
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_COMMIT = re.compile(rb"[0-9a-f]{40}")


def find_dataset(name: str | Path) -> Path:
    """The folder of the dataset ``name``: a folder, or a Hub name such as ``me/my-arm`` that is cached here.

    A name is looked for where LeRobot records (``$HF_LEROBOT_HOME``, else ``$HF_HOME/lerobot``), then among what
    LeRobot (``$HF_LEROBOT_HOME/hub``) and the Hub's client (``$HF_HUB_CACHE``, else ``$HF_HOME/hub``) downloaded: the
    revision ``v3.0``, else ``main``, else the only one. Raises ``WtlError`` if it is nowhere, or if several revisions
    are there and none of them by name.
    """
    folder = Path(name)
    if (folder / "meta").is_dir():
        return folder
    if not _NAME.fullmatch(str(name)):
        raise WtlError(f"there is no dataset at {name}: it has no folder meta")
    recorded, *caches = _places()
    if (recorded / name / "meta").is_dir():
        return recorded / name
    for cache in caches:
        repository = cache / f"datasets--{str(name).replace('/', '--')}"
        if (repository / "snapshots").is_dir():
            return _snapshot(repository)
    looked = ", ".join(str(place) for place in (recorded, *caches))
    raise WtlError(
        f"there is no dataset {str(name)!r}: neither a folder with meta in it, nor cached in {looked}; nothing is "
        f"downloaded here, so fetch it first, say with `hf download --repo-type dataset {name}`"
    )


def file_in(root: Path, relative: str) -> Path:
    """The file ``relative`` of the dataset at ``root``, refused if it leads outside.

    In the Hub client's cache the files of a snapshot are links to its blobs; then it is the blob.
    """
    blobs = root.parent.parent / "blobs"
    if root.parent.name != "snapshots" or not blobs.is_dir():
        return contained(root, relative)
    inside = Path(relative)
    link = contained(root, str(inside.parent)) / inside.name
    if not link.is_symlink():
        return contained(root, relative)
    target = os.readlink(link)
    blob = blobs / Path(target).name
    if os.path.normpath(link.parent / target) != os.path.normpath(blob):
        raise WtlError(f"refusing the path {relative!r}: it leads outside {root}")
    return blob


def _places() -> tuple[Path, Path, Path]:
    """Where LeRobot records, and the caches of LeRobot and of the Hub's client."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", f"{cache}/huggingface")
    lerobot = os.environ.get("HF_LEROBOT_HOME", f"{home}/lerobot")
    hub = os.environ.get("HF_HUB_CACHE", f"{home}/hub")
    recorded, downloaded = Path(lerobot).expanduser(), Path(hub).expanduser()
    return recorded, recorded / "hub", downloaded


def _snapshot(repository: Path) -> Path:
    """The folder of the revision that LeRobot would take."""
    for revision in REVISIONS:
        reference = repository / "refs" / revision
        if reference.exists():
            commit = read_bytes(reference, 100).strip()
            if not _COMMIT.fullmatch(commit):
                raise WtlError(f"{reference} does not hold the name of a commit")
            return repository / "snapshots" / commit.decode()
    found = sorted(path for path in (repository / "snapshots").iterdir() if path.is_dir())
    if len(found) != 1:
        raise WtlError(f"{repository} holds {len(found)} snapshots and none is called v3.0 or main; name its folder")
    return found[0]
