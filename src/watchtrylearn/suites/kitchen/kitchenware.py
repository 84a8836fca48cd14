"""How 23 kinds of miniature kitchenware are drawn, in centimetres, standing on z = 0 with handles along x.

A drawing is a function of a generator (sizes) and a number (style), so no two objects of a kind are scaled
copies. Bodies are turned on a lathe, hollow where the thing is; handles and spouts are bent rods. Every piece
brings its own convex collision shape; widths across y stay below 6.5 cm, and feet are wide enough to be
pushed two centimetres above the table without toppling.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from watchtrylearn.suites.kitchen.meshes import Mesh, barrel, hull, revolve
from watchtrylearn.suites.kitchen.pieces import (
    SILHOUETTES,
    Points,
    Shape,
    bar,
    ear,
    flipped,
    knob,
    radius_at,
    rest,
    scaled,
    spout,
    turned,
)

Rgb = tuple[float, float, float]

CERAMIC: tuple[Rgb, ...] = (
    (0.93, 0.91, 0.86),
    (0.23, 0.44, 0.62),
    (0.80, 0.36, 0.26),
    (0.52, 0.66, 0.53),
    (0.91, 0.70, 0.29),
    (0.44, 0.34, 0.53),
    (0.30, 0.60, 0.62),
)
METAL: tuple[Rgb, ...] = (
    (0.62, 0.64, 0.67),
    (0.76, 0.45, 0.29),
    (0.25, 0.27, 0.30),
    (0.72, 0.22, 0.20),
    (0.24, 0.40, 0.53),
    (0.80, 0.76, 0.66),
    (0.20, 0.42, 0.35),
)
WOOD: tuple[Rgb, ...] = (
    (0.72, 0.52, 0.32),
    (0.55, 0.36, 0.22),
    (0.83, 0.67, 0.45),
    (0.20, 0.21, 0.24),
    (0.80, 0.30, 0.24),
    (0.24, 0.52, 0.50),
    (0.90, 0.62, 0.20),
)
GLASS: tuple[Rgb, ...] = (
    (0.66, 0.83, 0.82),
    (0.28, 0.52, 0.36),
    (0.55, 0.34, 0.18),
    (0.56, 0.70, 0.86),
    (0.80, 0.86, 0.84),
    (0.70, 0.40, 0.50),
    (0.86, 0.76, 0.45),
)


# ------------------------------------------------------------------------------------------------- kinds
# Each takes a generator and the number of the object within its kind, and returns the standing shape with the
# height of the grasp point (cm).

Drawn = tuple[Shape, float]
Draw = Callable[[np.random.Generator, int], Drawn]


def _mug(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.0, 2.6), rng.uniform(4.2, 5.4)
    points = scaled(SILHOUETTES[style], r, h)
    handle = ear(radius_at(points), 0.22 * h, 0.8 * h, rng.uniform(1.2, 1.7), style)
    return turned(points) + handle, 0.6 * h


def _cup(rng: np.random.Generator, style: int) -> Drawn:
    r, h, saucer = rng.uniform(1.9, 2.3), rng.uniform(2.6, 3.3), rng.uniform(2.8, 3.2)
    points = scaled(SILHOUETTES[(3 + 2 * style) % 7], r, h)
    dish = turned([(0.62 * saucer, 0.0), (0.7 * saucer, 0.15), (saucer, 0.7)], 0.2)
    cup = turned(points, 0.22) + ear(radius_at(points), 0.3 * h, 0.8 * h, rng.uniform(0.9, 1.2), style)
    return dish + cup.moved(0.0, 0.2), 0.2 + 0.75 * h


def _bowl(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.7, 3.2), rng.uniform(2.2, 3.2)
    foot = rng.uniform(0.6, 0.7)
    curves: tuple[Points, ...] = (
        ((foot, 0.0), (0.84, 0.3), (0.95, 0.65), (1.0, 1.0)),
        ((foot, 0.0), (foot + 0.02, 0.12), (0.85, 0.5), (1.0, 1.0)),
        ((foot, 0.0), (0.9, 0.35), (1.0, 0.7), (0.94, 1.0)),
    )
    return turned(scaled(curves[style % 3], r, h), rng.uniform(0.2, 0.32)), max(1.5, h - 0.7)


def _dish(rng: np.random.Generator, style: int) -> Drawn:
    r, h, foot = rng.uniform(2.95, 3.2), rng.uniform(1.85, 2.2), rng.uniform(0.6, 0.68)
    curves: tuple[Points, ...] = (
        ((foot, 0.0), (foot + 0.05, 0.25), (0.85, 0.75), (1.0, 1.0)),
        ((foot, 0.0), (foot + 0.1, 0.5), (0.8, 0.8), (1.0, 1.0)),
    )
    square = 6.0 if style in (2, 5) else 2.0
    return turned(scaled(curves[style % 2], r, h), 0.2, squareness=square), 1.5


def _bottle(rng: np.random.Generator, style: int) -> Drawn:
    r = rng.uniform(1.75, 2.2)
    h, neck = rng.uniform(4.2, 4.9) * r, rng.uniform(0.34, 0.42)
    shoulder = rng.uniform(0.5, 0.62)
    top = min(shoulder + rng.uniform(0.12, 0.24), 0.78)
    points = [(0.92, 0.0), (1.0, 0.03), (1.0, 0.3), (1.0, shoulder), (neck, top), (neck, 0.9)]
    lip = [(neck, 0.9), (neck + 0.08, 0.9), (neck + 0.08, 1.0), (neck - 0.02, 1.0)]
    square = 5.0 if style == 4 else 2.0
    body = turned(scaled(points, r, h), None, [shoulder * h, top * h], squareness=square)
    cap = revolve(np.asarray(scaled(lip, r, h)), 20)
    return body + Shape((cap,), (hull(cap.vertices),)), 0.4 * h


def _jar(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.1, 2.7), rng.uniform(3.8, 5.4)
    belly = rng.uniform(0.9, 1.0)
    points = [(0.85, 0.0), (belly, 0.06), (1.0, 0.35), (belly, 0.68), (0.78, 0.78)]
    lid = [(0.84, 0.77), (0.88, 0.79), (0.88, 0.97), (0.82, 1.0)]
    body = turned(scaled(points, r, h), None, squareness=4.0 if style in (2, 5) else 2.0)
    return body + turned(scaled(lid, r, h), None, sides=24), 0.42 * h


def _can(rng: np.random.Generator, style: int) -> Drawn:
    r = rng.uniform(1.9, 2.7)
    h = (rng.uniform(3.6, 5.6), rng.uniform(2.2, 2.8))[style % 2]
    ridges = [(0.96 if i % 2 else 1.0, z) for i, z in enumerate(np.linspace(0.25, 0.75, 2 * (style % 3) + 3))]
    flat = [
        (1.0, 0.0),
        (1.0, 0.05),
        (0.97, 0.08),
        (0.97, 0.2),
        *ridges,
        (0.97, 0.8),
        (0.97, 0.92),
        (1.0, 0.95),
    ]
    rows = np.asarray(scaled([*flat, (1.0, 1.0), (0.93, 1.0), (0.93, 0.95), (0.3, 0.95)], r, h))
    part = barrel(np.asarray([(r, 0.0), (r, 0.5 * h), (r, h)]))
    return Shape((revolve(rows),), (part,)), max(1.5, 0.55 * h)


def _glass(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.05, 2.5), rng.uniform(4.6, 6.0)
    points = scaled((SILHOUETTES[0], SILHOUETTES[1], SILHOUETTES[3], SILHOUETTES[6])[style % 4], r, h)
    return turned(points, 0.18, sides=(32, 8, 12)[style % 3]), 0.62 * h


def _goblet(rng: np.random.Generator, style: int) -> Drawn:
    base, r, h = rng.uniform(1.9, 2.3), rng.uniform(1.9, 2.4), rng.uniform(5.0, 6.2)
    stem, lift = rng.uniform(0.4, 0.6), rng.uniform(0.3, 0.4) * h
    foot = turned([(base, 0.0), (base, 0.15), (0.5 * base, 0.4), (stem, 0.7)], None)
    rod = turned([(stem, 0.6), (stem * (1.3 if style % 2 else 0.9), 0.5 * lift + 0.3), (stem, lift + 0.2)], None)
    bowl = turned(scaled(SILHOUETTES[(4, 2, 5)[style % 3]], r, h - lift), 0.2)
    return foot + rod + bowl.moved(0.0, lift), min(5.0, lift + 0.55 * (h - lift))


def _teapot(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.4, 2.9), rng.uniform(3.2, 4.2)
    points = scaled(((0.70, 0.0), (0.92, 0.2), (1.0, 0.45), (0.8, 0.85), (0.4, 1.0)), r, h)
    if style % 3 == 2:
        points = scaled(((0.9, 0.0), (1.0, 0.08), (0.86, 0.5), (0.7, 0.92), (0.4, 1.0)), r, h)
    width = radius_at(points)
    handle = ear(width, 0.25 * h, 0.8 * h, rng.uniform(1.3, 1.6), style)
    nose = spout(width(0.4 * h) - 0.25, 0.4 * h, 0.9 * h, rng.uniform(1.3, 1.7))
    return turned(points, None) + handle + nose + knob(h, rng.uniform(0.5, 0.7), style), 0.45 * h


def _kettle(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.5, 3.0), rng.uniform(2.8, 3.6)
    points = scaled(((0.94, 0.0), (1.0, 0.1), (0.96, 0.4), (0.7, 0.85), (0.3, 1.0)), r, h)
    width, top = radius_at(points), h + rng.uniform(1.5, 2.1)
    left = 0.66 * r
    square = style % 2 == 1
    bend: Points = ((-left - 0.2, top - 0.6), (-left + 0.2, top)) if square else ((-0.8 * left, top - 0.5), (0.0, top))
    mirrored = [(-x, z) for x, z in reversed(bend) if x != 0.0]
    arch = bar([(-left, 0.75 * h), *bend, *mirrored, (left, 0.75 * h)], 0.5, 0.7)
    nose = spout(width(0.4 * h) - 0.25, 0.4 * h, 0.95 * h, rng.uniform(1.2, 1.6))
    return turned(points, None) + arch + nose, 1.6


def _sugar_bowl(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.1, 2.6), rng.uniform(3.0, 3.8)
    points = scaled(((0.80, 0.0), (0.93, 0.15), (1.0, 0.5), (0.92, 0.72), (0.78, 0.84), (0.35, 1.0)), r, h)
    if style % 2:
        points = scaled(((0.8, 0.0), (0.7, 0.08), (1.0, 0.62), (1.02, 0.74), (0.7, 0.88), (0.3, 1.0)), r, h)
    side = ear(radius_at(points), 0.3 * h, 0.65 * h, rng.uniform(0.8, 1.1), style)
    return turned(points, None) + side + flipped(side) + knob(h, rng.uniform(0.5, 0.7), style + 1), 0.52 * h


def _pot(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.4, 3.0), rng.uniform(2.3, 3.2)
    lid = rng.uniform(0.4, 0.8)
    points = [(0.93 * r, 0.0), (r, 0.2), (r, h - 0.1), (1.04 * r, h), (1.04 * r, h + 0.15)]
    dome = [(0.95 * r, h + 0.2), (0.6 * r, h + 0.15 + 0.75 * lid), (0.25 * r, h + 0.15 + lid)]
    side = ear(lambda z: r, 0.62 * h, 0.62 * h + 0.5, rng.uniform(0.9, 1.3), 1 if style % 2 else 0)
    body = turned(points + dome, None)
    return body + side + flipped(side) + knob(h + 0.15 + lid, rng.uniform(0.5, 0.65), style), max(1.6, 0.55 * h)


def _frying_pan(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.7, 3.1), rng.uniform(1.85, 2.15)
    foot = rng.uniform(0.74, 0.86)
    pan = turned(scaled(((foot, 0.0), (foot + 0.06, 0.15), (1.0, 1.0)), r, h), 0.2)
    end, rise = rng.uniform(6.4, 7.2), rng.uniform(0.2, 1.0)
    path = [(0.93 * r, 0.72 * h), (r + 1.0, 0.85 * h + 0.4 * rise), (end, 0.85 * h + rise)]
    return pan + bar(path, 0.45, (0.8, 1.1, 1.4)[style % 3]), 1.5


def _saucepan(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.2, 2.7), rng.uniform(2.6, 3.5)
    pan = turned(scaled((SILHOUETTES[0], SILHOUETTES[1], SILHOUETTES[4])[style % 3], r, h), 0.22)
    end, rise = rng.uniform(5.8, 6.8), rng.uniform(-0.2, 0.8)
    handle = bar([(0.93 * r, 0.82 * h), (r + 0.8, 0.85 * h), (end, 0.85 * h + rise)], 0.5, 0.75 + 0.1 * (style % 3))
    return pan + handle, 0.58 * h


def _spatula(rng: np.random.Generator, style: int) -> Drawn:
    width, length = rng.uniform(2.0, 2.7), rng.uniform(1.7, 2.2)
    blade = [(width, 0.0), (width, 0.3), (0.96 * width, 0.42)]
    head = turned(blade, None, squareness=(8.0, 4.0, 2.5)[style % 3], stretch=length / width)
    top, end = rng.uniform(2.2, 2.8), rng.uniform(6.8, 7.3)
    path = [(-1.1, 0.35), (0.4, 0.8 * top), (2.6, top), (5.0, 0.85 * top), (end, 0.3)]
    rod = bar(path, 0.6 + 0.1 * (style % 2), rng.uniform(0.9, 1.3), 2)
    return head.moved(-length) + rest(end, 1.1 + 0.1 * (style % 3)) + rod, top


def _ladle(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.0, 2.3), rng.uniform(1.2, 1.5)
    curve: Points = ((0.85, 0.0), (0.95, 0.35), (1.0, 1.0)) if style % 2 else ((0.9, 0.0), (1.0, 0.4), (1.0, 1.0))
    scoop = turned(scaled(curve, r, h), 0.2, stretch=(1.0, 1.12)[style % 2])
    top, end = rng.uniform(2.3, 2.8), rng.uniform(5.7, 6.2)
    path = [(-0.25, 0.85 * h), (0.4, 0.85 * top), (2.4, top), (4.4, 0.85 * top), (end, 0.35)]
    return scoop.moved(-r) + rest(end, 1.4 + 0.1 * (style % 3)) + bar(path, 0.65, rng.uniform(0.85, 1.1), 2), top


def _brush(rng: np.random.Generator, style: int) -> Drawn:
    half, width = rng.uniform(3.6, 4.8), rng.uniform(1.95, 2.5)
    square, edge = (3.0, 8.0)[style % 2], [(0.97, 0.8), (1.0, 0.95), (1.0, 1.4), (0.9, 1.6)]
    block = turned(scaled(edge, width, 1.0), None, squareness=square, stretch=half / width)
    solid = barrel(
        np.asarray([(0.88 * width, 0.0), (width, 0.8), (width, 1.4), (0.9 * width, 1.6)]),
        square,
        half / width,
    )
    tuft = revolve(np.asarray([(0.18, 0.0), (0.13, 0.9)]), 6)
    reach = 0.78 if square > 4.0 else 0.69
    spots = [(x * half, y * width) for x in np.linspace(-reach, reach, 8) for y in np.linspace(-reach, reach, 5)]
    tufts = tuple(tuft.moved((x, y, 0.0)) for x, y in spots)
    top, foot = rng.uniform(3.3, 3.9), 0.72 * half
    path = [(-foot, 1.4), (-0.8 * foot, top - 0.5), (0.0, top), (0.8 * foot, top - 0.5), (foot, 1.4)]
    return Shape(block.visual + tufts, (solid,)) + bar(path, 0.8, rng.uniform(1.1, 1.6), 3), top


def _butter_dish(rng: np.random.Generator, style: int) -> Drawn:
    width, h, stretch = rng.uniform(2.1, 2.6), rng.uniform(2.0, 2.8), rng.uniform(1.35, 1.7)
    square = (8.0, 5.0, 3.0)[style % 3]
    tray = turned([(0.95 * width, 0.0), (1.0 * width, 0.2), (1.18 * width, 0.55)], None, (), 32, square, stretch)
    dome = turned([(width, 0.5), (0.97 * width, 0.7 * h), (0.8 * width, h)], None, (), 32, square, stretch)
    return tray + dome + knob(h, rng.uniform(0.45, 0.65), style), max(1.5, 0.5 * h)


def _milk_carton(rng: np.random.Generator, style: int) -> Drawn:
    r = rng.uniform(1.8, 2.2)
    h, roof = rng.uniform(3.4, 4.4) * r * 0.85, rng.uniform(0.9, 1.3)
    profile = np.asarray([(r, 0.0), (r, h), (0.12, h + roof), (0.12, h + roof + 0.45)])
    widening = np.asarray([1.0, 1.0, r / 0.12, r / 0.12])  # the gable narrows across y alone
    visual = revolve(profile, 32, 12.0, widening)
    box = barrel(np.asarray([(r, 0.0), (r, 0.5 * h), (r, h)]), 12.0)
    gable = hull(revolve(profile[1:], 12, 12.0, widening[1:], np.pi / 12).vertices)
    cap = knob(-0.25, 0.4, 1) if style % 2 else Shape()
    spout = Shape(tuple(m.moved((0.0, -0.55 * r, h + 0.35 * roof)) for m in cap.visual))
    return Shape((visual,), (box, gable)) + spout, 0.5 * h


def _salt_shaker(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(1.75, 2.05), rng.uniform(3.4, 4.2)
    waist = rng.uniform(0.75, 1.0)
    body = turned(
        scaled(((0.95, 0.0), (1.0, 0.05), (waist, 0.5), (0.8, 0.72)), r, h),
        None,
        sides=(32, 8, 12)[style % 3],
    )
    cap = turned(scaled(((0.84, 0.7), (0.88, 0.74), (0.86, 0.84), (0.6, 0.96), (0.2, 1.0)), r, h), None, sides=24)
    return body + cap, 0.45 * h


def _egg_cup(rng: np.random.Generator, style: int) -> Drawn:
    r, h, base = rng.uniform(1.75, 2.1), rng.uniform(3.0, 3.8), rng.uniform(1.7, 2.0)
    foot = turned([(base, 0.0), (0.96 * base, 0.2), (0.5 * r, 0.3 * h), (0.55 * r, 0.42 * h)], None)
    cup = turned([(0.5 * r, 0.38 * h), (0.9 * r, 0.6 * h), (r, h)], 0.22)
    egg = turned(scaled(((0.5, 0.0), (0.95, 0.35), (0.7, 0.8), (0.2, 1.0)), 0.86 * r, 2.4), None)
    return foot + cup + (egg.moved(0.0, h - 1.1) if style % 2 else Shape()), 0.75 * h


def _pitcher(rng: np.random.Generator, style: int) -> Drawn:
    r, h = rng.uniform(2.2, 2.6), rng.uniform(4.8, 5.8)
    points = scaled((SILHOUETTES[6], SILHOUETTES[2], SILHOUETTES[5])[style % 3], r, h)
    body = turned(points, 0.22)
    handle = ear(radius_at(points), 0.25 * h, 0.92 * h, rng.uniform(1.3, 1.7), style + 2)
    vertices = body.visual[0].vertices.copy()
    angle = np.arctan2(vertices[:, 1], -vertices[:, 0])
    rise = np.clip((vertices[:, 2] - 0.75 * h) / (0.25 * h), 0.0, 1.0)
    vertices[:, 0] -= 0.28 * r * rise * np.exp(-((angle / 0.35) ** 2))  # the lip
    lip = hull(vertices[(rise > 0.2) & (np.abs(angle) < 0.65)])
    return Shape((Mesh(vertices, body.visual[0].faces),), (*body.parts, lip)) + handle, 0.55 * h


KINDS: dict[str, tuple[Draw, tuple[Rgb, ...]]] = {
    "mug": (_mug, CERAMIC),
    "cup": (_cup, CERAMIC),
    "bowl": (_bowl, CERAMIC),
    "dish": (_dish, CERAMIC),
    "bottle": (_bottle, GLASS),
    "jar": (_jar, GLASS),
    "can": (_can, METAL),
    "glass": (_glass, GLASS),
    "goblet": (_goblet, GLASS),
    "teapot": (_teapot, CERAMIC),
    "kettle": (_kettle, METAL),
    "sugar bowl": (_sugar_bowl, CERAMIC),
    "pot": (_pot, METAL),
    "frying pan": (_frying_pan, METAL),
    "saucepan": (_saucepan, METAL),
    "spatula": (_spatula, WOOD),
    "ladle": (_ladle, WOOD),
    "brush": (_brush, WOOD),
    "butter dish": (_butter_dish, CERAMIC),
    "milk carton": (_milk_carton, CERAMIC),
    "salt shaker": (_salt_shaker, GLASS),
    "egg cup": (_egg_cup, CERAMIC),
    "pitcher": (_pitcher, CERAMIC),
}

LYING = ("spatula", "ladle")  # held above their balance point, which is not where they are drawn from
