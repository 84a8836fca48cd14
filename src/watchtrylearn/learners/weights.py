"""Trained weights that come with the package: ``pretrained/NAME/LEARNER``, beside the results they belong to."""

from __future__ import annotations

from pathlib import Path

from watchtrylearn.errors import WtlError, suggestion

FOLDER = Path(__file__).parent.parent / "pretrained"
RESULTS = "results.json"  # in every folder: the published rows of its learners, the experiment, the data


def pretrained(name: str) -> Path:
    """The folder of the weights called ``name``, one learner in each folder below it.

    ``wtl.load(wtl.pretrained("wtl-state") / "watch_try_learn")`` is ready to adapt. An unknown name is refused with
    the nearest right one.
    """
    known = sorted(path.parent.name for path in FOLDER.glob(f"*/{RESULTS}"))
    if name in known:
        return _real(FOLDER / name)
    if not known:
        raise WtlError(f"there are no pretrained weights {name!r}: this installation comes with none")
    raise WtlError(f"there are no pretrained weights {name!r}; {suggestion(name, known)}")


def _real(folder: Path) -> Path:
    """Where the files of a folder of the package are: installing it may make links to them (Nix, Bazel, uv's
    ``--link-mode symlink``), and in folders, which may come from anywhere, links are not followed; this is our own."""
    file = (folder / RESULTS).resolve()
    return file.parent if file.name == RESULTS else folder
