"""Which steps of an episode to look at."""

import torch
from jaxtyping import Int


def spread_frames(length: Int[torch.Tensor, "*batch"], frames: int) -> Int[torch.Tensor, "*batch frames"]:
    """Indices of ``frames`` steps spread evenly over each episode, first and last always among them."""
    fraction = torch.linspace(0.0, 1.0, frames, device=length.device)
    last = (length - 1).clamp_min(0)
    return (fraction * last[..., None]).round().long()
