"""Scripted learners for the toy suite whose success is known by counting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from watchtrylearn.suites.toy import REACH, SPEC, STEP
from watchtrylearn.types import ENVIRONMENT, STATE, Context, Episode, Observation


class Straight:
    """Goes straight to a mark of its choice, assuming that its x axis has sign ``signs[i]`` in world i.

    ``choose(world, marks)`` names the mark once the scene is seen.
    """

    def __init__(self, choose: Callable[[int, np.ndarray], int], signs: Sequence[float]) -> None:
        self.choose, self.signs = choose, np.array(signs)

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.plan: np.ndarray | None = None

    def act(self, observation: Observation) -> np.ndarray:
        if self.plan is None:  # one plan per episode: there is no time to correct it
            marks = observation[ENVIRONMENT].reshape(-1, 2, 2)
            way = np.stack([m[self.choose(i, m)] for i, m in enumerate(marks)])
            self.plan = STEP * way * np.stack([self.signs, np.ones_like(self.signs)], 1)
        return self.plan


class Ideal:
    """Keeps every (reading, sign) that the evidence allows and acts on the first: identity before place, + before -.

    Over the 16 test tasks, which hold every combination once, that makes the optimum come out exactly.
    """

    name = "ideal"
    spec = SPEC

    def adapt(self, contexts: Sequence[Context]) -> Straight:
        beliefs = [self._infer(c) for c in contexts]

        def choose(world: int, marks: np.ndarray) -> int:
            return means(beliefs[world][0], contexts[world].demos[0], marks)

        return Straight(choose, [sign for _, sign in beliefs])

    def _infer(self, context: Context) -> tuple[str, float]:
        readings, sign = ["identity", "place"], 1.0
        for demo in context.demos[1:]:
            marks = demo.observation[ENVIRONMENT][0].reshape(2, 2)
            readings = [r for r in readings if means(r, context.demos[0], marks) == mark_reached(demo)]
        for trial in context.trials:
            sign, reached = sign_of(trial), mark_reached(trial)
            if reached is not None:
                marks = trial.observation[ENVIRONMENT][0].reshape(2, 2)
                told = [(means(r, context.demos[0], marks) == reached) == trial.success for r in readings]
                readings = [r for r, fits in zip(readings, told, strict=True) if fits]
        return readings[0], sign


def means(reading: str, demo: Episode, marks: np.ndarray) -> int:
    """The mark that a reading of the demonstration points to in a scene."""
    shown = mark_reached(demo)
    assert shown is not None
    if reading == "identity":
        return shown
    left = demo.observation[ENVIRONMENT][0].reshape(2, 2)[shown, 0] < 0
    return int(np.argmax((marks[:, 0] < 0) == left))


def mark_reached(episode: Episode) -> int | None:
    """The mark the episode's last move ends at, or None."""
    last = episode.observation[STATE][-1, :2]
    move = np.array([sign_of(episode), 1.0]) * episode.action[-1]
    if episode.kind == "demo":
        move = 0.0  # the demonstrator's controls are not known; the last observation is close enough
    distance = np.linalg.norm(episode.observation[ENVIRONMENT][-1].reshape(2, 2) - (last + move), axis=1)
    return int(distance.argmin()) if distance.min() < REACH + STEP * (episode.kind == "demo") else None


def sign_of(trial: Episode) -> float:
    """The sign of the x axis, from what was commanded and what came of it."""
    moved = np.diff(trial.observation[STATE][:, 0])
    return 1.0 if float(moved @ trial.action[:-1, 0]) > 0 else -1.0


class Copy:
    """Goes to the mark that the demonstration went to, whatever happens."""

    name = "copy"
    spec = SPEC

    def adapt(self, contexts: Sequence[Context]) -> Straight:
        return Straight(lambda i, marks: means("identity", contexts[i].demos[0], marks), [1.0] * len(contexts))


class Random:
    """Goes to a random mark with a random sign."""

    name = "random"
    spec = SPEC

    def adapt(self, contexts: Sequence[Context]) -> RandomPolicy:
        return RandomPolicy()


class RandomPolicy:
    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        marks = [int(r.integers(2)) for r in rngs]
        self.straight = Straight(lambda i, _: marks[i], [r.choice([-1.0, 1.0]) for r in rngs])
        self.straight.reset(rngs)

    def act(self, observation: Observation) -> np.ndarray:
        return self.straight.act(observation)
