"""The cameras of any LeRobot v3.0 dataset: images in the data files, or videos beside them (with PyAV, which comes with
the extra ``sim``)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from watchtrylearn.data import images, layout
from watchtrylearn.data.hub import file_in
from watchtrylearn.data.images import Images
from watchtrylearn.data.lerobot_info import Feature, Info
from watchtrylearn.data.parquet import files
from watchtrylearn.errors import suggestion
from watchtrylearn.system.files import read_bytes
from watchtrylearn.types import ImageChannel, WtlError

TOLERANCE = 1e-4  # seconds between a step and its frame, as LeRobot has it
_PADDING = 128  # pixels that a codec may add to a side
_OF_EPISODES = ("chunk_index", "file_index", "from_timestamp")  # what meta/episodes says of a video


def chosen_cameras(features: Mapping[str, Feature], names: Sequence[str], path: Path) -> dict[str, ImageChannel]:
    """Feature -> its images, of those called ``names``; ``path`` is where the ``features`` were read.

    Raises ``WtlError`` for a name that is not a camera's, and for images that are not RGB.
    """
    require_cameras(names, [name for name, entry in features.items() if entry.dtype in ("image", "video")], path)
    return {name: _channel(features[name], f"{path}: {name}") for name in names}


def require_cameras(names: Sequence[str], known: Sequence[str], path: Path) -> None:
    """Raises ``WtlError`` for the first of ``names`` that is not ``known``."""
    for name in names:
        if name not in known:
            raise WtlError(f"{path} has no camera {name!r}; " + (suggestion(name, known) if known else "it has none"))


def _channel(entry: Feature, where: str) -> ImageChannel:
    """LeRobot keeps the shape with the colours first or last, and says which in the names, or not."""
    shape = entry.shape
    if len(shape) == 3 and 3 in (shape[0], shape[2]):
        first = shape[2] != 3 or (shape[0] == 3 and bytes(entry.names).lstrip(b'[ "').startswith(b"c"))
        return ImageChannel(*(shape[1:] if first else shape[:2]))
    raise WtlError(f"{where} has shape {shape}; only RGB images can be read, (height, width, 3) or (3, height, width)")


def columns_of_videos(features: Mapping[str, Feature], cameras: Iterable[str]) -> set[str]:
    """The columns of ``meta/episodes`` that say where the videos of ``cameras`` are."""
    videos = [name for name in cameras if features[name].dtype == "video"]
    return {f"videos/{name}/{column}" for name in videos for column in _OF_EPISODES}


@dataclass
class Reader:
    """Reads what the ``cameras`` of the dataset at ``root`` saw."""

    root: Path
    info: Info
    cameras: Mapping[str, ImageChannel]

    def __post_init__(self) -> None:
        self._video = ("", b"")  # the file read last: one holds many episodes

    def read(self, name: str, steps: pa.Table, told: Mapping[str, Any], number: int, path: Path) -> Images:
        """The images of camera ``name`` in episode ``number``, one a step.

        ``steps`` are its rows of the data file ``path``, ``told`` what ``meta/episodes`` says of its videos. Raises
        ``WtlError`` naming file, episode and step if there is not one image a step, as ``info.json`` describes it.
        """
        channel = self.cameras[name]
        if self.info.features[name].dtype == "image":
            content: list[bytes] = files(steps, name, path)[:, 0].tolist()
            return images.decode(content, channel, f"{path}: episode {number}: {name}")
        chunk, file, start = (told.get(f"videos/{name}/{column}") for column in _OF_EPISODES)
        if not isinstance(chunk, int) or not isinstance(file, int) or not isinstance(start, int | float):
            raise WtlError(f"{self.root}/meta/episodes does not say where the video {name} of episode {number} is")
        template = self.info.video_path or layout.VIDEO_PATH
        relative = layout.fill(template.replace("{video_key}", name), chunk, file)
        where = f"{self.root / relative}: episode {number}"
        return _frames(self._content(relative), channel, float(start), steps.num_rows, int(self.info.fps), where)

    def _content(self, relative: str) -> bytes:
        if self._video[0] != relative:
            self._video = (relative, read_bytes(file_in(self.root, relative)))
        return self._video[1]


def _frames(content: bytes, channel: ImageChannel, start: float, steps: int, fps: int, where: str) -> Images:
    """The frames of a video at ``start`` seconds and ``steps`` - 1 steps after it."""
    try:
        import av
    except ImportError as error:
        raise WtlError(
            f"{where}: videos need PyAV, which is not installed: pip install 'watchtrylearn[sim]'"
        ) from error
    if text := images.too_large(steps, channel):
        raise WtlError(f"{where}: {text}")
    found = np.empty((steps, *channel.shape), np.uint8)
    step = 0
    try:
        container: Any
        with av.open(io.BytesIO(content)) as container:
            if not container.streams.video:
                raise WtlError(f"{where}: there is no video in it")
            stream = container.streams.video[0]
            _require_size(stream, channel, where)
            most = (channel.height + _PADDING) * (channel.width + _PADDING)
            stream.codec_context.options = {"max_pixels": str(most)}  # whatever its frames say of themselves
            container.seek(max(0, int((start - TOLERANCE) / stream.time_base)), stream=stream)
            for frame in container.decode(stream):
                time = float(frame.pts * stream.time_base) - start
                if time < step / fps - TOLERANCE:
                    continue
                if time > step / fps + TOLERANCE or step == steps:
                    break
                _require_size(frame, channel, where)
                found[step] = frame.to_ndarray(format="rgb24")
                step += 1
    except WtlError:
        raise
    except (OSError, ValueError, TypeError, ArithmeticError, MemoryError, LookupError) as error:  # FFmpegError is both
        raise WtlError(f"{where}: a damaged video: {str(error)[:100]}") from error
    if step < steps:
        raise WtlError(f"{where}: no frame at {start + step / fps:.3f} s, where step {step} of {steps} is")
    return found


def _require_size(found: Any, channel: ImageChannel, where: str) -> None:
    if (found.height, found.width) != (channel.height, channel.width):
        size = f"{found.height} x {found.width} pixels, expected {channel.height} x {channel.width}"
        raise WtlError(f"{where}: a video of {size}")
