"""The arm, the table and two slots for objects as one MuJoCo model; a task is a row of its parameters.

Frame: metres, origin on the table top in front of the arm, x to the right, y away from the camera, z up. The arm stands
at the far side and pushes towards the camera. It is driven by torques and its own weight is carried, as in the arm that
the authors took theirs from. Objects slide and do not turn: each stands on one small foot, whose friction is a true
cone, under its own weight.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float

from watchtrylearn.suites.kitchen.meshes import Mesh, hull
from watchtrylearn.suites.kitchen.objects import kitchen_object
from watchtrylearn.suites.push.textures import texture
from watchtrylearn.suites.slots import add_mesh, compiled, filled
from watchtrylearn.types import Split

TIMESTEP, SUBSTEPS = 0.005, 10  # seconds; physics steps in a control step of 0.05 s
OBJECTS = 2  # slots for objects
JOINTS = ("pan", "lift", "upper roll", "elbow", "forearm roll", "wrist", "hand roll")
LOW = (-1.7, -2.2, -1.5, 0.1, -2.0, -0.6, -2.6)  # of the joints, radians
HIGH = (1.7, 1.2, 1.5, 2.7, 2.0, 2.6, 2.6)
DAMPING = (4.0, 4.0, 2.0, 2.0, 0.5, 0.5, 0.25)  # N m s / rad
TORQUE = (12.0, 12.0, 6.0, 8.0, 2.5, 2.5, 1.2)  # of the command 1, N m
HOME = (0.0, -1.423, 0.0, 2.247, 0.0, 0.747, 0.0)  # the fork upright, behind every object
BASE, SHOULDER, UPPER, FOREARM, HAND = 0.72, 0.22, 0.36, 0.54, 0.16  # y of the stand; height; lengths to the next joint
PRONG, APART = 0.011, 0.032  # of the fork: radius of its two prongs, half the distance between their axes
GOAL = (0.0, -0.12)  # the middle of the red disk
RADIUS = 0.08  # of the red disk
TALLEST = 0.13  # objects are no higher (m)
CAMERA, CLIP = "policy", "clip"  # cameras of the model
CHANNEL = "images.policy"  # what the first one sees

_MODEL = f"""
<mujoco model="push">
  <compiler angle="radian"/>
  <option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" iterations="20" ls_iterations="20">
    <flag midphase="disable" multiccd="disable"/>
  </option>
  <visual>
    <headlight ambient=".42 .42 .42" diffuse=".22 .22 .22" specular="0 0 0"/>
    <map znear="0.01" zfar="10"/>
  </visual>
  <asset>
    <texture name="wood" type="2d" builtin="flat" rgb1=".72 .70 .66" rgb2=".72 .70 .66" mark="random"
             markrgb=".68 .66 .61" random=".12" width="256" height="256"/>
    <material name="table" texture="wood" specular=".1" shininess=".1"/>
    <material name="steel" rgba=".93 .94 .96 1" specular=".4"/>
    <material name="joint" rgba=".20 .26 .36 1" specular=".3"/>
    <material name="rubber" rgba=".10 .11 .13 1" specular=".1"/>
    <material name="target" rgba=".86 .10 .09 1" specular="0"/>
  </asset>
  <default>
    <joint type="hinge" armature=".03"/>
    <geom group="1" contype="4" conaffinity="3" friction=".6 .005 .0001" material="steel"/>
    <default class="look"><geom contype="0" conaffinity="0" mass="0" material="joint"/></default>
    <default class="prong"><geom type="capsule" size="{PRONG}" mass=".06" material="rubber"/></default>
  </default>
  <worldbody>
    <light name="key" pos="-.5 -.6 1.6" dir=".3 .4 -1" castshadow="true" diffuse=".52 .51 .48"/>
    <camera name="{CAMERA}" pos="0 -.74 .80" xyaxes="1 0 0 0 .71 .70" fovy="36"/>
    <camera name="{CLIP}" pos="-.55 -.86 .86" xyaxes=".86 -.50 0 .31 .54 .78" fovy="43"/>
    <geom name="ground" type="plane" size="2 2 .1" group="3" contype="1" conaffinity="0" friction=".3 .005 .0001"/>
    <geom name="table" class="look" type="box" size=".55 .6 .02" pos="0 .2 -.0202" material="table"/>
    <geom name="target" class="look" type="cylinder" size="{RADIUS} .0004" pos="{GOAL[0]} {GOAL[1]} 0"
          material="target"/>
    <body name="stand" pos="0 {BASE} {SHOULDER}" euler="0 0 {-np.pi / 2}" gravcomp="1">
      <geom type="cylinder" size=".06 {SHOULDER / 2}" pos="0 0 {-SHOULDER / 2}" class="look"/>
      <body name="shoulder" gravcomp="1">
        <joint name="pan" axis="0 0 1"/>
        <geom class="look" type="sphere" size=".06"/>
        <geom type="cylinder" size=".05 .04" mass=".5" contype="0" conaffinity="0" material="joint"/>
        <body name="upper" gravcomp="1">
          <joint name="lift" axis="0 1 0"/>
          <joint name="upper roll" axis="1 0 0"/>
          <geom type="capsule" size=".04" fromto=".05 0 0 {UPPER - 0.04} 0 0" mass="1.4"/>
          <body name="forearm" pos="{UPPER} 0 0" gravcomp="1">
            <joint name="elbow" axis="0 1 0"/>
            <joint name="forearm roll" axis="1 0 0"/>
            <geom class="look" type="sphere" size=".048"/>
            <geom type="capsule" size=".032" fromto=".04 0 0 {FOREARM - 0.03} 0 0" mass=".9"/>
            <body name="hand" pos="{FOREARM} 0 0" gravcomp="1">
              <joint name="wrist" axis="0 1 0"/>
              <joint name="hand roll" axis="1 0 0"/>
              <geom class="look" type="sphere" size=".036"/>
              <geom type="capsule" size=".026" fromto=".02 0 0 .05 0 0" mass=".2"/>
              <geom type="box" size=".012 {APART + PRONG} .016" pos=".075 0 0" mass=".12" material="joint"/>
              <geom class="prong" fromto=".08 {APART} 0 {HAND - PRONG} {APART} 0"/>
              <geom class="prong" fromto=".08 {-APART} 0 {HAND - PRONG} {-APART} 0"/>
              <site name="tip" pos="{HAND} 0 0" group="4"/>
            </body>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


