"""``wtl reproduce``: what one demonstration leaves open, one trial settles. The full table, three seeds.

Beyond the main job's rows: does the retrial know the *task* or only the scene (attempts in a new scene after the
trials)? Does it use the outcome (hidden, flipped)? What would a second demonstration tell instead of a trial? And
what is left when the target is told (execution alone)? A row for which a suite knows too little is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from watchtrylearn.experiments import Experiment, main_job, steps
from watchtrylearn.experiments.beside import Verb
from watchtrylearn.experiments.run import Run, open_run
from watchtrylearn.learners.plan_policy import PlanPolicy
from watchtrylearn.learners.watch_try_learn import WatchTryLearn
from watchtrylearn.protocol import Attempt, Scene
from watchtrylearn.reporting import results
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import Suite
from watchtrylearn.system.progress import Display
from watchtrylearn.types import Context, ContextBatch, Episode, Policy

SEEDS = (0, 1, 2)
LEARNERS = ("bc", "contextual", "one_shot", "trials_only", "watch_try_learn")
OTHERS: tuple[Verb, ...] = (*main_job.BLIND, ("learn", "contextual"), ("evaluate", "contextual"))
NEW_SCENES = 3_000_000  # scene seeds of attempts elsewhere
ELSEWHERE = 100  # attempt numbers of these, so that no random stream is used twice

OnStep = Callable[[int], None]
Facts = dict[str, str | int | float | None]


def reproduce(experiment: Experiment, out: Path, display: Display, processes: int) -> Iterator[dict[str, Any]]:
    """All seeds, one run directory each below ``out``. Yields the result document of all seeds so far, after each."""
    groups: dict[str, tuple[list[Attempt], list[results.Entry], Facts]] = {}
    seconds: Counter[str] = Counter()
    for count, seed in enumerate(SEEDS, start=1):
        with open_run(out / f"seed-{seed}", replace(experiment, seed=seed), display) as run:
            main_job.say(run, f"[bold]{experiment.name}, seed {seed}[/bold]")
            main_job.watch(run)
            main_job.branches(run, main_job.WATCHING, OTHERS, processes)
            for name, (attempts, entries, facts) in _groups(run).items():
                groups.setdefault(name, ([], entries, facts))[0].extend(attempts)
            seconds.update(run.seconds())
        yield _document(experiment, SEEDS[:count], seconds, groups, run.suite)


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
        command=main_job.reproduction(experiment),
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
    scenes = steps.evaluation_scenes(run)
    main = main_job.attempts_of(run, LEARNERS)
    watched = [a for a in main if a.method == "watch_try_learn"]
    trials = range(1, run.experiment.attempts + 1)
    entries: list[results.Entry] = [("bc", 0), ("contextual", 0), ("one_shot", 0)]
    entries += [(name, k) for name in ("trials_only", "watch_try_learn") for k in trials]
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


def _contexts(attempts: Sequence[Attempt], trials: int) -> tuple[list[Scene], list[Context]]:
    """Every scene with its demonstrations and the first ``trials`` attempts made in it."""
    scenes = [a.scene for a in attempts if a.trials == 0]
    made = {(a.scene.task.name, a.scene.seed, a.trials): a.episode for a in attempts}
    return scenes, [Context(s.demos, tuple(made[s.task.name, s.seed, k] for k in range(trials))) for s in scenes]


def in_new_scenes(run: Run, attempts: Sequence[Attempt]) -> list[Attempt]:
    """After k trials in one scene, an attempt in another; arrangements of the three scenes in all combinations."""
    found = []
    for k in range(1, run.experiment.attempts + 1):
        scenes, contexts = _contexts(attempts, k)
        new = [Scene(s.task, s.demos, new_seed(s.seed)) for s in scenes]
        found += attempted(run, f"watch_try_learn-new-scene-{k}", new, k, adapted_to(contexts))
    return found


def new_seed(tried: int) -> int:
    """A scene for the attempt elsewhere; its parity goes through all combinations with demonstration's and trial's."""
    return NEW_SCENES + 2 * tried + tried // 4 % 2


def adapted_to(contexts: Sequence[Context]) -> Callable[[WatchTryLearn], Policy]:
    return lambda learner: learner.adapt(contexts)


def _with_outcomes(run: Run, attempts: Sequence[Attempt], told: str) -> list[Attempt]:
    """A retrial after one trial whose yes or no was flipped or not told at all."""
    scenes, contexts = _contexts(attempts, 1)

    def adapt(learner: WatchTryLearn) -> Policy:
        if told == "hidden":
            return _blindfold(learner.adapt(contexts))
        return learner.adapt([Context(c.demos, [_flipped(e) for e in c.trials]) for c in contexts])

    return attempted(run, f"watch_try_learn-outcome-{told}", scenes, 1, adapt)


def _flipped(trial: Episode) -> Episode:
    return replace(trial, success=not trial.success)


def _blindfold(policy: PlanPolicy) -> PlanPolicy:
    """The policy with neither yes nor no: a success of one half encodes as 0, between -1 and +1."""
    trials = policy.context.trials
    hidden = replace(trials, success=torch.full_like(trials.success, 0.5))
    policy.context = ContextBatch(policy.context.demos, hidden)
    return policy


def _two_demonstrations(run: Run, scenes: Sequence[Scene]) -> list[Attempt]:
    """The first attempt after two demonstrations whose readings disagree; none if a task was not shown two such."""
    shown: dict[str, dict[int, Episode]] = {}
    for scene in scenes:
        shown.setdefault(scene.task.name, {})[scene.demos[0].seed] = scene.demos[0]
    others = [_other(shown[s.task.name], s.demos[0], run.suite) for s in scenes]
    both = [Scene(s.task, (s.demos[0], d), s.seed) for s, d in zip(scenes, others, strict=True) if d is not None]
    if len(both) < len(scenes):
        return []
    return attempted(run, "watch_try_learn-two-demos", both, 0, adapted_to([Context(s.demos) for s in both]))


def _other(demos: dict[int, Episode], demo: Episode, suite: Suite) -> Episode | None:
    """The next demonstration of the task in whose scene the readings of ``demo`` disagree."""
    order = [*(d for seed, d in demos.items() if seed > demo.seed), *demos.values()]
    return next((d for d in order if results.in_conflict(Scene(d.task, (demo,), d.seed), suite)), None)


def _told(run: Run, scenes: Sequence[Scene]) -> list[Attempt]:
    """One-shot imitation that is told which entity is right: execution alone. None if the suite cannot tell."""
    target: Callable[..., int] | None = getattr(run.suite, "target", None)
    if target is None:
        return []
    right = [target(s.task, s.seed) for s in scenes]

    def adapt(learner: WatchTryLearn) -> Policy:
        return learner.adapt_told([Context(s.demos) for s in scenes], right)

    attempts = attempted(run, "one_shot-told", scenes, 0, adapt)
    return [replace(a, method="one_shot") for a in attempts]


def attempted(
    run: Run, name: str, scenes: Sequence[Scene], trials: int, adapt: Callable[[WatchTryLearn], Policy]
) -> list[Attempt]:
    """One attempt per scene by what ``adapt`` makes of the trained learner; kept in RUN/evaluation/name."""

    def make(on_step: OnStep) -> list[Episode]:
        learner = steps.trained(run, "watch_try_learn")
        assert isinstance(learner, WatchTryLearn)
        worlds = run.suite.worlds([s.task for s in scenes], [s.seed for s in scenes])
        try:
            return rollout(
                adapt(learner), worlds, attempt=ELSEWHERE + trials, run_seed=run.experiment.seed, on_step=on_step
            )
        finally:
            worlds.close()

    episodes = steps.kept(run, name, "watch_try_learn", [(s.task, s.seed) for s in scenes], make)
    return [
        Attempt("watch_try_learn", s, trials, e, run.experiment.seed) for s, e in zip(scenes, episodes, strict=True)
    ]
