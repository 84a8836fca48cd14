"""Patterns to paint objects with: pictures that are functions of their split and number alone."""

from __future__ import annotations

import colorsys
import functools

import numpy as np
from jaxtyping import Bool, Float, UInt8

from watchtrylearn.ops.random import generator
from watchtrylearn.types import Split

TEXELS = 32  # along each side
TEXTURES: dict[Split, int] = {"train": 700, "val": 40, "test": 100}  # how many there are; none is in two splits
RED = 0.07  # colours closer than this to red (as share of the circle of hues) are left to the target
CONTRAST = 0.45  # least distance of the two colours of a pattern, in RGB

_Where = Bool[np.ndarray, "texel texel"]
_Rng = np.random.Generator


@functools.cache
def texture(split: Split, number: int) -> UInt8[np.ndarray, "texel texel 3"]:
    """One pattern in two colours, with some grain; it repeats without a seam along both sides."""
    rng = generator("push texture", split, number)
    pattern = (_stripes, _checks, _dots, _patches, _plain)[number % 5]
    first, second = _colours(rng)
    picture = np.where(pattern(rng)[..., None], second, first)
    picture = picture * (1 + 0.05 * rng.standard_normal((TEXELS, TEXELS, 1)))
    return (255 * np.clip(picture, 0.0, 1.0)).astype(np.uint8)


def _colours(rng: _Rng) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Two colours that are well apart, neither of them red."""
    while True:
        hues = rng.uniform(RED, 1 - RED, 2)
        first, second = (
            np.array(colorsys.hsv_to_rgb(h, s, v))
            for h, s, v in zip(hues, rng.uniform(0.15, 1.0, 2), rng.uniform(0.25, 1.0, 2), strict=True)
        )
        if np.linalg.norm(first - second) >= CONTRAST:
            return first, second


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Both coordinates of every texel, from 0 to 1."""
    x, y = np.meshgrid(np.arange(TEXELS) / TEXELS, np.arange(TEXELS) / TEXELS)
    return x, y


def _stripes(rng: _Rng) -> _Where:
    x, y = _grid()
    across, along = [(2, 0), (0, 2), (2, 2), (2, -2), (3, 0), (3, 3)][rng.integers(6)]
    where: np.ndarray = (across * x + along * y) % 1.0 < rng.uniform(0.35, 0.65)
    return where


def _checks(rng: _Rng) -> _Where:
    x, y = _grid()
    number = int(rng.integers(1, 4))
    where: np.ndarray = (np.floor(2 * number * x) + np.floor(2 * number * y)) % 2 == 0
    return where


def _dots(rng: _Rng) -> _Where:
    x, y = _grid()
    number = int(rng.integers(1, 4))
    return np.hypot((number * x) % 1.0 - 0.5, (number * y) % 1.0 - 0.5) < rng.uniform(0.25, 0.4)


def _patches(rng: _Rng) -> _Where:
    """Blots: the upper half of a few waves."""
    x, y = _grid()
    total = np.zeros_like(x)
    for _ in range(6):
        across, along = rng.integers(-2, 3, 2)
        total += np.cos(2 * np.pi * (across * x + along * y + rng.uniform()))
    where: np.ndarray = total > np.median(total)
    return where


def _plain(rng: _Rng) -> _Where:
    return np.zeros((TEXELS, TEXELS), bool)
