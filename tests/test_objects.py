"""The kitchenware: every number it claims is measured on its meshes, and it stands and slides in MuJoCo."""

from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from scipy.spatial import ConvexHull

from watchtrylearn.suites.kitchen import objects
from watchtrylearn.suites.kitchen.kitchenware import KINDS
from watchtrylearn.suites.kitchen.meshes import Mesh, barrel, extent_y, hull, merge, revolve, shell, smooth, sweep
from watchtrylearn.suites.kitchen.objects import (
    PARTS,
    KitchenObject,
    centre_of_mass,
    kitchen_names,
    kitchen_object,
    kitchen_objects,
)
from watchtrylearn.types import SPLITS

OBJECTS = kitchen_objects()
each_object = pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: thing.name)
TOLERANCE = 0.0045  # between what is seen and what collides (m)


def unpaired_edges(mesh: Mesh) -> int:
    """Directed edges without their opposite: none on a closed, consistently oriented surface."""
    edges = np.concatenate([mesh.faces[:, [i, (i + 1) % 3]] for i in range(3)])
    counts = Counter(map(tuple, edges.tolist()))
    return sum(abs(count - counts[b, a]) + (count > 1) for (a, b), count in counts.items())


def excess(mesh: Mesh, points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point"]:
    """How far each point lies outside the convex hull of ``mesh`` (negative inside), by its worst plane."""
    planes = ConvexHull(mesh.vertices).equations
    worst: np.ndarray = (points @ planes[:, :3].T + planes[:, 3]).max(axis=1)
    return worst


# ------------------------------------------------------------------------------------------------- meshes


@given(radius=st.floats(0.5, 3.0), height=st.floats(0.5, 5.0), sides=st.integers(3, 40))
def test_a_prism_has_the_volume_of_its_formula(radius: float, height: float, sides: int) -> None:
    mesh = revolve(np.array([[radius, 0.0], [radius, height]]), sides)
    corners = mesh.vertices[:sides, :2]
    circumradius = np.linalg.norm(corners, axis=1)[0]
    area = 0.5 * sides * circumradius**2 * np.sin(2 * np.pi / sides)
    assert mesh.volume == pytest.approx(area * height)
    assert mesh.centroid == pytest.approx([0.0, 0.0, height / 2], abs=1e-9)
    assert unpaired_edges(mesh) == 0


def test_a_shell_encloses_the_wall_and_not_the_cavity() -> None:
    outer = smooth([(2.0, 0.0), (2.0, 3.0)], 12)
    cup, solid = revolve(shell(outer, 0.2), 256), revolve(outer, 256)
    wall = np.pi * (2.0**2 * 3.0 - 1.8**2 * 2.8)
    assert solid.volume == pytest.approx(np.pi * 2.0**2 * 3.0, rel=1e-3)
    assert cup.volume == pytest.approx(wall, rel=0.05)  # the rounded rim and the inner edge
    assert unpaired_edges(cup) == 0


def test_a_straight_tube_is_an_elliptic_cylinder() -> None:
    mesh = sweep(smooth([(0.0, 0.0), (4.0, 0.0)], 5), thickness=0.6, width=1.0, sides=200)
    assert mesh.volume == pytest.approx(4.0 * np.pi * 0.3 * 0.5, rel=1e-3)


def test_a_hull_drops_what_is_inside_and_faces_outwards() -> None:
    corners = np.array(np.meshgrid([0.0, 1.0], [0.0, 2.0], [0.0, 3.0])).reshape(3, -1).T
    mesh = hull(np.concatenate([corners, [[0.5, 1.0, 1.5]]]))
    assert len(mesh.vertices) == 8
    assert mesh.volume == pytest.approx(6.0)
    assert unpaired_edges(mesh) == 0


def test_a_barrel_presents_flat_sides_to_the_fingers() -> None:
    mesh = barrel(smooth([(2.0, 0.0), (2.0, 3.0)], 9))
    flat = mesh.vertices[mesh.vertices[:, 1] > 2.0 - 1e-9]
    assert np.ptp(flat[:, 0]) > 1.0  # an edge 2 r tan(15 degrees) long, not a corner
    assert extent_y(mesh.moved((0.0, 0.0, -1.5)), 0.5, 0.5) == pytest.approx(4.0)


# ------------------------------------------------------------------------------------------------ library


def test_objects_are_named_and_drawn_one_by_one_as_all_together() -> None:
    for split in SPLITS:
        named = kitchen_names(split)
        assert [(item.name, item.kind) for item in kitchen_objects(split)] == list(named.items())
    assert all(kitchen_object(item.name) is item for item in OBJECTS)


def test_the_library_is_large_varied_and_split_by_object() -> None:
    assert len(OBJECTS) >= 140
    assert len({thing.name for thing in OBJECTS}) == len(OBJECTS)
    kinds = Counter(thing.kind for thing in OBJECTS)
    assert len(kinds) >= 14
    assert min(kinds.values()) >= 7
    sizes = {split: len(kitchen_objects(split)) for split in SPLITS}
    assert sum(sizes.values()) == len(OBJECTS)
    assert sizes["train"] >= 100
    assert min(sizes.values()) >= 20
    assert all({thing.kind for thing in kitchen_objects(split)} == set(kinds) for split in SPLITS)


def test_no_two_objects_of_a_kind_are_scaled_copies() -> None:
    for kind in KINDS:
        shapes = [np.ptp(t.visual.vertices, axis=0) for t in OBJECTS if t.kind == kind]
        proportions = {tuple(np.round(shape / shape[2], 6)) for shape in shapes}
        assert len(proportions) == len(shapes), kind


def test_the_library_does_not_depend_on_what_was_made_before() -> None:
    again = objects._make("teapot", 3)
    cached = next(thing for thing in OBJECTS if thing.name == "teapot-03")
    assert np.array_equal(again.visual.vertices, cached.visual.vertices)
    assert again.mass == cached.mass


@each_object
def test_meshes_are_closed_and_face_outwards(thing: KitchenObject) -> None:
    assert unpaired_edges(thing.visual) == 0
    assert thing.visual.volume > 0
    assert 1 <= len(thing.parts) <= PARTS
    for part in thing.parts:
        assert len(part.vertices) <= 48
        assert unpaired_edges(part) == 0
        assert part.volume == pytest.approx(ConvexHull(part.vertices).volume)  # convex: it is its own hull


@each_object
def test_what_collides_is_what_is_seen(thing: KitchenObject) -> None:
    uncovered = np.min([excess(part, thing.visual.vertices) for part in thing.parts], axis=0)
    assert uncovered.max() <= TOLERANCE
    assert excess(thing.visual, np.concatenate([part.vertices for part in thing.parts])).max() <= TOLERANCE


@each_object
def test_claimed_sizes_are_those_of_the_meshes(thing: KitchenObject) -> None:
    solid = merge([thing.visual, *thing.parts])
    bottoms = [thing.visual.vertices[:, 2].min(), min(part.vertices[:, 2].min() for part in thing.parts)]
    assert bottoms == pytest.approx([-thing.rest_height] * 2, abs=1e-9)
    assert 0.015 <= thing.rest_height <= 0.06
    assert np.linalg.norm(solid.vertices[:, :2], axis=1).max() == pytest.approx(thing.radius)
    assert thing.radius <= 0.075
    assert 0.005 <= thing.grasp_width <= 0.065
    assert thing.grasp_width == pytest.approx(_width_by_rays(thing), abs=3e-3)
    assert 0.05 <= thing.mass <= 0.25
    assert 0.6 <= thing.friction <= 1.0


def _width_by_rays(thing: KitchenObject) -> float:
    """The grasp width by another route: where y-rays at the heights of the pad enter the convex parts."""
    half_x, half_z = objects.PAD
    x, z = np.meshgrid(np.linspace(-half_x, half_x, 9), np.linspace(-half_z, half_z, 9))
    reach = [0.0]
    for part in thing.parts:
        a, b, c, d = ConvexHull(part.vertices).equations.T[:, :, None]
        room = -(d + a * x.ravel() + c * z.ravel())  # b y <= room, for every plane
        with np.errstate(divide="ignore", invalid="ignore"):
            high = np.where(b > 1e-12, room / b, np.inf).min(axis=0)
            low = np.where(b < -1e-12, room / b, -np.inf).max(axis=0)
        hit = (low <= high) & np.where(np.abs(b) <= 1e-12, room >= 0, True).all(axis=0)
        reach += [*np.abs(low[hit]), *np.abs(high[hit])]
    return 2.0 * float(max(reach))


@each_object
def test_lifting_at_the_grasp_point_does_not_tilt(thing: KitchenObject) -> None:
    assert np.linalg.norm(centre_of_mass(thing.parts)[:2]) <= 0.01
    assert max(np.abs(part.vertices[:, 1]).max() for part in thing.parts) <= 0.0335  # fits between the fingers


# ------------------------------------------------------------------------------------------------ physics


@cache
def compiled(name: str):  # type: ignore[no-untyped-def]
    """The object 1 mm above a plane, with the library's collision parts, mass and friction."""
    import mujoco

    thing = next(t for t in OBJECTS if t.name == name)
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 0.1], friction=[0.3, 0.005, 0.0001])
    body = spec.worldbody.add_body(pos=[0, 0, thing.rest_height + 0.001])
    body.add_freejoint()
    total = sum(part.volume for part in thing.parts)
    for i, part in enumerate(thing.parts):
        spec.add_mesh(name=str(i), uservert=part.vertices.ravel(), userface=part.faces.ravel())
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH, meshname=str(i), mass=thing.mass * part.volume / total,
            friction=[thing.friction, 0.005, 0.0001],
        )  # fmt: skip
    return spec.compile()


