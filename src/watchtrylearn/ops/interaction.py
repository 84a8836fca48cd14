"""What an episode did to which thing, read from the episode itself."""

import torch
from jaxtyping import Bool, Float, Int

FAR = 1e3  # stands in for "never near" where a step does not exist


def nearest_approach(
    effector: Float[torch.Tensor, "*batch time dim"],
    entity: Float[torch.Tensor, "*batch time entity dim"],
    mask: Bool[torch.Tensor, "*batch time"],
) -> Float[torch.Tensor, "*batch entity"]:
    """The smallest distance between the effector and each entity during the episode (unit of the positions)."""
    distance = torch.linalg.vector_norm(effector.unsqueeze(-2) - entity, dim=-1)
    return torch.where(mask.unsqueeze(-1), distance, FAR).amin(-2)


def acted_on(
    effector: Float[torch.Tensor, "*batch time dim"],
    entity: Float[torch.Tensor, "*batch time entity dim"],
    mask: Bool[torch.Tensor, "*batch time"],
) -> Int[torch.Tensor, "*batch"]:
    """The entity an episode acts on: the one the effector came nearest to."""
    return nearest_approach(effector, entity, mask).argmin(-1)


def response(
    command: Float[torch.Tensor, "*batch time act"],
    state: Float[torch.Tensor, "*batch time size"],
    mask: Bool[torch.Tensor, "*batch time"],
) -> Float[torch.Tensor, "*batch act size"]:
    """Which way each number of the state went when each command was given: their cosine over the episode, in [-1, 1].

    Each command is compared with the change of the state until the next step. It is 1 where the changes are
    proportional to the commands, -1 where they are so with the opposite sign, and 0 where nothing was commanded or
    nothing moved.
    """
    both = (mask[..., 1:] & mask[..., :-1]).unsqueeze(-1)
    given, change = command[..., :-1, :] * both, state.diff(dim=-2) * both
    size = given.norm(dim=-2).unsqueeze(-1) * change.norm(dim=-2).unsqueeze(-2)
    cosine: torch.Tensor = given.transpose(-1, -2) @ change / size.clamp_min(1e-6)
    return cosine
