"""Moving pictures of tabletop episodes: replay them from their initial states and let a camera watch.

The episodes of one story (a demonstration, the trial, the retrial) are seen by one camera. It looks in the direction of
the layout's camera ``clip``, from as near as shows all that the story is about.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from watchtrylearn.rollouts import replayed
from watchtrylearn.suites.render import Renderer
from watchtrylearn.suites.tabletop.model import SharedModel, build
from watchtrylearn.suites.tabletop.suite import SPEC, Tabletop, library, model_row
from watchtrylearn.types import Episode

CAMERA = "clip"
WIDTH, HEIGHT, SAMPLES = 440, 308, 2
AFTER = round(0.6 * SPEC.fps)  # moments shown after an outcome is settled, or after the last movement
MARGIN = 0.06  # of the picture's width and height, free at each edge
STILL = 2e-3  # metres, radians: what moves less has come to rest
FINGERS = ((-0.03, -0.03, -0.01), (0.03, 0.03, 0.07))  # from their tips to the palm
CAP = ((-0.04, -0.04, 0.0), (0.04, 0.04, 0.05))  # of a button
TABLE = ((-0.48, -0.29, 0.0), (0.48, 0.34, 0.2))  # what happens beyond is not followed

Poses = dict[str, Float[np.ndarray, "time *shape"]]
Points = Float[np.ndarray, "point 3"]


@dataclass(frozen=True)
class Replay:
    """An episode, moment by moment: joint positions and mocap bodies, before every step and after the last one.

    ``settled`` is the moment from which on the outcome is known (the last one if it never is).
    """

    episode: Episode
    qpos: Float[np.ndarray, "time nq"]
    mocap_pos: Float[np.ndarray, "time mocap 3"]
    settled: int

    def __len__(self) -> int:
        return len(self.qpos)

    def cut(self) -> Replay:
        """Without what nobody needs to watch: the end after the outcome is settled, or where nothing moves any more."""
        moving = np.abs(self.qpos - self.qpos[-1]).max(axis=1) > STILL
        rest = int(np.flatnonzero(moving)[-1]) + 1 if moving.any() else 0
        end = min(self.settled, rest) + AFTER + 1
        return Replay(self.episode, self.qpos[:end], self.mocap_pos[:end], self.settled)


def film(
    suite: Tabletop,
    episodes: Sequence[Episode],
    width: int = WIDTH,
    height: int = HEIGHT,
    samples: int = SAMPLES,
    on_clip: Callable[[], None] | None = None,
) -> list[UInt8[np.ndarray, "time height width 3"]]:
    """The frames of each episode of one story, one per control step until there is nothing more to see.

    All are seen by one camera; clips are filmed on all cores. ``on_clip`` is called after each. Raises ``WtlError`` if
    an episode holds no simulator state to replay it from.
    """
    replays = [each.cut() for each in replay(suite, episodes)]
    shared = _only_objects_of(episodes)
    shared.model.cam_pos[shared.model.camera(CAMERA).id] = _viewpoint(shared, replays, width / height)

    def clip(seen: Replay) -> UInt8[np.ndarray, "time height width 3"]:
        fields = shared.fields([model_row(seen.episode.task)])
        renderer = Renderer(
            shared.model, fields, camera=CAMERA, width=width, height=height, samples=samples, steady=True
        )
        return renderer.images(seen.qpos, seen.mocap_pos)

    clips = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for images in pool.map(clip, replays):
            clips.append(images)
            if on_clip:
                on_clip()
    return clips


def replay(suite: Tabletop, episodes: Sequence[Episode]) -> list[Replay]:
    """Every episode from its initial state to its end."""
    worlds = suite.worlds([e.task for e in episodes], [e.seed for e in episodes])
    bound = {name: worlds.batch.bind(name) for name in ("qpos", "mocap_pos")}
    seen: dict[str, list[np.ndarray]] = {name: [] for name in bound}
    settled = np.array([len(e) for e in episodes])
    for moment, (_, info) in enumerate(replayed(worlds, episodes)):
        if moment:
            settled = np.where(info["settled"], np.minimum(settled, moment), settled)
        for name, view in bound.items():
            seen[name].append(view.copy())
    worlds.close()
    qpos, mocap_pos = (np.stack(seen[name], axis=1) for name in ("qpos", "mocap_pos"))
    return [
        Replay(e, qpos[i, : len(e) + 1], mocap_pos[i, : len(e) + 1], int(settled[i])) for i, e in enumerate(episodes)
    ]


def _only_objects_of(episodes: Sequence[Episode]) -> SharedModel:
    """The layout with only the meshes that are seen: the ray caster's set-up time grows with their number."""
    names = dict.fromkeys(name for e in episodes for name in model_row(e.task).objects)
    return build([library().objects[name] for name in names])


# -------------------------------------------------------------------------------------------------- the camera


def _viewpoint(shared: SharedModel, replays: Sequence[Replay], aspect: float) -> Float[np.ndarray, "3"]:
    """Where the camera is, with its own direction and lens, if what the replays are about fills the picture."""
    model = shared.model
    camera = model.camera(CAMERA).id
    axes = model.cam_mat0[camera].reshape(3, 3)  # right, up, back
    x, y, z = (np.concatenate([_about(shared, each) for each in replays]) @ axes).T
    tangent = np.tan(np.radians(model.cam_fovy[camera]) / 2) * (1 - 2 * MARGIN)
    centre, back = [], []
    for place, slope in ((x, aspect * tangent), (y, tangent)):
        # a point is in the picture where |place - centre| <= slope * (back - z)
        high, low = (place + slope * z).max(), (-place + slope * z).max()
        centre.append((high - low) / 2)
        back.append((high + low) / (2 * slope))
    seen: Float[np.ndarray, "3"] = axes @ np.array([*centre, max(back)])
    return seen


def _about(shared: SharedModel, seen: Replay) -> Points:
    """Corners of what an episode is about: the gripper and the two things that may be meant, all the way."""
    joint = shared.model.joint
    hand = seen.qpos[:, joint("x").qposadr[0] :][:, :3]
    boxes = [_box(hand, *FINGERS)]
    if seen.episode.task.family == "button":
        boxes += [_box(seen.mocap_pos[:1, 1 + slot], *CAP) for slot in range(2)]
    else:
        for slot, name in enumerate(model_row(seen.episode.task).objects):
            item = shared.objects[name]
            place = seen.qpos[:, joint(f"object{slot}").qposadr[0] :][:, :3]
            around = (item.radius, item.radius, item.rest_height)
            boxes.append(_box(place, tuple(-a for a in around), around))
    inside: Points = np.clip(np.concatenate(boxes), *TABLE)
    return inside


def _box(places: Float[np.ndarray, "time 3"], low: Sequence[float], high: Sequence[float]) -> Points:
    """The corners of a box around each place."""
    corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
    found: Points = (places[:, None] + corners).reshape(-1, 3)
    return found