def tilt(quaternion: Float[np.ndarray, "4"]) -> float:
    """Angle between the object's z axis and the vertical (degrees)."""
    return float(np.degrees(np.arccos(np.clip(1.0 - 2.0 * (quaternion[1] ** 2 + quaternion[2] ** 2), -1.0, 1.0))))


@pytest.mark.sim
@each_object
def test_it_stands(thing: KitchenObject) -> None:
    import mujoco

    model = compiled(thing.name)
    state = mujoco.MjData(model)
    mujoco.mj_step(model, state, nstep=round(1.0 / model.opt.timestep))
    assert tilt(state.qpos[3:7]) < 3.0
    assert np.linalg.norm(state.qpos[:2]) < 0.005
    assert state.qpos[2] == pytest.approx(thing.rest_height, abs=1e-3)


@pytest.mark.sim
@each_object
def test_a_push_two_centimetres_above_the_table_slides_it(thing: KitchenObject) -> None:
    import mujoco

    model = compiled(thing.name)
    force = 1.2 * thing.friction * thing.mass * 9.81
    for angle in np.arange(8) * np.pi / 4:
        state = mujoco.MjData(model)
        way = np.array([np.cos(angle), np.sin(angle), 0.0])
        mujoco.mj_step(model, state, nstep=50)
        for _ in range(150):
            state.qfrc_applied[:] = 0.0
            if np.linalg.norm(state.qvel[:2]) < 0.15:
                at = np.array([*state.qpos[:2], 0.02])
                mujoco.mj_applyFT(model, state, force * way, np.zeros(3), at, 1, state.qfrc_applied)
            mujoco.mj_step(model, state)
        assert tilt(state.qpos[3:7]) < 15.0, f"topples when pushed towards {np.degrees(angle):.0f} degrees"
        assert state.qpos[:2] @ way[:2] > 0.01