@dataclass(frozen=True)
class Thing:
    """What is in a slot: a piece of kitchenware, how large and how turned, how heavy, how painted.

    Attributes:
        shape: name of a piece of the kitchen's library.
        size: radius of its outline, seen from above, in metres; less where the piece would be too high.
        turn: about the vertical, radians.
        mass, friction: kilograms; coefficient of its foot on the table.
        split, texture: which pattern it is painted with.
    """

    shape: str
    size: float
    turn: float
    mass: float
    friction: float
    split: Split
    texture: int

    @property
    def name(self) -> str:
        return f"{self.shape} {self.size} {self.turn} {self.mass} {self.friction} {self.split} {self.texture}"


@dataclass(frozen=True)
class SharedModel:
    """The compiled layout, and the compiled parameters of every thing that may fill its slots (``suites/slots.py``)."""

    model: mujoco.MjModel
    library: mujoco.MjModel

    def fields(self, rows: Sequence[tuple[Thing, Thing]]) -> dict[str, np.ndarray]:
        """MjModel fields, each (world, ...), that turn ``model`` into the models of ``rows``."""
        slots = [{f"object{slot}": thing.name for slot, thing in enumerate(row)} for row in rows]
        fields = filled(self.model, self.library, slots)
        fields["geom_matid"] = np.repeat(self.model.geom_matid[None], len(rows), axis=0)
        for slot in range(OBJECTS):
            shown = self.model.body(f"object{slot}").geomadr[0]
            for world, row in enumerate(rows):
                fields["geom_matid"][world, shown] = self.model.material(_paint(row[slot])).id
        return fields


