"""The contextual policy: a demonstration is nothing but its last observation.

Paper: the "contextual" baseline of MIL (Finn et al. 2017, section 5): the policy takes the final frame of the
demonstration beside its own observation. It can learn what the demonstration led to, not how.

What we changed (docs/learners/contextual.md): images only where asked for; the shared action head with chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from watchtrylearn.data.sampling import Sampling
from watchtrylearn.learners.each_demo import after_each_demo
from watchtrylearn.learners.plan_policy import PlanPolicy, without_trials
from watchtrylearn.nn.encoders import LastFrameEncoder
from watchtrylearn.nn.policy_net import EyeConfig
from watchtrylearn.nn.target_net import NetConfig, TargetNet
from watchtrylearn.types import Batch, Context, EpisodeBatch, Loss, Policy, Spec, WtlError

EMBEDDING = LastFrameEncoder.name


@dataclass(frozen=True)
class ContextualConfig:
    """``net.embedding`` is ``"last_frame"``, another is refused; ``sampling`` asks for one demonstration.

    ``image_frames``: how many images of a demonstration are read, of which the last is looked at (2: the first and the
    last), and those of the present moment, through the convolutions ``eye``; None: numbers alone, cameras or not.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("net.embedding",)  # not what an experiment sets for all of its methods
    net: NetConfig = field(default_factory=lambda: NetConfig(embedding=EMBEDDING))
    sampling: Sampling = field(default_factory=lambda: Sampling(demos=(0.0, 1.0), trials=(1.0,)))
    image_frames: int | None = None
    eye: EyeConfig = field(default_factory=EyeConfig)

    def __post_init__(self) -> None:
        if self.net.embedding != EMBEDDING:
            raise WtlError(f"contextual embeds by {EMBEDDING!r} alone; net.embedding is {self.net.embedding!r}")
        if self.image_frames is not None and not 2 <= self.image_frames <= 10_000:
            raise WtlError(
                f"contextual.image_frames must be at least 2, the first and the last; got {self.image_frames}"
            )


class Contextual(nn.Module):
    """Imitates a task from the last frame of its demonstrations; trials are ignored."""

    name = "contextual"

    def __init__(self, config: ContextualConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        eye = None if config.image_frames is None else config.eye
        self.net = TargetNet(config.net, spec, LastFrameEncoder(spec, config.net.code, eye))

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Takes the scaling from the training episodes."""
        self.net.scaling.fit(episodes)

    def loss(self, batch: Batch) -> Loss:
        """Imitate the query o', a' after the last observation o_T of a demonstration. There is no target to infer.

        L = - log p(a' | o', code(o_T))
        """
        belief = self.net.infer(batch.context, batch.scene)
        nll = self.net.action_nll(belief, self.net.target_of(batch.query), batch)
        return nll, {"nll": nll}

    def adapt(self, contexts: Sequence[Context]) -> Policy:
        """What the last frame suggests, carried out; of several demonstrations, the mean of what theirs suggest."""
        return after_each_demo(without_trials(contexts), lambda alone: PlanPolicy(self.net, alone))

    def explore(self, contexts: Sequence[Context]) -> PlanPolicy:
        """The same, with sampled ways of moving."""
        return PlanPolicy(self.net, without_trials(contexts), stochastic=True)
