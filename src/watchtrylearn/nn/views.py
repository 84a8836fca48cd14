"""What the action head sees of the present moment, and which thing of the scene an episode is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import nn

from watchtrylearn.nn.blocks import take_frames
from watchtrylearn.nn.policy_net import Eye, EyeConfig
from watchtrylearn.nn.scaling import Scaling
from watchtrylearn.ops.interaction import acted_on
from watchtrylearn.types import ENVIRONMENT, STATE, EpisodeBatch, Spec


@runtime_checkable
class View(Protocol):
    """How an encoder's policy looks at the world: as many ``features`` as its ``size`` says, given a target."""

    size: int

    def target_of(self, query: EpisodeBatch) -> Int[torch.Tensor, "task"]:
        """The target that each episode pursued, read from the episode itself."""

    def features(
        self,
        observation: Mapping[str, Shaped[torch.Tensor, "task frame ..."]],
        target: Int[torch.Tensor, "task"],
        scaling: Scaling,
    ) -> Float[torch.Tensor, "task frame feature"]:
        """The observation in network units, as it looks to somebody who pursues ``target``."""


class WholeView:
    """The observation as it is, all numbers in a row. There is one target, number 0, and it means nothing."""

    def __init__(self, spec: Spec) -> None:
        self.size = spec.state_size + spec.environment_size

    def target_of(self, query: EpisodeBatch) -> Int[torch.Tensor, "task"]:
        return torch.zeros_like(query.length)

    def features(
        self,
        observation: Mapping[str, Shaped[torch.Tensor, "task frame ..."]],
        target: Int[torch.Tensor, "task"],
        scaling: Scaling,
    ) -> Float[torch.Tensor, "task frame feature"]:
        return whole(observation, scaling)


class SeeingView(nn.Module):
    """As ``WholeView``, and what the cameras show beside the numbers."""

    def __init__(self, spec: Spec, eye: EyeConfig) -> None:
        super().__init__()
        self.names = list(spec.images)
        eyes = [Eye(eye, camera) for camera in spec.images.values()]
        self.eyes = nn.ModuleList(eyes)
        self.size = spec.state_size + spec.environment_size + sum(each.size for each in eyes)

    def target_of(self, query: EpisodeBatch) -> Int[torch.Tensor, "task"]:
        return torch.zeros_like(query.length)

    def features(
        self,
        observation: Mapping[str, Shaped[torch.Tensor, "task frame ..."]],
        target: Int[torch.Tensor, "task"],
        scaling: Scaling,
    ) -> Float[torch.Tensor, "task frame feature"]:
        return self.joined(observation, whole(observation, scaling))

    def joined(
        self, images: Mapping[str, Shaped[torch.Tensor, "*batch ..."]], numbers: Float[torch.Tensor, "*batch size"]
    ) -> Float[torch.Tensor, "*batch feature"]:
        """What each camera shows, then the numbers."""
        batch = numbers.shape[:-1]
        seen = [eye(images[name].flatten(0, len(batch) - 1)) for name, eye in zip(self.names, self.eyes, strict=True)]
        return torch.cat([*(each.unflatten(0, batch) for each in seen), numbers], -1)


class TargetView:
    """Entities relative to the effector, the target's first; a target is one of them: what the effector came nearest
    to."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.size = spec.state_size + spec.environment_size + spec.entities * spec.position

    def target_of(self, query: EpisodeBatch) -> Int[torch.Tensor, "task"]:
        dims = self.spec.position
        things = query.observation[ENVIRONMENT].unflatten(-1, (self.spec.entities, self.spec.entity_size))
        return acted_on(query.observation[STATE][..., :dims], things[..., :dims], query.mask)

    def features(
        self,
        observation: Mapping[str, Shaped[torch.Tensor, "task frame ..."]],
        target: Int[torch.Tensor, "task"],
        scaling: Scaling,
    ) -> Float[torch.Tensor, "task frame feature"]:
        state, dims = scaling.state(observation[STATE]), self.spec.position
        things = scaling.environment(observation[ENVIRONMENT])
        things = things.unflatten(-1, (self.spec.entities, self.spec.entity_size))
        relative = things[..., :dims] - state[..., None, :dims]
        things = torch.cat([relative, things], -1)
        order = _target_first(target, self.spec.entities)[:, None, :, None].expand(things.shape)
        return torch.cat([state, things.gather(2, order).flatten(2)], -1)


def whole(
    observation: Mapping[str, Shaped[torch.Tensor, "*batch ..."]], scaling: Scaling
) -> Float[torch.Tensor, "*batch size"]:
    """All channels of numbers in a row, in network units."""
    state = scaling.state(observation[STATE])
    if ENVIRONMENT not in observation:
        return state
    return torch.cat([state, scaling.environment(observation[ENVIRONMENT])], -1)


def last_observation(episodes: EpisodeBatch, scaling: Scaling) -> Float[torch.Tensor, "*batch size"]:
    """What each episode shows before its last action, all numbers in a row, in network units."""
    last = (episodes.length - 1).clamp_min(0)[..., None]
    return take_frames(whole(episodes.observation, scaling), last).squeeze(-2)


def _target_first(target: Int[torch.Tensor, "task"], entities: int) -> Int[torch.Tensor, "task entity"]:
    """The entity order (target, then the others as listed)."""
    others = torch.arange(entities - 1, device=target.device)[None]
    return torch.cat([target[:, None], others + (others >= target[:, None])], 1)
