"""``wtl reproduce``: what one demonstration leaves open, one trial settles. The full table, three seeds.

Beyond the main job's rows: what would the authors' own network have reached here? Does the retrial know the *task* or
only the scene (attempts in a new scene after the trials)? Does it use the outcome (hidden, flipped)? What would a
second demonstration tell instead of a trial? And what is left when the target is told (execution alone)? A row for
which a suite or a plan has too little is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from watchtrylearn.experiments import evaluation, main_job
from watchtrylearn.experiments.plan import Experiment
from watchtrylearn.experiments.presets import AUTHORS
from watchtrylearn.experiments.run import Run, open_run
from watchtrylearn.protocol import Attempt, Outcome, Scene
from watchtrylearn.reporting import results
from watchtrylearn.suites import Suite, Targeted
from watchtrylearn.system.progress import Display
from watchtrylearn.types import Episode

SEEDS = (0, 1, 2)
LEARNERS = ("bc", "contextual", "one_shot", "trials_only", "watch_try_learn")
NEW_SCENES = 3_000_000  # scene seeds of attempts elsewhere

Facts = dict[str, str | int | float | None]


def reproduce(
    experiment: Experiment, out: Path, display: Display, processes: int, device: str = "cpu"
) -> Iterator[dict[str, Any]]:
    """All seeds, one run directory each below ``out``. Yields the result document of all seeds so far, after each."""
    groups: dict[str, tuple[list[Attempt], list[results.Entry], Facts]] = {}
    seconds: Counter[str] = Counter()
    for count, seed in enumerate(SEEDS, start=1):
        with open_run(out / f"seed-{seed}", replace(experiment, seed=seed), display, device=device) as run:
            main_job.say(run, f"[bold]{experiment.name}, seed {seed}[/bold]")
            main_job.record(run)
            main_job.work(run, methods(experiment), processes)
            for name, (attempts, entries, facts) in _groups(run).items():
                groups.setdefault(name, ([], entries, facts))[0].extend(attempts)
            seconds.update(run.seconds())
        yield _document(experiment, SEEDS[:count], seconds, groups, run.suite)


def methods(experiment: Experiment) -> list[str]:
    """The methods of the table: the five, and those with the authors' own network in a plan that has them."""
    return [*LEARNERS, *(name for name in AUTHORS if name in experiment.methods)]


def _document(
    experiment: Experiment,
    seeds: Sequence[int],
    seconds: Mapping[str, float],
    groups: Mapping[str, tuple[list[Attempt], list[results.Entry], Facts]],
    suite: Suite,
) -> dict[str, Any]:
    main = groups["main"][0]
    trials = range(1, experiment.attempts + 1)
    pairs: list[tuple[results.Entry, results.Entry]] = [(("watch_try_learn", k), ("one_shot", 0)) for k in trials]
    pairs += [(("watch_try_learn", k), ("trials_only", k)) for k in trials]
    return results.document(
        experiment=experiment.name,
        command=main_job.reproduce_command(experiment),
        seeds=seeds,
        seconds=seconds,
        rows=[
            row
            for made, entries, facts in groups.values()
            for row in results.rows(made, suite, entries, "success", **facts)
        ],
        comparisons=results.comparisons(main, pairs, suite) + _per_family(main, suite),
        extra={"summary": experiment.summary, "outcomes": results.outcomes(main, suite)},
    )


def _per_family(attempts: Sequence[Attempt], suite: Suite) -> list[results.Row]:
    """The gain of the first trial over one-shot imitation, family by family."""
    found = []
    for family in dict.fromkeys(a.scene.task.family for a in attempts):
        mine = [a for a in attempts if a.scene.task.family == family]
        pair = (("watch_try_learn", 1), ("one_shot", 0))
        found += [row | {"family": family} for row in results.comparisons(mine, [pair], suite)]
    return found


# ------------------------------------------------------------------------------------------------- the rows


