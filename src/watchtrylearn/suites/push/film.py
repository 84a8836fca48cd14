"""Moving pictures of pushing: episodes are replayed from their initial states, and a camera watches from the side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from watchtrylearn.rollouts import replayed
from watchtrylearn.suites.push.model import CHANNEL, CLIP, build
from watchtrylearn.suites.push.world import PushWorlds
from watchtrylearn.suites.render import Renderer
from watchtrylearn.suites.seen import with_seen
from watchtrylearn.types import Episode

if TYPE_CHECKING:
    from watchtrylearn.suites.push.suite import Push

WIDTH, HEIGHT, SAMPLES = 360, 270, 2


def film(
    blind: Push, episodes: Sequence[Episode], on_clip: Callable[[], None] | None = None
) -> list[UInt8[np.ndarray, "time height width 3"]]:
    """The frames of each episode at viewing size, before every step and after the last; beside them what was seen.

    ``blind`` is the suite without its camera, which replays need not draw for. ``on_clip`` is called after each clip.
    Raises ``WtlError`` if an episode holds no simulator state to replay it from.
    """
    worlds = blind.worlds([e.task for e in episodes], [e.seed for e in episodes])
    moments = np.stack([worlds.batch.bind("qpos").copy() for _ in replayed(worlds, episodes)], axis=1)
    clips: list[np.ndarray] = []
    with ThreadPoolExecutor() as pool:
        jobs = [(worlds, i, moments[i, : len(episode) + 1]) for i, episode in enumerate(episodes)]
        for clip in pool.map(lambda job: _clip(*job), jobs):
            clips.append(with_seen(clip, episodes[len(clips)], CHANNEL))
            if on_clip:
                on_clip()
    return clips


def _clip(
    worlds: PushWorlds, world: int, qpos: Float[np.ndarray, "time nq"]
) -> UInt8[np.ndarray, "time height width 3"]:
    """One world, moment after moment."""
    shared = build(worlds.rows[world])  # alone, since the ray caster's set-up time grows with the number of meshes
    fields = shared.fields([worlds.rows[world]])
    renderer = Renderer(shared.model, fields, camera=CLIP, width=WIDTH, height=HEIGHT, samples=SAMPLES, steady=True)
    return renderer.images(qpos)
