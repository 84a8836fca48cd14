"""Watch, try, learn: the one evaluation loop for every method. Read this file first.

    context = one demonstration
    repeat:  policy = learner.adapt([context]);  attempt = rollout(policy);  record success;  context += attempt

"Behaviour cloning", "one-shot imitation", "after 1 trial", "after 2 trials", "trials only" are rows that this
loop produces with different learners; no method has an evaluation of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from watchtrylearn.rollouts import HUNG, RAISED, STEP_TIMEOUT, rollout
from watchtrylearn.suites import Suite
from watchtrylearn.types import Adaptive, Context, Episode, Task, WtlError


@dataclass(frozen=True)
class Scene:
    """One place where a method is put to the test: a task, the demonstrations it may watch, and a scene seed."""

    task: Task
    demos: tuple[Episode, ...]
    seed: int


@dataclass(frozen=True)
class Attempt:
    """One attempt by one method: after ``trials`` earlier attempts in the same scene."""

    method: str
    scene: Scene
    trials: int
    episode: Episode
    seed: int = 0  # of the learner's training


def evaluate(
    learner: Adaptive,
    suite: Suite,
    scenes: Sequence[Scene],
    *,
    trials: int,
    run_seed: int = 0,
    on_step: Callable[[int], None] | None = None,
    step_timeout: float | None = STEP_TIMEOUT,
) -> list[Attempt]:
    """Lets a learner watch, then attempt every scene ``trials + 1`` times, learning from each attempt.

    Attempt ``k`` of a scene is made with the demonstrations and the ``k`` earlier attempts as context, in the same
    scene (the papers' protocol), whether or not those succeeded. Attempts of all methods on the same ``scenes``
    are paired. What raises or hangs (``step_timeout``) is a failed attempt, and the next ones are made in new worlds.
    """
    if not scenes:
        raise WtlError("there are no scenes to evaluate on")
    require_same_spec(learner, suite)
    worlds = suite.worlds([s.task for s in scenes], [s.seed for s in scenes])
    contexts = [Context(demos=s.demos) for s in scenes]
    attempts: list[Attempt] = []
    try:
        for k in range(trials + 1):
            policy = learner.adapt(contexts)
            episodes = rollout(policy, worlds, attempt=k, run_seed=run_seed, on_step=on_step, step_timeout=step_timeout)
            attempts += [Attempt(learner.name, s, k, e) for s, e in zip(scenes, episodes, strict=True)]
            if any(e.terms.keys() & {RAISED, HUNG} for e in episodes):  # who knows in what state these worlds are
                worlds = suite.worlds([s.task for s in scenes], [s.seed for s in scenes])
            contexts = [c.with_trial(e) for c, e in zip(contexts, episodes, strict=True)]
    finally:
        worlds.close()
    return attempts


def require_same_spec(learner: Adaptive, suite: Suite) -> None:
    """Refuses a learner that was trained for other observations or actions than the suite's, naming each."""
    found = learner.spec.differences(suite.spec)
    if found:
        raise WtlError(f"{learner.name} was trained for other dimensions than suite {suite.name!r}: {'; '.join(found)}")
