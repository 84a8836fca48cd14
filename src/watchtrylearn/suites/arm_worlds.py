"""Worlds of the planar two-link arm, whatever it is for: beginning, a control step, what goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float
from mujoco.batch import Batch

from watchtrylearn.suites.physics import advance
from watchtrylearn.types import Spec, Task, WtlError
from watchtrylearn.worlds import begin, commands, describe


class ArmWorlds(VectorEnv):
    """World ``i`` is ``tasks[i]`` in scene ``seeds[i]``; ``nthread`` threads step them (0: all processors).

    Results are bit-identical at any number of threads. Every attempt lasts as many control steps as the spec's horizon,
    unless its physics break down or a command is not a number: then it ends. What differs between suites is how a
    scene is laid out (``_place``), what is seen (``_observe``), and what a step is worth.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own convention)
    worst_reward: float
    tasks: list[Task]
    seeds: list[int]
    episode_spec: Spec

    def __init__(
        self, model: mujoco.MjModel, spec: Spec, tasks: Sequence[Task], seeds: Sequence[int], nthread: int
    ) -> None:
        describe(self, spec, tasks, seeds)
        self.batch = Batch(model, self.num_envs, nthread)
        names = ("qpos", "qvel", "ctrl", "mocap_pos")
        self._qpos, self._qvel, self._ctrl, self._mocap = (self.batch.bind(name) for name in names)
        self._ready = False

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Back to the start of every world's scene, or to the states in ``options`` (``worlds.Resumable``).

        Which scenes they are was decided by ``suite.worlds``.
        """
        if seed is not None or (options or {}).keys() - {"initial_state"}:
            raise WtlError("these worlds keep their scenes; choose others with suite.worlds(tasks, seeds)")
        self.batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._place()
        physics, memory, _ = begin(options, self.batch.state, 2, self.episode_spec.horizon)
        self.batch.state[:] = physics
        self._count = memory[:, 0].astype(int)
        self._ready = True
        self._diverged = np.zeros(self.num_envs, bool)
        self._observation = self._observe()
        return self._copy(), {"initial_state": physics, "step": self._count.copy()}

    def state(self) -> Float[np.ndarray, "world state"]:
        """The simulator's state, steps done, and whether the attempt has ended."""
        if not self._ready:
            raise WtlError("call reset() before state()")
        ended = self._diverged | (self._count >= self.episode_spec.horizon)
        return np.concatenate([self.batch.state, np.stack([self._count, ended], 1)], 1)

    def _place(self) -> None:
        """Puts every world into its scene, where it begins."""
        raise NotImplementedError

    def _observe(self) -> dict[str, np.ndarray]:
        """What is seen now, channel by channel."""
        raise NotImplementedError

    def _clipped(self, actions: Float[np.ndarray, "world act"]) -> Float[np.ndarray, "world act"]:
        """Actions as they are carried out: rounded to float32 (what is stored), then within [-1, 1]."""
        if not self._ready:
            raise WtlError("call reset() before step()")
        return np.clip(commands(actions, self.episode_spec.action, self.num_envs).astype(np.float64), -1.0, 1.0)

    def _advanced(
        self, ctrl: Float[np.ndarray, "world act"], substeps: int
    ) -> tuple[Bool[np.ndarray, "world"], Bool[np.ndarray, "world"]]:
        """One control step. Which worlds were still moving, and which of them are sound after it."""
        moving = ~self._diverged & (self._count < self.episode_spec.horizon)
        sound = moving & np.isfinite(ctrl).all(axis=-1)
        self._ctrl[sound] = ctrl[sound]
        if sound.any():
            sound = advance(self.batch, substeps, sound, {})
        self._diverged |= moving & ~sound
        self._count += 1
        for name, values in self._observe().items():
            self._observation[name][sound] = values[sound]  # a diverged world keeps its last sound observation
        return moving, sound

    def _told(
        self,
        reward: Float[np.ndarray, "world"],
        success: Bool[np.ndarray, "world"],
        distance: Float[np.ndarray, "world"],
        moving: Bool[np.ndarray, "world"],
        sound: Bool[np.ndarray, "world"],
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """What ``step`` returns. An attempt that breaks down gets the worst reward there is for every step left."""
        lost = self.worst_reward * (self.episode_spec.horizon + 1 - self._count)
        reward = np.where(sound, reward, np.where(moving, lost, 0.0))
        truncated = (self._count >= self.episode_spec.horizon) & ~self._diverged
        info = {
            "success": success & ~self._diverged,
            "diverged": self._diverged.copy(),
            "terms": {"distance": distance},
        }
        return self._copy(), reward, self._diverged.copy(), truncated, info

    def _copy(self) -> dict[str, np.ndarray]:
        return {name: values.copy() for name, values in self._observation.items()}
