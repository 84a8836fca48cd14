"""Small triangle-mesh kit for the object library: lofts, solids of revolution, swept handles, convex hulls.

Everything closed here is built by ``loft`` (a stack of rings with capped ends) or ``hull``; a merged mesh is
a set of closed pieces that may overlap, as in any drawing of a mug and its handle. Units are the caller's.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import PchipInterpolator
from scipy.spatial import ConvexHull

Profile = Float[np.ndarray, "_ 2"]  # (radius, height) of a solid of revolution, or (x, z) of a path


@dataclass(frozen=True)
class Mesh:
    """Triangles with outward normals (counter-clockwise seen from outside)."""

    vertices: Float[np.ndarray, "vertex 3"]
    faces: Int[np.ndarray, "face 3"]

    def moved(self, offset: Sequence[float] | Float[np.ndarray, "3"]) -> Mesh:
        return Mesh(self.vertices + np.asarray(offset, float), self.faces)

    def scaled(self, factor: float) -> Mesh:
        return Mesh(self.vertices * factor, self.faces)

    @property
    def volume(self) -> float:
        """Signed enclosed volume: positive when the normals point outwards."""
        a, b, c = np.moveaxis(self.vertices[self.faces], 1, 0)
        return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6.0)

    @property
    def centroid(self) -> Float[np.ndarray, "3"]:
        """Centre of mass of the enclosed volume at uniform density."""
        a, b, c = np.moveaxis(self.vertices[self.faces], 1, 0)
        tetrahedra = np.einsum("fi,fi->f", a, np.cross(b, c)) / 6.0
        centre: np.ndarray = tetrahedra @ (a + b + c) / (4.0 * tetrahedra.sum())
        return centre


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """The pieces side by side in one mesh."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def hull(points: Float[np.ndarray, "point 3"]) -> Mesh:
    """Convex hull of ``points``."""
    shape = ConvexHull(points)
    used, faces = np.unique(shape.simplices, return_inverse=True)
    faces = faces.reshape(-1, 3)
    vertices = points[used]
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    inward = np.einsum("fi,fi->f", np.cross(b - a, c - a), shape.equations[:, :3]) < 0
    faces[inward] = faces[inward, ::-1]
    return Mesh(vertices, faces)


def loft(rings: Float[np.ndarray, "ring side 3"]) -> Mesh:
    """Closed surface through a stack of rings; the first and the last ring are capped with a fan."""
    count, sides, _ = rings.shape
    vertices = np.concatenate([rings.reshape(-1, 3), rings[[0, -1]].mean(axis=1)])
    index = np.arange(count * sides).reshape(count, sides)
    here, right = index, np.roll(index, -1, axis=1)
    quads = [(here[:-1], right[:-1], right[1:]), (here[:-1], right[1:], here[1:])]
    sheets = [np.stack(q, axis=-1).reshape(-1, 3) for q in quads]
    bottom, top = count * sides, count * sides + 1
    caps = [
        np.stack([right[0], here[0], np.full(sides, bottom)], axis=-1),
        np.stack([here[-1], right[-1], np.full(sides, top)], axis=-1),
    ]
    mesh = Mesh(vertices, np.concatenate([*sheets, *caps]))
    return mesh if mesh.volume > 0 else Mesh(vertices, mesh.faces[:, ::-1])


def outline(sides: int, squareness: float = 2.0, phase: float = 0.0) -> Float[np.ndarray, "side 2"]:
    """Outline between a circle (squareness 2) and a square (large), scaled to reach y = -1 and y = 1."""
    angle = phase + 2.0 * np.pi * np.arange(sides) / sides
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points /= (np.abs(points) ** squareness).sum(axis=1, keepdims=True) ** (1.0 / squareness)
    points /= np.abs(points[:, 1]).max()
    return points


def smooth(points: Sequence[tuple[float, float]], count: int) -> Profile:
    """A curve of ``count`` points through the given ones, without overshoot."""
    knots = np.asarray(points, float)
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    even = np.linspace(0.0, arc[-1], count)
    curve: Profile = PchipInterpolator(arc, knots)(even)
    return curve


def shell(outer: Profile, wall: float) -> Profile:
    """Profile of a hollow vessel: up the outside, over a rounded rim, down the inside to the floor.

    Args:
        outer: outside of the wall from the foot to the rim.
        wall: thickness of the wall and of the floor.
    """
    tangent = np.gradient(outer, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    inward = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    inner = (outer + wall * inward)[::-1]
    inner = inner[(inner[:, 0] > wall) & (inner[:, 1] > outer[0, 1] + wall)]
    floor = np.array([[0.8 * inner[-1, 0], outer[0, 1] + wall]])
    rim = outer[-1:] + wall * (0.5 * inward[-1:] + 0.3 * tangent[-1:])
    return np.concatenate([outer, rim, inner, floor])


def revolve(
    profile: Profile,
    sides: int = 32,
    squareness: float = 2.0,
    stretch: float | Float[np.ndarray, "_"] = 1.0,
    phase: float = 0.0,
) -> Mesh:
    """Surface with the given (radius, height) profile around z; ``stretch`` lengthens it along x."""
    ring = outline(sides, squareness, phase)
    factors = np.broadcast_to(np.stack(np.broadcast_arrays(stretch, 1.0), axis=-1), profile.shape)
    flat = ring * (profile[:, :1] * factors)[:, None, :]
    height = np.broadcast_to(profile[:, None, 1:], (*flat.shape[:2], 1))
    return loft(np.concatenate([flat, height], axis=-1))


def sweep(path: Profile, thickness: float, width: float, sides: int = 10, phase: float = 0.0) -> Mesh:
    """A tube along a path in the x-z plane, ``thickness`` in the plane, ``width`` across it (full sizes)."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    ring = 0.5 * outline(sides, phase=phase) * (thickness, width)
    plane = path[:, None, :] + ring[None, :, :1] * normal[:, None, :]
    across = np.broadcast_to(ring[None, :, 1:], (*plane.shape[:2], 1))
    return loft(np.concatenate([plane[..., :1], across, plane[..., 1:]], axis=-1))


def barrel(profile: Profile, squareness: float = 2.0, stretch: float = 1.0) -> Mesh:
    """Convex 12-sided solid (at most 48 vertices) around a (radius, height) profile.

    Flat sides face +y and -y, where the fingers press; the two inner rings are those that fill the most.
    """
    last = len(profile) - 1
    choices = itertools.combinations(range(1, last), min(2, last - 1))

    def filled(inner: tuple[int, ...]) -> float:
        kept = profile[[0, *inner, last]]
        return float(np.trapezoid(kept[:, 0], kept[:, 1]))

    kept = profile[[0, *max(choices, key=filled), last]]
    return hull(revolve(kept, 12, squareness, stretch, phase=np.pi / 12).vertices)


def extent_y(mesh: Mesh, half_x: float, half_z: float) -> float:
    """Extent along y of the surface with |x| <= ``half_x`` and |z| <= ``half_z`` (what two finger pads span).

    Measured on points along the edges, 1/16 of an edge apart.
    """
    corners = mesh.vertices[mesh.faces]
    share = np.linspace(0.0, 1.0, 17)[:, None, None, None]
    points = (corners + share * (np.roll(corners, -1, axis=1) - corners)).reshape(-1, 3)
    inside = (np.abs(points[:, 0]) <= half_x) & (np.abs(points[:, 2]) <= half_z)
    return 2.0 * float(np.abs(points[inside, 1]).max(initial=0.0))
