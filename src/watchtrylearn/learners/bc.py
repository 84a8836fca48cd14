"""Behaviour cloning: one policy for all tasks, deaf to the context.

Paper: the "BC across all tasks (no meta-learning)" baseline of Watch-Try-Learn (slides; the authors' released
code obtains it with ``ignore_embedding=True``). It imitates every demonstration of every training task from the
observation alone, so at best it learns what demonstrations have in common.

What we changed: the shared network (``nn.target_net``) instead of two layers of 100; see docs/learners/bc.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from watchtrylearn.data.sampling import Sampling
from watchtrylearn.learners.plan_policy import PlanPolicy
from watchtrylearn.nn.blocks import accuracy
from watchtrylearn.nn.target_net import NetConfig, TargetNet, make_encoder
from watchtrylearn.types import Batch, Context, EpisodeBatch, Loss, Spec, require_contexts


@dataclass(frozen=True)
class BCConfig:
    """``sampling`` asks for no context at all."""

    net: NetConfig = field(default_factory=NetConfig)
    sampling: Sampling = field(default_factory=lambda: Sampling(demos=(1.0,), trials=(1.0,)))


class BC(nn.Module):
    """Imitates every demonstration, whatever the task."""

    name = "bc"

    def __init__(self, config: BCConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.net = TargetNet(config.net, spec, make_encoder(config.net, spec))

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Takes the scaling from the training episodes."""
        self.net.scaling.fit(episodes)

    def loss(self, batch: Batch) -> Loss:
        """Imitate the query o', a', which acts on z', from its scene s' alone: ``sampling`` leaves contexts empty.

        L = - log p(a' | o', z', code(s'))  -  w log p(z' | s')
        """
        belief = self.net.infer(batch.context, batch.scene)
        target = self.net.target_of(batch.query)
        nll = self.net.action_nll(belief, target, batch)
        cross_entropy = nn.functional.cross_entropy(belief.target_logits, target)
        parts = {
            "nll": nll,
            "target_cross_entropy": cross_entropy,
            "target_accuracy": accuracy(belief.target_logits, target),
        }
        return nll + self.config.net.target_weight * cross_entropy, parts

    def adapt(self, contexts: Sequence[Context]) -> PlanPolicy:
        """The same policy for every context."""
        return PlanPolicy(self.net, [Context() for _ in require_contexts(contexts)])

    def explore(self, contexts: Sequence[Context]) -> PlanPolicy:
        """The same policy, sampled: what a robot that was shown nothing can do to gather trials."""
        return PlanPolicy(self.net, [Context() for _ in require_contexts(contexts)], stochastic=True)
