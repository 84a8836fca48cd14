"""Episodes as padded tensors: a store of many, contexts of a few, training batches gathered by index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int

from watchtrylearn.data.sampling import Pairs
from watchtrylearn.types import Batch, Context, ContextBatch, Episode, EpisodeBatch, Spec, WtlError


def stack(episodes: Sequence[Episode], spec: Spec) -> EpisodeBatch:
    """The episodes side by side, (episode, time, ...): ``spec.horizon`` long, zeros after each one's end."""
    shape = (len(episodes), spec.horizon)
    observation = {name: np.zeros((*shape, channel.size), np.float32) for name, channel in spec.observation.items()}
    action = np.zeros((*shape, spec.action.size), np.float32)
    reward = np.zeros(shape, np.float32)
    for row, episode in enumerate(episodes):
        steps = len(episode)
        if steps > spec.horizon:
            raise WtlError(f"episode {row} has {steps} steps, more than the horizon of {spec.horizon}")
        for name, padded in observation.items():
            padded[row, :steps] = episode.observation[name]
        action[row, :steps] = episode.action
        reward[row, :steps] = episode.reward
    return EpisodeBatch(
        observation={name: torch.from_numpy(padded) for name, padded in observation.items()},
        action=torch.from_numpy(action),
        reward=torch.from_numpy(reward),
        success=torch.tensor([float(episode.success) for episode in episodes]),
        length=torch.tensor([len(episode) for episode in episodes], dtype=torch.int64),
    )


def take(store: EpisodeBatch, index: Int[np.ndarray, "*batch"]) -> EpisodeBatch:
    """The episodes at ``index``, with its shape as leading dimensions; -1 gives an absent one (all zeros)."""
    rows = torch.as_tensor(index, device=store.length.device)
    if len(store.length) == 0:
        store = _absent_like(store)
    taken = store[rows.clamp(min=0)]
    absent = rows < 0
    if absent.any():
        _zero(taken, absent)
    return taken


def _absent_like(store: EpisodeBatch) -> EpisodeBatch:
    def one(value: torch.Tensor) -> torch.Tensor:
        return value.new_zeros((1, *value.shape[1:]))

    observation = {name: one(value) for name, value in store.observation.items()}
    return EpisodeBatch(observation, one(store.action), one(store.reward), one(store.success), one(store.length))


def _zero(batch: EpisodeBatch, where: torch.Tensor) -> None:
    """Zero the marked episodes of a batch that nobody else holds yet."""
    for value in (*batch.observation.values(), batch.action, batch.reward, batch.success, batch.length):
        value[where] = 0


def collate(contexts: Sequence[Context], spec: Spec) -> ContextBatch:
    """Contexts side by side. Each kind gets as many slots as the fullest context needs, and at least one, so
    that a network needs no special case for "no trials yet": the slot is there and its ``length`` is 0.

    Raises ``WtlError`` for a demonstration with a number that is not finite or outside the spec's bounds, naming
    context, field and step."""
    for number, context in enumerate(contexts):
        for demo in context.demos:
            found = demo.problems(spec)
            if found:
                raise WtlError(f"the demonstration of {demo.task.name} in context {number} is refused: {found[0]}")
    trials = _shots([context.trials for context in contexts], spec)
    hidden = torch.tensor([context.hidden for context in contexts], dtype=torch.bool)
    trials.success[hidden] = 0.5  # neither yes nor no: networks see 0, between -1 and +1
    return ContextBatch(demos=_shots([context.demos for context in contexts], spec), trials=trials)


def _shots(groups: Sequence[Sequence[Episode]], spec: Spec) -> EpisodeBatch:
    slots = np.full((len(groups), max([1, *map(len, groups)])), -1)
    begin = 0
    for row, group in enumerate(groups):
        slots[row, : len(group)] = np.arange(begin, begin + len(group))
        begin += len(group)
    return take(stack([episode for group in groups for episode in group], spec), slots)


def gather(store: EpisodeBatch, pairs: Pairs) -> Batch:
    """The training batch that ``pairs`` describes; its indices are rows of ``store``."""
    return Batch(
        context=ContextBatch(demos=take(store, pairs.demo), trials=take(store, pairs.trial)),
        query=take(store, pairs.query),
        frames=torch.as_tensor(pairs.frames, device=store.length.device),
    )