def _groups(run: Run) -> dict[str, tuple[list[Attempt], list[results.Entry], Facts]]:
    """Attempts by condition, each with the entries of its table and the facts that set its rows apart.

    Conditions that the suite does not offer are left out.
    """
    scenes = evaluation.evaluation_scenes(run)
    names = methods(run.experiment)
    main = main_job.attempts_of(run, names)
    watched = [a for a in main if a.method == "watch_try_learn"]
    trials = range(1, run.experiment.attempts + 1)
    entries = main_job.entries(run.experiment, names, run.experiment.attempts)
    retrials: list[results.Entry] = [("watch_try_learn", k) for k in trials]
    first: list[results.Entry] = [("watch_try_learn", 1)]
    groups: dict[str, tuple[list[Attempt], list[results.Entry], Facts]] = {
        "main": (main, entries, {}),
        "new scene": (in_new_scenes(run, watched), retrials, {"scene": "new"}),
        "outcome hidden": (_with_outcomes(run, watched, "hidden"), first, {"outcome": "hidden", "ceiling": None}),
        "outcome flipped": (_with_outcomes(run, watched, "flipped"), first, {"outcome": "flipped", "ceiling": None}),
        "two demonstrations": (_two_demonstrations(run, scenes), [("watch_try_learn", 0)], {}),
        "target told": (_told(run, scenes), [("one_shot", 0)], {"target": "told"}),
    }
    return {name: group for name, group in groups.items() if group[0]}


def in_new_scenes(run: Run, attempts: Sequence[Attempt]) -> list[Attempt]:
    """After k trials in one scene, an attempt in another; arrangements of the three scenes in all combinations."""
    scenes = [a.scene for a in attempts if a.trials == 0]
    new = [new_seed(s.seed) for s in scenes]
    method = attempts[0].method
    return [
        attempt
        for k in range(1, run.experiment.attempts + 1)
        for attempt in evaluation.evaluate_otherwise(
            run, f"{method}-new-scene-{k}", method, scenes, k, made=attempts, retry=new
        )
    ]


def new_seed(tried: int) -> int:
    """A scene for the attempt elsewhere; its parity goes through all combinations with demonstration's and trial's."""
    return NEW_SCENES + 2 * tried + tried // 4 % 2


def _with_outcomes(run: Run, attempts: Sequence[Attempt], outcome: Outcome) -> list[Attempt]:
    """A retrial after one trial whose yes or no was flipped or not told at all."""
    first, method = [a for a in attempts if a.trials == 0], attempts[0].method
    return evaluation.evaluate_otherwise(
        run, f"{method}-outcome-{outcome}", method, [a.scene for a in first], 1, made=first, outcome=outcome
    )


def _two_demonstrations(run: Run, scenes: Sequence[Scene]) -> list[Attempt]:
    """The first attempt after two demonstrations whose readings disagree; none if a task was not shown two such."""
    shown: dict[str, dict[int, Episode]] = {}
    for scene in scenes:
        shown.setdefault(scene.task.name, {})[scene.demos[0].seed] = scene.demos[0]
    others = [_other(shown[s.task.name], s.demos[0], run.suite) for s in scenes]
    both = [Scene(s.task, (s.demos[0], d), s.seed) for s, d in zip(scenes, others, strict=True) if d is not None]
    if len(both) < len(scenes):
        return []
    return evaluation.evaluate_otherwise(run, "watch_try_learn-two-demos", "watch_try_learn", both, 0)


def _other(demos: dict[int, Episode], demo: Episode, suite: Suite) -> Episode | None:
    """The next demonstration of the task in whose scene the readings of ``demo`` disagree."""
    order = [*(d for seed, d in demos.items() if seed > demo.seed), *demos.values()]
    return next((d for d in order if results.in_conflict(Scene(d.task, (demo,), d.seed), suite)), None)


def _told(run: Run, scenes: Sequence[Scene]) -> list[Attempt]:
    """One-shot imitation that is told which entity is right: execution alone. None if the suite cannot tell."""
    suite = run.suite
    if not isinstance(suite, Targeted):
        return []
    right = [suite.target(s.task, s.seed) for s in scenes]
    return evaluation.evaluate_otherwise(run, "one_shot-told", "one_shot", scenes, 0, targets=right)
