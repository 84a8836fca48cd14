"""Many different tabletops at once: a ``gymnasium.vector.VectorEnv`` on ``mujoco.batch``.

All worlds share one model layout; their tasks are rows of model parameters (``model.py``). Results are
bit-identical at any number of threads, a stored episode replays bit-exactly from its initial state and goes on so from
the full state at any of its steps, and a world that has ended is not stepped any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float
from mujoco.batch import Batch

from watchtrylearn.ops.random import generator
from watchtrylearn.suites.geometry import (
    angular_velocity,
    hinges_from_rotation_vector,
    positive,
    quaternion_from_hinges,
    rotation_vector,
    upright,
)
from watchtrylearn.suites.physics import advance
from watchtrylearn.suites.tabletop.judge import MEMORY, Judge, Measured
from watchtrylearn.suites.tabletop.model import BUTTON_HEIGHT, BUTTONS, OBJECTS, SUBSTEPS, ModelRow, SharedModel
from watchtrylearn.types import ENVIRONMENT, STATE, Spec, Task, WtlError
from watchtrylearn.worlds import begin, commands, describe


@dataclass(frozen=True)
class Start:
    """Where everything is when an episode begins; simulator state, one world.

    ``objects`` are poses (position, quaternion), ``buttons`` and ``panel`` positions on the table, ``hand``
    the gripper's position, yaw and opening.
    """

    objects: Float[np.ndarray, "2 7"]
    buttons: Float[np.ndarray, "2 3"]
    panel: Float[np.ndarray, "3"]
    hand: Float[np.ndarray, "5"]


class TabletopWorlds(VectorEnv):
    """World ``i`` is ``tasks[i]`` in scene ``seeds[i]``, with the model of ``rows[i]``.

    Args:
        start: where a scene begins.
        judge: who judges attempts at tasks, given where the first of the two things that may be meant is on the right.
        nthread: threads that step the worlds; 0 for all processors.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own convention)
    tasks: list[Task]
    seeds: list[int]
    episode_spec: Spec
    single_action_space: gymnasium.spaces.Box

    def __init__(
        self,
        shared: SharedModel,
        spec: Spec,
        tasks: Sequence[Task],
        seeds: Sequence[int],
        rows: Sequence[ModelRow],
        start: Callable[[Task, int], Start],
        judge: Callable[[Sequence[Task], Bool[np.ndarray, "world"]], Judge],
        nthread: int = 0,
    ) -> None:
        describe(self, spec, tasks, seeds)
        self._start_of, self._judge_of = start, judge
        self.judge = judge(self.tasks, np.zeros(self.num_envs, bool))
        self._task_marks = np.array([generator("task mark", t.name).integers(2**48) for t in tasks], float)
        self.batch = Batch(shared.model, self.num_envs, nthread)
        for name, values in shared.fields(rows).items():
            self.batch.expand(name)[:] = values
        self.batch.set_const()
        self._views = _Views(self.batch)
        self._touched = np.zeros((self.num_envs, SUBSTEPS, shared.model.nsensordata))
        self._starts = dict[int, Start]()
        self._set_scenes(self.seeds, np.ones(self.num_envs, bool))
        self._began, self._observation = self._start.copy(), self._views.observe()
        self._count = np.zeros(self.num_envs, int)
        self._terminated, self._diverged = np.zeros((2, self.num_envs), bool)
        self._low, self._high = self.single_action_space.low, self.single_action_space.high
        self._ready = False

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin every world's episode in its scene.

        Args:
            seed: None keeps the scenes; a list gives new scene seeds, an integer s the seeds s, s + 1, ...
            options: ``initial_state`` begins at stored states instead (``worlds.Resumable``), ``info["step"]`` then
                tells at which step that is; ``reset_mask`` (world,), Gymnasium's own, begins anew in some worlds only,
                to which then ``seed`` applies.
        """
        options = options or {}
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)), bool)
        if not mask.all() and not self._ready:
            raise WtlError("reset_mask needs an earlier reset of all worlds")
        if seed is not None:
            self._set_scenes(range(seed, seed + self.num_envs) if isinstance(seed, int | np.integer) else seed, mask)
        physics, memory, told = begin(options, self._start, 3 + MEMORY, self.episode_spec.horizon)
        strange = told & (memory[:, 2] != self._task_marks)
        if strange.any():
            i = int(np.argmax(strange))
            raise WtlError(f"the state that world {i} is to begin at is of another task than {self.tasks[i].name}")
        self._began[mask] = physics[mask]
        self.batch.state[mask] = physics[mask]
        self._count[mask] = memory[mask, 0]
        self._terminated[mask] = self._diverged[mask] = False
        self._ready = True
        self.judge.reset(self._views.facts(), mask)
        self.judge.remember(memory[:, 3:], mask & told)
        self.judge.target[mask] = self._judge_of(self.tasks, self._swapped()).target[mask]
        self._observe(mask)
        begun = {"step": self._count.copy()} if "initial_state" in options else {}
        return self._copy(), {"initial_state": self._began.copy(), **begun}

    def state(self) -> Float[np.ndarray, "world state"]:
        """The simulator's state, steps done, whether the attempt has ended, the task's mark, and the judge's memory."""
        if not self._ready:
            raise WtlError("call reset() before state()")
        ended = self._terminated | (self._count >= self.episode_spec.horizon)
        memory = np.concatenate([np.stack([self._count, ended, self._task_marks], 1), self.judge.memory()], axis=1)
        return np.concatenate([self.batch.state, memory], axis=1)

    def step(
        self, actions: Float[np.ndarray, "world act"]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step (0.1 s): command every gripper, advance the physics, judge.

        Actions are rounded to float32 (what is stored), then clipped to the workspace. An action that is not
        finite never reaches the simulator: it ends its world as diverged.

        ``info["settled"]`` is True from the step on at which the outcome is known: a success, or a failure for good.
        Such a failure does not end the episode (the robot does not know of it), but a film may stop there.
        """
        if not self._ready:
            raise WtlError("call reset() before step()")
        actions = commands(actions, self.episode_spec.action, self.num_envs).astype(np.float64)
        active = ~(self._terminated | (self._count >= self.episode_spec.horizon))
        sound = np.isfinite(actions).all(axis=-1)
        self._diverged |= active & ~sound
        moving = active & sound
        if moving.any():
            self._views.command(np.clip(actions[moving], self._low, self._high), moving)
            self._diverged |= moving & ~self._advance(moving)
        self._count += active
        success, terms = self.judge.update(self._views.facts(), moving)
        success &= ~self._diverged
        self._terminated |= success | self._diverged
        self._observe(moving & ~self._diverged)
        truncated = ~self._terminated & (self._count >= self.episode_spec.horizon)
        info = {"success": success, "diverged": self._diverged.copy(), "terms": terms}
        info["settled"] = self._terminated | self.judge.lost
        return self._copy(), success.astype(np.float64), self._terminated.copy(), truncated, info

    def _advance(self, moving: Bool[np.ndarray, "world"]) -> Bool[np.ndarray, "world"]:
        """Step the physics; False where it broke down."""
        touched = self._touched[: moving.sum()]
        sound = advance(self.batch, SUBSTEPS, moving, {"sensordata": touched})
        self._views.note_contact(moving, touched)
        return sound

    def _set_scenes(self, seeds: Sequence[int], mask: Bool[np.ndarray, "world"]) -> None:
        """Full simulator states of new scenes: at rest, servos at their targets, no warm start, time 0.

        Worlds outside ``mask`` keep their scenes and stay where they are.
        """
        if len(seeds) != self.num_envs:
            raise WtlError(f"worlds need one scene seed per task, got {self.num_envs} tasks and {len(seeds)} seeds")
        for i in np.flatnonzero(mask).tolist():
            self.seeds[i] = int(seeds[i])
            self._starts[i] = self._start_of(self.tasks[i], self.seeds[i])
        kept = self.batch.state.copy()
        self.batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._views.place(list(self._starts.values()))
        self._start: np.ndarray = self.batch.state.copy()
        self.batch.state[~mask] = kept[~mask]

    def _swapped(self) -> Bool[np.ndarray, "world"]:
        """Where, when the attempt began, the first of the two things that may be meant was on the right.

        Read off what stands there: a world may begin at a state of another scene.
        """
        objects, buttons = self.judge.start[:, :, 0], self._views.mocap[:, 1:, 0]
        things = np.where(self.judge.families[:, None] == "button", buttons, objects)
        swapped: np.ndarray = things[:, 0] > things[:, 1]
        return swapped

    def _observe(self, fresh: Bool[np.ndarray, "world"]) -> None:
        """Refresh what moved; a diverged world keeps its last sound observation."""
        for name, values in self._views.observe().items():
            self._observation[name][fresh] = values[fresh]

    def _copy(self) -> dict[str, np.ndarray]:
        return {name: values.copy() for name, values in self._observation.items()}


class _Views:
    """Live arrays of a batch under the names of the tabletop."""

    def __init__(self, batch: Batch) -> None:
        model = batch.model
        names = ("qpos", "qvel", "ctrl", "mocap_pos", "sensordata", "actuator_force")
        bound: list[np.ndarray] = [batch.bind(name) for name in names]
        self.qpos, self.qvel, self.ctrl, self.mocap, self.touch, self.force = bound
        hand, object0, press0 = model.joint("x"), model.joint("object0"), model.joint("press0")
        self.hand_q, self.hand_v = (
            slice(hand.qposadr[0], hand.qposadr[0] + 8),
            slice(hand.dofadr[0], hand.dofadr[0] + 8),
        )
        self.objects_q = slice(object0.qposadr[0], object0.qposadr[0] + 7 * OBJECTS)
        self.objects_v = slice(object0.dofadr[0], object0.dofadr[0] + 6 * OBJECTS)
        self.together = np.zeros(batch.nsim, bool)
        self.press_q = slice(press0.qposadr[0], press0.qposadr[0] + BUTTONS)

    @property
    def objects(self) -> Float[np.ndarray, "world 2 7"]:
        return self.qpos[:, self.objects_q].reshape(-1, OBJECTS, 7)

    @property
    def press(self) -> Float[np.ndarray, "world 2"]:
        return self.qpos[:, self.press_q]

    def place(self, starts: Sequence[Start]) -> None:
        hand = np.stack([start.hand for start in starts])
        x_y_z, yaw, half = hand[:, :3], hand[:, 3:4], hand[:, 4:5] / 2
        upright_yaw = np.concatenate([x_y_z, yaw, np.zeros((len(starts), 2))], axis=1)
        self.qpos[:, self.hand_q] = np.concatenate([upright_yaw, half, half], axis=1)
        self.ctrl[:] = np.concatenate([upright_yaw, half], axis=1)
        self.qpos[:, self.objects_q] = np.stack([start.objects.ravel() for start in starts])
        self.mocap[:, 0] = np.stack([start.panel for start in starts])
        self.mocap[:, 1:] = np.stack([start.buttons for start in starts])

    def command(self, actions: Float[np.ndarray, "moving 7"], moving: Bool[np.ndarray, "world"]) -> None:
        """Set the servos' targets from (x, y, z, rotation vector, opening)."""
        hinges = hinges_from_rotation_vector(actions[:, 3:6])
        self.ctrl[moving] = np.concatenate([actions[:, :3], hinges, actions[:, 6:] / 2], axis=1)

    def observe(self) -> dict[str, Float[np.ndarray, "world _"]]:
        """The two channels (see ``tabletop.SPEC``), from the state alone."""
        position, velocity = self.qpos[:, self.hand_q], self.qvel[:, self.hand_v]
        hinges = position[:, 3:6]
        turn = rotation_vector(quaternion_from_hinges(hinges))
        spin = angular_velocity(hinges, velocity[:, 3:6])
        state = [position[:, :3], turn, position[:, 6:].sum(1, keepdims=True)]
        state += [velocity[:, :3], spin, velocity[:, 6:].sum(1, keepdims=True)]
        return {
            STATE: np.concatenate(state, axis=1).astype(np.float32),
            ENVIRONMENT: self._entities().reshape(len(position), -1).astype(np.float32),
        }

    def _entities(self) -> Float[np.ndarray, "world 4 7"]:
        objects = self.objects
        poses = np.zeros((len(objects), OBJECTS + BUTTONS, 7))
        poses[:, :OBJECTS, :3] = objects[..., :3]
        poses[:, :OBJECTS, 3:] = positive(objects[..., 3:])
        poses[:, OBJECTS:, :3] = self.mocap[:, 1:]
        poses[:, OBJECTS:, 2] += BUTTON_HEIGHT - self.press
        poses[:, OBJECTS:, 3] = 1
        return poses

    def note_contact(
        self, moving: Bool[np.ndarray, "world"], sensors: Float[np.ndarray, "moving substep sensor"]
    ) -> None:
        """Did the two objects touch at any substep? One may hit the other and bounce off within a step."""
        self.together[:] = False
        self.together[moving] = (sensors[..., 4] > 0).any(axis=1)

    def facts(self) -> Measured:
        objects = self.objects
        velocity = self.qvel[:, self.objects_v].reshape(-1, OBJECTS, 2, 3)
        touch = self.touch > 0
        return Measured(
            position=objects[..., :3].copy(),
            tilt=upright(objects[..., 3:]),
            speed=np.linalg.norm(velocity, axis=-1),
            fingers=touch[:, :4].reshape(-1, OBJECTS, 2),
            together=self.together.copy(),
            squeeze=-self.force[:, 6],
            press=self.press.copy(),
        )
