r"""The Watch-Try-Learn authors' toy problem: a two-link arm, two targets, and joints that may be wired the wrong way.

A task is which of the two targets is right (2) and, hidden, the sign by which each joint's command is multiplied
(2 x 2): eight tasks, the same in every split. What is new in a new scene is where the targets lie and how the arm
begins. A demonstration shows the target; its observations look the same whatever the signs are, since the
demonstrator knows them. Only an attempt of one's own, commands and what came of them, shows the signs.

The reward of a step is -distance(fingertip, right target) - |action|^2, and what counts is its sum over the
episode, the return. For the yes or no an attempt succeeds if at its end the fingertip is within ``NEAR`` of the
right target, or, where that lies beyond the arm's reach, of the point of the reach that is nearest to it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Bool, Float

from watchtrylearn.ops.random import generator
from watchtrylearn.ops.symmetry import Symmetry
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites.arm_worlds import ArmWorlds
from watchtrylearn.suites.two_link import DAMPING, INERTIA, LINKS, fingertip, postures, reachable, wrapped
from watchtrylearn.types import (
    ACTION,
    ENVIRONMENT,
    SPLITS,
    STATE,
    Channel,
    Episode,
    Observation,
    Spec,
    Split,
    Task,
    WtlError,
)

TIMESTEP, SUBSTEPS = 0.01, 2  # seconds; physics steps in a control step
HORIZON = 50  # control steps: one second
SQUARE = 0.2  # targets lie within +-SQUARE metres of the first joint, in x and in y,
APART = 0.1  # and at least this far from each other
BEGIN = 0.1  # joints begin within +-BEGIN radians of the stretched arm, at rest
NEAR = 0.02  # metres: how close counts as reached
FARTHEST = sum(LINKS) + SQUARE * np.sqrt(2)  # no target is farther from any fingertip
GEAR = 200.0  # torque of the command 1, in both joints

MODEL = f"""
<mujoco model="two-link reacher">
  <compiler angle="radian"/>
  <option timestep="{TIMESTEP}" gravity="0 0 0" integrator="implicitfast"/>
  <default>
    <joint type="hinge" axis="0 0 1" armature="{INERTIA}" damping="{DAMPING}"/>
    <geom type="capsule" size="0.01" rgba="0.2 0.4 0.7 1" contype="0" conaffinity="0"/>
    <motor gear="{GEAR}" ctrllimited="true" ctrlrange="-1 1"/>
  </default>
  <worldbody>
    <light pos="0 0 1"/>
    <geom type="plane" size="0.35 0.35 0.1" pos="0 0 -0.02" rgba="0.9 0.9 0.9 1"/>
    <body name="upper">
      <joint name="shoulder"/>
      <geom fromto="0 0 0 {LINKS[0]} 0 0"/>
      <body name="lower" pos="{LINKS[0]} 0 0">
        <joint name="elbow"/>
        <geom fromto="0 0 0 {LINKS[1]} 0 0"/>
        <site name="fingertip" pos="{LINKS[1]} 0 0" size="0.012" rgba="0.1 0.1 0.1 1"/>
      </body>
    </body>
    <body name="target 0" mocap="true"><geom type="sphere" rgba="0.8 0.2 0.1 1"/></body>
    <body name="target 1" mocap="true"><geom type="sphere" rgba="0.1 0.6 0.2 1"/></body>
  </worldbody>
  <actuator><motor joint="shoulder"/><motor joint="elbow"/></actuator>
