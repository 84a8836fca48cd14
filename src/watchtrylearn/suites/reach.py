r"""Meta-imitation learning's planar reaching: a two-joint arm reaches for the block of one colour amid two others.

A task is three colours and which of them is meant. Tasks come in threes with the same colours in the same scenes, one
for each block: whoever does not look at the demonstration is right in one of three scenes at best. Held-out tasks have
colours between those of training. What is new in a new scene is where the blocks lie.

Here what is seen are numbers: the arm's, and where the three blocks lie, without their colours. A slot is the same
block in every scene of a task, so what a demonstration tells is the slot that is meant. ``reach_vision`` sees the same
scenes by a camera instead, and there it tells the colour.

An attempt succeeds if the fingertip is within ``NEAR`` of its block after any of the last ``LAST`` control steps.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, Int, UInt8

from watchtrylearn.ops.noise import SmoothNoise
from watchtrylearn.ops.random import generator
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites.arm_worlds import ArmWorlds
from watchtrylearn.suites.two_link import DAMPING, INERTIA, LINKS, fingertip, fingertip_velocity, postures
from watchtrylearn.types import ENVIRONMENT, STATE, Channel, Episode, Observation, Scalar, Spec, Split, Task, WtlError

TIMESTEP, SUBSTEPS = 0.01, 5  # seconds; physics steps in a control step
HORIZON, LAST = 50, 10  # control steps of an attempt, and those at its end in which the block must be reached
NEAR = 0.05  # metres: how close counts as reached
BLOCKS = 3
SQUARE = 0.2  # blocks lie within +-SQUARE metres of the shoulder, in x and in y,
FARTHEST = 0.25  # at most this far from it, so that all can be reached,
APART = 0.15  # and at least this far from each other
GEAR = 88.0  # N m that the command 1 is, in both joints: random commands then succeed as often as in the paper

TASKS: dict[Split, int] = {"train": 1500, "val": 51, "test": 150}
FLOOR, ARM = (0.85, 0.85, 0.85), (0.25, 0.27, 0.30)
VISIBLE = 0.35  # least distance of a block's colour (red, green, blue; 0 to 1) from floor and arm,
DISTINCT = 0.5  # and from the other blocks' colours
EYE, VIEW = 0.8, 0.25  # metres: how high the camera is, and what it sees above and below the middle

_BLOCK = '<body mocap="true" pos="0 0 -0.03"><geom name="block {}" class="block"/></body>'
MODEL = f"""
<mujoco model="reach">
  <compiler angle="radian"/>
  <option timestep="{TIMESTEP}" gravity="0 0 0" integrator="implicitfast"/>
  <visual><headlight ambient="0.6 0.6 0.6" diffuse="0.4 0.4 0.4" specular="0 0 0"/></visual>
  <default>
    <joint type="hinge" axis="0 0 1" armature="{INERTIA}" damping="{DAMPING}"/>
    <geom type="capsule" size="0.012" rgba="{" ".join(map(str, ARM))} 1" contype="0" conaffinity="0"/>
    <motor gear="{GEAR}" ctrllimited="true" ctrlrange="-1 1"/>
    <default class="block"><geom type="box" size="0.03 0.03 0.01"/></default>
  </default>
  <worldbody>
    <camera name="above" pos="0 0 {EYE}" fovy="{2 * math.degrees(math.atan(VIEW / EYE))}"/>
    <geom type="plane" size="1 1 0.1" pos="0 0 -0.04" rgba="{" ".join(map(str, FLOOR))} 1"/>
    <body name="upper">
      <joint name="shoulder"/>
      <geom fromto="0 0 0 {LINKS[0]} 0 0"/>
      <body name="lower" pos="{LINKS[0]} 0 0">
        <joint name="elbow"/>
        <geom fromto="0 0 0 {LINKS[1]} 0 0"/>
        <geom name="fingertip" type="sphere" pos="{LINKS[1]} 0 0.002" size="0.014" rgba="1 1 1 1" mass="0"/>
      </body>
    </body>
    {"".join(_BLOCK.format(i) for i in range(BLOCKS))}
  </worldbody>
  <actuator><motor joint="shoulder"/><motor joint="elbow"/></actuator>
