"""Rotations of the gripper and of things on the table, batched over leading dimensions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Vectors = Float[np.ndarray, "*batch 3"]
Quaternions = Float[np.ndarray, "*batch 4"]


def quaternion_from_hinges(hinges: Vectors) -> Quaternions:
    """(w, x, y, z) of the rotation Rz(yaw) Ry(pitch) Rx(roll), w >= 0."""
    (cz, cy, cx), (sz, sy, sx) = (np.moveaxis(f(hinges / 2), -1, 0) for f in (np.cos, np.sin))
    quaternion = np.stack(
        [
            cx * cy * cz + sx * sy * sz,
            sx * cy * cz - cx * sy * sz,
            cx * sy * cz + sx * cy * sz,
            cx * cy * sz - sx * sy * cz,
        ],
        axis=-1,
    )
    return positive(quaternion)


def rotation_vector(quaternion: Quaternions) -> Vectors:
    """Axis times angle in [0, pi], from a quaternion with w >= 0."""
    sine = np.linalg.norm(quaternion[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., :1])
    return quaternion[..., 1:] * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 2.0)


def hinges_from_rotation_vector(vector: Vectors) -> Vectors:
    """(yaw, pitch, roll) of a rotation vector: the inverse of the two functions above, |pitch| < pi/2."""
    angle = np.linalg.norm(vector, axis=-1, keepdims=True)
    half = np.concatenate([np.cos(angle / 2), vector * 0.5 * np.sinc(angle / (2 * np.pi))], axis=-1)
    w, x, y, z = np.moveaxis(half, -1, 0)
    yaw = np.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))
    pitch = np.arcsin(np.clip(2 * (w * y - x * z), -1, 1))
    roll = np.arctan2(2 * (y * z + w * x), 1 - 2 * (x * x + y * y))
    return np.stack([yaw, pitch, roll], axis=-1)


def angular_velocity(hinges: Vectors, rates: Vectors) -> Vectors:
    """World-frame angular velocity (rad/s) of the hinge chain yaw, pitch, roll."""
    (yaw, pitch), (wz, wy, wx) = np.moveaxis(hinges[..., :2], -1, 0), np.moveaxis(rates, -1, 0)
    cz, sz, cy, sy = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.stack([-sz * wy + cz * cy * wx, cz * wy + sz * cy * wx, wz - sy * wx], axis=-1)


def yaw_of(quaternion: Quaternions) -> Float[np.ndarray, "*batch"]:
    """Rotation about the vertical (rad)."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    yaw: np.ndarray = np.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))
    return yaw


def yaw_quaternion(yaw: Float[np.ndarray, "*batch"]) -> Quaternions:
    zero = np.zeros_like(yaw)
    return positive(np.stack([np.cos(yaw / 2), zero, zero, np.sin(yaw / 2)], axis=-1))


def positive(quaternion: Quaternions) -> Quaternions:
    """The same rotation with w >= 0."""
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def upright(quaternion: Quaternions) -> Float[np.ndarray, "*batch"]:
    """Cosine of the tilt: the vertical part of the rotated z axis."""
    cosine: np.ndarray = 1 - 2 * (quaternion[..., 1] ** 2 + quaternion[..., 2] ** 2)
    return cosine
