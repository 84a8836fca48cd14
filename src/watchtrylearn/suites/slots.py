"""Slots: bodies of one MuJoCo layout that stand for another thing in every world.

Everything that may fill a slot is compiled once, as a body of a library, and a world's row of model parameters is a
copy of what was compiled: MuJoCo's own compiler is the only source of mesh frames, bounds and inertias. So worlds with
different things step in one batch and render in one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
from jaxtyping import Float

from watchtrylearn.suites.kitchen.meshes import Mesh

# Fields that differ between things; everything else in the model is the same for all worlds.
GEOM_FIELDS = ("dataid", "pos", "quat", "rbound", "aabb", "rgba", "friction", "contype", "conaffinity")
BODY_FIELDS = ("mass", "inertia", "ipos", "iquat")


def filled(model: mujoco.MjModel, library: mujoco.MjModel, rows: Sequence[Mapping[str, str]]) -> dict[str, np.ndarray]:
    """MjModel fields, each (world, ...), that turn ``model`` into the models of ``rows``.

    Args:
        model: the layout; a slot is a body in it, with as many geoms as the bodies of the library.
        library: one body per thing, meshes in the same order as in ``model``.
        rows: for each world, slot -> the thing that fills it.
    """
    names = [f"geom_{name}" for name in GEOM_FIELDS] + [f"body_{name}" for name in BODY_FIELDS]
    fields = {name: np.repeat(getattr(model, name)[None], len(rows), axis=0) for name in names}
    for world, row in enumerate(rows):
        for slot, thing in row.items():
            into, source = model.body(slot), library.body(thing)
            for name in BODY_FIELDS:
                fields[f"body_{name}"][world, into.id] = getattr(library, f"body_{name}")[source.id]
            every = np.arange(source.geomnum[0])
            for name in GEOM_FIELDS:
                copied = getattr(library, f"geom_{name}")[source.geomadr[0] + every]
                fields[f"geom_{name}"][world, into.geomadr[0] + every] = copied
    return fields


def compiled(layout: mujoco.MjSpec) -> mujoco.MjModel:
    """The compiled layout, whose slots may be filled.

    Frames that coincide for the things compiled into the slots need not do so for others: without this, MuJoCo's
    kinematics would skip the geom_pos and geom_quat that ``filled`` fills in.
    """
    model = layout.compile()
    model.geom_sameframe[:] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE
    model.body_sameframe[:] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE
    return model


def add_mesh(
    spec: mujoco.MjSpec,
    name: str,
    mesh: Mesh,
    *,
    collides: bool,
    texture_at: Float[np.ndarray, "vertex 2"] | None = None,
) -> None:
    """Add a mesh: one that collides (convex; its hull is kept even where it fills no slot) or one to look at.

    ``texture_at`` are its texture coordinates.
    """
    inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX if collides else mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    added = spec.add_mesh(name=name, inertia=inertia)
    added.uservert = np.asarray(mesh.vertices, dtype=np.float32).ravel()
    added.userface = np.asarray(mesh.faces, dtype=np.int32).ravel()
    if texture_at is not None:
        added.usertexcoord = np.asarray(texture_at, dtype=np.float32).ravel()
        added.userfacetexcoord = added.userface
