"""One-shot imitation: infer the task from demonstrations alone. Watch-Try-Learn's trial policy (Phase I).

Paper: Watch-Try-Learn, "train a trial policy with meta-imitation": sample a task, condition on one
demonstration, imitate another. On its own it is the meta-imitation ("demo only") baseline.

What we changed (docs/learners/one_shot.md): the embedding may be object-centred (``net.embedding="object"``; the
authors' flat one is ``"flat"``), the policy commits to one target per episode and predicts chunks of actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import nn

from watchtrylearn.data.sampling import Sampling
from watchtrylearn.learners.chunk_policy import ChunkPolicy, demos_only
from watchtrylearn.nn.task_net import NetConfig, TaskNet
from watchtrylearn.types import Batch, Context, EpisodeBatch, Spec


@dataclass(frozen=True)
class OneShotConfig:
    """``sampling`` asks for one demonstration per example and no trials."""

    net: NetConfig = field(default_factory=NetConfig)
    sampling: Sampling = field(default_factory=lambda: Sampling(demos=(0.0, 1.0), trials=(1.0,)))


class OneShot(nn.Module):
    """Imitates a task from its demonstrations; trials are ignored."""

    name = "one_shot"

    def __init__(self, config: OneShotConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.net = TaskNet(config.net, spec)

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Takes the scaling from the training episodes."""
        self.net.scaling.fit(episodes)

    def loss(self, batch: Batch) -> tuple[Float[torch.Tensor, ""], dict[str, Float[torch.Tensor, ""]]]:
        """-log p(action of demo' | observation, demo)."""
        return self.net.loss(batch)

    def adapt(self, context: Context | Sequence[Context]) -> ChunkPolicy:
        """The most likely reading of the demonstrations, carried out."""
        return ChunkPolicy(self.net, demos_only(context))

    def explore(self, context: Context | Sequence[Context]) -> ChunkPolicy:
        """A sampled reading, carried out with sampled ways of moving: trials that differ from each other."""
        return ChunkPolicy(self.net, demos_only(context), stochastic=True)
