"""``wtl reproduce wtl-few-tasks``: a trial worth learning from, with few tasks (docs/few-tasks.md).

Every method of the plan is trained with and without the remedies on from 16 to 520 tasks, for the same number of steps,
and evaluated in the same scenes. At one number of tasks each remedy is also measured alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from watchtrylearn.data.sampling import Sampling
from watchtrylearn.experiments import main_job, steps
from watchtrylearn.experiments.plan import Experiment, Method
from watchtrylearn.experiments.run import open_run
from watchtrylearn.experiments.wtl_curves import amount_of, refuse_amount
from watchtrylearn.learners import learner_entry
from watchtrylearn.protocol import Attempt
from watchtrylearn.reporting import results
from watchtrylearn.suites import Suite
from watchtrylearn.system.progress import Display

SEEDS = (0, 1, 2)
TASKS = (65, 32, 130, 16, 260, 520)  # training tasks, in the order in which they are made
SEEDED = (65, 520)  # of those the ones with every seed; the others have the first
ALONE = 65  # with so many, each remedy is measured alone
LEARNERS = ("bc", "one_shot", "trials_only", "watch_try_learn")
ALL, NONE = "all", "none"
_TAKEN_AWAY: Mapping[
    str, tuple[dict[str, Any], dict[str, Any]]
] = {  # remedy -> without it: of a method, of its sampling
    "symmetries": ({}, {"symmetries": False}),
    "honest trials": ({"folds": 0, "fold_steps": 0}, {}),
    "relabelled": ({}, {"relabelled": 0.0}),
}
REMEDIES = tuple(_TAKEN_AWAY)


class Training(NamedTuple):
    """One run: on how many tasks, by which remedies (``ALL``, ``NONE``, or the one), from which seed."""

    tasks: int
    remedies: str
    seed: int

    @property
    def folder(self) -> str:
        """Where below the experiment's directory the run is."""
        return f"tasks-{self.tasks}/{self.remedies.replace(' ', '-')}/seed-{self.seed}"


Made = dict[tuple[int, str], list[Attempt]]  # (training tasks, remedies) -> the attempts of all seeds so far


def trainings() -> list[Training]:
    """Every run, those first that tell a reader most: few tasks with every seed, the curve, what remains."""
    first = SEEDS[0]
    seeded = [Training(tasks, remedies, seed) for tasks in SEEDED for seed in SEEDS for remedies in (ALL, NONE)]
    curve = [Training(tasks, remedies, first) for tasks in TASKS for remedies in (ALL, NONE)]
    alone = [Training(ALONE, remedy, first) for remedy in REMEDIES]
    few = [training for training in seeded if training.tasks == TASKS[0]]
    return list(dict.fromkeys([*few, *curve, *alone, *seeded]))


def reproduce(
    experiment: Experiment, out: Path, display: Display, processes: int, device: str = "cpu"
) -> Iterator[dict[str, Any]]:
    """Every training in a run directory of its own below ``out``. Yields the result document of all so far, after each.

    Beside the rows it has ``training_trials``: how often the trials of each training, at its own tasks, succeeded.
    """
    refuse_amount(experiment, sorted(TASKS))
    made: Made = {}
    seconds: Counter[str] = Counter()
    trials: list[results.Row] = []
    for training in trainings():
        plan = replace(only(experiment, training.remedies), tasks=training.tasks, seed=training.seed)
        with open_run(out / training.folder, plan, display, device=device) as run:
            main_job.say(run, f"[bold]{training.tasks} tasks, {training.remedies}, seed {training.seed}[/bold]")
            main_job.record(run)
            main_job.work(run, LEARNERS, processes)
            made.setdefault(training[:2], []).extend(main_job.attempts_of(run, LEARNERS))
            counted = steps.counts(run)
            trials += [
                {
                    "method": name,
                    "seed": training.seed,
                    **_facts(experiment, training[:2]),
                    "trials": counted[f"trials_{name}"],
                    "success": counted[f"trials_{name}_success"],
                }
                for name in plan.explorers
            ]
            seconds.update(run.seconds())
        yield results.document(
            experiment=experiment.name,
            command=main_job.reproduce_command(experiment),
            seeds=sorted({attempt.seed for attempts in made.values() for attempt in attempts}),
            seconds=seconds,
            rows=[
                row for which in sorted(made, key=_place) for row in _rows(experiment, which, made[which], run.suite)
            ],
            comparisons=[
                row for which in sorted(made, key=_place) for row in _comparisons(experiment, which, made, run.suite)
            ],
            extra={"summary": experiment.summary, "training_trials": trials},
        )


# -------------------------------------------------------------------------------------- with and without remedies


def plain(experiment: Experiment) -> Experiment:
    """The plan without any remedy against learning few tasks by heart, and otherwise the same."""
    return _without(experiment, REMEDIES)


def only(experiment: Experiment, remedies: str) -> Experiment:
    """The plan as it is (``ALL``), or with one of its remedies, or with none (``NONE``)."""
    return _without(experiment, [] if remedies == ALL else [remedy for remedy in REMEDIES if remedy != remedies])


def _without(experiment: Experiment, remedies: Collection[str]) -> Experiment:
    own = {name: value for remedy in remedies for name, value in _TAKEN_AWAY[remedy][0].items()}
    sampled = {name: value for remedy in remedies for name, value in _TAKEN_AWAY[remedy][1].items()}

    def changed(method: Method) -> Method:
        sampling, config = learner_entry(method.learner).sampling(method.config), method.config
        if isinstance(sampling, Sampling):
            config = replace(config, sampling=replace(sampling, **sampled))
        return replace(method, config=config, **own)

    return replace(experiment, methods={name: changed(method) for name, method in experiment.methods.items()})


# --------------------------------------------------------------------------------------------------- the numbers


def _place(which: tuple[int, str]) -> tuple[int, int]:
    """Where rows stand in the table: by the number of tasks, those without remedies first."""
    return which[0], [NONE, *REMEDIES, ALL].index(which[1])


def _facts(experiment: Experiment, which: tuple[int, str]) -> dict[str, Any]:
    """What sets the rows of some trainings apart, as fields of a row."""
    tasks, remedies = which
    return amount_of(replace(experiment, tasks=tasks)) | {"remedies": remedies}


def _rows(
    experiment: Experiment, which: tuple[int, str], attempts: Sequence[Attempt], suite: Suite
) -> list[results.Row]:
    entries = main_job.entries(experiment, LEARNERS, experiment.attempts)
    return results.rows(attempts, suite, entries, "success", **_facts(experiment, which))


def _comparisons(experiment: Experiment, which: tuple[int, str], made: Made, suite: Suite) -> list[results.Row]:
    """What the demonstration gives over trials alone; and what the remedies give over none, for the seeds of both."""
    pair = (("watch_try_learn", 1), ("trials_only", 1))
    found = results.comparisons(made[which], [pair], suite)
    plain_one = (which[0], NONE)
    if which != plain_one and plain_one in made:
        entries = main_job.entries(experiment, LEARNERS, experiment.attempts)
        both = _of_shared_seeds(made[which], made[plain_one])
        found += results.across(*both, entries, suite, (which[1], NONE))
    return [row | _facts(experiment, which) for row in found]


def _of_shared_seeds(ours: Sequence[Attempt], theirs: Sequence[Attempt]) -> tuple[list[Attempt], list[Attempt]]:
    shared = {attempt.seed for attempt in ours} & {attempt.seed for attempt in theirs}
    one, other = ([attempt for attempt in made if attempt.seed in shared] for made in (ours, theirs))
    return one, other
