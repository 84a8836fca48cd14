"""Scripted demonstrators: every world at once, closed-loop on what the observation shows.

Each family is a short list of stages; a stage says where the gripper aims and when that is reached, both
from the observation alone, so that a policy which sees the same can tell the stages apart. Two
demonstrations differ like two people's: approach height, arc, speed, grasp angle. While demonstrating, the
command that reaches the robot is the intended one plus smooth noise (DART, Laskey et al. 2017): the
recording then shows how to correct errors, while its ``action`` stays the clean intention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
from jaxtyping import Bool, Float, Int

from watchtrylearn.ops.noise import SmoothNoise
from watchtrylearn.ops.random import generator
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites.geometry import yaw_of
from watchtrylearn.suites.tabletop.arrange import goal_side
from watchtrylearn.suites.tabletop.model import BUTTON_HEIGHT, BUTTON_TRAVEL, BUTTONS, OBJECTS
from watchtrylearn.suites.tabletop.world import TabletopWorlds
from watchtrylearn.types import ENVIRONMENT, STATE, Episode, Observation

OPEN, NARROW, SHUT = 0.08, 0.014, 0.0  # finger openings (m): around an object, two tips to push, closed
TRAVEL = 0.15  # height at which nothing on the table is in the way
BEHIND = 0.115  # a push begins this far behind the object's origin: clear of any object
PUSH_HEIGHT = 0.022
PUSH_LEAD = 0.042
EDGE = 0.37  # |x| where objects are placed
TURN = 0.6  # most radians that a command is ahead of the gripper's yaw


@dataclass(frozen=True)
class Noise:
    """Disturbance of executed commands: standard deviations (m, rad) and step-to-step correlation."""

    position: float = 0.006
    yaw: float = 0.03
    correlation: float = 0.6


USUAL = Noise()


@dataclass(frozen=True)
class Sight:
    """What the stages of a family see: the gripper, the target, the other object, and the person's manner."""

    hand: Float[np.ndarray, "n 7"]  # position, rotation vector, opening
    velocity: Float[np.ndarray, "n 7"]
    target: Float[np.ndarray, "n 7"]
    other: Float[np.ndarray, "n 7"]
    side: Float[np.ndarray, "n"]
    style: Float[np.ndarray, "n 5"]  # standard normal: height, arc, speed, angle, depth

    @property
    def grasp_yaw(self) -> Float[np.ndarray, "n"]:
        return yaw_of(self.target[:, 3:]) + 0.05 * self.style[:, 3]

    @property
    def way(self) -> Float[np.ndarray, "n 2"]:
        """Unit vector from the target to the other object."""
        way = self.other[:, :2] - self.target[:, :2]
        unit: np.ndarray = way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
        return unit

    @property
    def push_yaw(self) -> Float[np.ndarray, "n"]:
        """Fingers side by side across the way, turned as little as possible."""
        return np.arctan(self.way[:, 1] / np.where(np.abs(self.way[:, 0]) > 1e-6, self.way[:, 0], 1e-6))

    @property
    def start_of_push(self) -> Float[np.ndarray, "n 2"]:
        return self.target[:, :2] - BEHIND * self.way


@dataclass(frozen=True)
class Stage:
    """Aim here until reached; ``lost`` sends the demonstrator back to the first stage."""

    aim: Callable[[Sight], Float[np.ndarray, "n 7"]]
    reached: Callable[[Sight], Bool[np.ndarray, "n"]]
    lost: Callable[[Sight], Bool[np.ndarray, "n"]] = lambda view: np.zeros(len(view.hand), bool)
    lead: float = 0.068  # farthest that the command is ahead of the gripper (m): about 0.45 m/s


def _pose(
    xy: Float[np.ndarray, "n 2"], z: np.ndarray | float, yaw: np.ndarray | float, opening: float
) -> Float[np.ndarray, "n 7"]:
    n = len(xy)
    zero = np.zeros(n)
    rest = [np.broadcast_to(z, n), zero, zero, np.broadcast_to(yaw, n), np.broadcast_to(opening, n)]
    return np.concatenate([xy, np.stack(rest, axis=1)], axis=1)


def _near(view: Sight, xy: Float[np.ndarray, "n 2"], within: float) -> Bool[np.ndarray, "n"]:
    distance: np.ndarray = np.linalg.norm(view.hand[:, :2] - xy, axis=1)
    return distance < within


