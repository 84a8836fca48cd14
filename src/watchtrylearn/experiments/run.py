"""A run directory: what an experiment leaves on disk, and what lets every step continue where it stopped.

RUN/experiment.json      the resolved config, versions, the command
RUN/demos/               demonstrations of the training tasks        (LeRobot v3.0 datasets)
RUN/trials/one_shot/     trials of the trial policy, with outcomes
RUN/trials/bc/           trials made without a demonstration
RUN/LEARNER/             config, metrics, checkpoints, model.safetensors
RUN/evaluation/demos/    the demonstrations shown at evaluation
RUN/evaluation/LEARNER/  every attempt of the evaluation
RUN/results.json, RUN/report.html
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchtrylearn import checkpoint
from watchtrylearn.config import from_json
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.experiments import Experiment
from watchtrylearn.files import directory_lock, read_json, write_json
from watchtrylearn.progress import Display
from watchtrylearn.settings import refuse_changes
from watchtrylearn.signals import Interrupted
from watchtrylearn.suites import Suite, make_suite
from watchtrylearn.types import WtlError

_HARMLESS = ("gallery", "summary")


@dataclass(frozen=True)
class Run:
    """An experiment in a directory, opened by ``open_run``."""

    directory: Path
    experiment: Experiment
    suite: Suite
    display: Display
    skip_bad: bool = False

    def store(self, *parts: str) -> EpisodeStore:
        """The dataset RUN/parts, made if it does not exist yet."""
        path = self.directory.joinpath(*parts)
        if (path / "meta").exists():
            store = EpisodeStore.open(path, self.suite.spec, self.skip_bad)
            for sentence in store.skipped:
                self.display.console.print(f"left out: {sentence}", markup=False)
            return store
        # demonstrators may send disturbed commands; what reached the robot is stored too
        return EpisodeStore.create(path, self.suite.spec, self.suite.name, executed=parts[-1] == "demos")

    def note_seconds(self, step: str, seconds: float) -> None:
        """Adds to the wall time of a step (a continued step's sessions add up)."""
        spent = self.seconds()
        spent[step] = round(spent.get(step, 0.0) + seconds, 1)
        write_json(self.directory / "seconds.json", spent)

    def seconds(self) -> dict[str, float]:
        """Wall time of each step so far, in seconds."""
        path = self.directory / "seconds.json"
        return dict(read_json(path)) if path.exists() else {}


@contextmanager
def open_run(directory: Path, experiment: Experiment | None, display: Display, skip_bad: bool = False) -> Iterator[Run]:
    """Opens (or begins) the run in ``directory`` and holds it: a second process is refused.

    Without an ``experiment``, the directory's own is continued. Raises ``WtlError`` if there is neither, or if the
    directory holds an experiment with other settings, naming each.
    """
    settings = directory / "experiment.json"
    if experiment is None and not settings.exists():
        raise WtlError(f"{directory} holds no run yet; begin one with `wtl record --preset NAME --out {directory}`")
    with directory_lock(directory):
        stored = read_json(settings) if settings.exists() else None
        if stored is not None:
            kept = from_json(Experiment, stored["experiment"], str(settings))
            _refuse(kept, experiment, directory)
            experiment = experiment or kept
        else:
            assert experiment is not None
            write_json(settings, {"experiment": as_json(experiment), "versions": checkpoint.versions()})
        yield Run(directory, experiment, make_suite(experiment.suite), display, skip_bad)


def stop_if(signalled: int, what: str, directory: Path) -> None:
    """Raises ``Interrupted`` after Ctrl-C or SIGTERM, saying what is saved and how to continue."""
    if signalled:
        raise Interrupted(
            f"stopped while {what}; everything so far is saved in {directory}, and the same command continues",
            signalled,
        )


def _refuse(kept: Experiment, asked: Experiment | None, directory: Path) -> None:
    if asked is not None:
        refuse_changes(as_json(kept), as_json(asked), directory, _HARMLESS)


def as_json(experiment: Experiment) -> dict[str, Any]:
    """The experiment as JSON has it: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(experiment)))
    return plain
