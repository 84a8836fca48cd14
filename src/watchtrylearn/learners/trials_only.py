"""Trials only: learn a task from one's own attempts and their outcomes, without a demonstration.

Paper: the "meta-reinforcement learning (only use trials)" row of the Watch-Try-Learn slides: the retrial policy
with the demonstration taken away. The first attempt knows nothing; later ones know what was tried and whether it
succeeded. Its training trials come from a policy that saw no demonstration either (``bc``), as its own will at
test time.

What we changed (docs/learners/trials_only.md): any number of trials; the shared network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from watchtrylearn.data.sampling import Sampling
from watchtrylearn.learners.plan_policy import PlanPolicy, without_demos
from watchtrylearn.nn.blocks import accuracy
from watchtrylearn.nn.target_net import NetConfig, TargetNet, make_encoder
from watchtrylearn.types import Batch, Context, EpisodeBatch, Loss, Spec


@dataclass(frozen=True)
class TrialsOnlyConfig:
    """``sampling`` asks for no demonstration and for 0 to 3 trials in the query's scene."""

    net: NetConfig = field(default_factory=NetConfig)
    sampling: Sampling = field(default_factory=lambda: Sampling(demos=(1.0,), trials=(1.0, 2.0, 1.0, 1.0)))


class TrialsOnly(nn.Module):
    """Imitates the expert in the scene of its own trials, from those trials and their outcomes."""

    name = "trials_only"

    def __init__(self, config: TrialsOnlyConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.net = TargetNet(config.net, spec, make_encoder(config.net, spec))

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Takes the scaling from the training episodes."""
        self.net.scaling.fit(episodes)

    def loss(self, batch: Batch) -> Loss:
        """Imitate demo' = (o', a'), which acts on z' in scene s', after trials there and their outcomes.

        L = - log p(a' | o', z', code(trials, s'))  -  w log p(z' | trials, s')
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
        """What the trials suggest, carried out."""
        return PlanPolicy(self.net, without_demos(contexts))

    def explore(self, contexts: Sequence[Context]) -> PlanPolicy:
        """The same, sampled."""
        return PlanPolicy(self.net, without_demos(contexts), stochastic=True)
