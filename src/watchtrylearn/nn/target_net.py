"""The network every state-based learner here shares: infer what to do from a context, then act on it.

    p(actions | context, scene, now) = sum_target p(target | context, scene) p(actions | target, code, now)

The target (which entity to act on) is decided once per episode, so that a policy commits to one reading of an
ambiguous demonstration instead of averaging two. While learning, the target of the imitated episode is known
from the episode itself (what it came nearest to), so both factors are trained by maximum likelihood: the learners put
their losses together from ``infer``, ``target_of`` and ``action_nll``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import nn

from watchtrylearn.errors import suggestion
from watchtrylearn.nn.blocks import mlp
from watchtrylearn.nn.encoders import (
    HEADS,
    Belief,
    Encoder,
    FlatEncoder,
    LastFrameEncoder,
    ObjectEncoder,
    TransitionEncoder,
)
from watchtrylearn.nn.scaling import Scaling
from watchtrylearn.ops.mixture import chunk_log_likelihood
from watchtrylearn.system.config import SHOWN, require_within
from watchtrylearn.types import STATE, Batch, ContextBatch, EpisodeBatch, Spec, WtlError

MOST_LAYERS = 100
AUTO = "auto"


@dataclass(frozen=True)
class NetConfig:
    """Sizes of the network.

    Attributes:
        embedding: how the context is embedded: ``"object"`` (one track per entity, attention, a target),
            ``"flat"`` (the authors' temporal convolutions), ``"transitions"`` (of the trials, the authors' in their toy
            problem), ``"last_frame"`` (of the demonstration, no trials), or ``"auto"``: ``"object"`` where the spec
            lists entities and says what their positions are, ``"flat"`` elsewhere.
        code: size of the task embedding.
        width, layers: of the object encoder's attention.
        frames: steps of each context episode that the object encoder looks at.
        compare_scenes: the object encoder is told of every thing in a trial whether it lay where it lies in the present
            scene, so that it can tell trials made here from trials made elsewhere.
        hidden: widths of the action head (the authors: two of 100).
        mixtures: components of the action mixture (1 is a plain Gaussian; the authors: 10, in their toy problem 1).
        squared_error: the head learns by the squared error of its one component, which has no deviation (the authors'
            retrial network).
        chunk: consecutive actions predicted at once.
        execute: how many of them are carried out before looking again.
        target_weight: weight of the target's cross-entropy beside the actions' likelihood.
    """

    embedding: str = AUTO
    code: int = 64
    width: int = 96
    layers: int = 2
    frames: int = 12
    hidden: tuple[int, ...] = (256, 256, 256)
    mixtures: int = 5
    chunk: int = 8
    execute: int = 4
    target_weight: float = 1.0
    compare_scenes: bool = False
    squared_error: bool = False

    def __post_init__(self) -> None:
        known = (AUTO, *_ENCODERS)
        if self.embedding not in known:
            raise WtlError(f"unknown embedding {self.embedding[:SHOWN]!r}; {suggestion(self.embedding, known)}")
        require_within(
            "net.",
            self,
            code=(1, 4096),
            width=(1, 4096),
            layers=(1, MOST_LAYERS),
            frames=(1, 1000),
            hidden=(1, 16384),
            mixtures=(1, 1000),
            chunk=(1, 1000),
            target_weight=(0, 1e9),
        )
        if len(self.hidden) > MOST_LAYERS:
            raise WtlError(f"net.hidden must have at most {MOST_LAYERS} layers, got {len(self.hidden)}")
        if self.width % HEADS or self.code % 2:
            raise WtlError(
                f"net.width must be a multiple of {HEADS} and net.code of 2, got {self.width} and {self.code}"
            )
        if self.squared_error and self.mixtures != 1:
            raise WtlError(f"net.squared_error is of one component, so net.mixtures must be 1, got {self.mixtures}")
        if not 1 <= self.execute <= self.chunk:
            raise WtlError(f"execute is {self.execute}; it must be between 1 and chunk = {self.chunk}")


def make_encoder(config: NetConfig, spec: Spec) -> Encoder:
    """The encoder that ``config.embedding`` names, which is looked at here and nowhere else."""
    automatic = ObjectEncoder.name if ObjectEncoder.fits(spec) else FlatEncoder.name
    return _ENCODERS[automatic if config.embedding == AUTO else config.embedding](config, spec)


_ENCODERS: dict[str, Callable[[NetConfig, Spec], Encoder]] = {
    ObjectEncoder.name: lambda c, spec: ObjectEncoder(spec, c.code, c.width, c.layers, c.frames, c.compare_scenes),
    FlatEncoder.name: lambda c, spec: FlatEncoder(spec, c.code),
    TransitionEncoder.name: lambda c, spec: TransitionEncoder(spec, c.code),
    LastFrameEncoder.name: lambda c, spec: LastFrameEncoder(spec, c.code),
}


class TargetNet(nn.Module):
    """Encoder, action head and scaling; everything a learner needs besides its choice of context.

    ``log_std`` (chunk, act) is the deviation of the actions, the same everywhere; None with ``squared_error``.
    """

    log_std: nn.Parameter | None

    def __init__(self, config: NetConfig, spec: Spec, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.scaling = Scaling(spec, config.chunk)
        deviation = None if config.squared_error else nn.Parameter(torch.zeros(config.chunk, spec.action.size))
        self.register_parameter("log_std", deviation)
        self.encoder = encoder
        inputs = encoder.view.size + config.code + 1  # what is seen now, what to do, how late it is
        per_chunk = config.chunk * spec.action.size
        self.head = mlp((inputs, *config.hidden, config.mixtures * (1 + per_chunk)))

    @property
    def device(self) -> torch.device:
        return self.scaling.state_mean.device

    @property
    def looked_at(self) -> Spec:
        """The channels that there is anybody to look at: without the cameras, if the encoder has no use for them."""
        if getattr(self.encoder, "cameras", True):
            return self.spec
        return replace(self.spec, observation=self.spec.numbers)

    def infer(self, context: ContextBatch, scene: Mapping[str, Shaped[torch.Tensor, "task ..."]]) -> Belief:
        """What to do in this scene (observation at the start of the episode), given the context."""
        return self.encoder(context, scene, self.scaling)

    def target_of(self, query: EpisodeBatch) -> Int[torch.Tensor, "task"]:
        """The target that each query pursued, read from the query itself."""
        return self.encoder.view.target_of(query)

    def actions(
        self,
        belief: Belief,
        target: Int[torch.Tensor, "task"],
        observation: Mapping[str, Shaped[torch.Tensor, "task frame ..."]],
        time: Float[torch.Tensor, "task frame"],
    ) -> tuple[Float[torch.Tensor, "task frame mix"], Float[torch.Tensor, "task frame mix chunk act"]]:
        """Mixture logits and means (network units) for chunks that begin now; ``time`` in fractions of the horizon."""
        seen = self.encoder.view.features(observation, target, self.scaling)
        code = belief.embedding[:, None].expand(*seen.shape[:2], -1)
        out = self.head(torch.cat([seen, code, time[..., None]], -1))
        logits, mean = out[..., : self.config.mixtures], out[..., self.config.mixtures :]
        return logits, mean.unflatten(-1, (self.config.mixtures, self.config.chunk, self.spec.action.size))

    def action_nll(
        self,
        belief: Belief,
        target: Int[torch.Tensor, "task"],
        batch: Batch,
    ) -> Float[torch.Tensor, ""]:
        """- log p(the query's actions from ``batch.frames`` on | what it shows there, target, code), per number.

        Over the queries that are to be imitated; 0 if there is none. With ``squared_error`` the mean squared error in
        network units, which is that of a Gaussian whose variance is 1/2, without its constant.
        """
        query, seen, frames = batch.query, batch.seen, batch.frames
        logits, mean = self.actions(belief, target, seen, frames / self.spec.horizon)
        ahead = frames[..., None] + torch.arange(self.config.chunk, device=frames.device)
        exists = ahead < query.length[:, None, None]
        if batch.hypothetical is not None:
            exists &= ~batch.hypothetical[:, None, None]
        task = torch.arange(len(frames), device=frames.device)[:, None, None]
        action = query.action[task, ahead.clamp(max=query.action.shape[1] - 1)]
        action = self.scaling.chunk_in(action, seen[STATE])
        numbers = (exists.sum() * self.spec.action.size).clamp(min=1)
        if self.log_std is None:
            return ((mean.squeeze(2) - action).square() * exists[..., None]).sum() / numbers
        likelihood = chunk_log_likelihood(logits, mean, self.log_std.clamp(min=-4.0), action, exists)
        return -likelihood.sum() / numbers
