"""The planar two-link arm of ``reacher`` and ``reach``: its links, and geometry between joints and fingertip."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

LINKS = (0.1, 0.11)  # metres, from joint to joint and from joint to fingertip
DAMPING, INERTIA = (
    1.0,
    1.0,
)  # of both joints: friction (N m s/rad), rotor (kg m^2), beside which the links are weightless


def fingertip(joints: Float[np.ndarray, "*world joint"]) -> Float[np.ndarray, "*world dim"]:
    """Where the fingertip is, (x, y) in metres, for (shoulder, elbow) in radians."""
    upper, lower = joints[..., 0], joints.sum(-1)
    x = LINKS[0] * np.cos(upper) + LINKS[1] * np.cos(lower)
    return np.stack([x, LINKS[0] * np.sin(upper) + LINKS[1] * np.sin(lower)], -1)


def fingertip_velocity(
    joints: Float[np.ndarray, "*world joint"], rates: Float[np.ndarray, "*world joint"]
) -> Float[np.ndarray, "*world dim"]:
    """How the fingertip moves, (x, y) in m/s, where the joints turn at ``rates`` (rad/s)."""
    upper, lower = joints[..., 0], joints.sum(-1)
    first, second = LINKS[0] * rates[..., 0], LINKS[1] * rates.sum(-1)
    return np.stack(
        [-first * np.sin(upper) - second * np.sin(lower), first * np.cos(upper) + second * np.cos(lower)], -1
    )


def reachable(target: Float[np.ndarray, "*world dim"]) -> Float[np.ndarray, "*world dim"]:
    """The point nearest to the target that the fingertip can reach: itself within the ring of the arm's reach."""
    distance = np.linalg.norm(target, axis=-1, keepdims=True)
    nearest: np.ndarray = target * np.clip(distance, abs(LINKS[0] - LINKS[1]), sum(LINKS)) / np.maximum(distance, 1e-9)
    return nearest


def postures(target: Float[np.ndarray, "world dim"]) -> Float[np.ndarray, "world posture joint"]:
    """Both joint angles (radians) that bring the fingertip to the target, or as near to it as it can come.

    In the first one the elbow is bent to the left, in the second to the right.
    """
    first, second = LINKS
    reach = np.clip(np.linalg.norm(target, axis=-1), abs(first - second), first + second)
    bend = np.arccos(np.clip((reach**2 - first**2 - second**2) / (2 * first * second), -1.0, 1.0))
    elbow = np.stack([bend, -bend], -1)
    toward = np.arctan2(target[:, 1], target[:, 0])[:, None]
    shoulder = toward - np.arctan2(second * np.sin(elbow), first + second * np.cos(elbow))
    return np.stack([wrapped(shoulder), elbow], -1)


def wrapped(angle: np.ndarray) -> np.ndarray:
    """The same angle within [-pi, pi)."""
    found: np.ndarray = (angle + np.pi) % (2 * np.pi) - np.pi
    return found