</mujoco>
"""

STATE_CHANNEL = Channel(
    (
        *(f"fingertip {what}" for what in ("x", "y", "velocity x", "velocity y")),
        *("shoulder", "elbow", "shoulder velocity", "elbow velocity"),
    ),
    (-0.22, -0.22, -30.0, -30.0, -150.0, -150.0, -GEAR, -GEAR),
    (0.22, 0.22, 30.0, 30.0, 150.0, 150.0, GEAR, GEAR),
)
SPEC = Spec(
    fps=round(1 / (TIMESTEP * SUBSTEPS)),
    horizon=HORIZON,
    observation={
        STATE: STATE_CHANNEL,
        ENVIRONMENT: Channel(
            tuple(f"block {number} {axis}" for number in range(BLOCKS) for axis in "xy"),
            (-SQUARE,) * 2 * BLOCKS,
            (SQUARE,) * 2 * BLOCKS,
        ),
    },
    action=Channel(("shoulder", "elbow"), (-1.0, -1.0), (1.0, 1.0)),
    entities=BLOCKS,
    position=2,
)

Camera = Callable[
    [Float[np.ndarray, "world joint"], Float[np.ndarray, "world block 3"]], UInt8[np.ndarray, "world height width 3"]
]


class Reach:
    """The suite ``reach``; see the module's text. ``nthread``: threads that step worlds, 0 for all."""

    name = "reach"
    spec = SPEC

    def __init__(self, nthread: int = 0) -> None:
        self.nthread = nthread

    def tasks(self, split: Split) -> list[Task]:
        """The tasks of a split: three in a row have the same colours, and mean each of them in turn."""
        if split not in TASKS:
            raise WtlError(f"unknown split {split!r}; did you mean one of {', '.join(TASKS)}?")
        return list(_tasks(split))

    def worlds(self, tasks: Sequence[Task], seeds: Sequence[int]) -> ReachWorlds:
        """One world per task, in the scenes given by ``seeds``."""
        return ReachWorlds(tasks, seeds, self.nthread)

    def target(self, task: Task, seed: int) -> int:
        """The block that is meant, 0 to 2: the same in every scene."""
        return int(task["target"])

    def reward(
        self,
        tasks: Sequence[Task],
        observation: Mapping[str, np.ndarray],
        action: Float[np.ndarray, "batch act"],
        next_observation: Mapping[str, np.ndarray],
    ) -> Float[np.ndarray, "batch"]:
        """-distance(fingertip, block that is meant), metres."""
        blocks = next_observation[ENVIRONMENT].astype(np.float64).reshape(len(tasks), BLOCKS, 2)
        meant = blocks[np.arange(len(tasks)), [self.target(task, 0) for task in tasks]]
        paid: np.ndarray = -np.linalg.norm(next_observation[STATE][:, :2] - meant, axis=-1)
        return paid

    def demonstrate(self, task: Task, seed: int) -> Episode:
        """One successful demonstration in scene ``seed``; raises ``WtlError`` if the expert fails there."""
        return only_success(self.demonstrations([task], [seed])[0])

    def demonstrations(self, tasks: Sequence[Task], seeds: Sequence[int]) -> list[Episode]:
        """The expert's attempts at many tasks at once, failures included (``success`` tells)."""
        return demonstrated(self.worlds(tasks, seeds))

    def film(
        self, episodes: Sequence[Episode], on_clip: Callable[[], None] | None = None
    ) -> list[UInt8[np.ndarray, "time height width 3"]]:
        """The frames of each episode of one story, from above."""
        from watchtrylearn.suites.reach_vision import filmed

        return filmed(episodes, on_clip)


def make() -> Reach:
    return Reach()


# --------------------------------------------------------------------------------------------------- tasks and scenes


def colours(split: Split) -> list[tuple[float, float, float]]:
    """The colours that blocks of a split may have, each (red, green, blue) from 0 to 1.

    Those of training are a grid of tenths; the others lie in the middle between eight of them, every other one of these
    for validation and the rest for test.
    """
    if split == "train":
        found = [tuple(i / 10 for i in grid) for grid in itertools.product(range(11), repeat=3)]
    else:
        odd = split == "test"
        found = [
            tuple((2 * i + 1) / 20 for i in grid)
            for grid in itertools.product(range(10), repeat=3)
            if sum(grid) % 2 == odd
        ]
    return [(r, g, b) for r, g, b in found if min(math.dist((r, g, b), other) for other in (FLOOR, ARM)) >= VISIBLE]


def colour_of(task: Task, block: int) -> tuple[float, float, float]:
    """The colour of a block, (red, green, blue) from 0 to 1."""
    red, green, blue = bytes.fromhex(str(task[f"colour {block}"]).removeprefix("#"))
    return red / 255, green / 255, blue / 255


