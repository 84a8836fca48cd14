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
