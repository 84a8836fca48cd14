"""The network every state-based learner here shares: infer what to do from a context, then act on it.

    p(actions | context, scene, now) = sum_target p(target | context, scene) p(actions | target, code, now)

The target (which entity to act on) is decided once per episode, so that a policy commits to one reading of an
ambiguous demonstration instead of averaging two. While learning, the target of the imitated episode is known
from the episode itself (what it came nearest to), so both factors are trained by maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import nn

from watchtrylearn.errors import suggestion
from watchtrylearn.nn.blocks import mlp
from watchtrylearn.nn.encoders import HEADS, Belief, FlatEncoder, LastFrameEncoder, ObjectEncoder, TransitionEncoder
from watchtrylearn.nn.scaling import Scaling
from watchtrylearn.ops.interaction import acted_on
from watchtrylearn.ops.mixture import chunk_log_likelihood
from watchtrylearn.system.config import SHOWN, require_within
from watchtrylearn.types import (
    ENVIRONMENT,
    STATE,
    Batch,
    ContextBatch,
    EpisodeBatch,
    Spec,
    WtlError,
)

MOST_LAYERS = 100
EMBEDDINGS = ("object", "flat", "transitions", "last_frame")
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
        hidden: widths of the action head (the authors: two of 100).
        mixtures: components of the action mixture (1 is a plain Gaussian; the authors: 10, in their toy problem 1).
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

    def __post_init__(self) -> None:
        known = (AUTO, *EMBEDDINGS)
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
        if not 1 <= self.execute <= self.chunk:
            raise WtlError(f"execute is {self.execute}; it must be between 1 and chunk = {self.chunk}")


class TargetNet(nn.Module):
    """Encoder, action head and scaling; everything a learner needs besides its choice of context."""

    def __init__(self, config: NetConfig, spec: Spec) -> None:
        super().__init__()
        if config.embedding == AUTO:
            config = replace(config, embedding="object" if spec.entities and spec.position else "flat")
        self.config, self.spec = config, spec
        self.scaling = Scaling(spec, config.chunk)
        self.log_std = nn.Parameter(torch.zeros(config.chunk, spec.action.size))
        self.encoder = _encoder(config, spec)
        per_chunk = config.chunk * spec.action.size
        self.head = mlp((self._head_inputs(), *config.hidden, config.mixtures * (1 + per_chunk)))

    def infer(self, context: ContextBatch, scene: Mapping[str, Float[torch.Tensor, "task _"]]) -> Belief:
        """What to do in this scene (observation at the start of the episode), given the context."""
        belief: Belief = self.encoder(context, dict(scene), self.scaling)
        return belief

    def actions(
        self,
        belief: Belief,
        target: Int[torch.Tensor, "task"],
        observation: Mapping[str, Float[torch.Tensor, "task frame _"]],
        time: Float[torch.Tensor, "task frame"],
    ) -> tuple[Float[torch.Tensor, "task frame mix"], Float[torch.Tensor, "task frame mix chunk act"]]:
        """Mixture logits and means (network units) for chunks that begin now; ``time`` in fractions of the horizon."""
        seen = self._seen(observation, target)
        code = belief.embedding[:, None].expand(*seen.shape[:2], -1)
        out = self.head(torch.cat([seen, code, time[..., None]], -1))
        logits, mean = out[..., : self.config.mixtures], out[..., self.config.mixtures :]
        return logits, mean.unflatten(-1, (self.config.mixtures, self.config.chunk, self.spec.action.size))

    def loss(self, batch: Batch) -> tuple[Float[torch.Tensor, ""], dict[str, Float[torch.Tensor, ""]]]:
        """Negative log-likelihood of the query's actions per number, plus the target's cross-entropy."""
        query = batch.query
        belief = self.infer(batch.context, {n: v[:, 0] for n, v in query.observation.items()})
        target = self.query_target(query)
        task = torch.arange(len(target), device=target.device)[:, None]
        observation = {name: value[task, batch.frames] for name, value in query.observation.items()}
        logits, mean = self.actions(belief, target, observation, batch.frames / self.spec.horizon)
        action, mask = self._chunks(query, batch.frames)
        action = self.scaling.chunk_in(action, observation[STATE])
        likelihood = chunk_log_likelihood(logits, mean, self.log_std.clamp(min=-4.0), action, mask)
        nll = -likelihood.sum() / (mask.sum() * self.spec.action.size)
        cross_entropy = nn.functional.cross_entropy(belief.target_logits, target)
        right = (belief.target_logits.argmax(-1) == target).float().mean()
        parts = {"nll": nll, "target_cross_entropy": cross_entropy, "target_accuracy": right}
        return nll + self.config.target_weight * cross_entropy, parts

    def query_target(self, query: EpisodeBatch) -> Int[torch.Tensor, "task"]:
        """The entity each query acts on; candidate 0 when the encoder has no notion of a target."""
        if self.config.embedding != "object":
            return torch.zeros_like(query.length)
        dims = self.spec.position
        things = query.observation[ENVIRONMENT].unflatten(-1, (self.spec.entities, self.spec.entity_size))
        return acted_on(query.observation[STATE][..., :dims], things[..., :dims], query.mask)

    def _chunks(
        self, query: EpisodeBatch, frames: Int[torch.Tensor, "task frame"]
    ) -> tuple[Float[torch.Tensor, "task frame chunk act"], torch.Tensor]:
        """The actions that follow each frame, and which of them exist."""
        ahead = frames[..., None] + torch.arange(self.config.chunk, device=frames.device)
        task = torch.arange(len(frames), device=frames.device)[:, None, None]
        return query.action[task, ahead.clamp(max=query.action.shape[1] - 1)], ahead < query.length[:, None, None]

    def _head_inputs(self) -> int:
        spec = self.spec
        seen = spec.state_size + spec.environment_size
        if self.config.embedding == "object":
            seen += spec.entities * spec.position
        return seen + self.config.code + 1

    def _seen(
        self, observation: Mapping[str, Float[torch.Tensor, "task frame _"]], target: Int[torch.Tensor, "task"]
    ) -> Float[torch.Tensor, "task frame feature"]:
        """The present observation; with a target, entities relative to the effector, the target's first."""
        state = self.scaling.state(observation[STATE])
        if not self.spec.environment_size:
            return state
        things = self.scaling.environment(observation[ENVIRONMENT])
        if self.config.embedding != "object":
            return torch.cat([state, things], -1)
        things = things.unflatten(-1, (self.spec.entities, self.spec.entity_size))
        relative = things[..., : self.spec.position] - state[..., None, : self.spec.position]
        things = torch.cat([relative, things], -1)
        order = _target_first(target, self.spec.entities)[:, None, :, None].expand(things.shape)
        return torch.cat([state, things.gather(2, order).flatten(2)], -1)


def _encoder(config: NetConfig, spec: Spec) -> nn.Module:
    if config.embedding == "flat":
        return FlatEncoder(spec, config.code)
    if config.embedding == "transitions":
        return TransitionEncoder(spec, config.code)
    if config.embedding == "last_frame":
        return LastFrameEncoder(spec, config.code)
    if not (spec.entities and spec.position):
        others = "use 'flat' or 'transitions'"
        raise WtlError(f"embedding 'object' needs a suite whose environment_state lists entities; {others}")
    return ObjectEncoder(spec, config.code, config.width, config.layers, config.frames)


def _target_first(target: Int[torch.Tensor, "task"], entities: int) -> Int[torch.Tensor, "task entity"]:
    """The entity order (target, then the others as listed)."""
    others = torch.arange(entities - 1, device=target.device)[None]
    return torch.cat([target[:, None], others + (others >= target[:, None])], 1)
