"""``wtl reproduce wtl-reacher``: the authors' toy problem, where one trial shows how the joints are wired.

The measure is the return. Of the gap between the demonstrator and one-shot imitation, which cannot know the hidden
signs, how much does one trial recover: in the trial's scene, and in a new one with new targets (the authors', who
draw a new scene for every episode)?
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from watchtrylearn import results
from watchtrylearn.experiments import Experiment, main_job, steps
from watchtrylearn.experiments.run import Run, open_run
from watchtrylearn.experiments.wtl_state import in_new_scenes
from watchtrylearn.ops.random import generator
from watchtrylearn.progress import Display
from watchtrylearn.protocol import Attempt
from watchtrylearn.statistics import ratio_bootstrap
from watchtrylearn.suites import Demonstrator, Suite

SEEDS = (0, 1, 2)
LEARNERS = ("bc", "one_shot", "watch_try_learn")
EXPERT: results.Entry = ("expert", 0)
ONE_SHOT: results.Entry = ("one_shot", 0)
RETRIAL: results.Entry = ("watch_try_learn", 1)
ENTRIES = {"same": (EXPERT, ("bc", 0), ONE_SHOT, RETRIAL), "new": (RETRIAL,)}  # scene -> lines of the table


def reproduce(experiment: Experiment, out: Path, display: Display) -> Iterator[dict[str, Any]]:
    """All seeds, one run directory each below ``out``. Yields the result document of all seeds so far, after each.

    Beside the rows (metric ``"return"``) it has ``success``, the same lines as success rates, and ``gap_recovered``.
    """
    attempts: dict[str, list[Attempt]] = {scene: [] for scene in ENTRIES}
    seconds: Counter[str] = Counter()
    for count, seed in enumerate(SEEDS, start=1):
        with open_run(out / f"seed-{seed}", replace(experiment, seed=seed), display) as run:
            main_job.say(run, f"[bold]{experiment.name}, seed {seed}[/bold]")
            _train(run)
            for scene, made in _attempts(run).items():
                attempts[scene] += made
            seconds.update(run.seconds())
        gaps = {scene: gap_recovered(attempts["same"], made) for scene, made in attempts.items()}
        for scene, gap in gaps.items():
            text = f"gap to the demonstrator recovered by one trial, {scene} scene: {gap['value']:.3f}"
            main_job.say(run, f"{text} ({gap['ci'][0]:.3f} to {gap['ci'][1]:.3f})")
        yield results.document(
            experiment=experiment.name,
            command=main_job.reproduction(experiment),
            seeds=SEEDS[:count],
            seconds=seconds,
            rows=_rows(attempts, run.suite, "return"),
            extra={
                "summary": experiment.summary,
                "success": _rows(attempts, run.suite, "success"),
                "gap_recovered": gaps,
            },
        )


def _rows(attempts: Mapping[str, Sequence[Attempt]], suite: Suite, metric: str) -> list[results.Row]:
    lines = [results.rows(attempts[scene], suite, entries, metric, scene=scene) for scene, entries in ENTRIES.items()]
    return list(chain.from_iterable(lines))


def _train(run: Run) -> None:
    main_job.watch(run)
    main_job.learn(run, "one_shot")
    main_job.attempt(run, "one_shot")
    main_job.learn(run, "watch_try_learn")
    main_job.learn(run, "bc")


def _attempts(run: Run) -> dict[str, list[Attempt]]:
    """Every method in the evaluation's scenes, and the retrials elsewhere."""
    scenes = steps.evaluation_scenes(run)
    expert = run.suite
    assert isinstance(expert, Demonstrator)
    shown = expert.demonstrations([s.task for s in scenes], [s.seed for s in scenes])
    seed = run.experiment.seed
    made = [Attempt(EXPERT[0], s, 0, e, seed) for s, e in zip(scenes, shown, strict=True)]
    made += [a for name in LEARNERS for a in steps.evaluate_learner(run, name, scenes)]
    return {"same": made, "new": in_new_scenes(run, [a for a in made if a.method == RETRIAL[0]])}


def gap_recovered(main: Sequence[Attempt], retried: Sequence[Attempt]) -> dict[str, Any]:
    """(retrial - one shot) / (demonstrator - one shot), mean returns, with its 95 % interval over tasks.

    The demonstrator and one-shot imitation are those of the ``main`` scenes, task by task and training seed by
    training seed; ``retried`` may have happened in other scenes of the same tasks.
    """
    methods = (main, EXPERT), (main, ONE_SHOT), (retried, RETRIAL)
    means = [_mean_returns(attempts, entry) for attempts, entry in methods]
    expert, one_shot, retrial = (np.array([mean[key] for key in means[0]]) for mean in means)
    above, below = retrial - one_shot, expert - one_shot
    tasks = [task for task, _ in means[0]]
    interval = ratio_bootstrap(above, below, tasks, generator("gap recovered"))
    return {"value": float(above.sum() / below.sum()), "ci": list(interval), "tasks": len(set(tasks))}


def _mean_returns(attempts: Sequence[Attempt], entry: results.Entry) -> dict[tuple[str, int], float]:
    """(task, training seed) -> mean return of an entry."""
    found: dict[tuple[str, int], list[float]] = {}
    for a in attempts:
        if (a.method, a.trials) == entry:
            found.setdefault((a.scene.task.name, a.seed), []).append(results.returned(a))
    return {key: float(np.mean(values)) for key, values in found.items()}
