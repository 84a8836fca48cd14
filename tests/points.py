"""A small deterministic suite with rewards and known optima: a point that follows a mark, with a frame that may turn.

The point moves by its action, cut to ``STEP`` along each axis, and loses its distance to the mark along both axes at
every step. Where the mark rests at the origin (``speed`` 0) the best it can do is to go straight there along each axis:
after ``k`` steps the axis at distance ``d`` is ``max(0, d - STEP k)`` away, no way of acting is nearer at any step, and
so ``optimum`` is the best return for every discount. With ``turn``, from step ``when`` on every action is turned by
that angle: whoever does not notice walks away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from watchtrylearn.ops.random import generator
from watchtrylearn.types import ENVIRONMENT, STATE, Channel, Spec, Split, Task
from watchtrylearn.worlds import commands

STEP = 0.25
ROOM = 3.0  # half the width of the room


def spec(horizon: int) -> Spec:
    return Spec(
        fps=10,
        horizon=horizon,
        observation={
            STATE: Channel(("x", "y", "time left"), (-ROOM, -ROOM, 0.0), (ROOM, ROOM, 1.0)),
            ENVIRONMENT: Channel(("mark x", "mark y"), (-ROOM, -ROOM), (ROOM, ROOM)),
        },
        action=Channel(("dx", "dy"), (-STEP, -STEP), (STEP, STEP)),
    )


class Points:
    """The suite. ``speed``: by how much the mark, on a circle of radius 1, turns in a step; 0: it is the origin."""

    name = "points"

    def __init__(self, horizon: int = 8, speed: float = 0.0, when: int = 0) -> None:
        self.spec, self.speed, self.when = spec(horizon), speed, when

    def tasks(self, split: Split, turns: Sequence[float] = (0.0,)) -> list[Task]:
        return [
            Task(self.name, "follow", f"{split}-{turn:g}", split, "follow the mark", (("turn", turn),))
            for turn in turns
        ]

    def worlds(self, tasks: Sequence[Task], seeds: Sequence[int]) -> PointWorlds:
        return PointWorlds(self, tasks, seeds)


def start(seed: int) -> np.ndarray:
    """Where the point begins in scene ``seed``."""
    return generator("points", seed).uniform(-1, 1, 2).round(3)


def optimum(seed: int, horizon: int) -> float:
    """The best return in scene ``seed`` where the mark rests at the origin."""
    steps = np.arange(1, horizon + 1)
    return -float(np.maximum(0, np.abs(start(seed))[:, None] - STEP * steps).sum())


class PointWorlds(VectorEnv):
    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(self, suite: Points, tasks: Sequence[Task], seeds: Sequence[int]) -> None:
        self.suite, self.tasks, self.seeds, self.episode_spec = suite, list(tasks), list(seeds), suite.spec
        self.num_envs = len(self.tasks)
        channels = {name: channel.space() for name, channel in suite.spec.observation.items()}
        self.single_observation_space = gymnasium.spaces.Dict(channels)
        self.single_action_space = suite.spec.action.space()
        self.turn = np.array([float(task["turn"]) for task in self.tasks])

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self.count, self.point = 0, np.stack([start(seed) for seed in self.seeds])
        return self._observe(), {"initial_state": self.point.copy()}

    def step(self, actions: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict]:
        move = np.clip(commands(actions, self.suite.spec.action, self.num_envs), -STEP, STEP).astype(float)
        angle = self.turn * (self.count >= self.suite.when)
        cos, sin = np.cos(angle), np.sin(angle)
        turned = np.stack([cos * move[:, 0] - sin * move[:, 1], sin * move[:, 0] + cos * move[:, 1]], 1)
        self.point = np.clip(self.point + turned, -ROOM, ROOM)
        self.count += 1
        distance = np.abs(self.point - self._mark())
        never = np.zeros(self.num_envs, bool)
        over = np.full(self.num_envs, self.count >= self.suite.spec.horizon)
        return self._observe(), -distance.sum(1), never, over, {"success": distance.max(1) < 0.1}

    def _mark(self) -> np.ndarray:
        angle = self.suite.speed * self.count
        on_circle = np.array([np.cos(angle), np.sin(angle)]) if self.suite.speed else np.zeros(2)
        return np.tile(on_circle, (self.num_envs, 1))

    def _observe(self) -> dict[str, np.ndarray]:
        left = np.full((self.num_envs, 1), 1 - self.count / self.suite.spec.horizon)
        state = np.concatenate([self.point, left], 1).astype(np.float32)
        return {STATE: state, ENVIRONMENT: self._mark().astype(np.float32)}
