"""Smooth noise on commands: the disturbance under which a demonstrator shows how to correct errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass
class SmoothNoise:
    """A disturbance for ``rollout``: a first-order autoregression (DART, Laskey et al. 2017, has it white).

    Attributes:
        deviation: standard deviation of each number of the action, in its unit; 0: left alone.
        correlation: of one control step's noise with the last one's.
    """

    deviation: Sequence[float]
    correlation: float = 0.6

    def __call__(
        self, step: int, action: Float[np.ndarray, "world act"], rngs: Sequence[np.random.Generator]
    ) -> Float[np.ndarray, "world act"]:
        fresh = np.stack([rng.standard_normal(action.shape[1]) for rng in rngs])
        if step == 0:
            self._last = fresh
        else:
            self._last = self.correlation * self._last + np.sqrt(1 - self.correlation**2) * fresh
        return action + self._last * self.deviation
