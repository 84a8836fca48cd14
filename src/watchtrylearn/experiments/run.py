"""A run directory: what an experiment leaves on disk, and what lets every step continue where it stopped.

RUN/experiment.json      the resolved config, versions, the command
RUN/demos/               demonstrations of the training tasks        (LeRobot v3.0 datasets)
RUN/trials/METHOD/       trials of a method, with outcomes
RUN/METHOD/              config, metrics, checkpoints, model.safetensors
RUN/evaluation/demos/    the demonstrations shown at evaluation
RUN/evaluation/METHOD/   every attempt of the evaluation
                         (trials and attempts: made_by.json, the hash of the weights that made them)
RUN/beside/              the lock and the wall times of a second process (``beside.py``)
RUN/seconds.json, RUN/results.json, RUN/report.html
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape

from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.experiments.fitting import uses_symmetries
from watchtrylearn.experiments.plan import Experiment, as_json, settings_of
from watchtrylearn.experiments.presets import read_experiment
from watchtrylearn.learners import outline
from watchtrylearn.reporting.documents import Seconds, Text
from watchtrylearn.suites import Suite, Symmetric, make_suite
from watchtrylearn.suites.outside import file_sha256, is_file, is_outside, located, without_folder
from watchtrylearn.system.files import contained, directory_lock, read_typed, write_json
from watchtrylearn.system.progress import Display
from watchtrylearn.system.settings import refuse_changes
from watchtrylearn.system.signals import Interrupted
from watchtrylearn.training import checkpoint
from watchtrylearn.training.fit import require_present
from watchtrylearn.types import Split, Task, WtlError

BESIDE = "beside"  # the folder of a second process, and the mark of its wall times
SECONDS = "seconds.json"
LAST_BREATH = 30.0  # seconds: a second process ends soon after the one that started it
DEVICES = ("cpu", "cuda")
_HARMLESS = ("gallery", "summary")


@dataclass(frozen=True)
class _Stored:
    """What ``experiment.json`` holds."""

    experiment: dict[str, Any]
    versions: dict[str, str]
    suite_sha256: str | None = None  # of the file of a suite from outside, which may be anywhere


@dataclass(frozen=True)
class Run:
    """An experiment in a directory, opened by ``open_run``.

    ``device``: where learners are trained and act. ``second``: opened by the process beside the one that holds it.
    """

    directory: Path
    experiment: Experiment
    suite: Suite
    display: Display
    skip_bad: bool = False
    device: str = "cpu"
    second: bool = False

    def store(self, *parts: str) -> EpisodeStore:
        """The dataset RUN/parts, to write to: begun if there is none yet."""
        store = self.stored(*parts)
        if store is None:
            path = contained(self.directory, "/".join(parts))
            # demonstrators disturb commands, policies send some that are cut to their bounds: both are stored
            store = EpisodeStore.create(path, self.suite.spec, self.suite.name, executed=True)
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
            self.display.say(escape(f"left out: {sentence}"))
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
        path = self.directory / BESIDE / SECONDS if self.second else self.directory / SECONDS
        name = f"{step} ({BESIDE})" if self.second else step
        spent = _read_seconds(path)
        write_json(path, {**spent, name: round(spent.get(name, 0.0) + seconds, 1)})

    def seconds(self) -> dict[str, float]:
        """Wall time of each step so far, in seconds. Those of a second process are marked ``(beside)``: they passed
        while the others did."""
        return _read_seconds(self.directory / SECONDS) | _read_seconds(self.directory / BESIDE / SECONDS)


def _read_seconds(path: Path) -> dict[str, float]:
    return read_typed(path, dict[Text, Seconds]) if path.exists() else {}


@contextmanager
def open_run(
    directory: Path,
    experiment: Experiment | None,
    display: Display,
    *,
    suite: str | None = None,
    skip_bad: bool = False,
    device: str = "cpu",
    second: bool = False,
) -> Iterator[Run]:
    """Opens (or begins) the run in ``directory`` and holds it: another process is refused, but for the ``second`` that
    the holder itself has started (``beside.py``).

    Without an ``experiment``, the directory's own is continued. Code of a ``suite`` from outside is never run because a
    directory says so: whoever opens such a run names the suite again. A file may lie elsewhere by then, or be called
    otherwise, as long as it holds the same.

    Raises ``WtlError`` if there is no experiment, or if the directory holds one with other settings, naming each.
    """
    settings = directory / "experiment.json"
    if experiment is None and not settings.exists():
        raise WtlError(f"{directory} holds no run yet; begin one with `wtl record --preset NAME --out {directory}`")
    require_device(device)
    lock = directory_lock(directory / BESIDE, wait=LAST_BREATH) if second else directory_lock(directory)
    with lock, _one_torch_thread():
        kept = _kept(settings, suite if experiment is None else experiment.suite) if settings.exists() else None
        if kept is not None and experiment is not None:
            refuse_changes(settings_of(kept), settings_of(experiment), directory, _HARMLESS)
        chosen = experiment or kept
        assert chosen is not None
        digest = file_sha256(chosen.suite)
        made = make_suite(chosen.suite)
        chosen_tasks(made, "train", chosen.tasks, "tasks")
        chosen_tasks(made, chosen.split, chosen.eval_tasks, "eval_tasks")
        for method in chosen.methods.values():
            outline(method.learner, made.spec, method.config)  # refuses sizes that do not fit
            if uses_symmetries(method) and not isinstance(made, Symmetric):
                raise WtlError(f"{method.learner}: sampling.symmetries: suite {made.name!r} declares no symmetries")
        if kept is None:  # nothing is written before everything is found sound
            stored = _Stored(
                as_json(replace(chosen, suite=without_folder(chosen.suite))), checkpoint.versions(), digest
            )
            write_json(settings, {name: value for name, value in vars(stored).items() if value is not None})
        yield Run(directory, chosen, made, display, skip_bad, device, second)


def _named(begun: str, sha256: str | None, settings: Path, told: str | None) -> str:
    """The suite that a run was ``begun`` with, where it is now; one from outside must be ``told`` by whoever opens its
    run. A file is known by what it holds and by its function, a module by its name."""
    directory = settings.parent
    if is_outside(begun) and told is None:
        place = f"PATH/{begun}" if is_file(begun) else begun
        raise WtlError(
            f"{directory} was begun with the suite {begun}, which is code from outside this library; "
            f"if you trust it, name it: --suite {place}"
        )
    if told is None:
        return begun
    if not (is_file(begun) and is_file(told) and begun.rpartition(":")[2] == told.rpartition(":")[2]):
        if told != begun:
            raise WtlError(f"{directory} was begun with the suite {begun}, not {told}")
        return begun
    found = file_sha256(told)
    if found != sha256:
        noted = f"when {begun} was another file" if sha256 else f"without a note of what was in {begun}"
        raise WtlError(
            f"{directory} was begun {noted}, so what it holds may be of other tasks than those of {told}; put back the "
            "file that it was, or choose another directory, or, if tasks and worlds are still the same, say so: write "
            f'"suite_sha256": "{found}" into {settings}'
        )
    return located(told)


def require_device(device: str) -> None:
    """Refuses what ``--device`` cannot be, and a device that is not there."""
    if device not in DEVICES:
        raise WtlError(f"--device is {' or '.join(DEVICES)}, not {device[:60]!r}")
    require_present(device, "--device")


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """The networks here keep one core busy; a second thread would wait for the first whenever another program uses a
    core, and last bits would depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _kept(settings: Path, told: str | None) -> Experiment:
    """The experiment that a run directory belongs to, in the suite that it was begun with."""
    stored = read_typed(settings, _Stored)
    try:
        found = read_experiment(stored.experiment, "experiment")
    except WtlError as error:
        by = f"version {stored.versions.get('watchtrylearn', 'unknown')[:20]}"
        raise WtlError(f"{settings}, written by {by}, is not an experiment of this version: {error}") from error
    return replace(found, suite=_named(found.suite, stored.suite_sha256, settings, told))


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
