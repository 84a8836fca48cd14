"""Stepping MuJoCo so that a breakdown is noticed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import mujoco
import numpy as np
from jaxtyping import Bool
from mujoco.batch import Batch, SimulationError


def advance(
    batch: Batch, substeps: int, moving: Bool[np.ndarray, "world"], record: Mapping[str, np.ndarray]
) -> Bool[np.ndarray, "world"]:
    """Steps the ``moving`` worlds; True for those of them that came through sound.

    MuJoCo answers divergence by silently resetting a simulation and going on. Its counters show that only if they
    are cleared before; its clock shows it in any case, and errors that stop a simulation too.

    Args:
        record: field -> array (moving, substep, ...) that receives it after every substep.
    """
    time, timestep = batch.bind("time"), batch.model.opt.timestep
    batch.warning[moving] = 0
    due = time + substeps * timestep
    with _unlogged(), contextlib.suppress(SimulationError):
        batch.rollout(substeps, record=tuple(record), ids=moving, out=dict(record))
    warned: np.ndarray = batch.warning[..., 1].any(axis=-1)  # (lastinfo, number) per kind
    sound: np.ndarray = moving & ~warned & (np.abs(time - due) < timestep / 2)
    return sound


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Without MuJoCo's own remarks: it would write MUJOCO_LOG.TXT into whatever the working directory is."""
    usual, silent = mujoco.MjLogConfig.get(), mujoco.MjLogConfig.get()
    silent.logto_file = silent.logto_console = False
    silent.set()
    try:
        yield
    finally:
        usual.set()