@functools.cache
def _tasks(split: Split) -> tuple[Task, ...]:
    choice, tasks = colours(split), []
    for group in range(TASKS[split] // BLOCKS):
        rng = generator("reach colours", split, group)
        chosen = [choice[0]] * BLOCKS
        while min(math.dist(a, b) for a, b in itertools.combinations(chosen, 2)) < DISTINCT:
            chosen = [choice[i] for i in rng.choice(len(choice), BLOCKS, replace=False)]
        painted = ["#" + bytes(round(255 * part) for part in colour).hex() for colour in chosen]
        for target in range(BLOCKS):
            parameters: list[tuple[str, Scalar]] = [(f"colour {i}", colour) for i, colour in enumerate(painted)]
            parameters += [("target", target), ("group", f"{split} {group}")]
            name = f"reach-{split}-{BLOCKS * group + target:04d}"
            sentence = f"reach the block of colour {painted[target]}"
            tasks.append(Task("reach", "reach", name, split, sentence, tuple(parameters)))
    return tuple(tasks)


def scene(task: Task, seed: int) -> Float[np.ndarray, "block dim"]:
    """Where the blocks lie (metres): a function of the seed and of the colours, whichever is meant."""
    rng = generator("reach scene", str(task["group"]), seed)
    while True:
        blocks = rng.uniform(-SQUARE, SQUARE, (BLOCKS, 2))
        between = min(math.dist(a, b) for a, b in itertools.combinations(blocks, 2))
        if between >= APART and np.linalg.norm(blocks, axis=-1).max() <= FARTHEST:
            return blocks


# --------------------------------------------------------------------------------------------------- worlds


class ReachWorlds(ArmWorlds):
    """Worlds of the suite (``ArmWorlds``), in which the arm begins stretched along x and at rest.

    Args:
        spec: of what is seen; the channels are the state and either ``environment_state`` or one camera.
        camera: gives the images of that camera.
    """

    worst_reward = -(sum(LINKS) + FARTHEST)

    def __init__(
        self,
        tasks: Sequence[Task],
        seeds: Sequence[int],
        nthread: int = 0,
        spec: Spec = SPEC,
        camera: Camera | None = None,
    ) -> None:
        super().__init__(model(), spec, tasks, seeds, nthread)
        self.meant = np.array([int(task["target"]) for task in tasks])
        self._scenes = np.stack([scene(task, seed) for task, seed in zip(self.tasks, self.seeds, strict=True)])
        self._camera = camera

    def step(
        self, actions: Float[np.ndarray, "world act"]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step (0.05 s). Actions are rounded to float32 (what is stored), then clipped to [-1, 1]."""
        moving, sound = self._advanced(self._clipped(actions), SUBSTEPS)
        distance = np.linalg.norm(fingertip(self._qpos) - self.place_of(self.meant), axis=-1)
        success = sound & (distance <= NEAR) & (self._count > HORIZON - LAST)
        return self._told(-distance, success, distance, moving, sound)

    def _place(self) -> None:
        self._mocap[..., :2] = self._scenes

    def place_of(self, block: Int[np.ndarray, "world"]) -> Float[np.ndarray, "world dim"]:
        """Where a block of every world lies, metres."""
        found: np.ndarray = self._mocap[np.arange(self.num_envs), block, :2]
        return found

    @property
    def poses(self) -> tuple[Float[np.ndarray, "world joint"], Float[np.ndarray, "world block 3"]]:
        """Joint angles and where the blocks are, now: what a camera needs to know."""
        return self._qpos.copy(), self._mocap.copy()

    def _observe(self) -> dict[str, np.ndarray]:
        """The channels (see ``SPEC``)."""
        tip, tip_velocity = fingertip(self._qpos), fingertip_velocity(self._qpos, self._qvel)
        seen = {STATE: np.concatenate([tip, tip_velocity, self._qpos, self._qvel], -1).astype(np.float32)}
        if self._camera is None:
            return seen | {ENVIRONMENT: self._mocap[..., :2].reshape(self.num_envs, -1).astype(np.float32)}
        (name,) = self.episode_spec.images
        return seen | {name: self._camera(*self.poses)}


@functools.cache
def model() -> mujoco.MjModel:
    """The compiled layout; what differs between tasks is the colours of the blocks."""
    return mujoco.MjModel.from_xml_string(MODEL)


# --------------------------------------------------------------------------------------------------- demonstrator

STIFFNESS = 4.0  # rad/s: the joints approach the posture that reaches like a critically damped spring of this rate
NOISE = 0.05  # standard deviation of the commands that are executed about those that are meant


class Expert:
    """Demonstrates: a policy that sees the arm, and knows where the block lies that is meant.

    Computed torque: the command under which both joints accelerate as critically damped springs do, towards the posture
    whose elbow is bent to the side on which the block lies (from the scene's start, the shorter way).

    Args:
        block: to go to another block of every world than the one that is meant.
    """

    def __init__(self, worlds: ReachWorlds, block: Int[np.ndarray, "world"] | None = None) -> None:
        self.worlds, self.block = worlds, worlds.meant if block is None else block

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        """There is only one way."""

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        joints, rates = np.split(observation[STATE][:, 4:].astype(np.float64), 2, axis=-1)
        goal = self.worlds.place_of(self.block)
        right = (goal[:, 1] < 0).astype(int)
        posture = postures(goal)[np.arange(len(goal)), right]
        wanted = STIFFNESS**2 * (posture - joints) - 2 * STIFFNESS * rates  # rad/s^2
        command: np.ndarray = (INERTIA * wanted + DAMPING * rates) / GEAR
        return command


def demonstrated(worlds: ReachWorlds) -> list[Episode]:
    """The expert's attempts, its commands disturbed on their way by white noise (DART, Laskey et al. 2017)."""
    return rollout(Expert(worlds), worlds, kind="demo", disturbance=SmoothNoise((NOISE, NOISE), correlation=0.0))


def only_success(episode: Episode) -> Episode:
    """The demonstration; ``WtlError`` if it failed."""
    if not episode.success:
        where = f"task {episode.task.name} in scene {episode.seed}"
        raise WtlError(f"the scripted demonstrator failed at {where}; take another scene")
    return episode
