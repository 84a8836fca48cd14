"""The pieces kitchenware is put together from: turned bodies, handles, spouts, knobs; centimetres.

A ``Shape`` is what is seen and what collides, side by side; shapes add up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from watchtrylearn.suites.kitchen.meshes import Mesh, Profile, barrel, hull, revolve, shell, smooth, sweep

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Shape:
    """Pieces of an object standing on z = 0: what is seen and what collides."""

    visual: tuple[Mesh, ...] = ()
    parts: tuple[Mesh, ...] = ()

    def __add__(self, other: Shape) -> Shape:
        return Shape(self.visual + other.visual, self.parts + other.parts)

    def moved(self, x: float, z: float = 0.0) -> Shape:
        return Shape(tuple(m.moved((x, 0.0, z)) for m in self.visual), tuple(m.moved((x, 0.0, z)) for m in self.parts))


# Outlines of vessels, (radius, height) from foot to rim, relative to the radius and the height.
SILHOUETTES: tuple[Points, ...] = (
    ((0.94, 0.0), (1.0, 0.06), (1.0, 0.5), (1.0, 1.0)),
    ((0.80, 0.0), (0.83, 0.06), (0.91, 0.5), (1.0, 1.0)),
    ((0.80, 0.0), (0.86, 0.08), (1.0, 0.48), (0.86, 1.0)),
    ((0.96, 0.0), (1.0, 0.06), (0.82, 0.5), (0.98, 1.0)),
    ((0.80, 0.0), (0.90, 0.12), (0.99, 0.38), (1.0, 1.0)),
    ((0.85, 0.0), (0.76, 0.10), (0.90, 0.55), (1.0, 1.0)),
    ((0.82, 0.0), (0.99, 0.25), (0.84, 0.72), (0.96, 1.0)),
)


def scaled(points: Points, radius: float, height: float) -> Points:
    """A relative outline in centimetres."""
    return [(radius * r, height * z) for r, z in points]


def _pieces(profile: Profile, cuts: Sequence[float]) -> list[Profile]:
    """The profile between consecutive heights, each with its own end points."""
    edges = [profile[0, 1], *cuts, profile[-1, 1]]
    rows = []
    for low, high in itertools.pairwise(edges):
        heights = np.linspace(low, high, 9)
        rows.append(np.stack([np.interp(heights, profile[:, 1], profile[:, 0]), heights], axis=1))
    return rows


def turned(
    points: Points,
    wall: float | None = 0.28,
    cuts: Sequence[float] = (),
    sides: int = 32,
    squareness: float = 2.0,
    stretch: float = 1.0,
) -> Shape:
    """A body turned on the lathe: hollow with the given wall, or solid without; one part between two cuts."""
    outer = smooth(points, 4 * len(points))
    profile = outer if wall is None else shell(outer, wall)
    rows = _pieces(outer, cuts)
    phase = 0.0 if sides % 4 == 0 else np.pi / 2
    return Shape(
        (revolve(profile, sides, squareness, stretch, phase),),
        tuple(barrel(row, squareness, stretch) for row in rows),
    )


def bar(points: Points, thickness: float, width: float, pieces: int = 1) -> Shape:
    """A rod bent along a path in the x-z plane; as many convex parts as ``pieces`` along it."""
    joints = smooth(points, 7 * pieces + 1)
    rows = [joints[7 * i : 7 * i + 8] for i in range(pieces)]
    coarse = [sweep(row, thickness, width, 4, np.pi / 4) for row in rows]
    return Shape((sweep(smooth(points, 18), thickness, width),), tuple(hull(m.vertices) for m in coarse))


def ear(radius: Callable[[float], float], low: float, high: float, reach: float, style: int) -> Shape:
    """A mug's handle between two heights: round, angular or ear-shaped."""
    inside = 0.12
    a, b = radius(low) - inside, radius(high) - inside
    x, middle = max(a, b) + reach, 0.5 * (low + high)
    shapes: tuple[Points, ...] = (
        ((b, high), (x - 0.35 * reach, high), (x, middle), (x - 0.35 * reach, low), (a, low)),
        ((b, high), (x - 0.1, high), (x, high - 0.15), (x, low + 0.15), (x - 0.1, low), (a, low)),
        (
            (b, high),
            (x - 0.3 * reach, high + 0.15),
            (x, high - 0.3),
            (a + 0.5 * reach, middle - 0.2),
            (a, low),
        ),
    )
    return bar(shapes[style % 3], 0.5, 0.7)


def radius_at(points: Points) -> Callable[[float], float]:
    """The radius of an outline as a function of the height."""
    rows = np.asarray(points)
    return lambda z: float(np.interp(z, rows[:, 1], rows[:, 0]))


def knob(height: float, radius: float, style: int) -> Shape:
    """A lid's knob standing at ``height``: ball, disc or cone."""
    shapes: tuple[Points, ...] = (
        ((0.5, -0.2), (0.45, 0.1), (1.0, 0.7), (0.8, 1.2), (0.3, 1.4)),
        ((0.5, -0.2), (0.5, 0.5), (1.2, 0.7), (1.2, 1.0), (1.0, 1.1)),
        ((0.9, -0.2), (0.7, 0.4), (0.9, 1.1), (0.5, 1.3)),
    )
    return turned(scaled(shapes[style % 3], radius, radius), wall=None, sides=16).moved(0.0, height)


def spout(x: float, low: float, high: float, reach: float) -> Shape:
    """A pouring tube on the -x side, from radius ``x`` at height ``low`` outwards to ``high``."""
    points = [(-x, low), (-x - 0.5 * reach, low + 0.35 * (high - low)), (-x - reach, high)]
    return bar(points, 0.75, 0.75)


def flipped(shape: Shape) -> Shape:
    """Turned by half a circle around z."""

    def turn(mesh: Mesh) -> Mesh:
        return Mesh(mesh.vertices * (-1.0, -1.0, 1.0), mesh.faces)

    return Shape(tuple(map(turn, shape.visual)), tuple(map(turn, shape.parts)))


def rest(x: float, radius: float) -> Shape:
    """The flat round end of an arched handle, on which the utensil lies."""
    disc = [(0.95 * radius, 0.0), (radius, 0.2), (radius, 0.4), (0.85 * radius, 0.55)]
    return turned(disc, None, sides=20).moved(x - 0.3)
