"""Zero mean and unit variance, with the inverse beside it and the statistics in the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from watchtrylearn.types import Episode, Spec, WtlError

SMALLEST = 1e-6  # a number that varies less than this, relative to its size (or to 1), counts as constant


class Normalizer(nn.Module):
    """``(x - mean) / std`` per number, as a module so that its statistics travel with the weights.

    A constant number gets ``std`` 1: it maps to 0 and back to itself, never to NaN.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Float[Tensor, "size"], std: Float[Tensor, "size"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @staticmethod
    def identity(size: int) -> Normalizer:
        """Changes nothing: the shape to load saved statistics into."""
        return Normalizer(torch.zeros(size), torch.ones(size))

    @staticmethod
    def fit(values: Float[np.ndarray, "row size"]) -> Normalizer:
        """The statistics of the rows; raises ``WtlError`` if there are none or they are not finite."""
        if not len(values) or not np.isfinite(values).all():
            raise WtlError("normalisation needs at least one row, and finite numbers only")
        mean, std = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        std = np.where(std > SMALLEST * np.maximum(1.0, np.abs(mean)), std, 1.0)
        return Normalizer(torch.from_numpy(mean).float(), torch.from_numpy(std).float())

    def forward(self, values: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """From natural units to about unit size."""
        return (values - self.mean) / self.std

    def inverse(self, values: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Back to natural units."""
        return values * self.std + self.mean


def fit_normalizers(episodes: Sequence[Episode], spec: Spec) -> dict[str, Normalizer]:
    """A normaliser per observation channel, and one under ``"action"``, over every step of ``episodes``."""
    if not episodes:
        raise WtlError("normalisation needs at least one episode")
    fitted = {
        name: Normalizer.fit(np.concatenate([episode.observation[name] for episode in episodes]))
        for name in spec.observation
    }
    return {**fitted, "action": Normalizer.fit(np.concatenate([episode.action for episode in episodes]))}