def _arc(view: Sight, xy: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """Aim beside the goal by a share of the way left: a curved path that needs no memory."""
    way = xy - view.hand[:, :2]
    aim: np.ndarray = xy + 0.12 * view.style[:, 1:2] * np.stack([-way[:, 1], way[:, 0]], axis=1)
    return aim


def _above(view: Sight, xy: Float[np.ndarray, "n 2"], height: np.ndarray | float) -> Float[np.ndarray, "n"]:
    """Height on the way to ``xy``: a slope that ends at ``height`` above it."""
    left = np.linalg.norm(xy - view.hand[:, :2], axis=1)
    slope: np.ndarray = np.minimum(height + 0.4 * left, TRAVEL + 0.05)
    return slope


# ------------------------------------------------------------------------------------------------ families


def _button_stages() -> list[Stage]:
    def top(view: Sight) -> np.ndarray:
        return view.target[:, :2]

    hover = BUTTON_HEIGHT + 0.035
    return [
        Stage(
            lambda v: _pose(_arc(v, top(v)), _above(v, top(v), hover + 0.01 * np.abs(v.style[:, 0])), 0.0, 0.01),
            lambda v: _near(v, top(v), 0.014) & (v.hand[:, 2] < hover + 0.035),
        ),
        Stage(
            lambda v: _pose(top(v), BUTTON_HEIGHT - BUTTON_TRAVEL - 0.008, 0.0, 0.01),
            lambda v: np.zeros(len(v.hand), bool),
            lost=lambda v: ~_near(v, top(v), 0.03),
        ),
    ]


def _grasp_stages() -> list[Stage]:
    def at(view: Sight) -> np.ndarray:
        return view.target[:, :2]

    def height(view: Sight) -> np.ndarray:
        above: np.ndarray = view.target[:, 2] + 0.095 + 0.006 * np.abs(view.style[:, 0])
        return above

    def grip(view: Sight, opening: float) -> np.ndarray:
        return _pose(at(view), view.target[:, 2] + 0.001 * view.style[:, 4], view.grasp_yaw, opening)

    return [
        Stage(
            lambda v: _pose(_arc(v, at(v)), _above(v, at(v), height(v)), v.grasp_yaw, OPEN),
            lambda v: (
                _near(v, at(v), 0.013) & (np.abs(v.hand[:, 5] - v.grasp_yaw) < 0.15) & (v.hand[:, 2] < height(v) + 0.03)
            ),
        ),
        Stage(
            lambda v: grip(v, OPEN),
            lambda v: _near(v, at(v), 0.012) & (np.abs(v.hand[:, 2] - v.target[:, 2]) < 0.012),
            lost=lambda v: ~_near(v, at(v), 0.03),
        ),
        Stage(
            lambda v: grip(v, SHUT),
            lambda v: (v.hand[:, 6] < 0.075) & (np.abs(v.velocity[:, 6]) < 0.02),
            lost=lambda v: ~_near(v, at(v), 0.03),
        ),
        Stage(
            lambda v: _pose(v.hand[:, :2], TRAVEL + 0.02, v.hand[:, 5], SHUT),
            lambda v: v.hand[:, 2] > TRAVEL - 0.015,
            lost=_dropped,
        ),
    ]


def _dropped(view: Sight) -> Bool[np.ndarray, "n"]:
    """The gripper closed on nothing or lost its grip."""
    distance: np.ndarray = np.linalg.norm(view.hand[:, :3] - view.target[:, :3], axis=1)
    return distance > 0.04


def _lift_stages() -> list[Stage]:
    *reach, lift = _grasp_stages()
    return [*reach, Stage(lift.aim, lambda v: np.zeros(len(v.hand), bool), lost=_dropped)]


def _place_stages() -> list[Stage]:
    def spot(view: Sight) -> np.ndarray:
        return np.stack([EDGE * view.side, view.hand[:, 1]], axis=1)

    return [
        *_grasp_stages(),
        Stage(
            lambda v: _pose(spot(v), TRAVEL + 0.01, v.hand[:, 5], SHUT),
            lambda v: np.abs(v.hand[:, 0] - EDGE * v.side) < 0.03,
            lost=_dropped,
        ),
        Stage(
            lambda v: _pose(spot(v), v.hand[:, 2] - 0.03, v.hand[:, 5], SHUT),
            lambda v: (v.hand[:, 2] < 0.075) & (np.abs(v.velocity[:, 2]) < 0.04),
            lost=_dropped,
        ),
        Stage(
            lambda v: _pose(v.hand[:, :2], v.hand[:, 2], v.hand[:, 5], OPEN),
            lambda v: v.hand[:, 6] > 0.07,
        ),
        Stage(
            lambda v: _pose(v.hand[:, :2], TRAVEL, v.hand[:, 5], OPEN),
            lambda v: np.zeros(len(v.hand), bool),
        ),
    ]


def _push_stages() -> list[Stage]:
    def onward(view: Sight) -> np.ndarray:
        """Ahead on the line through both objects: the sideways error is corrected at every step."""
        along = ((view.hand[:, :2] - view.target[:, :2]) * view.way).sum(axis=1, keepdims=True)
        ahead: np.ndarray = view.target[:, :2] + (along + PUSH_LEAD) * view.way
        return ahead

    def astray(view: Sight) -> np.ndarray:
        offset = view.hand[:, :2] - view.target[:, :2]
        along = (offset * view.way).sum(axis=1)
        across = offset[:, 0] * view.way[:, 1] - offset[:, 1] * view.way[:, 0]
        lost: np.ndarray = (along > -0.005) | (np.abs(across) > 0.035)
        return lost

    return [
        Stage(
            lambda v: _pose(
                _arc(v, v.start_of_push), TRAVEL - 0.015 + 0.01 * np.abs(v.style[:, 0]), v.push_yaw, NARROW
            ),
            lambda v: _near(v, v.start_of_push, 0.02) & (np.abs(v.hand[:, 5] - v.push_yaw) < 0.15),
        ),
        Stage(
            lambda v: _pose(v.start_of_push, PUSH_HEIGHT, v.push_yaw, NARROW),
            lambda v: v.hand[:, 2] < PUSH_HEIGHT + 0.015,
        ),
        Stage(
            lambda v: _pose(onward(v), PUSH_HEIGHT, v.push_yaw, NARROW),
            lambda v: np.zeros(len(v.hand), bool),
            lost=astray,
        ),
    ]


STAGES: dict[str, list[Stage]] = {
    "button": _button_stages(),
    "grasp": _lift_stages(),
    "push": _push_stages(),
    "place": _place_stages(),
}


# ------------------------------------------------------------------------------------------------- acting


class Expert:
    """Demonstrators for a batch of worlds. A ``Policy``: ``act`` gives the intended commands.

    Args:
        families, targets, sides: per world: the family, the entity slot to act on, the sign of x of the goal.
        workspace: the bounds that the commands keep.
    """

    def __init__(
        self,
        families: Sequence[str],
        targets: Sequence[int],
        sides: Sequence[int],
        workspace: gymnasium.spaces.Box,
    ) -> None:
        self.families, self.workspace = np.asarray(families), workspace
        self.targets, self.sides = np.asarray(targets), np.asarray(sides, float)

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        """Begin; world ``i`` draws the person's manner from ``rngs[i]``."""
        self.stage = np.zeros(len(self.families), int)
        self.style = np.stack([np.clip(rng.standard_normal(5), -2, 2) for rng in rngs])

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        actions = np.zeros((len(self.families), 7), np.float32)
        for family, stages in STAGES.items():
            worlds = np.flatnonzero(self.families == family)
            if len(worlds):
                self._advance(stages, worlds, observation)
                for number, stage in enumerate(stages):
                    at = worlds[self.stage[worlds] == number]
                    view = self._view(at, observation)
                    actions[at] = _toward(view, stage.aim(view), stage.lead)
        inside: np.ndarray = np.clip(actions, self.workspace.low, self.workspace.high)
        return inside

    def _advance(self, stages: Sequence[Stage], worlds: Int[np.ndarray, "n"], observation: Observation) -> None:
        for number, stage in reversed(list(enumerate(stages))):
            at = worlds[self.stage[worlds] == number]
            view = self._view(at, observation)
            self.stage[at[stage.reached(view)]] = number + 1
            self.stage[at[stage.lost(view)]] = 0

    def _view(self, worlds: Int[np.ndarray, "n"], observation: Observation) -> Sight:
        state = observation[STATE][worlds].astype(float)
        entities = observation[ENVIRONMENT][worlds].astype(float).reshape(len(worlds), OBJECTS + BUTTONS, 7)
        target, each = self.targets[worlds], np.arange(len(worlds))
        return Sight(
            hand=state[:, :7],
            velocity=state[:, 7:],
            target=entities[each, target],
            other=entities[each, target ^ 1],
            side=self.sides[worlds],
            style=self.style[worlds],
        )


def _toward(view: Sight, aim: Float[np.ndarray, "n 7"], lead: float) -> Float[np.ndarray, "n 7"]:
    """The command on the way to ``aim``: a bounded distance ahead of the gripper, which bounds its speed."""
    limit = lead * (1 + 0.1 * view.style[:, 2:3])
    ahead = aim[:, :3] - view.hand[:, :3]
    distance = np.linalg.norm(ahead, axis=1, keepdims=True)
    command = aim.copy()
    command[:, :3] = view.hand[:, :3] + ahead * np.minimum(1, limit / np.maximum(distance, 1e-9))
    command[:, 5] = view.hand[:, 5] + np.clip(aim[:, 5] - view.hand[:, 5], -TURN, TURN)
    return command


# ---------------------------------------------------------------------------------------------- recording


def demonstrations(worlds: TabletopWorlds, targets: Sequence[int], noise: Noise = USUAL) -> list[Episode]:
    """One attempt per world at the entity slot in ``targets``; failures included."""
    rngs = [generator("demo", task.name, seed) for task, seed in zip(worlds.tasks, worlds.seeds, strict=True)]
    sides = [goal_side(task) for task in worlds.tasks]
    expert = Expert([t.family for t in worlds.tasks], targets, sides, worlds.single_action_space)
    shake = SmoothNoise((*(noise.position,) * 3, 0.0, 0.0, noise.yaw, 0.0), noise.correlation)
    return rollout(expert, worlds, kind="demo", disturbance=shake, rngs=rngs)
