"""The steps of an experiment: record, train, try (and evaluate, in ``evaluation.py``). Each continues where it stopped.

Work is cut into batches whose content depends on nothing but the experiment, and each finished batch is saved
durably before the next begins; so a step that was killed redoes at most one batch and ends with the same data.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from watchtrylearn.data.frames import load_memory
from watchtrylearn.data.store import EpisodeStore, Refused
from watchtrylearn.errors import suggestion
from watchtrylearn.experiments.fitting import fit_method, looked_at
from watchtrylearn.experiments.folds import explored, fold_directories, fold_of
from watchtrylearn.experiments.run import Run, chosen_tasks, stop_if
from watchtrylearn.learners import learner_entry, load_named
from watchtrylearn.ops.random import generator
from watchtrylearn.protocol import require_same_spec
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import Demonstrator, Symmetric
from watchtrylearn.system.files import read_typed, write_json
from watchtrylearn.system.settings import refuse_changes
from watchtrylearn.system.signals import stop_signals
from watchtrylearn.training import checkpoint
from watchtrylearn.training.fit import TrainSummary
from watchtrylearn.training.material import Material
from watchtrylearn.types import Context, Episode, Explorer, Learner, Policy, Task, WtlError

BATCH = 256  # worlds at once, and episodes whose images are in memory
MADE_BY = "made_by.json"  # in a dataset of attempts: the learner that made them, and the hash of its weights


# --------------------------------------------------------------------------------------------------- record


def record(run: Run) -> dict[str, int]:
    """Demonstrations of the training tasks into RUN/demos. Returns how many were recorded and how many failed.

    Only successes are stored. A batch is (tasks x scenes) in a fixed order; the last stored demonstration tells
    how far an interrupted recording came.
    """
    expert = demonstrator(run)
    jobs = [(task, seed) for task in training_tasks(run) for seed in range(run.experiment.demos_per_task)]
    with (
        timed(run, "record"),
        stop_signals() as signalled,
        run.store("demos") as store,
        run.display.track("recording demonstrations", len(jobs), _stored(store, jobs)) as advance,
    ):
        for at in range(_stored(store, jobs), len(jobs), BATCH):
            batch = jobs[at : at + BATCH]
            episodes = expert.demonstrations([t for t, _ in batch], [s for _, s in batch])
            _append_sound(run, store, [e for e in episodes if e.success])
            advance(len(batch), f"{at + len(batch) - len(store)} failed")
            stop_if(signalled(), "recording", run.directory)
    return {"recorded": len(store), "failed": len(jobs) - len(store)}


def _append_sound(run: Run, store: EpisodeStore, demonstrations: Sequence[Episode]) -> None:
    """Stores the demonstrations; one that cannot be stored is a failed one, and is named."""
    try:
        store.append(demonstrations)
    except Refused as error:
        run.display.console.print(str(error), markup=False)


def training_tasks(run: Run) -> list[Task]:
    """The training tasks of the experiment: all, or as many as asked for, spread evenly over the list."""
    return chosen_tasks(run.suite, "train", run.experiment.tasks, "tasks")


def _stored(store: EpisodeStore, jobs: Sequence[tuple[Task, int]]) -> int:
    """How many of ``jobs`` were done before: the batches up to the last stored episode's."""
    if len(store) == 0:
        return 0
    last = store.records[-1]
    position = {(task.name, seed): i for i, (task, seed) in enumerate(jobs)}
    return min(len(jobs), (position[last.task.name, last.seed] // BATCH + 1) * BATCH)


def demonstrator(run: Run, where: str = "demos") -> Demonstrator:
    """The run's suite, refused if it cannot demonstrate; ``where``: the dataset that a person would have to record."""
    if not isinstance(run.suite, Demonstrator):
        raise WtlError(
            f"suite {run.suite.name!r} cannot demonstrate its tasks; record demonstrations yourself, into "
            f"{run.directory / where}"
        )
    return run.suite


# ---------------------------------------------------------------------------------------------------- train


def train(run: Run, name: str) -> TrainSummary:
    """Trains method ``name`` in RUN/name from the demonstrations and from the trials that it learns from."""
    method = run.experiment.method(name)
    stores = _demonstrations(run, method.learner)
    stores |= {f"trials/{explorer}": _required(run, "trials", explorer) for explorer in method.trials}
    data = {where: store.digest() for where, store in stores.items()}
    start = None
    if method.start:
        start = trained(run, method.start)
        data[f"weights of {method.start}"] = checkpoint.model_sha256(_model(run, method.start))
    material = Material(
        spec=run.suite.spec,
        memory=load_memory(list(stores.values()), looked_at(method, run.suite.spec)),
        tasks=training_tasks(run),
        attempts=functools.partial(_attempts, run),
        batch_size=method.train.batch_size,
        seed=run.experiment.seed,
        symmetries=run.suite.symmetries() if isinstance(run.suite, Symmetric) else (),
    )
    of_task = fold_of(run, material.tasks, method.folds) if method.folds else {}  # refused before anything is trained
    with timed(run, f"train {name}"):
        summary = fit_method(method, material, run.directory / name, data, run.display, start=start, device=run.device)
        for fold, directory in enumerate(fold_directories(run, name)):
            without = _without(material, {task for task, dealt in of_task.items() if dealt == fold})
            run.display.say(
                f"and once more without {len(material.tasks) - len(without.tasks)} of the tasks, to try those"
            )
            note = data | {"fold": f"{fold} of {method.folds}"}
            fit_method(
                replace(method, train=method.fold_train),
                without,
                directory,
                note,
                run.display,
                start=start,
                device=run.device,
            )
    return summary


def _without(material: Material, left_out: Container[str]) -> Material:
    """The material of all tasks but some, by their names."""
    rows = np.flatnonzero([name not in left_out for name in material.memory.tasks])
    tasks = [task for task in material.tasks if task.name not in left_out]
    return replace(material, memory=material.memory.only(rows), tasks=tasks)


def _demonstrations(run: Run, learner: str) -> dict[str, EpisodeStore]:
    """The recorded demonstrations; a learner that says itself what it is trained on can do without."""
    if learner_entry(learner).has_source and run.stored("demos") is None:
        return {}
    return {"demos": _required(run, "demos")}


def _required(run: Run, *parts: str) -> EpisodeStore:
    """The dataset RUN/parts; refused if there is nothing in it."""
    store = run.stored(*parts)
    if not store:
        verb = "record" if parts[0] == "demos" else f"try --policy {parts[-1]}"
        where = run.directory.joinpath(*parts)
        raise WtlError(f"{where} holds no episodes yet; make them with `wtl {verb} --out {run.directory}`")
    return store if parts[0] == "demos" else made_by(run, parts[-1], *parts)


def sees_images(run: Run, name: str) -> bool:
    """Does method ``name`` look at images? To all others demonstrations are shown without, as in training."""
    return bool(looked_at(run.experiment.method(name), run.suite.spec).images)


def unpacked(store: EpisodeStore, numbers: Sequence[int]) -> list[Episode]:
    """The episodes of these numbers with their images: of no more than a batch, which is all that fits in memory."""
    episodes = store.read(numbers)
    if len(episodes) < len(numbers):
        raise WtlError(f"images that are needed are damaged: {store.skipped[-1]}")
    return episodes


def trained(run: Run, name: str) -> Learner:
    """The trained learner RUN/name on the run's device; refused if it is another, of other settings, or does not fit
    the suite."""
    return _loaded(run, name, _model(run, name))


def explorers(run: Run, name: str) -> list[Explorer]:
    """Who makes the trials of method ``name``: itself, or one for each of its folds."""
    found = [_loaded(run, name, _model(run, name, directory)) for directory in _trying(run, name)]
    made: list[Explorer] = [learner for learner in found if isinstance(learner, Explorer)]
    if len(made) < len(found):
        raise WtlError(f"{name} cannot gather trials: it has no `explore`")
    return made


def _trying(run: Run, name: str) -> list[Path]:
    return fold_directories(run, name) or [run.directory / name]


def _loaded(run: Run, name: str, directory: Path) -> Learner:
    method = run.experiment.method(name)
    learner = load_named(method.learner, directory)
    require_same_spec(learner, run.suite)
    found, wanted = (asdict(config) for config in (learner.config, method.config))
    refuse_changes(found, wanted, directory)
    learner.to(run.device)
    return learner


def _model(run: Run, name: str, directory: Path | None = None) -> Path:
    """The folder RUN/name, or another ``directory`` of the method's, if there is a trained model in it."""
    directory = directory or run.directory / name
    if not (directory / "model.json").exists():
        raise WtlError(f"{directory} holds no trained model yet; `wtl train {name} --out {run.directory}`")
    return directory


def made_by(run: Run, name: str, *parts: str) -> EpisodeStore:
    """The dataset RUN/parts of attempts by learner ``name``; refused if other weights than its present ones made them.

    Whose they are is noted in the dataset before its first attempt. (Trials by several learners: the hash of theirs.)
    """
    store = run.store(*parts)
    makers = _trying(run, name) if parts[0] == "trials" else [run.directory / name]
    hashes = [checkpoint.model_sha256(_model(run, name, directory)) for directory in makers]
    weights = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    path, present = store.path / MADE_BY, {"learner": name, "model_sha256": weights}
    if len(store) + len(store.skipped) == 0:
        write_json(path, present)
    elif not path.exists():
        raise WtlError(f"{store.path} does not say which weights made it ({MADE_BY} is missing); remove it")
    elif (noted := read_typed(path, dict[str, str])) != present:
        if noted.get("learner") != name:
            raise WtlError(f"{store.path} was made by {noted.get('learner', '')[:60]!r}, not by {name!r}; remove it")
        raise WtlError(f"{store.path} was made by other weights than those in {run.directory / name}; remove it")
    return store


# ------------------------------------------------------------------------------------------------------ try


def make_trials(run: Run, explorer: str) -> dict[str, int | float]:
    """Trials of method ``explorer`` in the demonstrated training scenes, with outcomes, into RUN/trials/explorer.

    Every demonstrated scene is tried, after watching a demonstration from *another* scene of the task, so that
    the expert's episode in that very scene can be imitated afterwards.
    """
    repeats = run.experiment.method(explorer).tries
    if not repeats:
        raise WtlError(
            f"{explorer} makes no trials in this experiment; {suggestion(explorer, run.experiment.explorers)}"
        )
    recorded = _required(run, "demos")
    demos = dict(recorded.numbered(images=False))
    learners = explorers(run, explorer)
    of_task = fold_of(run, training_tasks(run), len(learners))
    other, numbers, looks = _OtherDemos(demos, run.experiment.seed), list(demos), sees_images(run, explorer)

    def shown(tried: Sequence[int], repeat: int) -> list[Episode]:
        watched = [other(number, repeat) for number in tried]
        return unpacked(recorded, watched) if looks else [demos[number] for number in watched]

    with (
        timed(run, f"try {explorer}"),
        stop_signals() as signalled,
        made_by(run, explorer, "trials", explorer) as store,
        run.display.track(f"trying ({explorer})", repeats * len(demos), len(store)) as advance,
    ):
        for repeat, batch in _trial_batches(len(demos), repeats, len(store)):
            tried = [numbers[i] for i in batch]
            scenes = [demos[number] for number in tried]
            watched = shown(tried, repeat)
            policy = explored(
                learners, np.array([of_task[d.task.name] for d in scenes]), [Context(demos=(d,)) for d in watched]
            )
            tasks, seeds = [d.task for d in scenes], [d.seed for d in scenes]
            made = _attempts(run, policy, tasks, seeds, attempt=repeat, run_seed=run.experiment.seed)
            store.append_attempts([replace(e, watched=(d.seed,)) for e, d in zip(made, watched, strict=True)])
            advance(len(batch))
            stop_if(signalled(), "trying", run.directory)
    outcomes = [r.success for r in store.records]
    return {"trials": len(outcomes), "success": float(np.mean(outcomes)) if outcomes else 0.0}


def _trial_batches(scenes: int, repeats: int, done: int) -> list[tuple[int, range]]:
    """(repeat, scenes) of every batch after the first ``done`` trials; a batch never spans two repeats."""
    batches = [
        (repeat, range(at, min(at + BATCH, scenes))) for repeat in range(repeats) for at in range(0, scenes, BATCH)
    ]
    ends = np.cumsum([len(batch) for _, batch in batches])
    return [batch for batch, end in zip(batches, ends, strict=True) if end > done]


def _attempts(run: Run, policy: Policy, tasks: Sequence[Task], seeds: Sequence[int], **options: Any) -> list[Episode]:
    """One attempt of ``policy`` at each task in the scene of its seed."""
    worlds = run.suite.worlds(tasks, seeds)
    try:
        return rollout(policy, worlds, **options)
    finally:
        worlds.close()


class _OtherDemos:
    """The number of the demonstration that is watched before a trial in the scene of another: one of the task's others,
    at random by (scene, repeat)."""

    def __init__(self, demos: Mapping[int, Episode], seed: int) -> None:
        self.demos, self.seed = demos, seed
        self.of_task: dict[str, list[int]] = {}
        for number, demo in demos.items():
            self.of_task.setdefault(demo.task.name, []).append(number)

    def __call__(self, number: int, repeat: int) -> int:
        demo = self.demos[number]
        others = [n for n in self.of_task[demo.task.name] if self.demos[n].seed != demo.seed] or [number]
        rng = generator("watched", self.seed, demo.task.name, demo.seed, repeat)
        return others[rng.integers(len(others))]


def counts(run: Run) -> dict[str, int | float]:
    """What the run's datasets hold: demonstrations recorded and failed, trials collected and their success."""
    jobs = len(training_tasks(run)) * run.experiment.demos_per_task
    demos = run.stored("demos")
    recorded = 0 if demos is None else len(demos)
    found: dict[str, int | float] = {"recorded": recorded, "failed": jobs - recorded}
    for explorer in run.experiment.explorers:
        trials = run.stored("trials", explorer)
        outcomes = [] if trials is None else [r.success for r in trials.records]
        found[f"trials_{explorer}"] = len(outcomes)
        found[f"trials_{explorer}_success"] = round(float(np.mean(outcomes)), 4) if outcomes else 0.0
    return found


@contextmanager
def timed(run: Run, step: str) -> Iterator[None]:
    """Adds the wall time of the block to the run's account, however the block ends."""
    begin = time.monotonic()
    try:
        yield
    finally:
        run.note_seconds(step, time.monotonic() - begin)
