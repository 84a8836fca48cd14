"""The tabletop under Gymnasium's own names: ``make("watchtrylearn/Tabletop-v0")`` and ``make_vec``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from watchtrylearn.suites.tabletop import Tabletop, find_task
from watchtrylearn.suites.world import TabletopWorlds
from watchtrylearn.types import Task


class TabletopEnv(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """One tabletop. ``reset(seed=s)`` is scene ``s`` of the task; ``reset()`` draws the next scene.

    Args:
        task: a task or its name, e.g. "grasp-train-000".
        nthread: threads that step it; one world needs one.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(self, task: Task | str = "grasp-train-000", nthread: int = 1) -> None:
        self._worlds = Tabletop(nthread).worlds([find_task(task)], [0])
        self.observation_space = self._worlds.single_observation_space
        self.action_space = self._worlds.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        scene = int(self.np_random.integers(2**31)) if seed is None else seed
        observation, info = self._worlds.reset(seed=[scene], options=options)
        return _first(observation), _first(info)

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self._worlds.step(np.asarray(action)[None])
        return _first(observation), float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first(info)


def make_vec(
    num_envs: int = 1, task: Task | str = "grasp-train-000", seed: int = 0, nthread: int = 0, **_: Any
) -> TabletopWorlds:
    """Scenes ``seed``, ``seed + 1``, ... of one task side by side."""
    return Tabletop(nthread).worlds([find_task(task)] * num_envs, range(seed, seed + num_envs))


def _first(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _first(value) if isinstance(value, dict) else value[0] for name, value in values.items()}
