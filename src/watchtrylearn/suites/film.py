"""Moving pictures of tabletop episodes: replay them from their initial states and let a camera watch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from watchtrylearn.suites.render import Renderer
from watchtrylearn.suites.scene import Scene, build
from watchtrylearn.suites.tabletop import Tabletop, library, row
from watchtrylearn.types import Episode, WtlError

Poses = dict[str, Float[np.ndarray, "time *shape"]]


def film(
    suite: Tabletop, episodes: Sequence[Episode], width: int = 320, height: int = 224, samples: int = 2
) -> list[UInt8[np.ndarray, "time height width 3"]]:
    """The frames of each episode, one per control step and one for the end, all rendered in one call.

    Raises ``WtlError`` if an episode holds no simulator state to replay it from.
    """
    poses = replay(suite, episodes)
    frames = [len(p["qpos"]) for p in poses]
    scene = _only_objects_of(episodes)
    fields = scene.fields([row(e.task) for e in episodes])
    shown = {name: np.repeat(values, frames, axis=0) for name, values in fields.items()}
    renderer = Renderer(scene.model, shown, camera="clip", width=width, height=height, samples=samples)
    together = {name: np.concatenate([p[name] for p in poses]) for name in ("qpos", "mocap_pos")}
    images = renderer.images(together["qpos"], together["mocap_pos"])
    return np.split(images, np.cumsum(frames)[:-1])


def replay(suite: Tabletop, episodes: Sequence[Episode]) -> list[Poses]:
    """Joint positions ``qpos`` and ``mocap_pos`` before every step of each episode and after its last one."""
    for i, episode in enumerate(episodes):
        if not episode.initial_state.size:
            raise WtlError(f"episode {i} ({episode.task.name}) holds no simulator state to replay it from")
    worlds = suite.worlds([e.task for e in episodes], [e.seed for e in episodes])
    worlds.reset(options={"initial_state": np.stack([e.initial_state for e in episodes])})
    bound = {name: worlds.batch.bind(name) for name in ("qpos", "mocap_pos")}
    seen: dict[str, list[np.ndarray]] = {name: [view.copy()] for name, view in bound.items()}
    sent = [e.action if e.executed is None else e.executed for e in episodes]
    for step in range(max(map(len, episodes))):
        worlds.step(np.stack([actions[min(step, len(actions) - 1)] for actions in sent]))
        for name, view in bound.items():
            seen[name].append(view.copy())
    worlds.close()
    stacked = {name: np.stack(values, axis=1) for name, values in seen.items()}
    return [
        {name: values[i, : len(episode) + 1] for name, values in stacked.items()} for i, episode in enumerate(episodes)
    ]


def _only_objects_of(episodes: Sequence[Episode]) -> Scene:
    """The layout with only the meshes that are seen: the ray caster's set-up time grows with their number."""
    names = dict.fromkeys(name for e in episodes for name in row(e.task).objects)
    return build([library().objects[name] for name in names])
