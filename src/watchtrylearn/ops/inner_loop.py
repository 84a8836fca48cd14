"""Adapting by gradient steps, as a pure function of the parameters: the inner loop of MAML and its relatives.

    theta' = theta - alpha clip(grad L(theta)),   and so on, ``steps`` times

Nothing here knows a network: parameters are a dictionary of tensors, a loss is a function of it, and all of it may run
under ``torch.func.vmap``, with weights of its own for every task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import grad, grad_and_value, vmap

Parameters = Mapping[str, Tensor]
Clip = Literal["none", "element", "norm"]


def descend(
    loss: Callable[[Parameters], Float[Tensor, ""]],
    parameters: Parameters,
    rates: Mapping[str, Float[Tensor, ""]],
    steps: int = 1,
    clip: Clip = "none",
    limit: float = 10.0,
    first_order: bool = False,
) -> tuple[dict[str, Tensor], Bool[Tensor, ""]]:
    """The parameters after ``steps`` steps down ``loss``, and whether every gradient on the way was finite.

    Only what has a rate moves. Where ``loss`` is the mean over several demonstrations, a step follows the mean of their
    gradients; it is that mean which is clipped.

    Args:
        rates: step size of each parameter that adapts. They may be learned: the result is differentiable in them.
        clip: "element": each number of the gradient to [-limit, limit]; "norm": all of it together to the length
            ``limit``. (A number that was clipped has no slope, so nothing flows back through it.)
        first_order: the gradient of a step counts as a constant when the result is differentiated.
    """
    moved = dict(parameters)
    finite = torch.ones((), dtype=torch.bool, device=next(iter(parameters.values())).device)
    for _ in range(steps):
        here = {name: value.detach() for name, value in moved.items()} if first_order else dict(moved)
        slope = grad(lambda adapting, fixed: loss({**fixed, **adapting}))({name: here[name] for name in rates}, here)
        finite = finite & torch.stack([each.isfinite().all() for each in slope.values()]).all()
        for name, step in _clipped(slope, clip, limit).items():
            moved[name] = moved[name] - rates[name] * step
    return moved, finite


def _clipped(slope: dict[str, Tensor], clip: Clip, limit: float) -> dict[str, Tensor]:
    if clip == "element":
        return {name: each.clamp(-limit, limit) for name, each in slope.items()}
    if clip == "norm":
        square = torch.stack([each.square().sum() for each in slope.values()]).sum()
        shrink = limit * square.clamp_min(limit**2).rsqrt()  # 1 within the limit; not sqrt, which has no slope at 0
        return {name: each * shrink for name, each in slope.items()}
    return slope


# ----------------------------------------------------------------------------------------- over a batch of tasks

TaskLoss = Callable[[Parameters, Mapping[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]


def mean_over_tasks(
    loss: TaskLoss, parameters: Parameters, examples: Mapping[str, Tensor], at_once: int
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]], Int[Tensor, ""]]:
    """The mean loss over the tasks whose loss and gradient are finite, the means of its parts, and how many are not.

    A task that explodes is left out as if it had not been drawn. To be able to leave it out, every task's gradient is
    computed by itself (what is not finite stays so when multiplied by zero), ``at_once`` tasks side by side, so that
    memory holds the graphs of no more than these.

    Args:
        loss: ``loss(parameters, example)``: the loss of one task (), and parts of it to log. A part "finite" (bool)
            that is False means that the task is to be left out, too.
        examples: tensors (task, ...); an example is a row of each.
        at_once: 1: one task after another, without ``vmap``.

    Returns:
        A loss to call ``backward`` on (once: its gradient is known already), parts, and the number of tasks left out.
        If that is all of them the loss is NaN.
    """
    here = {name: value.detach() for name, value in parameters.items()}
    one = grad_and_value(loss, has_aux=True)
    several = vmap(one, (None, 0))
    tasks = len(next(iter(examples.values())))
    total: list[Tensor] = []
    for begin in range(0, tasks, at_once):
        some = {name: value[begin : begin + at_once] for name, value in examples.items()}
        slope, (value, parts) = several(here, some) if at_once > 1 else _row(one, here, some)
        sound = parts.pop("finite", torch.ones_like(value, dtype=torch.bool)) & value.isfinite()
        for each in slope.values():
            sound = sound & each.flatten(1).isfinite().all(1)
        kept = [_sum(each, sound) for each in (sound.to(value.dtype), value, *parts.values(), *slope.values())]
        total = [old + new for old, new in zip(total, kept, strict=True)] if total else kept
    count = total[0]
    means = [each / count for each in total[1:]]
    known = means[1 + len(parts) :]
    mean: Tensor = _Known.apply(means[0], len(parameters), *known, *parameters.values())
    return mean, dict(zip(parts, means[1:], strict=False)), tasks - count.detach().long()


def _row(one: Callable[..., Any], parameters: Parameters, some: Mapping[str, Tensor]) -> Any:
    """As ``several``, for a single task."""
    slope, (value, parts) = one(parameters, {name: each[0] for name, each in some.items()})
    return {n: each[None] for n, each in slope.items()}, (value[None], {n: each[None] for n, each in parts.items()})


def _sum(each: Float[Tensor, "task *shape"], sound: Bool[Tensor, "task"]) -> Float[Tensor, "*shape"]:
    return torch.where(sound.view(-1, *(1,) * (each.ndim - 1)), each, 0).sum(0)


class _Known(torch.autograd.Function):
    """A number whose gradient has been computed already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, count: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[:count])
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> Any:
        known = ctx.saved_tensors
        return (None, None, *(None for _ in known), *(outer * each for each in known))
