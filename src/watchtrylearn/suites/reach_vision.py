"""The suite ``reach`` seen by a camera from above: images instead of where the blocks lie; and clips of either.

Tasks, scenes, physics, demonstrations and what counts as success are those of ``reach``. What a demonstration tells
here is a colour, and it has to be found again where the blocks lie otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8

from watchtrylearn.rollouts import replayed
from watchtrylearn.suites.reach import (
    BLOCKS,
    SPEC,
    STATE_CHANNEL,
    Reach,
    ReachWorlds,
    colour_of,
    demonstrated,
    model,
    only_success,
)
from watchtrylearn.suites.render import Renderer
from watchtrylearn.suites.seen import with_seen
from watchtrylearn.types import STATE, Channel, Episode, ImageChannel, Spec, Split, Task

CAMERA = "images.above"
SIZE = (80, 64)  # of the images, width and height in pixels
SAMPLES = 2  # rays per pixel and axis: where an edge lies shows in finer steps than pixels
CLIP = (320, 256)  # of a clip, width and height in pixels


class ReachVision:
    """The suite ``reach_vision``; see the module's text.

    Args:
        size: of the images, width and height in pixels; on the command line ``--suite reach_vision@40x32``.
        nthread: threads that step worlds, 0 for all.
    """

    name = "reach_vision"

    def __init__(self, size: tuple[int, int] = SIZE, nthread: int = 0) -> None:
        self.spec = spec(size)
        self.reach = Reach(nthread)

    def tasks(self, split: Split) -> list[Task]:
        """The tasks of ``reach``."""
        return self.reach.tasks(split)

    def worlds(self, tasks: Sequence[Task], seeds: Sequence[int]) -> ReachWorlds:
        """One world per task, in the scenes given by ``seeds``."""
        camera = self.spec.images[CAMERA]
        drawn = renderer(tasks, (camera.width, camera.height))
        return ReachWorlds(tasks, seeds, self.reach.nthread, self.spec, drawn.images)

    def target(self, task: Task, seed: int) -> int:
        """The block that is meant, 0 to 2."""
        return self.reach.target(task, seed)

    def demonstrate(self, task: Task, seed: int) -> Episode:
        """One successful demonstration in scene ``seed``; raises ``WtlError`` if the expert fails there."""
        return only_success(self.demonstrations([task], [seed])[0])

    def demonstrations(self, tasks: Sequence[Task], seeds: Sequence[int]) -> list[Episode]:
        """The expert's attempts at many tasks at once, failures included (``success`` tells)."""
        return demonstrated(self.worlds(tasks, seeds))

    def film(
        self, episodes: Sequence[Episode], on_clip: Callable[[], None] | None = None
    ) -> list[UInt8[np.ndarray, "time height width 3"]]:
        """The frames of each episode of one story, from above; beside them what was seen, pixel by pixel."""
        return filmed(episodes, on_clip)


def make(size: tuple[int, int] = SIZE) -> ReachVision:
    return ReachVision(size)


def spec(size: tuple[int, int]) -> Spec:
    """Of what is seen: the arm's state, and images of ``size``, (width, height)."""
    observation: dict[str, Channel | ImageChannel] = {
        STATE: STATE_CHANNEL,
        CAMERA: ImageChannel(height=size[1], width=size[0]),
    }
    return replace(SPEC, observation=observation, entities=0)


def renderer(tasks: Sequence[Task], size: tuple[int, int], *, threads: int = 0, steady: bool = False) -> Renderer:
    """Draws worlds of these tasks in images of ``size``, (width, height); ``threads``, ``steady``: see ``Renderer``."""
    layout = model()
    paint = np.repeat(layout.geom_rgba[None], len(tasks), axis=0)
    for block in range(BLOCKS):
        paint[:, layout.geom(f"block {block}").id, :3] = [colour_of(task, block) for task in tasks]
    width, height = size
    return Renderer(
        layout, {"geom_rgba": paint}, camera="above", width=width, height=height, samples=SAMPLES, shadows=False,
        threads=threads, steady=steady,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- clips


def filmed(
    episodes: Sequence[Episode], on_clip: Callable[[], None] | None = None
) -> list[UInt8[np.ndarray, "time height width 3"]]:
    """The frames of each episode at viewing size, replayed; if it has images, they are shown beside them, enlarged."""
    joints, blocks = replay(episodes)
    clips = []
    for number, episode in enumerate(episodes):
        moments = slice(0, len(episode) + 1)
        drawn = renderer([episode.task], CLIP, steady=True).images(joints[number, moments], blocks[number, moments])
        clips.append(with_seen(drawn, episode, CAMERA))
        if on_clip:
            on_clip()
    return clips


def replay(
    episodes: Sequence[Episode],
) -> tuple[Float[np.ndarray, "episode time joint"], Float[np.ndarray, "episode time block 3"]]:
    """Joint angles and where the blocks are, before every step of the longest episode and after its last one."""
    worlds = ReachWorlds([e.task for e in episodes], [e.seed for e in episodes])
    seen = [worlds.poses for _ in replayed(worlds, episodes)]
    worlds.close()
    joints, blocks = (np.stack(each, axis=1) for each in zip(*seen, strict=True))
    return joints, blocks
