"""The toy suite seen by a camera: a small picture of the plane instead of where the marks lie.

Tasks, scenes, physics and what the best possible is are those of ``suites.toy``; only observations differ. Mark A is
red, mark B green, the point white.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import toy
from watchtrylearn.types import STATE, Channel, Episode, ImageChannel, Spec, Split, Task
from watchtrylearn.worlds import describe

CAMERA = "camera"
PIXELS, REACH = 24, 1.25  # along a side; the plane from -REACH to REACH
MARK, POINT = 0.22, 0.15  # radii
COLOURS = np.array([[255, 40, 40], [40, 255, 40], [255, 255, 255]])

SPEC = Spec(
    fps=10,
    horizon=toy.STEPS,
    observation={
        STATE: Channel(("x", "y"), (-2.0, -2.0), (2.0, 2.0)),
        CAMERA: ImageChannel(PIXELS, PIXELS),
    },
    action=toy.SPEC.action,
)

_AXIS = np.linspace(-REACH, REACH, PIXELS)
_GRID = np.stack(np.meshgrid(_AXIS, -_AXIS), -1)  # (row, column, xy), y upwards


def drawn(things: Float[np.ndarray, "world thing dim"]) -> UInt8[np.ndarray, "world height width 3"]:
    """A picture of every world: discs with soft edges, one over the other in the order of ``COLOURS``."""
    pictures = np.zeros((len(things), PIXELS, PIXELS, 3))
    edge = 2 * REACH / PIXELS
    for number, radius in enumerate((MARK, MARK, POINT)):
        distance = np.linalg.norm(_GRID - things[:, number, None, None], axis=-1)
        cover = np.clip((radius - distance) / edge + 0.5, 0, 1)[..., None]
        pictures = pictures * (1 - cover) + COLOURS[number] * cover
    return pictures.round().astype(np.uint8)


class PixelWorlds(toy.PointWorlds):
    """Many points at once, each seen by a camera."""

    def __init__(self, tasks: Sequence[Task], seeds: Sequence[int]) -> None:
        super().__init__(tasks, seeds)
        describe(self, SPEC, tasks, seeds)

    def _observe(self) -> dict[str, np.ndarray]:
        things = np.concatenate([self.placed, self.point[:, None]], 1)
        return {STATE: self.point.astype(np.float32), CAMERA: drawn(things)}


class PixelToy:
    """The tasks of family ``reference``: go to a mark, meant by its colour or by its side."""

    name = "pixel-toy"
    spec = SPEC

    def __init__(self) -> None:
        self.toy = toy.make()

    def tasks(self, split: Split) -> list[Task]:
        return [task for task in self.toy.tasks(split) if task.family == "reference"]

    def worlds(self, tasks: Sequence[Task], seeds: Sequence[int]) -> PixelWorlds:
        return PixelWorlds(tasks, seeds)

    def demonstrate(self, task: Task, seed: int) -> Episode:
        return self.demonstrations([task], [seed])[0]

    def demonstrations(self, tasks: Sequence[Task], seeds: Sequence[int]) -> list[Episode]:
        worlds = self.worlds(tasks, seeds)
        return rollout(toy.StraightWay(worlds), worlds, kind="demo")
