"""Camera images to and from image files, and their statistics. Size and kind of a file are read from its header and
compared with what is expected before anything is unpacked."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from watchtrylearn.data.stats import QUANTILES
from watchtrylearn.types import ImageChannel, WtlError

A = TypeVar("A")
B = TypeVar("B")
Images = UInt8[np.ndarray, "time height width 3"]

EPISODE_LIMIT = (
    2**30
)  # bytes of unpacked images of one camera in one episode: those of one colour are small on the disk
MEMORY_LIMIT = 4 * 2**30  # bytes of unpacked images that are held at once
LEVEL = 1  # of compression: LeRobot's, and thrice as fast as the usual one for files a tenth larger
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_SMALL = 2**18  # numbers in an image: with fewer, threads spend their time waiting for each other
_SIDE, _STEP = 300, 150  # larger images are thinned out for their statistics, as LeRobot does


def encode(images: Images) -> list[bytes]:
    """A PNG file of each image, without loss."""

    def file(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "png", compress_level=LEVEL)
        return buffer.getvalue()

    return list(_each(file, images, images[0].size if len(images) else 0))


def decode(files: Sequence[bytes], channel: ImageChannel, where: str) -> Images:
    """The images in PNG (or JPEG) files, one a step; the inverse of ``encode``.

    Raises ``WtlError`` that begins with ``where`` and names the step of the first file that is no image, damaged, or
    not RGB of the channel's size with 8 bits a colour, and if all would take more than ``EPISODE_LIMIT``.
    """
    if text := too_large(len(files), channel):
        raise WtlError(f"{where}: {text}")
    images = np.empty((len(files), *channel.shape), np.uint8)

    def unpack(step: int) -> None:
        images[step] = _unpacked(files[step], channel, f"{where} at step {step}")

    for _ in _each(unpack, range(len(files)), channel.size):
        pass
    return images


def too_large(steps: int, channel: ImageChannel) -> str:
    """Why the images of an episode take more memory than they may; nothing if they do not."""
    size = steps * channel.size
    return (
        ""
        if size <= EPISODE_LIMIT
        else (
            f"{steps} {channel} would take {size / 1e9:.1f} GB, more than {EPISODE_LIMIT / 1e9:.1f} GB in one episode"
        )
    )


def _unpacked(file: bytes, channel: ImageChannel, where: str) -> UInt8[np.ndarray, "height width 3"]:
    try:
        if file[:8] == _PNG:
            width, height, depth, color = struct.unpack(">IIBB", file[16:26])
            found, kind = (height, width), "RGB" if (depth, color) == (8, 2) else f"PNG of kind {color}, {depth} bits"
        elif file[:3] == _JPEG:
            jpeg = JpegImageFile(io.BytesIO(file))  # reads the header
            found, kind = jpeg.size[::-1], jpeg.mode
        else:
            raise WtlError(f"{where}: neither a PNG nor a JPEG file, but {len(file)} bytes of something else")
        if found != (channel.height, channel.width):
            raise WtlError(
                f"{where}: an image of {found[0]} x {found[1]} pixels, expected {channel.height} x {channel.width}"
            )
        if kind != "RGB":
            raise WtlError(f"{where}: an image in {kind}, expected RGB with 8 bits a colour")
        image = PngImageFile(io.BytesIO(file)) if file[:8] == _PNG else jpeg
        return np.asarray(image)
    except WtlError:
        raise
    except Exception as error:  # of many kinds, as the file may be anything
        raise WtlError(
            f"{where}: a damaged image: {str(error).splitlines()[0][:100] if str(error) else error!r}"
        ) from error


def _each(work: Callable[[A], B], items: Iterable[A], size: int) -> Iterable[B]:
    """``map``, on all cores where the images (of ``size`` numbers) are worth it: zlib works beside other threads."""
    if size < _SMALL:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, items)


# ---------------------------------------------------------------------------------------------- statistics


def sampled(steps: int) -> Int[np.ndarray, "step"]:
    """The steps whose images count for the statistics of an episode: LeRobot's choice, all of the first hundred."""
    count = max(min(steps, 100), min(int(steps**0.75), 10_000))
    return np.round(np.linspace(0, steps - 1, count)).astype(int)


def histogram(images: Images) -> Int[np.ndarray, "3 256"]:
    """How often each value occurs in each colour, in the sampled images of an episode, thinned out where they are
    large. All of ``statistics`` can be had from it, and from the sum of several."""
    step = 1 if max(images.shape[1:3]) < _SIDE else int(max(images.shape[1:3]) / _STEP)
    found = np.zeros((3, 256), np.int64)
    for image in (images[i, ::step, ::step] for i in sampled(len(images))):
        found += np.stack([np.bincount(image[..., color].ravel(), minlength=256) for color in range(3)])
    return found


def statistics(counts: Int[np.ndarray, "3 256"]) -> dict[str, Float[np.ndarray, "3"]]:
    """Minimum, maximum, mean, standard deviation and quantiles of each colour, from 0 to 1, exactly."""
    value, total = np.arange(256) / 255, counts.sum(axis=1)
    mean = counts @ value / total
    deviation = (value - mean[:, None]) ** 2
    ends = np.cumsum(counts, axis=1)

    def order(place: Int[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
        """The number at ``place`` of all, sorted."""
        found: np.ndarray = value[(ends <= place[:, None]).sum(axis=1)]
        return found

    found = {
        "min": order(np.zeros(3, int)),
        "max": order(total - 1),
        "mean": mean,
        "std": np.sqrt((counts * deviation).sum(axis=1) / total),
    }
    for name, share in QUANTILES.items():
        position = share * (total - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, total - 1)
        found[name] = order(low) * (1 - (position - low)) + order(high) * (position - low)
    return found


def nested(found: Mapping[str, Float[np.ndarray, "3"]]) -> dict[str, list[Any]]:
    """Statistics in the shape in which LeRobot keeps them, (3, 1, 1)."""
    return {name: values.reshape(3, 1, 1).tolist() for name, values in found.items()}


def combine(counts: Int[np.ndarray, "episode 768"]) -> dict[str, list[Any]]:
    """Those of all episodes, from their histograms."""
    return nested(statistics(counts.sum(axis=0).reshape(3, 256)))


def require_histograms(counts: Shaped[np.ndarray, "episode _"], where: str) -> None:
    """Raises ``WtlError`` unless there is a histogram in each row."""
    if (
        counts.dtype.kind not in "iu"
        or counts.shape[1] != 3 * 256
        or (counts < 0).any()
        or not counts.any(axis=1).all()
    ):
        raise WtlError(f"{where}: not how often each of 256 values occurs in each of three colours")
