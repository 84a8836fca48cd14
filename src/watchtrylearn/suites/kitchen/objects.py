"""The object library: more than 150 pieces of miniature kitchenware of 23 kinds, split by object.

Every object is a function of its kind and number alone. Its frame sits at its grasp point: z up at rest, y
the closing direction of the gripper, x along handles. The visual mesh is detailed and hollow where the thing
is; collision uses a few convex parts. ``kitchenware`` draws them; this module measures them, in metres.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from watchtrylearn.ops.random import generator
from watchtrylearn.suites.kitchen.kitchenware import KINDS, LYING
from watchtrylearn.suites.kitchen.meshes import Mesh as Mesh
from watchtrylearn.suites.kitchen.meshes import extent_y, merge
from watchtrylearn.suites.kitchen.pieces import Shape
from watchtrylearn.types import Split

PARTS = 4  # collision slots per object
PER_KIND = 7  # objects of each kind
SPLIT_OF: tuple[Split, ...] = ("train", "train", "train", "train", "train", "val", "test")  # by number
PAD = (0.008, 0.006)  # half sizes along x and z of the finger pads, for the grasp width (m)


@dataclass(frozen=True)
class KitchenObject:
    """One thing on the table, in metres and kilograms; the frame's origin is the grasp point.

    Attributes:
        name, kind, split: "mug-03", "mug", and where it may be used (test objects are never trained on).
        visual: detailed mesh, for rendering only.
        parts: 1 to ``PARTS`` convex collision parts of at most 48 vertices.
        rgba: default colour.
        mass, friction: kilograms; sliding coefficient.
        rest_height: height of the origin above the table when the object stands at rest.
        grasp_width: extent across y at the grasp point, at most 0.065.
        radius: of the footprint's bounding circle around the origin, at most 0.075.
    """

    name: str
    kind: str
    split: Split
    visual: Mesh
    parts: tuple[Mesh, ...]
    rgba: tuple[float, float, float, float]
    mass: float
    friction: float
    rest_height: float
    grasp_width: float
    radius: float


def centre_of_mass(parts: Sequence[Mesh]) -> Float[np.ndarray, "3"]:
    """Centre of mass of the parts at one density."""
    volumes = np.array([part.volume for part in parts])
    moments = volumes[:, None] * np.stack([part.centroid for part in parts])
    centre: np.ndarray = moments.sum(axis=0) / volumes.sum()
    return centre


def _grasp_point(kind: str, shape: Shape, height: float) -> Float[np.ndarray, "3"]:
    """Where the frame goes: on the axis of a standing body, on the rod near the balance of a lying one."""
    if kind not in LYING:
        return np.array([0.0, 0.0, height])
    x = centre_of_mass(shape.parts)[0] + 0.5  # a little up the handle, clear of the head
    rod = shape.visual[-1].vertices
    near = rod[np.abs(rod[:, 0] - x) < 0.6]
    return np.array([x, 0.0, 0.5 * (near[:, 2].min() + near[:, 2].max())])


@functools.cache
def _make(kind: str, number: int) -> KitchenObject:
    rng = generator("kitchenware", kind, number)
    draw, palette = KINDS[kind]
    shape, height = draw(rng, number)
    origin = _grasp_point(kind, shape, height)
    visual = merge([mesh.moved(-origin).scaled(0.01) for mesh in shape.visual])
    parts = tuple(mesh.moved(-origin).scaled(0.01) for mesh in shape.parts)
    solid = merge([visual, *parts])
    colour = np.clip(np.asarray(palette[number % len(palette)]) + rng.uniform(-0.04, 0.04, 3), 0.0, 1.0)
    litres = 1e3 * sum(part.volume for part in parts)
    return KitchenObject(
        name=_name(kind, number),
        kind=kind,
        split=SPLIT_OF[number],
        visual=visual,
        parts=parts,
        rgba=(float(colour[0]), float(colour[1]), float(colour[2]), 1.0),
        mass=float(np.clip(rng.uniform(1.0, 1.6) * litres, 0.05, 0.25)),
        friction=float(rng.uniform(0.6, 0.8)),
        rest_height=0.01 * float(origin[2]),
        grasp_width=extent_y(solid, *PAD),
        radius=float(np.linalg.norm(solid.vertices[:, :2], axis=1).max()),
    )


def _name(kind: str, number: int) -> str:
    return f"{kind.replace(' ', '-')}-{number:02d}"


@functools.cache
def _library() -> tuple[KitchenObject, ...]:
    return tuple(_make(kind, number) for kind in KINDS for number in range(PER_KIND))


def kitchen_names(split: Split) -> dict[str, str]:
    """Name -> kind of every object of a split, in the order of ``kitchen_objects``; nothing is drawn for it."""
    numbers = [number for number in range(PER_KIND) if SPLIT_OF[number] == split]
    return {_name(kind, number): kind for kind in KINDS for number in numbers}


def kitchen_object(name: str) -> KitchenObject:
    """The object of this name, drawn alone."""
    kind, _, number = name.rpartition("-")
    return _make(kind.replace("-", " "), int(number))


def kitchen_objects(split: Split | None = None) -> list[KitchenObject]:
    """All objects of a split (of every split if None), always the same in the same order."""
    return [thing for thing in _library() if split in (None, thing.split)]
