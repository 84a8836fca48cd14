"""The statistics LeRobot keeps: of each episode in ``meta/episodes``, of them all in ``meta/stats.json``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, Shaped

COMBINED = ("min", "max", "mean", "std", "count")  # what those of the episodes tell about them all
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}

Statistics = Mapping[str, Float[np.ndarray, "episode size"]]  # name -> per episode; count is (episode, 1)


def per_episode(values: Shaped[np.ndarray, "row size"], lengths: Int[np.ndarray, "episode"]) -> Statistics:
    """Minimum, maximum, mean, standard deviation, count and quantiles over each episode's stretch of rows."""
    values = values.astype(np.float64)
    begin = np.cumsum(lengths) - lengths
    count = lengths[:, None].astype(np.float64)
    with np.errstate(invalid="ignore"):  # the numbers of a diverged episode may be anything
        mean = np.add.reduceat(values, begin) / count
        deviation = values - np.repeat(mean, lengths, axis=0)
        return {
            "min": np.minimum.reduceat(values, begin),
            "max": np.maximum.reduceat(values, begin),
            "mean": mean,
            "std": np.sqrt(np.add.reduceat(deviation**2, begin) / count),
            "count": count,
            **_quantiles(values, lengths),
        }


def _quantiles(
    values: Float[np.ndarray, "row size"], lengths: Int[np.ndarray, "episode"]
) -> dict[str, Float[np.ndarray, "episode size"]]:
    """Linear interpolation between order statistics (``np.quantile``), for all episodes in one sort."""
    step = np.concatenate([np.arange(length) for length in lengths])
    episode = np.repeat(np.arange(len(lengths)), lengths)
    padded = np.full((len(lengths), int(lengths.max()), values.shape[1]), np.inf)
    padded[episode, step] = values
    padded.sort(axis=1)
    rows = np.arange(len(lengths))
    found = {}
    for name, share in QUANTILES.items():
        position = share * (lengths - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, lengths - 1)
        weight = (position - low)[:, None]
        found[name] = padded[rows, low] * (1 - weight) + padded[rows, high] * weight
    return found


def combine(statistics: Statistics) -> dict[str, list[float]]:
    """Minimum, maximum, mean, deviation and count of all steps, exactly, from those of the episodes.

    Quantiles cannot be had from quantiles; ``quantiles`` takes them from the steps.
    """
    count = statistics["count"]
    share = count / count.sum()
    mean = (share * statistics["mean"]).sum(axis=0)
    variance = (share * (statistics["std"] ** 2 + (statistics["mean"] - mean) ** 2)).sum(axis=0)
    combined = {
        "min": statistics["min"].min(axis=0),
        "max": statistics["max"].max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
    }
    return {**{name: value.tolist() for name, value in combined.items()}, "count": [int(count.sum())]}


def quantiles(values: Shaped[np.ndarray, "row size"]) -> dict[str, list[float]]:
    """The quantiles of all steps, exactly those of ``np.quantile`` in double precision."""
    shares = list(QUANTILES.values())
    found = np.stack([np.quantile(column.astype(np.float64), shares) for column in values.T], axis=1)
    return dict(zip(QUANTILES, found.tolist(), strict=True))
