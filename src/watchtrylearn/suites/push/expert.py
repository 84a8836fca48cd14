"""The demonstrator: an operational-space controller that knows which object is meant, where it is and what it weighs.

It brings the fork behind the right object, seen from the disk, pushes along the line to the disk's middle, steering by
where the object is at every step, and then draws back a little and stays. Each demonstration has a manner of its own
(speed, how far behind the push begins, by which way the fork gets there). Smooth noise is added to the torques that
reach the arm, not to those recorded, so demonstrations show how errors are corrected.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from watchtrylearn.ops.noise import SmoothNoise
from watchtrylearn.ops.random import generator
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites.push.model import APART, DAMPING, GOAL, PRONG, TORQUE, reach_of
from watchtrylearn.suites.push.world import Arm, PushWorlds
from watchtrylearn.types import Episode, Observation

SPEED = 0.32  # of the fork (m/s)
HEIGHT = 0.012  # of its tips above the table
BEHIND = 0.045  # between the outline of an object and the fork, where a push begins (m)
STRIDE = 0.7  # radians that the fork aims ahead on its way around an object
STEER = 0.04  # from here to the middle of the disk the way is straight (m)
ARRIVED, ASTRAY = 0.02, 0.065  # from the middle of the disk (m): when the object is there, when it no longer is
FACING = 1.1  # radians that the fork is turned at most
FOLLOW, TURN = 14.0, 16.0  # 1/s: how fast a wrong velocity is corrected, and, squared over 4, a wrong direction
LIFT = 10.0  # 1/s: how fast a wrong height is corrected
ROLL = 2  # the joint that swings the elbow aside, for which the fork does not care,
POSTURE = 14.0  # and 1/s: how fast that is undone
NOISE, CORRELATION = 0.06, 0.7  # of the torques, in their unit


class Expert:
    """Demonstrates in the worlds it is made for: a ``Policy``."""

    def __init__(self, worlds: PushWorlds) -> None:
        self.worlds, self.here = worlds, np.arange(worlds.num_envs)
        meant = [row[slot] for row, slot in zip(worlds.rows, worlds.target, strict=True)]
        self.reach = np.array([reach_of(thing) for thing in meant])
        self.drag = 9.81 * np.array([thing.mass * thing.friction for thing in meant])

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        """Begin; world ``i`` draws its manner from ``rngs[i]``."""
        manner = np.stack([np.clip(rng.standard_normal(3), -1.5, 1.5) for rng in rngs])
        self.speed = SPEED * (1 + 0.12 * manner[:, 0])
        self.behind = self.reach + PRONG + BEHIND * (1 + 0.25 * manner[:, 1])
        self.bow = 0.03 + 0.015 * manner[:, 2]
        self.pushing = np.zeros(len(manner), bool)
        self.arrived, self.way = np.zeros(len(manner), bool), np.tile([0.0, -1.0], (len(manner), 1))

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        arm = self.worlds.arm()
        target = self.worlds.objects[self.here, self.worlds.target]
        left = np.linalg.norm(GOAL - target, axis=1)
        far = left > np.where(self.pushing, STEER, ARRIVED)
        self.way = way = np.where(far[:, None], (GOAL - target) / np.maximum(left, ARRIVED)[:, None], self.way)
        offset = arm.tip[:, :2] - target
        along, across = (offset * way).sum(axis=1), offset[:, 0] * way[:, 1] - offset[:, 1] * way[:, 0]
        passed = (left < STEER) & (((GOAL - target) * way).sum(axis=1) < 0)
        self.arrived = (left < np.where(self.arrived, ASTRAY, ARRIVED)) | passed
        close = (np.abs(across) < 0.025) & (along < 0) & (along > -self.behind - 0.03)
        on_line = np.where(self.pushing, (along < 0.01) & (np.abs(across) < APART + 0.015), close)
        self.pushing = on_line & ~self.arrived
        wanted = np.where(self.pushing[:, None], self._push(way, left, across), self._approach(way, target, arm))
        force = np.where(self.pushing[:, None], self.drag[:, None] * way, 0.0)
        facing = np.clip(np.arctan2(way[:, 0], -way[:, 1]), -FACING, FACING)
        return torques(arm, wanted, facing, force) / TORQUE

    def _push(self, way: np.ndarray, left: np.ndarray, across: np.ndarray) -> Float[np.ndarray, "world 2"]:
        """Velocity along the way, slower at its end, and sideways back onto the line."""
        aside = np.stack([way[:, 1], -way[:, 0]], axis=1)
        pace = np.minimum(self.speed, 0.03 + 3.0 * left)
        velocity: np.ndarray = pace[:, None] * way - np.clip(4.0 * across, -0.15, 0.15)[:, None] * aside
        return velocity

    def _approach(self, way: np.ndarray, target: np.ndarray, arm: Arm) -> Float[np.ndarray, "world 2"]:
        """Velocity towards the place behind the object, around it in a circle where it is in the way."""
        offset = arm.tip[:, :2] - target
        here, there = np.arctan2(offset[:, 1], offset[:, 0]), np.arctan2(-way[:, 1], -way[:, 0])
        turn = (there - here + np.pi) % (2 * np.pi) - np.pi
        angle = here + np.clip(turn, -STRIDE, STRIDE)
        radius = self.behind + self.bow * np.minimum(np.abs(turn), 1.0)
        ahead = target + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) - arm.tip[:, :2]
        distance = np.linalg.norm(ahead, axis=1)
        pace = np.minimum(1.3 * self.speed, 5.0 * distance) / np.maximum(distance, 1e-6)
        velocity: np.ndarray = pace[:, None] * ahead
        return velocity


def torques(
    arm: Arm,
    velocity: Float[np.ndarray, "world 2"],
    facing: Float[np.ndarray, "world"],
    force: Float[np.ndarray, "world 2"],
) -> Float[np.ndarray, "world 7"]:
    """N m of each joint that make the fork move as wanted over the table.

    Args:
        velocity: of the tip, (x, y) in m/s.
        facing: direction of the fork about the vertical, radians; 0 faces the camera.
        force: that the tip is to press with beside that, (x, y) in N.
    """
    upward = LIFT * (HEIGHT - arm.tip[:, 2:])
    linear = FOLLOW * (np.concatenate([velocity, upward], axis=1) - _times(arm.moving, arm.velocity))
    angular = TURN**2 / 4 * _misturned(arm, facing) - TURN * _times(arm.turning, arm.velocity)
    jacobian = np.concatenate([arm.moving, arm.turning], axis=1)
    damped = jacobian @ jacobian.swapaxes(1, 2) + 1e-3 * np.eye(6)
    inverse = jacobian.swapaxes(1, 2) @ np.linalg.inv(damped)
    idle = np.zeros_like(arm.joints)
    idle[:, ROLL] = -(POSTURE**2) / 4 * arm.joints[:, ROLL] - POSTURE * arm.velocity[:, ROLL]
    task = np.concatenate([linear, angular], axis=1)
    acceleration = idle + _times(inverse, task - _times(jacobian, idle))
    press = _times(arm.moving.swapaxes(1, 2), np.concatenate([force, 0 * upward], axis=1))
    sent: np.ndarray = _times(arm.inertia, acceleration) + np.array(DAMPING) * arm.velocity + press
    return sent


def _misturned(arm: Arm, facing: Float[np.ndarray, "world"]) -> Float[np.ndarray, "world 3"]:
    """The axis about which, and how far, the fork is to be turned to point down and face that way (small angles)."""
    sine, cosine, zero = np.sin(facing), np.cos(facing), np.zeros(len(facing))
    down = np.stack([zero, zero, zero - 1], axis=1)
    right, ahead = np.stack([cosine, sine, zero], axis=1), np.stack([sine, -cosine, zero], axis=1)
    error: np.ndarray = np.cross(arm.turned.swapaxes(1, 2), np.stack([down, right, ahead], axis=1)).sum(axis=1) / 2
    return error


def _times(matrix: Float[np.ndarray, "world row column"], vector: Float[np.ndarray, "world column"]) -> np.ndarray:
    product: np.ndarray = np.einsum("wrc,wc->wr", matrix, vector)
    return product


def demonstrations(worlds: PushWorlds, noise: float = NOISE) -> list[Episode]:
    """One attempt per world; failures included."""
    rngs = [generator("push demo", task.name, seed) for task, seed in zip(worlds.tasks, worlds.seeds, strict=True)]
    shake = SmoothNoise([noise] * len(TORQUE), CORRELATION)
    return rollout(Expert(worlds), worlds, kind="demo", disturbance=shake, rngs=rngs)