</mujoco>
"""

_TARGET = ("x", "y", "to fingertip x", "to fingertip y", "to fingertip z")
SPEC = Spec(
    fps=round(1 / (TIMESTEP * SUBSTEPS)),
    horizon=HORIZON,
    observation={
        STATE: Channel(
            ("cos shoulder", "cos elbow", "sin shoulder", "sin elbow", "shoulder velocity", "elbow velocity"),
            (-1.0, -1.0, -1.0, -1.0, -300.0, -300.0),
            (1.0, 1.0, 1.0, 1.0, 300.0, 300.0),
        ),
        ENVIRONMENT: Channel(
            tuple(f"target {number} {name}" for number in range(2) for name in _TARGET),
            (-SQUARE, -SQUARE, -0.5, -0.5, -0.5) * 2,
            (SQUARE, SQUARE, 0.5, 0.5, 0.5) * 2,
        ),
    },
    action=Channel(("shoulder", "elbow"), (-1.0, -1.0), (1.0, 1.0)),
    entities=2,
)

SYMMETRIES = (
    Symmetry(  # across the line of the stretched arm: y changes its sign, and so does every angle
        "both sides of the arm",
        {
            STATE: ("sin shoulder", "sin elbow", "shoulder velocity", "elbow velocity"),
            ENVIRONMENT: tuple(f"target {number} {name}" for number in range(2) for name in ("y", "to fingertip y")),
            ACTION: ("shoulder", "elbow"),
        },
    ),
    # what follows is of the tasks alone: nothing moves, a joint is wired the other way or the targets are renumbered
    Symmetry("the wiring of the shoulder", {ACTION: ("shoulder",)}),
    Symmetry("the wiring of the elbow", {ACTION: ("elbow",)}),
    Symmetry(
        "first and second target",
        exchanged={ENVIRONMENT: tuple((f"target 0 {name}", f"target 1 {name}") for name in _TARGET)},
    ),
)


class Reacher:
    """The suite ``reacher``; see the module's text. ``nthread``: threads that step worlds, 0 for all."""

    name = "reacher"
    spec = SPEC

    def __init__(self, nthread: int = 0) -> None:
        self.nthread = nthread

    def tasks(self, split: Split) -> list[Task]:
        """All eight combinations of target and signs; the split only names them."""
        if split not in SPLITS:
            raise WtlError(f"unknown split {split!r}; did you mean one of {', '.join(SPLITS)}?")
        return [_task(split, number, *how) for number, how in enumerate(product((0, 1), (1, -1), (1, -1)))]

    def worlds(self, tasks: Sequence[Task], seeds: Sequence[int]) -> ReacherWorlds:
        """One world per task, in the scenes given by ``seeds``."""
        return ReacherWorlds(tasks, seeds, self.nthread)

    def target(self, task: Task, seed: int) -> int:
        """The right target, 0 or 1: the same in every scene."""
        return int(task["target"])

    def symmetries(self) -> Sequence[Symmetry]:
        """A mirror, the wiring of each joint, and the targets listed in the other order."""
        return SYMMETRIES

    def reward(
        self,
        tasks: Sequence[Task],
        observation: Mapping[str, np.ndarray],
        action: Float[np.ndarray, "batch act"],
        next_observation: Mapping[str, np.ndarray],
    ) -> Float[np.ndarray, "batch"]:
        """-distance(fingertip, right target) - |action|^2."""
        things = next_observation[ENVIRONMENT].astype(np.float64).reshape(len(tasks), 2, len(_TARGET))
        way = things[np.arange(len(tasks)), [self.target(t, 0) for t in tasks], 2:]
        effort = np.square(np.clip(action, -1.0, 1.0, dtype=np.float64)).sum(-1)
        paid: np.ndarray = -np.linalg.norm(way, axis=-1) - effort
        return paid

    def demonstrate(self, task: Task, seed: int) -> Episode:
        """One successful demonstration in scene ``seed``; raises ``WtlError`` if the expert fails there."""
        episode = self.demonstrations([task], [seed])[0]
        if not episode.success:
            raise WtlError(f"the scripted demonstrator failed at task {task.name} in scene {seed}; take another scene")
        return episode

    def demonstrations(self, tasks: Sequence[Task], seeds: Sequence[int]) -> list[Episode]:
        """The expert's attempts at many tasks at once, failures included (``success`` tells)."""
        worlds = self.worlds(tasks, seeds)
        return rollout(Expert(worlds), worlds, kind="demo")


def make() -> Reacher:
    return Reacher()


def _task(split: Split, number: int, target: int, *signs: int) -> Task:
    sentence = f"touch the {('first', 'second')[target]} target"
    parameters = (("target", target), ("shoulder sign", signs[0]), ("elbow sign", signs[1]))
    return Task("reacher", "reach", f"reach-{split}-{number}", split, sentence, parameters)


# --------------------------------------------------------------------------------------------------- scenes


def scene(task: Task, seed: int) -> tuple[Float[np.ndarray, "joint"], Float[np.ndarray, "target dim"]]:
    """Where the joints begin (radians) and the targets lie (metres); a function of (task, seed)."""
    rng = generator("reacher scene", task.name, seed)
    joints = rng.uniform(-BEGIN, BEGIN, 2)
    while True:
        targets = rng.uniform(-SQUARE, SQUARE, (2, 2))
        if np.linalg.norm(targets[0] - targets[1]) >= APART:
            return joints, targets


# --------------------------------------------------------------------------------------------------- worlds


