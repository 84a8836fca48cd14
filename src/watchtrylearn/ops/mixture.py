"""Mixtures of diagonal Gaussians over action chunks (Bishop 1994; the papers' action head).

One mixture weight covers a whole chunk of consecutive actions, so a sampled chunk is one coherent way of moving;
per-step mixtures hover between ways (docs/log.md).
"""

import math

import torch
from jaxtyping import Bool, Float

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


def chunk_log_likelihood(
    logits: Float[torch.Tensor, "*batch mix"],
    mean: Float[torch.Tensor, "*batch mix chunk act"],
    log_std: Float[torch.Tensor, "#chunk act"],
    action: Float[torch.Tensor, "*batch chunk act"],
    mask: Bool[torch.Tensor, "*batch chunk"],
) -> Float[torch.Tensor, "*batch"]:
    r"""log p(a) = logsumexp_k [log w_k + sum_{t in mask, d} log N(a_td | mean_ktd, std_d)]; masked steps drop out."""
    error = (action.unsqueeze(-3) - mean) * torch.exp(-log_std)
    per_step = (-0.5 * error.square() - log_std - LOG_SQRT_2PI).sum(-1)
    per_component = (per_step * mask.unsqueeze(-2)).sum(-1)
    return torch.logsumexp(torch.log_softmax(logits, -1) + per_component, -1)


def pick_component(
    logits: Float[torch.Tensor, "world mix"], uniform: Float[torch.Tensor, "world"] | None
) -> torch.Tensor:
    """The most likely component, or with ``uniform`` numbers in [0, 1) a sampled one (inverse CDF), (world,)."""
    if uniform is None:
        return logits.argmax(-1)
    below = torch.softmax(logits, -1).cumsum(-1) < uniform[:, None]
    return below.sum(-1).clamp(max=logits.shape[-1] - 1)
