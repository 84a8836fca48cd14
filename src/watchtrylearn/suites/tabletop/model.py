"""The tabletop as one MuJoCo model: table, button panel, floating gripper, two slots for objects.

Every task shares this layout; which two objects lie on the table and which colours the buttons have is a
*row* of model parameters (``SharedModel.fields``). So hundreds of different tasks step in one batch and render in
one call. What differs between scenes of one task (poses) is simulator state, never model: the panel and the
buttons stand on mocap bodies.

Frame: metres, origin at the middle of the table top, x to the right, y away from the person, z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float

from watchtrylearn.suites.kitchen.objects import PARTS, KitchenObject, Mesh
from watchtrylearn.suites.slots import add_mesh, compiled, filled

SUBSTEPS = 20  # of TIMESTEP: one control step of 0.1 s
TIMESTEP = 0.005
OBJECTS = 2  # slots for objects
BUTTONS = 2  # slots for buttons
BUTTON_HEIGHT = 0.045  # of the cap's top above the table, unpressed
BUTTON_TRAVEL = 0.02

# Position servos: force = stiffness * (desired - actual), limited; damping sits in the joints, where MuJoCo
# integrates it implicitly. Slides move 1 kg with a critically damped response of 20 rad/s.
_MODEL = f"""
<mujoco model="tabletop">
  <compiler angle="radian"/>
  <option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="5" iterations="30"
          ls_iterations="20" tolerance="1e-7">
    <flag midphase="disable" multiccd="disable"/>
  </option>
  <visual>
    <headlight ambient=".34 .34 .36" diffuse=".18 .18 .18" specular="0 0 0"/>
    <map znear="0.01" zfar="10"/>
  </visual>
  <asset>
    <texture name="wood" type="2d" builtin="flat" rgb1=".76 .69 .60" rgb2=".76 .69 .60" mark="random"
             markrgb=".73 .66 .57" random=".12" width="256" height="256"/>
    <material name="table" texture="wood" specular=".2" shininess=".2"/>
    <material name="zone" rgba=".62 .74 .66 1" specular=".1"/>
    <material name="panel" rgba=".32 .34 .38 1" specular=".3"/>
    <material name="steel" rgba=".86 .87 .90 1" specular=".5"/>
    <material name="rubber" rgba=".16 .17 .19 1" specular=".1"/>
  </asset>
  <default>
    <default class="visual">
      <geom group="2" contype="0" conaffinity="0" mass="0"/>
      <default class="zone"><geom type="box" size=".09 .27 .0004"/></default>
    </default>
    <default class="hand">
      <geom group="1" contype="4" conaffinity="1" friction="1.2 .02 .001" condim="4" solref=".01 1"
            material="steel"/>
      <default class="pad"><geom type="box" size=".010 .006 .038" mass=".05" material="rubber"/></default>
    </default>
    <default class="slide"><joint type="slide" damping="40" armature=".45"/></default>
    <default class="hinge"><joint type="hinge" damping="1.2" armature=".03"/></default>
    <default class="finger">
      <joint type="slide" range="0 .04" damping="40" armature=".5" solreflimit=".01 1"/>
    </default>
    <default class="button"><geom type="cylinder" size=".028 .012" contype="8" conaffinity="4"/></default>
  </default>
  <worldbody>
    <light name="key" pos="-.55 -.35 1.5" dir=".37 .23 -1" castshadow="true" diffuse=".62 .60 .56"/>
    <light name="fill" pos=".7 -.5 1.4" dir="-.4 .3 -1" castshadow="false" diffuse=".16 .17 .20"/>
    <camera name="clip" pos="0 -.78 .86" xyaxes="1 0 0 0 .70 .714" fovy="30"/>
    <camera name="scene" pos="0 -.72 .66" xyaxes="1 0 0 0 .65 .76" fovy="46"/>
    <geom name="ground" type="plane" size="2 2 .1" group="3" contype="1" conaffinity="0" priority="1"
          friction=".35 .005 .0001"/>
    <geom name="table" class="visual" type="box" size=".5 .32 .02" pos="0 .03 -.0202" material="table"/>
    <geom name="left zone" class="zone" pos="-.39 .03 -.0001" material="zone"/>
    <geom name="right zone" class="zone" pos=".39 .03 -.0001" material="zone"/>
    <body name="panel" mocap="true">
      <geom type="box" size=".17 .045 .0125" pos="0 0 .0125" contype="1" conaffinity="0" material="panel"/>
    </body>
    {{buttons}}
    <body name="hand" gravcomp="1">
      <joint name="x" class="slide" axis="1 0 0"/>
      <joint name="y" class="slide" axis="0 1 0"/>
      <joint name="z" class="slide" axis="0 0 1"/>
      <joint name="yaw" class="hinge" axis="0 0 1"/>
      <joint name="pitch" class="hinge" axis="0 1 0"/>
      <joint name="roll" class="hinge" axis="1 0 0"/>
      <geom name="palm" class="hand" type="box" size=".018 .052 .016" pos="0 0 .082" mass=".3"/>
      <geom name="wrist" class="hand" type="cylinder" size=".022 .03" pos="0 0 .125" mass=".15"/>
      <body name="left" gravcomp="1">
        <joint name="left" class="finger" axis="0 1 0"/>
        <geom name="left" class="pad" pos="0 .006 .028"/>
      </body>
      <body name="right" gravcomp="1">
        <joint name="right" class="finger" axis="0 -1 0"/>
        <geom name="right" class="pad" pos="0 -.006 .028"/>
      </body>
    </body>
  </worldbody>
  <equality><joint joint1="left" joint2="right" solref=".01 1"/></equality>
  <actuator>
    <position name="x" joint="x" kp="400" forcerange="-40 40"/>
    <position name="y" joint="y" kp="400" forcerange="-40 40"/>
    <position name="z" joint="z" kp="400" forcerange="-40 40"/>
    <position name="yaw" joint="yaw" kp="12" forcerange="-6 6"/>
    <position name="pitch" joint="pitch" kp="12" forcerange="-6 6"/>
    <position name="roll" joint="roll" kp="12" forcerange="-6 6"/>
    <position name="fingers" joint="left" kp="1500" forcerange="-24 24"/>
  </actuator>
