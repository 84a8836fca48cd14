"""Small building blocks shared by the networks."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import nn

from watchtrylearn.types import EpisodeBatch


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with layer norm and ReLU between them; the last one is linear."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layers.append(nn.Linear(inputs, outputs))
        if i < len(sizes) - 2:
            layers += [nn.LayerNorm(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def take_frames(
    values: Float[torch.Tensor, "*batch time size"], index: Int[torch.Tensor, "*batch frames"]
) -> Float[torch.Tensor, "*batch frames size"]:
    """The steps ``index`` of each episode."""
    return values.gather(-2, index[..., None].expand(*index.shape, values.shape[-1]))


def accuracy(logits: Float[torch.Tensor, "task choice"], right: Int[torch.Tensor, "task"]) -> Float[torch.Tensor, ""]:
    """The share of tasks whose right choice is the most likely one."""
    return (logits.argmax(-1) == right).float().mean()


def mean_present(
    values: Float[torch.Tensor, "task shot size"], episodes: EpisodeBatch
) -> Float[torch.Tensor, "task size"]:
    """Mean over the episodes that exist; zero where none does."""
    weight = (episodes.length > 0).to(values.dtype)[..., None]
    return (values * weight).sum(1) / weight.sum(1).clamp_min(1.0)


def signed_success(episodes: EpisodeBatch) -> Float[torch.Tensor, "*batch"]:
    """The yes or no as +1 or -1 (the authors' encoding); 0 where there is no episode."""
    return torch.where(episodes.length > 0, 2.0 * episodes.success - 1.0, 0.0)
