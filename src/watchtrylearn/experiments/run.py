"""A run directory: what an experiment leaves on disk, and what lets every step continue where it stopped.

RUN/experiment.json      the resolved config, versions, the command
RUN/demos/               demonstrations of the training tasks        (LeRobot v3.0 datasets)
RUN/trials/one_shot/     trials of the trial policy, with outcomes
RUN/trials/bc/           trials made without a demonstration
RUN/LEARNER/             config, metrics, checkpoints, model.safetensors
RUN/evaluation/demos/    the demonstrations shown at evaluation
RUN/evaluation/LEARNER/  every attempt of the evaluation
                         (trials and attempts: made_by.json, the hash of the weights that made them)
RUN/results.json, RUN/report.html
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchtrylearn import checkpoint
from watchtrylearn.config import from_json
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.experiments import Experiment
from watchtrylearn.files import contained, directory_lock, read_json, write_json
from watchtrylearn.nn.task_net import TaskNet
from watchtrylearn.progress import Display
from watchtrylearn.settings import refuse_changes
from watchtrylearn.signals import Interrupted
from watchtrylearn.suites import Suite, make_suite
from watchtrylearn.types import Split, Task, WtlError

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
        """The dataset RUN/parts, to write to: begun if there is none yet."""
        store = self.stored(*parts)
        if store is None:
            # demonstrators may send disturbed commands; what reached the robot is stored too
            path, executed = contained(self.directory, "/".join(parts)), parts[-1] == "demos"
            store = EpisodeStore.create(path, self.suite.spec, self.suite.name, executed)
        return store

    def stored(self, *parts: str) -> EpisodeStore | None:
        """The dataset RUN/parts if there is one. Looking creates nothing."""
        path = contained(self.directory, "/".join(parts))
        if not EpisodeStore.exists(path):
            return None
        try:
            store = EpisodeStore.open(path, self.suite.spec, self.skip_bad, self.suite.name)
        except WtlError as error:
            raise WtlError(f"{error}{self._advice(path)}") from error
        for sentence in store.skipped:
            self.display.console.print(f"left out: {sentence}", markup=False)
        return store

    def _advice(self, path: Path) -> str:
        """What to do about a dataset that cannot be opened, where there is something to do."""
        if "evaluation" in path.relative_to(self.directory).parts:
            return " (remove that folder to make it again)"
        with contextlib.suppress(WtlError):
            EpisodeStore.open(path, self.suite.spec, True, self.suite.name)
            return " (--skip-bad leaves it out)"
        return ""

    def note_seconds(self, step: str, seconds: float) -> None:
        """Adds to the wall time of a step (a continued step's sessions add up)."""
        spent = self.seconds()
        spent[step] = round(spent.get(step, 0.0) + seconds, 1)
        write_json(self.directory / "seconds.json", spent)

    def seconds(self) -> dict[str, float]:
        """Wall time of each step so far, in seconds."""
        path = self.directory / "seconds.json"
        found = read_json(path) if path.exists() else {}
        if not isinstance(found, dict) or not all(isinstance(v, int | float) for v in found.values()):
            raise WtlError(f"{path} does not hold the seconds of each step; remove it")
        return found


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
        kept = _kept(settings) if settings.exists() else None
        if kept is not None and experiment is not None:
            refuse_changes(as_json(kept), as_json(experiment), directory, _HARMLESS)
        chosen = experiment or kept
        assert chosen is not None
        suite = make_suite(chosen.suite)
        chosen_tasks(suite, "train", chosen.tasks, "tasks")
        chosen_tasks(suite, chosen.split, chosen.eval_tasks, "eval_tasks")
        TaskNet(chosen.net, suite.spec)  # refuses sizes that do not fit
        if kept is None:  # nothing is written before everything is found sound
            write_json(settings, {"experiment": as_json(chosen), "versions": checkpoint.versions()})
        yield Run(directory, chosen, suite, display, skip_bad)


def _kept(settings: Path) -> Experiment:
    """The experiment that a run directory belongs to."""
    stored = read_json(settings)
    if not isinstance(stored, dict) or not isinstance(stored.get("experiment"), dict):
        raise WtlError(f"{settings} does not describe an experiment")
    return from_json(Experiment, stored["experiment"], str(settings))


def chosen_tasks(suite: Suite, split: Split, count: int, option: str) -> list[Task]:
    """``count`` tasks of a split (0: all): the first ones of every family alike, so that more are never another mix.

    ``option`` is what to name in an error.
    """
    tasks = suite.tasks(split)
    if count > len(tasks):
        raise WtlError(f"{option} is {count}, but suite {suite.name!r} has {len(tasks)} {split} tasks")
    before: Counter[str] = Counter()  # tasks of the same family so far
    places = []
    for number, task in enumerate(tasks):
        places.append((before[task.family], number))
        before[task.family] += 1
    return [tasks[number] for number in sorted(number for _, number in sorted(places)[: count or len(tasks)])]


def stop_if(signalled: int, what: str, directory: Path) -> None:
    """Raises ``Interrupted`` after Ctrl-C or SIGTERM, saying what is saved and how to continue."""
    if signalled:
        raise Interrupted(
            f"stopped while {what}; everything so far is saved in {directory}, and the same command continues",
            signalled,
        )


def as_json(experiment: Experiment) -> dict[str, Any]:
    """The experiment as JSON has it: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(experiment)))
    return plain
