"""What is learned from, as tensors: episodes and contexts side by side, padded and masked (see ``types.py``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8


@dataclass(frozen=True, eq=False)
class EpisodeBatch:
    """Episodes as tensors, padded in time to a common length; ``length`` 0 marks an absent episode.

    The leading dimensions ``*batch`` are ``(episode,)`` in a store, ``(task, shot)`` in a context,
    ``(task,)`` for queries.

    Attributes:
        observation: the channels of numbers, before every action.
        terminated: the episode ended because its outcome was settled.
        images: the cameras, as uint8, at ``image_frames`` only, which are a time axis of their own; empty where nobody
            asked for images.
        image_frames: of which step each image is; ``length`` means after the last action. None without images.
        final: the channels of numbers after the last action (of a slice, after its last), from which the value of an
            episode that was cut off goes on: ``Episode.final``, or where nobody noted it the last observation again.
            Empty in batches that were not taken from a memory.
    """

    observation: Mapping[str, Float[torch.Tensor, "*batch time _"]]
    action: Float[torch.Tensor, "*batch time act"]
    reward: Float[torch.Tensor, "*batch time"]
    success: Float[torch.Tensor, "*batch"]
    length: Int[torch.Tensor, "*batch"]
    terminated: Bool[torch.Tensor, "*batch"]
    images: Mapping[str, UInt8[torch.Tensor, "*batch frame _ _ 3"]] = field(default_factory=dict)
    image_frames: Int[torch.Tensor, "*batch frame"] | None = None
    final: Mapping[str, Float[torch.Tensor, "*batch _"]] = field(default_factory=dict)

    @property
    def mask(self) -> Bool[torch.Tensor, "*batch time"]:
        """True where a step exists."""
        return torch.arange(self.action.shape[-2], device=self.length.device) < self.length[..., None]

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> EpisodeBatch:
        """The batch with every tensor changed in the same way."""
        return EpisodeBatch(
            {name: change(value) for name, value in self.observation.items()},
            change(self.action),
            change(self.reward),
            change(self.success),
            change(self.length),
            change(self.terminated),
            {name: change(value) for name, value in self.images.items()},
            None if self.image_frames is None else change(self.image_frames),
            {name: change(value) for name, value in self.final.items()},
        )

    def __getitem__(self, index: Any) -> EpisodeBatch:
        return self.map(lambda value: value[index])

    def to(self, device: torch.device | str) -> EpisodeBatch:
        return self.map(lambda value: value.to(device))


@dataclass(frozen=True, eq=False)
class ContextBatch:
    """Contexts of several tasks side by side: ``demos`` (task, demo, ...) and ``trials`` (task, trial, ...)."""

    demos: EpisodeBatch
    trials: EpisodeBatch

    def to(self, device: torch.device | str) -> ContextBatch:
        return ContextBatch(self.demos.to(device), self.trials.to(device))


@dataclass(frozen=True, eq=False)
class Batch:
    """One meta-training batch: contexts, and for each the episode to imitate at ``frames`` (task, frame).

    The query's images, where there are any, are of its first step (the scene), and then of ``frames``.
    ``hypothetical`` marks queries that are trials, taken for what was meant: what they were after is to be inferred,
    how they went about it is not to be imitated. None: there are none.
    """

    context: ContextBatch
    query: EpisodeBatch
    frames: Int[torch.Tensor, "task frame"]
    hypothetical: Bool[torch.Tensor, "task"] | None = None

    @property
    def scene(self) -> dict[str, Shaped[torch.Tensor, "task ..."]]:
        """What each query shows before its first action, cameras (uint8) included."""
        numbers = {name: value[:, 0] for name, value in self.query.observation.items()}
        return numbers | {name: value[:, 0] for name, value in self.query.images.items()}

    @property
    def seen(self) -> dict[str, Shaped[torch.Tensor, "task frame ..."]]:
        """What each query shows at ``frames``, cameras (uint8) included."""
        task = torch.arange(len(self.frames), device=self.frames.device)[:, None]
        numbers = {name: value[task, self.frames] for name, value in self.query.observation.items()}
        return numbers | {name: value[:, 1:] for name, value in self.query.images.items()}

    def to(self, device: torch.device | str) -> Batch:
        hypothetical = None if self.hypothetical is None else self.hypothetical.to(device)
        return Batch(self.context.to(device), self.query.to(device), self.frames.to(device), hypothetical)


@dataclass(frozen=True, eq=False)
class Transitions:
    """Single steps of many episodes, for methods that learn from transitions.

    Attributes:
        observation, action: what was seen, and what was done then.
        reward: the discounted sum of the rewards from there to ``next_observation``, n steps on.
        discount: what the value of ``next_observation`` counts beside it: ``gamma ** n``, or 0 where the episode
            terminated there; one that was only cut off has a future.
        next_observation: channel -> (transition, *shape), as ``observation``; images are uint8.
    """

    observation: Mapping[str, Shaped[torch.Tensor, "transition ..."]]
    action: Float[torch.Tensor, "transition act"]
    reward: Float[torch.Tensor, "transition"]
    discount: Float[torch.Tensor, "transition"]
    next_observation: Mapping[str, Shaped[torch.Tensor, "transition ..."]]

    def to(self, device: torch.device | str) -> Transitions:
        return Transitions(
            {name: value.to(device) for name, value in self.observation.items()},
            self.action.to(device),
            self.reward.to(device),
            self.discount.to(device),
            {name: value.to(device) for name, value in self.next_observation.items()},
        )
