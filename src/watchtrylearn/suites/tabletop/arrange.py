"""Where things stand when an episode begins: a scene seed becomes poses."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from watchtrylearn.ops.random import generator
from watchtrylearn.suites.geometry import yaw_quaternion
from watchtrylearn.suites.tabletop.model import SharedModel
from watchtrylearn.suites.tabletop.world import Start
from watchtrylearn.types import Task, WtlError

HALF = (0.06, 0.20)  # |x| of an object's origin
DEPTH = (-0.16, 0.09)  # its y
YAW = np.pi / 3  # objects are turned by at most this, so that yaw has no seam within a grasp
ROOM = 0.07  # between the footprints of the two objects: an open finger fits twice
PUSH_GAP = (0.08, 0.12)  # between the footprints when one is to be pushed into the other
PUSH_SLOPE = 0.5  # largest |angle| of the way from the left object to the right one (rad)
PANEL = (0.0, 0.275)
BUTTON_X = 0.09


def swapped(seed: int) -> int:
    """1 where A (and button colour 0) is on the right: odd seeds, so consecutive seeds are half and half."""
    return seed % 2


def goal_side(task: Task) -> int:
    """Sign of x of the goal zone; 0 for tasks without one."""
    goal = dict(task.parameters).get("goal")
    return 0 if goal is None else (-1 if goal == "left" else 1)


def start(shared: SharedModel, task: Task, seed: int) -> Start:
    """The scene of a task: the same task and seed is the same scene, always."""
    rng = generator("scene", task.name, seed)
    items = [shared.objects[str(task[name])] for name in ("object A", "object B")]
    left, right = reversed(items) if swapped(seed) else items
    place = _pushable if task.family == "push" else _apart
    spots = place(rng, left.radius, right.radius)
    if swapped(seed):
        spots = spots[::-1]
    panel = np.array([*(PANEL + rng.uniform(-1, 1, 2) * (0.03, 0.012)), 0.0])
    side = BUTTON_X + rng.uniform(-0.01, 0.01)
    offsets = np.array([[-side, 0, 0], [side, 0, 0]])
    hand = np.array([0.0, -0.06, 0.2, 0.0, 0.05]) + rng.uniform(-1, 1, 5) * (0.03, 0.03, 0.02, 0.2, 0.02)
    return Start(
        objects=np.stack([_pose(rng, spot, item.rest_height) for spot, item in zip(spots, items, strict=True)]),
        buttons=panel + (offsets[::-1] if swapped(seed) else offsets),
        panel=panel,
        hand=hand,
    )


def _pose(rng: np.random.Generator, spot: Float[np.ndarray, "2"], height: float) -> Float[np.ndarray, "7"]:
    return np.concatenate([spot, [height], yaw_quaternion(rng.uniform(-YAW, YAW, 1))[0]])


def _apart(rng: np.random.Generator, left: float, right: float) -> Float[np.ndarray, "2 2"]:
    """One spot in each half, with room for the fingers between the footprints."""
    for _ in range(1000):
        x, y = rng.uniform(*HALF, 2) * (-1, 1), rng.uniform(*DEPTH, 2)
        spots = np.stack([x, y], axis=1)
        if np.linalg.norm(spots[1] - spots[0]) >= left + right + ROOM:
            return spots
    raise WtlError(f"no room on the table for two objects of radius {left:.3f} and {right:.3f} m")


def _pushable(rng: np.random.Generator, left: float, right: float) -> Float[np.ndarray, "2 2"]:
    """One spot in each half, a push apart, whichever of the two is to be pushed."""
    for _ in range(1000):
        distance = left + right + rng.uniform(*PUSH_GAP)
        angle = rng.uniform(-PUSH_SLOPE, PUSH_SLOPE)
        way = distance * np.array([np.cos(angle), np.sin(angle)])
        middle = np.array([rng.uniform(-0.03, 0.03), rng.uniform(*DEPTH)])
        spots = np.stack([middle - way / 2, middle + way / 2])
        inside = (DEPTH[0] <= spots[:, 1]) & (spots[:, 1] <= DEPTH[1])
        if inside.all() and spots[0, 0] <= -HALF[0] and spots[1, 0] >= HALF[0]:
            return spots
    raise WtlError(f"no room on the table to push objects of radius {left:.3f} and {right:.3f} m together")
