"""Random actions: what a suite gives to whoever does not look.

Paper: the "random policy" of MIL (Finn et al. 2017, section 6): "outputs random actions from a standard Normal
distribution", in the unit of the actions. There is nothing to train; here it has the form of a learner so that it can
be a row of the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from watchtrylearn.data.sampling import Sampling
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.training.update import Update
from watchtrylearn.types import Batch, Context, EpisodeBatch, Loss, Observation, Spec, require_contexts


@dataclass(frozen=True)
class RandomConfig:
    """``sampling`` asks for no context at all."""

    sampling: Sampling = field(default_factory=lambda: Sampling(demos=(1.0,), trials=(1.0,)))


class Random(nn.Module):
    """Does anything, whatever the task."""

    name = "random"

    def __init__(self, config: RandomConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec

    def prepare(self, episodes: EpisodeBatch) -> None:
        """It takes nothing."""

    def loss(self, batch: Batch) -> Loss:
        """- log N(a; 0, 1) per number, but for a constant: how far from random the demonstrated actions are."""
        task = torch.arange(len(batch.frames), device=batch.frames.device)[:, None]
        nll = 0.5 * batch.query.action[task, batch.frames].square().mean()
        return nll, {"nll": nll}

    def make_update(self, config: TrainConfig) -> Update:
        """Nothing is ever changed."""
        return _Nothing(self)

    def adapt(self, contexts: Sequence[Context]) -> RandomPolicy:
        return RandomPolicy(self.spec, len(require_contexts(contexts)))


class RandomPolicy:
    """Draws every action from a standard normal distribution, cut to its bounds."""

    def __init__(self, spec: Spec, worlds: int) -> None:
        self.spec, self.worlds = spec, worlds
        self.rngs: list[np.random.Generator] = []

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.rngs = list(rngs)

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        bounds = self.spec.action
        return np.stack([rng.standard_normal(bounds.size) for rng in self.rngs]).clip(bounds.low, bounds.high)


class _Nothing:
    """The update of a method without parameters."""

    name = "nothing"

    def __init__(self, learner: Random) -> None:
        self.learner = learner

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        return {"loss": float(self.learner.loss(batch)[0])}

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """It remembers nothing."""

    def finish(self) -> None:
        """It exports what there is."""
