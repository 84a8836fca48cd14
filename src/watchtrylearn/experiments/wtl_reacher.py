"""``wtl reproduce wtl-reacher``: the authors' toy problem, where one trial shows how the joints are wired.

The measure is the return. Of the gap between the demonstrator and one-shot imitation, which cannot know the hidden
signs, how much does one trial recover: in the trial's scene, and in a new one with new targets (the authors', who
draw a new scene for every episode)?
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from watchtrylearn.experiments import evaluation, main_job
from watchtrylearn.experiments.plan import Experiment
from watchtrylearn.experiments.run import Run, open_run
from watchtrylearn.experiments.wtl_state import in_new_scenes, new_seed
from watchtrylearn.protocol import Attempt, Scene
from watchtrylearn.reporting import results
from watchtrylearn.reporting.statistics import ratio_interval
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import Demonstrator, Suite
from watchtrylearn.system.progress import Display
from watchtrylearn.types import Observation

SEEDS = (0, 1, 2)
LEARNERS = ("bc", "one_shot", "watch_try_learn")
EXPERT: results.Entry = ("expert", 0)
IDLE: results.Entry = ("idle", 0)
ONE_SHOT: results.Entry = ("one_shot", 0)
RETRIAL: results.Entry = ("watch_try_learn", 1)
ENTRIES = {  # scene of the retrial -> lines of the table
    "same": (EXPERT, IDLE, ("bc", 0), ONE_SHOT, RETRIAL),
    "new": (EXPERT, IDLE, ONE_SHOT, RETRIAL),
}


def reproduce(
    experiment: Experiment, out: Path, display: Display, processes: int, device: str = "cpu"
) -> Iterator[dict[str, Any]]:
    """All seeds, one run directory each below ``out``. Yields the result document of all seeds so far, after each.

    Beside the rows (metric ``"return"``) it has ``success``, the same lines as success rates, and ``gap_recovered``.
    """
    attempts: dict[str, list[Attempt]] = {scene: [] for scene in ENTRIES}
    seconds: Counter[str] = Counter()
    for count, seed in enumerate(SEEDS, start=1):
        with open_run(out / f"seed-{seed}", replace(experiment, seed=seed), display, device=device) as run:
            main_job.say(run, f"[bold]{experiment.name}, seed {seed}[/bold]")
            main_job.record(run)
            main_job.work(run, LEARNERS, processes)
            for scene, made in _attempts(run).items():
                attempts[scene] += made
            seconds.update(run.seconds())
        gaps = {scene: gap_recovered(made) for scene, made in attempts.items()}
        for scene, gap in gaps.items():
            text = f"gap to the demonstrator recovered by one trial, {scene} scene: {gap['value']:.3f}"
            main_job.say(run, f"{text} ({gap['ci'][0]:.3f} to {gap['ci'][1]:.3f})")
        yield results.document(
            experiment=experiment.name,
            command=main_job.reproduce_command(experiment),
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
    """Intervals are over scenes: there are no more tasks than these eight, so none over tasks would mean much."""
    return [
        row
        for scene, entries in ENTRIES.items()
        for row in results.rows(attempts[scene], suite, entries, metric, scene=scene, clusters="scenes")
    ]


def _attempts(run: Run) -> dict[str, list[Attempt]]:
    """Every method in the evaluation's scenes; and in others, the retrial after a trial in the former."""
    scenes = evaluation.evaluation_scenes(run)
    made = main_job.attempts_of(run, LEARNERS)
    new = [Scene(s.task, s.demos, new_seed(s.seed)) for s in scenes]
    elsewhere = in_new_scenes(run, [a for a in made if a.method == RETRIAL[0]])
    elsewhere += evaluation.evaluate_otherwise(run, "one_shot-new-scene", ONE_SHOT[0], new, 0)
    return {"same": _references(run, scenes) + made, "new": _references(run, new) + elsewhere}


def _references(run: Run, scenes: Sequence[Scene]) -> list[Attempt]:
    """What the demonstrator does in these scenes, and what comes of doing nothing."""
    assert isinstance(run.suite, Demonstrator)
    tasks, seeds = [s.task for s in scenes], [s.seed for s in scenes]
    episodes = {EXPERT: run.suite.demonstrations(tasks, seeds), IDLE: rollout(_Idle(), run.suite.worlds(tasks, seeds))}
    return [
        Attempt(method, s, 0, e, run.experiment.seed)
        for (method, _), made in episodes.items()
        for s, e in zip(scenes, made, strict=True)
    ]


class _Idle:
    """The policy that commands 0."""

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.worlds = len(rngs)

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        return np.zeros((self.worlds, 2))


def gap_recovered(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """(retrial - one shot) / (demonstrator - one shot), mean returns in the same scenes, and of every training seed.

    The 95 % interval is over scenes, as those of the rows.
    """
    gained = results.paired(attempts, RETRIAL, ONE_SHOT)
    missing = results.paired(attempts, EXPERT, ONE_SHOT)
    above, below = (np.array([results.returned(a) - results.returned(b) for a, b in p]) for p in (gained, missing))
    seeds = np.array([a.seed for a, _ in gained])
    scenes = [(a.scene.task.name, a.scene.seed) for a, _ in gained]
    return {
        "value": float(above.sum() / below.sum()),
        "ci": list(ratio_interval(above, below, scenes)),
        "scenes": len(set(scenes)),
        "of_seeds": {str(s): float(above[seeds == s].sum() / below[seeds == s].sum()) for s in dict.fromkeys(seeds)},
    }
