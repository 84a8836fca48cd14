"""What a policy that looks at single frames is shown, in network units: demonstrations, queries, the present moment.

An episode is a dictionary of tensors: ``camera/0``, ``camera/1`` ... (frame, height, width, RGB) in the order of the
spec, still uint8; ``numbers`` (frame, size); ``action`` (frame, act); and where the spec says which numbers are
positions, ``end`` (dim): where the robot is when it ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from watchtrylearn.nn.blocks import take_frames
from watchtrylearn.nn.scaling import Scaling
from watchtrylearn.nn.views import whole
from watchtrylearn.ops.frames import spread_frames
from watchtrylearn.types import STATE, Batch, Context, Episode, EpisodeBatch, Observation, Spec, WtlError

Modality = Literal["full", "video+state", "video"]  # what a demonstration tells beside images
CAMERA = "camera/"


def demonstrations(demos: EpisodeBatch, scaling: Scaling, frames: int, modality: Modality) -> dict[str, Tensor]:
    """``frames`` steps spread over each demonstration, (task, shot, frame, ...), first and last included.

    What ``modality`` does not tell is zeros: actions, and the robot's state. ``weight`` (task, shot) is each one's in a
    mean over demonstrations, and 0 where there is none.
    """
    shown = spread_frames(demos.length, frames) if demos.image_frames is None else demos.image_frames
    seen = {name: take_frames(each, shown) for name, each in demos.observation.items()}
    numbers, action = whole(seen, scaling), scaling.action(take_frames(demos.action, shown), seen[STATE])
    if modality != "full":
        action = torch.zeros_like(action)
    if modality == "video":
        numbers = numbers * (torch.arange(numbers.shape[-1], device=numbers.device) >= scaling.spec.state_size)
    present = (demos.length > 0).to(numbers.dtype)
    return {
        **_cameras(demos.images, scaling.spec),
        "numbers": numbers,
        "action": action,
        "weight": present / present.sum(-1, keepdim=True).clamp_min(1),
        **_end(demos, scaling),
    }


def queries(batch: Batch, scaling: Scaling, with_first: bool = False) -> dict[str, Tensor]:
    """The queries at ``batch.frames``, (task, frame, ...); ``with_first``: before these, their first step."""
    task = torch.arange(len(batch.frames), device=batch.frames.device)[:, None]
    images, numbers = batch.query.images, whole(batch.seen, scaling)
    if with_first:
        first = {name: batch.scene[name][:, None] for name in scaling.spec.numbers}
        numbers = torch.cat([whole(first, scaling), numbers], 1)
    else:
        images = {name: each[:, 1:] for name, each in images.items()}
    action = scaling.action(batch.query.action[task, batch.frames], batch.seen[STATE])
    return {**_cameras(images, scaling.spec), "numbers": numbers, "action": action, **_end(batch.query, scaling)}


def moment(observation: Observation, scaling: Scaling) -> tuple[dict[str, Tensor], Float[Tensor, "world size"]]:
    """What every world shows now, (world, ...), and the robot's state in its own unit."""
    device = scaling.state_mean.device
    seen = {
        name: torch.as_tensor(np.asarray(observation[name], channel.dtype), device=device)
        for name, channel in scaling.spec.observation.items()
    }
    return {**_cameras(seen, scaling.spec), "numbers": whole(seen, scaling)}, seen[STATE]


def cameras(episode: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The images among what is shown, camera by camera."""
    return tuple(each for name, each in episode.items() if name.startswith(CAMERA))


def without_actions(contexts: Sequence[Context], spec: Spec, modality: Modality, name: str) -> list[Context]:
    """The demonstrations alone. Those without actions, (time, 0), are as good as any for a learner (``name``) that does
    not look at actions; others refuse them (``WtlError``)."""
    found = []
    for number, context in enumerate(contexts):
        silent = [demo for demo in context.demos if demo.action.shape[1] == 0]
        if silent and modality == "full":
            raise WtlError(
                f"the demonstration of {silent[0].task.name} in context {number} has no actions, and this {name} looks "
                "at them (modality 'full'); one that was trained with 'video+state' or 'video' does not"
            )
        found.append(Context([_at_rest(demo, spec) if modality != "full" else demo for demo in context.demos]))
    return found


def _at_rest(demo: Episode, spec: Spec) -> Episode:
    """With actions that say nothing."""
    bounds = (
        np.nan_to_num(np.array(each, np.float32), posinf=0, neginf=0) for each in (spec.action.low, spec.action.high)
    )
    return replace(demo, action=np.tile(sum(bounds) / 2, (len(demo), 1)), executed=None)


def _cameras(images: Mapping[str, Tensor], spec: Spec) -> dict[str, Tensor]:
    return {f"{CAMERA}{number}": images[name] for number, name in enumerate(spec.images)}


def _end(episodes: EpisodeBatch, scaling: Scaling) -> dict[str, Tensor]:
    if not scaling.spec.position:
        return {}
    last = (episodes.length - 1).clamp_min(0)[..., None]
    state = take_frames(scaling.state(episodes.observation[STATE]), last).squeeze(-2)
    return {"end": state[..., : scaling.spec.position]}
