"""What a camera saw of an episode, beside a clip of it."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from watchtrylearn.types import Episode


def with_seen(
    clip: UInt8[np.ndarray, "time tall wide 3"], episode: Episode, camera: str
) -> UInt8[np.ndarray, "time tall wider 3"]:
    """The clip, and on its right the episode's images of ``camera``, pixel by pixel and as high; without any: the clip.

    The clip shows every moment, the one after the last action included (where nobody noted that, the one before is seen
    again).
    """
    if camera not in episode.observation:
        return clip
    images = episode.observation[camera]
    images = np.concatenate([images, episode.final.get(camera, images[-1])[None]])
    height, width = images.shape[1:3]
    tall = clip.shape[1]
    wide = 2 * round(tall * width / height / 2)  # a video has even sides
    enlarged = images[:, np.arange(tall) * height // tall][:, :, np.arange(wide) * width // wide]
    return np.concatenate([clip, enlarged], axis=2)
