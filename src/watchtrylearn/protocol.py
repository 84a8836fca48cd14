"""Watch, try, learn: the one evaluation loop for every method. Read this file first.

    context = one demonstration
    repeat:  policy = learner.adapt([context]);  attempt = rollout(policy);  record success;  context += attempt

"Behaviour cloning", "one-shot imitation", "after 1 trial", "after 2 trials", "trials only" are rows that this
loop produces with different learners; no method has an evaluation of its own. What an experiment asks beyond that
(a retrial in another scene, an outcome that is hidden or a lie) are arguments of the same loop.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from gymnasium.vector import VectorEnv

from watchtrylearn.rollouts import HUNG, RAISED, STEP_TIMEOUT, rollout
from watchtrylearn.suites import Suite
from watchtrylearn.types import Adaptive, Context, Episode, Policy, Task, Tellable, WtlError

Outcome = Literal["told", "hidden", "flipped"]


@dataclass(frozen=True)
class Scene:
    """One place where a method is put to the test: a task, the demonstrations it may watch, and a scene seed."""

    task: Task
    demos: tuple[Episode, ...]
    seed: int


@dataclass(frozen=True)
class Attempt:
    """One attempt by one method: after ``trials`` earlier attempts, in the same scene unless an experiment says so."""

    method: str
    scene: Scene
    trials: int
    episode: Episode
    seed: int = 0  # of the learner's training
    learner: str = ""  # its row in the table of learners, if that is not the method's name


def evaluate(
    learner: Adaptive,
    suite: Suite,
    scenes: Sequence[Scene],
    *,
    trials: int,
    made: Sequence[Attempt] = (),
    retry: Sequence[int] | None = None,
    outcome: Outcome = "told",
    targets: Sequence[int] | None = None,
    number: int = 0,
    run_seed: int = 0,
    on_step: Callable[[int], None] | None = None,
    step_timeout: float | None = STEP_TIMEOUT,
) -> list[Attempt]:
    """Lets a learner watch, then attempt every scene ``trials + 1`` times, learning from each attempt.

    Attempt ``k`` of a scene is made with the demonstrations and the ``k`` earlier attempts as context, in the same
    scene (the papers' protocol), whether or not those succeeded. Attempts of all methods on the same ``scenes``
    are paired. What raises or hangs (``step_timeout``) is a failed attempt, and the next ones are made in new worlds.

    Args:
        learner: adapts to the evidence; nothing else is asked of it (``targets`` asks for ``Tellable``).
        scenes: where, and after which demonstrations: none, one or several.
        trials: attempts before the last one.
        made: attempts of this learner that exist already, of which those at these scenes, after the same
            demonstrations (of the same task and scene, with the same actions), are not made again.
        retry: for each scene, the seed of another scene of its task in which the last attempt is made.
        outcome: what is said of earlier attempts: how they ended ("told"), nothing ("hidden": ``Context.hidden``), or
            the opposite ("flipped"). A flipped attempt says the same everywhere: ``success`` is the opposite, the
            reward is 1 in the last step if that is True and 0 elsewhere, ``terminated`` is as ``success``, ``diverged``
            False and ``terms`` are empty. What was seen and done is as it was, how long it took too, and may tell.
        targets: for each scene, the entity that is meant, which the learner is told: execution alone.
        number: of the first attempt. Attempt ``k`` draws all randomness from number ``number + k``, so that attempts
            of two evaluations of one scene can be independent.
        on_step: called after every control step with the number of worlds still running.

    Raises:
        WtlError: no scenes, other dimensions than the learner's, a learner that cannot be told its targets.
    """
    if not scenes:
        raise WtlError("there are no scenes to evaluate on")
    if outcome not in get_args(Outcome):
        raise WtlError(f"an outcome is told, hidden or flipped, not {outcome!r}")
    require_same_spec(learner, suite)
    known = {(_identity(a.scene), a.trials): a.episode for a in made}
    contexts = [Context(demos=s.demos, hidden=outcome == "hidden") for s in scenes]
    attempts: list[Attempt] = []
    worlds: VectorEnv | None = None
    here = list(scenes)
    try:
        for k in range(trials + 1):
            if k == trials and retry is not None:
                here = [replace(s, seed=seed) for s, seed in zip(scenes, retry, strict=True)]
                _close(worlds)
                worlds = None
            keys = [(_identity(s), k) for s in here]
            if known.keys() >= set(keys):
                episodes = [known[key] for key in keys]
            else:
                if worlds is None:
                    worlds = suite.worlds([s.task for s in here], [s.seed for s in here])
                policy = _adapted(learner, contexts, targets)
                episodes = rollout(
                    policy, worlds, attempt=number + k, run_seed=run_seed, on_step=on_step, step_timeout=step_timeout
                )
                if any(e.terms.keys() & {RAISED, HUNG} for e in episodes):  # who knows in what state these worlds are
                    worlds = None
                shown = [tuple(demo.seed for demo in s.demos) for s in here]
                episodes = [replace(e, watched=seeds) for e, seeds in zip(episodes, shown, strict=True)]
            attempts += [Attempt(learner.name, s, k, e) for s, e in zip(here, episodes, strict=True)]
            contexts = [c.with_trial(_as_told(e, outcome)) for c, e in zip(contexts, episodes, strict=True)]
    finally:
        _close(worlds)
    return attempts


def _adapted(learner: Adaptive, contexts: Sequence[Context], targets: Sequence[int] | None) -> Policy:
    """The policy of a learner after the evidence so far, told its targets if there are any to tell."""
    if targets is None:
        return learner.adapt(contexts)
    if not isinstance(learner, Tellable):
        raise WtlError(f"{learner.name} cannot be told which entity is meant: it has no `adapt_told`")
    return learner.adapt_told(contexts, targets)


def _as_told(trial: Episode, outcome: Outcome) -> Episode:
    """The trial as a learner is told of it: see ``evaluate``. (A hidden outcome is the context's business.)"""
    if outcome != "flipped":
        return trial
    success, reward = not trial.success, np.zeros_like(trial.reward)
    reward[-1:] = success
    return replace(trial, success=success, reward=reward, terminated=success, diverged=False, terms={})


def _identity(scene: Scene) -> Hashable:
    """Equal for the same scene after the same demonstrations, be they read from a store once more."""
    demos = tuple((demo.task.name, demo.seed, demo.action.tobytes()) for demo in scene.demos)
    return scene.task.name, scene.seed, demos


def _close(worlds: VectorEnv | None) -> None:
    if worlds is not None:
        worlds.close()


def require_same_spec(learner: Adaptive, suite: Suite) -> None:
    """Refuses a learner that was trained for other observations or actions than the suite's, naming each."""
    found = learner.spec.differences(suite.spec)
    if found:
        raise WtlError(f"{learner.name} was trained for other dimensions than suite {suite.name!r}: {'; '.join(found)}")