def build(things: Sequence[Thing]) -> SharedModel:
    """Compile the layout with ``things`` (at least one; the first fills the slots until others do)."""
    things = list({thing.name: thing for thing in things}.values())
    layout, library = mujoco.MjSpec.from_string(_MODEL), mujoco.MjSpec()
    for spec in (layout, library):
        for thing in things:
            seen, solid = shape_of(thing)
            corners = seen.vertices / (2 * max(thing.size, 1e-3))
            oblique = np.stack([corners[:, 0] + 0.6 * corners[:, 2], corners[:, 1] + 0.6 * corners[:, 2]], axis=1)
            add_mesh(spec, f"{thing.name}/seen", seen, collides=False, texture_at=oblique)
            add_mesh(spec, f"{thing.name}/solid", solid, collides=True)
    for slot in range(OBJECTS):
        _add_thing(layout, f"object{slot}", things[0])
    for thing in things:
        _add_thing(library, thing.name, thing)
    for thing in {_paint(thing): thing for thing in things}.values():
        _add_paint(layout, thing)
    for name, low, high, damping, torque in zip(JOINTS, LOW, HIGH, DAMPING, TORQUE, strict=True):
        joint = layout.joint(name)
        joint.limited, joint.range, joint.damping = True, (low, high), [damping, 0.0, 0.0]
        motor = layout.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.gear[0], motor.ctrllimited, motor.ctrlrange = torque, True, (-1.0, 1.0)
    return SharedModel(compiled(layout), library.compile())


@functools.lru_cache(maxsize=2048)
def shape_of(thing: Thing) -> tuple[Mesh, Mesh]:
    """What is seen and what is touched.

    The piece, sized and turned, on the table with the middle of its outline at the origin; and the upright prism over
    the convex hull of that outline.
    """
    seen = kitchen_object(thing.shape).visual
    low, high = seen.vertices.min(axis=0), seen.vertices.max(axis=0)
    middle = np.array([*(low + high)[:2] / 2, low[2]])
    radius = np.linalg.norm((seen.vertices - middle)[:, :2], axis=1).max()
    seen = seen.moved(-middle).scaled(min(thing.size / radius, TALLEST / (high - low)[2]))
    cosine, sine = np.cos(thing.turn), np.sin(thing.turn)
    seen = Mesh(seen.vertices @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]), seen.faces)
    coarse = _coarse(seen.vertices[:, :2])
    top = max(0.06, seen.vertices[:, 2].max())
    return seen, hull(np.concatenate([np.insert(coarse, 2, 0.004, axis=1), np.insert(coarse, 2, top, axis=1)]))


def reach_of(thing: Thing) -> float:
    """How far its outline reaches from its middle (m): its size, unless it would be too high."""
    return float(np.linalg.norm(shape_of(thing)[0].vertices[:, :2], axis=1).max())


def _coarse(points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "corner 2"]:
    """The corners of the points' convex hull in 24 directions: collisions need no more."""
    angles = 2 * np.pi * np.arange(24) / 24
    farthest = (points @ np.stack([np.cos(angles), np.sin(angles)])).argmax(axis=0)
    kept: np.ndarray = points[np.unique(farthest)]
    return kept


def _paint(thing: Thing) -> str:
    return f"{thing.split}-{thing.texture}"


def _add_paint(spec: mujoco.MjSpec, thing: Thing) -> None:
    picture = texture(thing.split, thing.texture)
    added = spec.add_texture(name=_paint(thing), type=mujoco.mjtTexture.mjTEXTURE_2D, nchannel=3)
    added.height, added.width = picture.shape[:2]
    added.data = picture.tobytes()
    material = spec.add_material(name=_paint(thing), specular=0.15, shininess=0.2)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = _paint(thing)


def _add_thing(spec: mujoco.MjSpec, body: str, thing: Thing) -> None:
    """A body that slides along three axes: what is seen, what is touched, and the foot it stands on."""
    kind, foot = mujoco.mjtGeom.mjGEOM_MESH, 0.01
    added = spec.worldbody.add_body(name=body)
    for name, axis in zip("xyz", np.eye(3), strict=True):
        added.add_joint(name=f"{body} {name}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
    solid = f"{thing.name}/solid"
    added.add_geom(type=kind, meshname=f"{thing.name}/seen", group=1, contype=0, conaffinity=0, mass=0)
    added.add_geom(
        type=kind, meshname=solid, group=3, contype=2, conaffinity=6, mass=thing.mass, friction=[0.5, 0.005, 0.0001]
    )
    added.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[foot, 0, 0], pos=[0, 0, foot], group=3, contype=0,
                   conaffinity=1, mass=0, priority=1, friction=[thing.friction, 0.005, 0.0001])  # fmt: skip
