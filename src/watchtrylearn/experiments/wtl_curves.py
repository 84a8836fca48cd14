"""``wtl reproduce wtl-curves``: how much data does it take? Success against training tasks and demonstrations.

One-shot imitation and Watch-Try-Learn are trained anew on every amount of data, for the same number of steps (fewer
than in ``wtl-state``), and evaluated in the same scenes. Fewer demonstrations also mean fewer trials, which are made in
their scenes, and pairs of demonstrations that disagree more often: half of a task's are of either arrangement, so a
pair is of both in all, 2 of 3 and 4 of 7 cases for 2, 4 and 8 demonstrations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from watchtrylearn.experiments import main_job
from watchtrylearn.experiments.plan import Experiment
from watchtrylearn.experiments.run import Run, open_run
from watchtrylearn.protocol import Attempt
from watchtrylearn.reporting import results
from watchtrylearn.suites import Suite
from watchtrylearn.system.progress import Display
from watchtrylearn.types import WtlError

SEEDS = (0, 1)
TASKS = (65, 130, 260, 520)  # training tasks, each with the experiment's demonstrations
DEMOS = (2, 4)  # demonstrations of each of the experiment's tasks, besides its own number
LEARNERS = ("one_shot", "watch_try_learn")


def reproduce(
    experiment: Experiment, out: Path, display: Display, processes: int, device: str = "cpu"
) -> Iterator[dict[str, Any]]:
    """Every amount of data with every seed, one run directory each below ``out``.

    Yields the result document of all seeds so far, after each. All in one process: no method here is independent of
    the others.
    """
    refuse_amount(experiment, TASKS)
    attempts: dict[Experiment, list[Attempt]] = {}
    seconds: Counter[str] = Counter()
    for count, seed in enumerate(SEEDS, start=1):
        for amount in amounts(experiment):
            with open_run(out / folder(amount, seed), replace(amount, seed=seed), display, device=device) as run:
                main_job.say(run, f"[bold]{amount.tasks} tasks, {amount.demos_per_task} demos, seed {seed}[/bold]")
                attempts.setdefault(amount, []).extend(_attempts(run))
                seconds.update(run.seconds())
        yield results.document(
            experiment=experiment.name,
            command=main_job.reproduce_command(experiment),
            seeds=SEEDS[:count],
            seconds=seconds,
            rows=[row for amount, made in attempts.items() for row in _rows(amount, made, run.suite)],
            comparisons=_gains(attempts, run.suite),
            extra={"summary": experiment.summary},
        )


def _rows(amount: Experiment, attempts: Sequence[Attempt], suite: Suite) -> list[results.Row]:
    entries = main_job.entries(amount, LEARNERS, amount.attempts)
    return results.rows(attempts, suite, entries, "success", **amount_of(amount))


def _gains(attempts: Mapping[Experiment, Sequence[Attempt]], suite: Suite) -> list[results.Row]:
    """What the most data gives over every smaller amount, in the same scenes; the fields say which amount that is."""
    most = max(attempts, key=lambda amount: (amount.tasks, amount.demos_per_task))
    entries = main_job.entries(most, LEARNERS, most.attempts)
    return [
        row | amount_of(amount)
        for amount, made in attempts.items()
        if amount != most
        for row in results.across(attempts[most], made, entries, suite, (folder(most, 0), folder(amount, 0)))
    ]


def refuse_amount(experiment: Experiment, tasks: Sequence[int]) -> None:
    """Refuses a number of tasks that a person has set, since the table goes through those of ``tasks``."""
    if experiment.tasks:
        raise WtlError(f"{experiment.name} goes through {', '.join(map(str, tasks))} tasks; leave out tasks")


def amount_of(experiment: Experiment) -> dict[str, int]:
    """The amount of data of a plan, as fields of a row."""
    return {"training_tasks": experiment.tasks, "demos_per_task": experiment.demos_per_task}


def amounts(experiment: Experiment) -> list[Experiment]:
    """The experiment with every amount of data: first the tasks, then the demonstrations of each."""
    tasks = [replace(experiment, tasks=count) for count in TASKS]
    demos = [replace(experiment, tasks=max(TASKS), demos_per_task=count) for count in DEMOS]
    return list(dict.fromkeys(tasks + demos))


def folder(amount: Experiment, seed: int) -> str:
    """Where below the experiment's directory the run of this amount of data is."""
    return f"tasks-{amount.tasks}-demos-{amount.demos_per_task}/seed-{seed}"


def _attempts(run: Run) -> list[Attempt]:
    main_job.record(run)
    main_job.work(run, LEARNERS, processes=1)
    return main_job.attempts_of(run, LEARNERS)