class ReacherWorlds(ArmWorlds):
    """Worlds of the suite (``ArmWorlds``), in which the motors turn by the task's hidden signs."""

    worst_reward = -(FARTHEST + 2.0)

    def __init__(self, tasks: Sequence[Task], seeds: Sequence[int], nthread: int = 0) -> None:
        super().__init__(_model(), SPEC, tasks, seeds, nthread)
        self.right = np.array([int(t["target"]) for t in tasks])
        self.sign = np.array([[float(t["shoulder sign"]), float(t["elbow sign"])] for t in tasks])
        scenes = [scene(task, seed) for task, seed in zip(self.tasks, self.seeds, strict=True)]
        self.joints, self.targets = np.stack([j for j, _ in scenes]), np.stack([t for _, t in scenes])
        self._targets = self._mocap[..., :2]  # as they lie now; self.targets are those of the scenes

    def step(
        self, actions: Float[np.ndarray, "world act"]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step (0.02 s). Actions are rounded to float32 (what is stored), then clipped to [-1, 1]."""
        actions = self._clipped(actions)
        moving, sound = self._advanced(actions * self.sign, SUBSTEPS)
        distance = self._distance()
        success = (self._count >= HORIZON) & self._near()
        return self._told(-distance - np.square(actions).sum(-1), success, distance, moving, sound)

    def _place(self) -> None:
        self._qpos[:] = self.joints
        self._targets[:] = self.targets

    @property
    def right_target(self) -> Float[np.ndarray, "world dim"]:
        """Where the right target of every world lies."""
        found: np.ndarray = self._targets[np.arange(self.num_envs), self.right]
        return found

    def _distance(self) -> Float[np.ndarray, "world"]:
        """From the fingertip to the right target, metres."""
        distance: np.ndarray = np.linalg.norm(fingertip(self._qpos) - self.right_target, axis=-1)
        return distance

    def _near(self) -> Bool[np.ndarray, "world"]:
        near: np.ndarray = np.linalg.norm(fingertip(self._qpos) - reachable(self.right_target), axis=-1) < NEAR
        return near

    def _observe(self) -> dict[str, Float[np.ndarray, "world _"]]:
        """The two channels (see ``SPEC``). All that is seen lies in one plane, so every z is 0."""
        tip = fingertip(self._qpos)[:, None]
        flat = np.zeros((self.num_envs, 2, 1))
        things = np.concatenate([self._targets, tip - self._targets, flat], -1)
        state = np.concatenate([np.cos(self._qpos), np.sin(self._qpos), self._qvel], -1)
        return {
            STATE: state.astype(np.float32),
            ENVIRONMENT: things.reshape(self.num_envs, -1).astype(np.float32),
        }


# --------------------------------------------------------------------------------------------------- expert

WEIGHT, SOFT, BRAKE = 0.14, 0.017, 0.9  # tuned on the return over 400 validation scenes (docs/suites.md)


def command(
    joints: Float[np.ndarray, "world joint"],
    velocity: Float[np.ndarray, "world joint"],
    target: Float[np.ndarray, "world dim"],
) -> Float[np.ndarray, "world joint"]:
    """The next command, signs aside, on a nearly optimal way of the fingertip to the target.

    A linear-quadratic regulator of both joints towards the nearer of the two postures that reach. The reward counts
    the distance e and not its square, and WEIGHT / |e| times the square is the quadratic cost that has the slope of a
    distance at e; SOFT (radians) bounds it at the target. For a joint that a command accelerates by GEAR times itself
    the regulator of the cost w e^2 + a^2 is a = sqrt(w) e - sqrt(2 sqrt(w) / GEAR) velocity.
    """
    way = wrapped(postures(target) - joints[:, None])
    distance = np.linalg.norm(way, axis=-1)
    nearer = distance.argmin(-1)[:, None]
    error, size = np.take_along_axis(way, nearer[..., None], 1)[:, 0], np.take_along_axis(distance, nearer, 1)
    spring = np.sqrt(WEIGHT / (size + SOFT))
    sent: np.ndarray = np.clip(spring * error - BRAKE * np.sqrt(2 * spring / GEAR) * velocity, -1.0, 1.0)
    return sent


class Expert:
    """Demonstrates: a policy that sees what a learner sees, and knows target and signs."""

    def __init__(self, worlds: ReacherWorlds) -> None:
        self.worlds = worlds

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        """There is only one way."""

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        state = observation[STATE].astype(np.float64)
        joints = np.arctan2(state[:, 2:4], state[:, :2])
        sent: np.ndarray = self.worlds.sign * command(joints, state[:, 4:], self.worlds.right_target)
        return sent


@functools.cache
def _model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(MODEL)
