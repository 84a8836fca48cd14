"""Episodes as padded tensors: contexts of a few, many side by side, training batches gathered by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np
import torch
from jaxtyping import Float, Int

from watchtrylearn.data.memory import REWARD, EpisodeMemory
from watchtrylearn.data.sampling import Pairs, Steps
from watchtrylearn.ops.frames import spread_frames
from watchtrylearn.types import (
    ACTION,
    Batch,
    Context,
    ContextBatch,
    Episode,
    EpisodeBatch,
    Spec,
    Transitions,
    WtlError,
)

IMAGE_FRAMES = 8  # of an episode in a context, where it has images and nobody says how many


def stack(episodes: Sequence[Episode], spec: Spec) -> EpisodeBatch:
    """The numbers of the episodes side by side, (episode, time, ...): ``spec.horizon`` long, zeros after each's end.

    Images are left out; ``EpisodeMemory`` has both.
    """
    shape = (len(episodes), spec.horizon)
    observation = {name: np.zeros((*shape, channel.size), np.float32) for name, channel in spec.numbers.items()}
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
        terminated=torch.tensor([bool(episode.terminated) for episode in episodes], dtype=torch.bool),
    )


def take(store: EpisodeBatch, index: Int[np.ndarray, "*batch"]) -> EpisodeBatch:
    """The episodes at ``index``, with its shape as leading dimensions; -1 gives an absent one (all zeros)."""
    rows = torch.as_tensor(index, device=store.length.device)
    if len(store.length) == 0:
        store = store.map(lambda value: value.new_zeros((1, *value.shape[1:])))
    taken = store[rows.clamp(min=0)]
    absent = rows < 0
    if absent.any():
        taken.map(lambda value: value.index_put_((absent,), value.new_zeros(())))  # nobody else holds it yet
    return taken


def collate(contexts: Sequence[Context], spec: Spec, image_frames: int = IMAGE_FRAMES) -> ContextBatch:
    """Contexts side by side. Each kind gets as many slots as the fullest context needs, and at least one, so
    that a network needs no special case for "no trials yet": the slot is there and its ``length`` is 0.

    Of every episode there are the images of ``image_frames`` steps, spread evenly, first and last included. Where a
    context is ``hidden``, its trials' success is 0.5, their rewards are 0, and none of them terminated.

    Raises ``WtlError`` for a demonstration with a number that is not finite or outside the spec's bounds, naming
    context, field and step, and for a trial whose images are missing, of another size or not uint8."""
    for number, context in enumerate(contexts):
        for trial in context.trials:
            for name, camera in spec.images.items():
                found = camera.problems(f"observation.{name}", trial.observation.get(name), len(trial))
                if found:
                    raise WtlError(f"the trial at {trial.task.name} in context {number} is refused: {found[0]}")
        for demo in context.demos:
            found = demo.problems(spec)
            if found:
                raise WtlError(f"the demonstration of {demo.task.name} in context {number} is refused: {found[0]}")
    demos, trials = (_shots([getattr(c, kind) for c in contexts], spec, image_frames) for kind in ("demos", "trials"))
    hidden = torch.tensor([context.hidden for context in contexts], dtype=torch.bool)
    trials.success[hidden] = 0.5  # neither yes nor no: networks see 0, between -1 and +1
    trials.reward[hidden], trials.terminated[hidden] = 0.0, False  # which would tell it
    return ContextBatch(demos, trials)


def _shots(groups: Sequence[Sequence[Episode]], spec: Spec, image_frames: int) -> EpisodeBatch:
    slots = np.full((len(groups), max([1, *map(len, groups)])), -1)
    begin = 0
    for row, group in enumerate(groups):
        slots[row, : len(group)] = np.arange(begin, begin + len(group))
        begin += len(group)
    taken = take(stack([episode for group in groups for episode in group], spec), slots)
    if not spec.images:
        return taken
    frames = spread_frames(taken.length, image_frames)
    images = {name: np.zeros((*frames.shape, *kind.shape), kind.dtype) for name, kind in spec.images.items()}
    for row, group in enumerate(groups):
        for shot, episode in enumerate(group):
            for name, shown in images.items():
                shown[row, shot] = episode.observation[name][frames[row, shot].numpy()]
    return replace(taken, images={n: torch.from_numpy(shown) for n, shown in images.items()}, image_frames=frames)


@overload
def gather(store: EpisodeMemory | EpisodeBatch, examples: Pairs, image_frames: int = ...) -> Batch: ...
@overload
def gather(store: EpisodeMemory, examples: Steps, image_frames: int = ...) -> Transitions: ...
def gather(
    store: EpisodeMemory | EpisodeBatch, examples: Pairs | Steps, image_frames: int = IMAGE_FRAMES
) -> Batch | Transitions:
    """The training batch that ``examples`` describe; their indices are rows of ``store``.

    ``store`` is a memory or, for numbers of whole episodes alone, what ``stack`` made. Queries come with the images of
    their first step (the scene) and then of those to imitate; episodes in a context with those that the examples name,
    or of ``image_frames`` steps spread evenly, first and last included.
    """
    if isinstance(store, EpisodeBatch):
        if isinstance(examples, Steps) or examples.demo_span is not None:
            raise WtlError("transitions and slices are gathered from an EpisodeMemory, not from stacked episodes")
        demos, trials, query = (take(store, rows) for rows in (examples.demo, examples.trial, examples.query))
    elif isinstance(examples, Steps):
        return _transitions(store, examples)
    else:
        demos = store.take(examples.demo, examples.demo_frames, spans=examples.demo_span, spread=image_frames)
        trials = store.take(examples.trial, spread=image_frames)
        query = store.take(examples.query, np.insert(examples.frames, 0, 0, axis=1))
    hypothetical = None
    if examples.answer is not None:
        answer = torch.from_numpy(examples.answer)
        trials, hypothetical = _answered(trials, answer), ~answer.isnan().any(-1)
    frames = torch.as_tensor(examples.frames, device=query.length.device)
    return Batch(ContextBatch(demos, trials), query, frames, hypothetical)


def _answered(trials: EpisodeBatch, answer: Float[torch.Tensor, "task shot"]) -> EpisodeBatch:
    """The trials as they are told: with yes or no instead of how they ended, unless it is NaN. One that is told so says
    the same everywhere: success, the reward of its last step and of no other, and whether that settled it."""
    told = ~answer.isnan()
    success = torch.where(told, answer.nan_to_num().to(trials.success), trials.success)
    step = torch.arange(trials.reward.shape[-1])
    reward = success[..., None] * (step == trials.length[..., None] - 1)
    return replace(
        trials,
        success=success,
        reward=torch.where(told[..., None], reward, trials.reward),
        terminated=torch.where(told, success > 0, trials.terminated),
    )


def _transitions(memory: EpisodeMemory, steps: Steps) -> Transitions:
    """Rewards are summed in 64 bits. An episode that was cut off goes on after its last frame, one that terminated
    does not."""
    count = steps.end - steps.begin
    ahead = np.arange(count.max(initial=1))
    exists = ahead < count[:, None]
    rewards = memory.frames(steps.row, np.where(exists, steps.begin[:, None] + ahead, 0), [REWARD])[REWARD].numpy()
    over = memory.terminated(steps.row) & (steps.end == memory.lengths(steps.row))
    ends = memory.frames(steps.row, np.stack([steps.begin, steps.end], 1), memory.spec.observation)
    return Transitions(
        observation={name: value[:, 0] for name, value in ends.items()},
        action=memory.frames(steps.row, steps.begin[:, None], [ACTION])[ACTION][:, 0],
        reward=torch.from_numpy(np.where(exists, rewards * steps.gamma**ahead, 0.0).sum(1).astype(np.float32)),
        discount=torch.from_numpy(np.where(over, 0.0, steps.gamma**count).astype(np.float32)),
        next_observation={name: value[:, 1] for name, value in ends.items()},
    )
