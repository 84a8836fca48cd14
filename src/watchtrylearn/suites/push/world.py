"""Many pushing arms at once: a ``gymnasium.vector.VectorEnv`` on ``mujoco.batch``, drawn in one call a step."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Float, UInt8
from mujoco.batch import Batch

from watchtrylearn.suites.physics import advance
from watchtrylearn.suites.push.model import CAMERA, GOAL, HOME, OBJECTS, RADIUS, SUBSTEPS, Thing, build
from watchtrylearn.suites.render import Renderer
from watchtrylearn.types import STATE, Spec, Task, WtlError
from watchtrylearn.worlds import begin, commands, describe

LOOSE = 0.13  # metres: the rule of the authors' code
HELD = 10  # steps that the right object must be on the disk, in a row or not
ARM = slice(0, 7)  # of the joints


@dataclass(frozen=True)
class Start:
    """Where an attempt begins: both objects (x, y), and how far each joint of the arm is from its usual place."""

    objects: Float[np.ndarray, "2 2"]
    shake: Float[np.ndarray, "7"]


class PushWorlds(VectorEnv):
    """World ``i`` is ``tasks[i]`` in scene ``seeds[i]``: ``rows[i]`` are its objects, ``starts[i]`` their places.

    Results are bit-identical at any number of threads. Every attempt lasts to the horizon, unless its physics break
    down or a command is not a number. Beside the physics a state remembers the steps done, whether the attempt has
    ended, and for each object how many steps it was on the disk, by the strict rule and by the loose one.

    Args:
        target: which of the two objects is to be pushed.
        camera: the channel that holds images; None: there is none.
        nthread: threads that step and draw the worlds; 0 for all processors.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own convention)
    tasks: list[Task]
    seeds: list[int]
    episode_spec: Spec

    def __init__(
        self,
        spec: Spec,
        tasks: Sequence[Task],
        seeds: Sequence[int],
        rows: Sequence[tuple[Thing, Thing]],
        starts: Sequence[Start],
        target: Sequence[int],
        camera: str | None,
        nthread: int = 0,
    ) -> None:
        describe(self, spec, tasks, seeds)
        self.rows, self.target = list(rows), np.array(target)
        self.shared = build([thing for row in rows for thing in row])
        self._fields, self._starts = self.shared.fields(rows), list(starts)
        self._camera, self._nthread = camera, nthread
        self.batch = Batch(self.shared.model, self.num_envs, nthread)
        for name, values in self._fields.items():
            if name != "geom_matid":  # which only the camera sees
                self.batch.expand(name)[:] = values
        self.batch.set_const()
        self._bound = {
            n: self.batch.bind(n) for n in ("qpos", "qvel", "ctrl", "site_xpos", "site_xmat", "xaxis", "xanchor", "M")
        }
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
        self._bound["qpos"][:, ARM] = HOME + np.stack([start.shake for start in self._starts])
        self.objects[:] = np.stack([start.objects for start in self._starts])
        physics, memory, _ = begin(options, self.batch.state, 2 + 2 * OBJECTS, self.episode_spec.horizon)
        self.batch.state[:] = physics
        self._count, self._held = memory[:, 0].astype(int), memory[:, 2:].reshape(-1, 2, OBJECTS).copy()
        self._diverged = np.zeros(self.num_envs, bool)
        self._ready = True
        self.batch.forward(stage=mujoco.mjtStage.mjSTAGE_POS.value)
        self._observation = self._observe()
        return self._copy(), {"initial_state": physics, "step": self._count.copy()}

    def state(self) -> Float[np.ndarray, "world state"]:
        """The simulator's state, then what an attempt remembers (see the class)."""
        if not self._ready:
            raise WtlError("call reset() before state()")
        ended = self._diverged | (self._count >= self.episode_spec.horizon)
        held = self._held.reshape(self.num_envs, -1)
        return np.concatenate([self.batch.state, np.stack([self._count, ended], axis=1), held], axis=1)

    def step(
        self, actions: Float[np.ndarray, "world act"]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step (0.05 s). Actions are rounded to float32 (what is stored), then clipped to [-1, 1].

        The reward is 1 for every step after which the attempt is a success. ``terms``: the last distance of the right
        object from the middle of the disk (m), the steps that it was on the disk, and whether the loose rule is met.
        """
        if not self._ready:
            raise WtlError("call reset() before step()")
        actions = np.clip(commands(actions, self.episode_spec.action, self.num_envs).astype(np.float64), -1.0, 1.0)
        moving = ~self._diverged & (self._count < self.episode_spec.horizon)
        sound = moving & np.isfinite(actions).all(axis=-1)
        self._bound["ctrl"][sound] = actions[sound]
        if sound.any():
            sound = advance(self.batch, SUBSTEPS, sound, {})
            self.batch.forward(stage=mujoco.mjtStage.mjSTAGE_POS.value)
        self._diverged |= moving & ~sound
        self._count += moving
        distance = np.linalg.norm(self.objects - GOAL, axis=-1)
        self._held += sound[:, None, None] & (distance[:, None] < np.array([RADIUS, LOOSE])[:, None])
        for name, values in self._observe().items():
            self._observation[name][sound] = values[sound]  # a diverged world keeps its last sound observation
        right = np.arange(self.num_envs), self.target
        on, loose = self._held[right[0], :, right[1]].T
        success = (on >= HELD) & ~self._diverged
        truncated = ~self._diverged & (self._count >= self.episode_spec.horizon)
        terms = {"distance": distance[right], "steps on target": on, "loose": (loose >= HELD).astype(float)}
        info = {"success": success, "diverged": self._diverged.copy(), "terms": terms}
        return self._copy(), success.astype(np.float64), self._diverged.copy(), truncated, info

    @property
    def objects(self) -> Float[np.ndarray, "world 2 2"]:
        """Where both objects are now, (x, y) in metres; a live view."""
        found: np.ndarray = self._bound["qpos"][:, 7:].reshape(self.num_envs, OBJECTS, 3)[..., :2]
        return found

    def arm(self) -> Arm:
        """The arm's mechanics as it is now, for those who are allowed to know."""
        return Arm.of(self.shared.model, self._bound)

    def images(self) -> UInt8[np.ndarray, "world height width 3"]:
        """What the camera sees now."""
        return self._renderer.images(self._bound["qpos"])

    @functools.cached_property
    def _renderer(self) -> Renderer:
        channel = self.episode_spec.images[str(self._camera)]
        return Renderer(
            self.shared.model,
            self._fields,
            camera=CAMERA,
            width=channel.width,
            height=channel.height,
            threads=self._nthread,
        )

    def _observe(self) -> dict[str, np.ndarray]:
        bound = self._bound
        goal = np.broadcast_to((*GOAL, 0.0), (self.num_envs, 3))
        state = [bound["qpos"][:, ARM], bound["qvel"][:, ARM], bound["site_xpos"][:, 0], goal]
        seen: dict[str, np.ndarray] = {STATE: np.concatenate(state, axis=1).astype(np.float32)}
        return seen if self._camera is None else {**seen, self._camera: self.images()}

    def _copy(self) -> dict[str, np.ndarray]:
        return {name: values.copy() for name, values in self._observation.items()}


@dataclass(frozen=True)
class Arm:
    """The mechanics of the arm in every world.

    ``turned`` is the rotation of the fork; its velocity is ``moving @ velocity``, its angular velocity
    ``turning @ velocity``, both in the frame of the world.
    """

    joints: Float[np.ndarray, "world 7"]
    velocity: Float[np.ndarray, "world 7"]
    tip: Float[np.ndarray, "world 3"]
    turned: Float[np.ndarray, "world 3 3"]
    moving: Float[np.ndarray, "world 3 7"]
    turning: Float[np.ndarray, "world 3 7"]
    inertia: Float[np.ndarray, "world 7 7"]

    @classmethod
    def of(cls, model: mujoco.MjModel, bound: dict[str, np.ndarray]) -> Arm:
        axes, tip = bound["xaxis"][:, ARM], bound["site_xpos"][:, 0]
        moving = np.cross(axes, tip[:, None] - bound["xanchor"][:, ARM])
        inertia = np.zeros((len(tip), 7, 7))
        for row in range(7):
            entries = model.M_rowadr[row] + np.arange(model.M_rownnz[row])
            columns = model.M_colind[entries]
            inertia[:, row, columns] = inertia[:, columns, row] = bound["M"][:, entries]
        joints, velocity = bound["qpos"][:, ARM].copy(), bound["qvel"][:, ARM].copy()
        turned = bound["site_xmat"][:, 0].reshape(-1, 3, 3).copy()
        return cls(joints, velocity, tip.copy(), turned, moving.swapaxes(1, 2), axes.swapaxes(1, 2).copy(), inertia)