</mujoco>
"""

_BUTTON = f"""
    <body name="button{{slot}}" mocap="true">
      <body name="cap{{slot}}" gravcomp="1">
        <joint name="press{{slot}}" type="slide" axis="0 0 -1" range="0 {BUTTON_TRAVEL}" stiffness="150"
               springref="-.004" damping="4" armature=".02"/>
        <geom name="button{{slot}}" class="button" pos="0 0 {BUTTON_HEIGHT - 0.012}" mass=".03"/>
      </body>
    </body>"""


@dataclass(frozen=True)
class ModelRow:
    """What makes one world's model: the objects in its two slots and the colours of its two buttons."""

    objects: tuple[str, str]
    colours: tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class SharedModel:
    """The compiled layout and the compiled parameters of every object that may fill a slot.

    ``model`` holds the first two objects; ``library`` is a model with one body per object, from which rows are copied
    (``suites/slots.py``).
    """

    model: mujoco.MjModel
    library: mujoco.MjModel
    objects: dict[str, KitchenObject]

    def fields(self, rows: Sequence[ModelRow]) -> dict[str, np.ndarray]:
        """MjModel fields, each (world, ...), that turn ``model`` into the models of ``rows``."""
        slots = [{f"object{slot}": name for slot, name in enumerate(row.objects)} for row in rows]
        fields = filled(self.model, self.library, slots)
        for world, row in enumerate(rows):
            for slot, rgba in enumerate(row.colours):
                fields["geom_rgba"][world, self.model.geom(f"button{slot}").id] = rgba
        return fields


def build(objects: Sequence[KitchenObject]) -> SharedModel:
    """Compile the layout with the meshes of ``objects`` (at least two; the first two fill the slots)."""
    model = _layout()
    library = mujoco.MjSpec()
    for spec in (model, library):
        for item in objects:
            _add_meshes(spec, item)
    for slot in range(OBJECTS):
        _add_object(model, objects[slot], f"object{slot}", slot=True)
    for item in objects:
        _add_object(library, item, item.name)
    _add_contact_sensors(model)
    return SharedModel(compiled(model), library.compile(), {item.name: item for item in objects})


def _layout() -> mujoco.MjSpec:
    buttons = "".join(_BUTTON.format(slot=slot) for slot in range(BUTTONS))
    return mujoco.MjSpec.from_string(_MODEL.format(buttons=buttons))


def _add_meshes(spec: mujoco.MjSpec, item: KitchenObject) -> None:
    add_mesh(spec, item.name, item.visual, collides=False)
    for i, part in enumerate(item.parts):
        add_mesh(spec, f"{item.name}/{i}", part, collides=True)


def _add_object(spec: mujoco.MjSpec, item: KitchenObject, body: str, slot: bool = False) -> None:
    """A free body: one visual mesh and exactly ``PARTS`` collision geoms, the spare ones switched off.

    In a slot the spare ones stay on: MuJoCo builds bounding volumes only for geoms that collide when
    compiled, and another object in the same slot may need them. There ``SharedModel.fields`` does the switching.
    """
    mesh_type = mujoco.mjtGeom.mjGEOM_MESH
    added = spec.worldbody.add_body(name=body, pos=[0, 0, item.rest_height])
    added.add_freejoint(name=body)
    added.add_geom(type=mesh_type, meshname=item.name, group=2, contype=0, conaffinity=0, mass=0, rgba=item.rgba)
    density = item.mass / sum(volume(part) for part in item.parts)
    for i in range(PARTS):
        used = i < len(item.parts)
        collides = used or slot
        added.add_geom(
            type=mesh_type,
            meshname=f"{item.name}/{i if used else 0}",
            group=3,
            contype=2 if collides else 0,
            conaffinity=1 | 2 | 4 | 8 if collides else 0,
            density=density if used else 0,
            friction=[item.friction, 0.005, 0.0001],
            rgba=item.rgba,
        )


def _add_contact_sensors(spec: mujoco.MjSpec) -> None:
    """One number each, > 0 while the two bodies touch: finger-object pairs, then object-object."""
    pairs = [(finger, f"object{slot}") for slot in range(OBJECTS) for finger in ("left", "right")]
    for one, other in [*pairs, ("object0", "object1")]:
        spec.add_sensor(
            name=f"{one}-{other}",
            type=mujoco.mjtSensor.mjSENS_CONTACT,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            objname=one,
            reftype=mujoco.mjtObj.mjOBJ_BODY,
            refname=other,
            intprm=[1, 0, 1],  # data: found; no reduction; one contact
        )


def volume(mesh: Mesh) -> float:
    """The volume of a closed mesh with outward faces, by the divergence theorem (m^3)."""
    corners: Float[np.ndarray, "face 3 3"] = mesh.vertices[mesh.faces]
    return float(np.linalg.det(corners).sum() / 6)
