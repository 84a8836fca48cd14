"""Watch-Try-Learn (Zhou et al. 2019, arXiv 1906.03352): demonstration + own trial + yes or no -> retrial.

Phase I trains a trial policy by meta-imitation (``one_shot``). It is frozen and run on the training tasks, and its
trials are stored with their outcomes. Phase II, here, trains the retrial policy by *imitation*: given a demonstration
and trials with outcomes, imitate the expert in the trials' scene; training item (demo, trials, demo').

What we changed (docs/learners/watch_try_learn.md): any number of demonstrations and trials instead of one of each;
contexts with 0 to 3 trials are mixed while training; the retrial network may start from the trial network's weights;
the shared network with a target and action chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from watchtrylearn.data.sampling import Sampling
from watchtrylearn.learners.one_shot import OneShot
from watchtrylearn.learners.plan_policy import PlanPolicy
from watchtrylearn.nn.blocks import accuracy
from watchtrylearn.nn.target_net import NetConfig, TargetNet, make_encoder
from watchtrylearn.types import Batch, Context, EpisodeBatch, Loss, Spec, WtlError, require_contexts


@dataclass(frozen=True)
class WatchTryLearnConfig:
    """``sampling`` asks for one demonstration and 0 to 3 trials in the query's scene, mostly one.

    ``warm_start``: the retrial network begins as a copy of the trial network; otherwise with fresh weights.
    ``retrial``: the retrial network, where it is not built as the trial network is. It then begins with fresh weights,
    and has chunks of the same length, since it takes the trial network's scaling.
    """

    net: NetConfig = field(default_factory=NetConfig)
    warm_start: bool = True
    sampling: Sampling = field(default_factory=lambda: Sampling(demos=(0.0, 1.0), trials=(0.5, 4.0, 2.0, 1.0)))
    retrial: NetConfig | None = None

    def __post_init__(self) -> None:
        if self.retrial is None:
            return
        if self.warm_start:
            raise WtlError(
                "a retrial network of its own cannot begin as a copy: with retrial, warm_start must be false"
            )
        if self.retrial.chunk != self.net.chunk:
            raise WtlError(f"retrial.chunk must be that of net, {self.net.chunk}, got {self.retrial.chunk}")


class WatchTryLearn(nn.Module):
    """A frozen trial network for the first attempt, a retrial network for every later one."""

    name = "watch_try_learn"
    starts_from = OneShot.name

    def __init__(self, config: WatchTryLearnConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.trial = TargetNet(config.net, spec, make_encoder(config.net, spec)).requires_grad_(False)
        retrial = config.retrial or config.net
        self.retrial = TargetNet(retrial, spec, make_encoder(retrial, spec))

    def start_from(self, one_shot: OneShot) -> None:
        """Takes the trained trial policy; the retrial network begins as a copy of it, or takes its scaling alone."""
        self.trial.load_state_dict(one_shot.net.state_dict())
        if self.config.warm_start:
            self.retrial.load_state_dict(one_shot.net.state_dict())
        else:
            self.retrial.scaling.load_state_dict(one_shot.net.scaling.state_dict())

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Nothing to take: the scaling came with the trial policy."""

    def loss(self, batch: Batch) -> Loss:
        """Phase II: imitate demo' = (o', a'), which acts on z' in scene s', after demo, trials and their outcomes.

        L = - log p(a' | o', z', code(demo, trials, s'))  -  w log p(z' | demo, trials, s')
        """
        belief = self.retrial.infer(batch.context, batch.scene)
        target = self.retrial.target_of(batch.query)
        nll = self.retrial.action_nll(belief, target, batch)
        cross_entropy = nn.functional.cross_entropy(belief.target_logits, target)
        parts = {
            "nll": nll,
            "target_cross_entropy": cross_entropy,
            "target_accuracy": accuracy(belief.target_logits, target),
        }
        return nll + self.retrial.config.target_weight * cross_entropy, parts

    def adapt(self, contexts: Sequence[Context]) -> PlanPolicy:
        """The trial policy before the first trial (of all these contexts), the retrial policy after it."""
        return PlanPolicy(self._net(contexts), contexts)

    def explore(self, contexts: Sequence[Context]) -> PlanPolicy:
        """The same, sampled."""
        return PlanPolicy(self._net(contexts), contexts, stochastic=True)

    def adapt_told(self, contexts: Sequence[Context], targets: Sequence[int]) -> PlanPolicy:
        """As ``adapt``, and told which entity to act on: what is left is carrying it out."""
        return PlanPolicy(self._net(contexts), contexts, told=targets)

    def _net(self, contexts: Sequence[Context]) -> TargetNet:
        """Contexts that mix tried and untried go to the retrial network, which is trained on 0 trials too."""
        return self.retrial if any(c.trials for c in require_contexts(contexts)) else self.trial
