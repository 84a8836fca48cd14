"""One-shot imitation: infer the task from demonstrations alone. Watch-Try-Learn's trial policy (Phase I).

Paper: Watch-Try-Learn, "train a trial policy with meta-imitation": sample a task, condition on one
demonstration, imitate another. On its own it is the meta-imitation ("demo only") baseline.

What we changed (docs/learners/one_shot.md): the embedding may be object-centred (``net.embedding="object"``; the
authors' flat one is ``"flat"``), the policy commits to one target per episode and predicts chunks of actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from watchtrylearn.data.sampling import Sampling
from watchtrylearn.learners.plan_policy import PlanPolicy, without_trials
from watchtrylearn.nn.blocks import accuracy
from watchtrylearn.nn.target_net import NetConfig, TargetNet, make_encoder
from watchtrylearn.types import Batch, Context, EpisodeBatch, Loss, Spec


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
        self.net = TargetNet(config.net, spec, make_encoder(config.net, spec))

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Takes the scaling from the training episodes."""
        self.net.scaling.fit(episodes)

    def loss(self, batch: Batch) -> Loss:
        """Imitate demo' = (o', a'), which acts on z' in scene s', after watching demo.

        L = - log p(a' | o', z', code(demo, s'))  -  w log p(z' | demo, s')
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
        """The most likely reading of the demonstrations, carried out."""
        return PlanPolicy(self.net, without_trials(contexts))

    def explore(self, contexts: Sequence[Context]) -> PlanPolicy:
        """A sampled reading, carried out with sampled ways of moving: trials that differ from each other."""
        return PlanPolicy(self.net, without_trials(contexts), stochastic=True)

    def adapt_told(self, contexts: Sequence[Context], targets: Sequence[int]) -> PlanPolicy:
        """As ``adapt``, and told which entity to act on: what is left is carrying it out."""
        return PlanPolicy(self.net, without_trials(contexts), told=targets)
