"""Gradient steps on parameters, against finite differences, another library, and closed forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from watchtrylearn.ops.inner_loop import descend, mean_over_tasks

DOUBLE = torch.float64
WAYS = {
    "one step": {},
    "two steps": {"steps": 2},
    "each number clipped": {"clip": "element", "limit": 0.3},
    "the norm clipped": {"clip": "norm", "limit": 0.3},
}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


class Small(nn.Module):
    """Two layers, smooth everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 5, dtype=DOUBLE), nn.Linear(5, 2, dtype=DOUBLE)
        for place, parameter in enumerate(self.parameters()):
            parameter.data = numbers(*parameter.shape, seed=place) / 2

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).tanh())


NET = Small()
WEIGHTS = {name: value.detach() for name, value in NET.named_parameters()}
RATES = {name: torch.tensor(0.1 + 0.1 * i, dtype=DOUBLE) for i, name in enumerate(WEIGHTS)}
EXAMPLES = {"x": numbers(4, 6, 3, seed=9), "y": numbers(4, 6, 2, seed=8)}  # four tasks


def error(weights: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return (functional_call(NET, dict(weights), (x,)) - y).square().mean()


def after(**way: object) -> Callable[..., tuple[Tensor, dict[str, Tensor]]]:
    """The loss of a task: of its last three points, after a descent on the first three."""

    def loss(parameters: Mapping[str, Tensor], example: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, y = example["x"], example["y"]
        moved, finite = descend(lambda some: error(some, x[:3], y[:3]), parameters, RATES, **way)
        return error(moved, x[3:], y[3:]), {"finite": finite}

    return loss


def meta_gradient(parameters: Mapping[str, Tensor], at_once: int = 4, **way: object) -> dict[str, Tensor]:
    here = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    loss, _, _ = mean_over_tasks(after(**way), here, EXAMPLES, at_once)
    return dict(zip(here, torch.autograd.grad(loss, list(here.values())), strict=True))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("at_once", [1, 3])
def test_the_meta_gradient_is_that_of_finite_differences(way: dict, at_once: int) -> None:
    """In every direction of 5, central differences of the mean loss."""
    found = meta_gradient(WEIGHTS, at_once, **way)
    for seed in range(5):
        direction = {name: numbers(*value.shape, seed=seed) for name, value in WEIGHTS.items()}
        ends = []
        for size in (1e-6, -1e-6):
            moved = {name: value + size * direction[name] for name, value in WEIGHTS.items()}
            ends.append(float(mean_over_tasks(after(**way), moved, EXAMPLES, at_once)[0]))
        wanted = (ends[0] - ends[1]) / 2e-6
        assert float(sum((found[n] * direction[n]).sum() for n in found)) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_meta_gradient_is_that_of_another_library(steps: int) -> None:
    """TorchOpt's differentiable gradient descent, in place on a module, one task after another."""
    torchopt = pytest.importorskip("torchopt")
    net = Small()
    rate = 0.1
    total = torch.zeros((), dtype=DOUBLE)
    begin = torchopt.extract_state_dict(net)
    for x, y in zip(EXAMPLES["x"], EXAMPLES["y"], strict=True):
        inner = torchopt.MetaSGD(net, lr=rate)
        for _ in range(steps):
            inner.step((net(x[:3]) - y[:3]).square().mean())
        total = total + (net(x[3:]) - y[3:]).square().mean() / 4
        torchopt.recover_state_dict(net, begin)
    wanted = torch.autograd.grad(total, list(net.parameters()))

    def loss(parameters: Mapping[str, Tensor], example: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, y = example["x"], example["y"]
        rates = dict.fromkeys(WEIGHTS, torch.tensor(rate, dtype=DOUBLE))
        return error(descend(lambda some: error(some, x[:3], y[:3]), parameters, rates, steps)[0], x[3:], y[3:]), {}

    here = {name: value.clone().requires_grad_() for name, value in WEIGHTS.items()}
    found = torch.autograd.grad(mean_over_tasks(loss, here, EXAMPLES, 4)[0], list(here.values()))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_to_first_order_the_gradient_is_that_at_the_end_of_the_way() -> None:
    """d L(theta') / d theta' and nothing of how theta' depends on theta."""
    found = meta_gradient(WEIGHTS, steps=2, first_order=True)
    wanted = {name: torch.zeros_like(value) for name, value in WEIGHTS.items()}
    for x, y in zip(EXAMPLES["x"], EXAMPLES["y"], strict=True):
        moved = descend(lambda some, x=x, y=y: error(some, x[:3], y[:3]), WEIGHTS, RATES, steps=2)[0]
        ends = {name: value.detach().requires_grad_() for name, value in moved.items()}
        slopes = torch.autograd.grad(error(ends, x[3:], y[3:]), list(ends.values()))
        for name, slope in zip(ends, slopes, strict=True):
            wanted[name] += slope / 4
    for name, slope in found.items():
        torch.testing.assert_close(slope, wanted[name])
    assert not torch.allclose(found["first.weight"], meta_gradient(WEIGHTS, steps=2)["first.weight"], rtol=1e-2)


def test_only_what_has_a_rate_moves_and_each_by_its_own() -> None:
    x, y = EXAMPLES["x"][0], EXAMPLES["y"][0]
    rates = {"last.bias": torch.tensor(0.5, dtype=DOUBLE)}
    moved, finite = descend(lambda some: error(some, x, y), WEIGHTS, rates)
    assert finite
    slope = torch.autograd.grad(error(dict(NET.named_parameters()), x, y), NET.last.bias)[0]
    torch.testing.assert_close(moved["last.bias"], WEIGHTS["last.bias"] - 0.5 * slope)
    assert all(moved[name] is WEIGHTS[name] for name in WEIGHTS if name != "last.bias")


@pytest.mark.parametrize("clip", ["element", "norm"])
def test_gradients_are_clipped(clip: str) -> None:
    """The gradient of a sum of multiples is known: (3, -4), whose length is 5."""
    start = {"w": torch.zeros(2, dtype=DOUBLE)}
    wanted = {"element": [-2.0, 2.0], "norm": [-1.2, 1.6]}[clip]
    one = {"w": torch.ones((), dtype=DOUBLE)}
    slopes = torch.tensor([3.0, -4.0], dtype=DOUBLE)
    moved, _ = descend(lambda some: (some["w"] * slopes).sum(), start, one, clip=clip, limit=2.0)
    torch.testing.assert_close(moved["w"], torch.tensor(wanted, dtype=DOUBLE))
    moved, _ = descend(lambda some: (some["w"] * slopes).sum(), start, one, clip=clip, limit=9.0)
    torch.testing.assert_close(moved["w"], -slopes)
    moved, _ = descend(lambda some: (some["w"] * 0).sum(), start, one, clip=clip, limit=2.0)  # no direction at all
    assert not moved["w"].any()


def test_every_task_has_weights_of_its_own_side_by_side() -> None:
    def one(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return descend(lambda some: error(some, x, y), WEIGHTS, RATES, steps=2)[0]

    together = vmap(one)(EXAMPLES["x"], EXAMPLES["y"])
    for row in range(4):
        for name, value in one(EXAMPLES["x"][row], EXAMPLES["y"][row]).items():
            torch.testing.assert_close(together[name][row], value)


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_task_that_explodes_is_left_out_and_counted(at_once: int) -> None:
    """What stays is the mean over the others, loss and gradient; where all explode, the loss says so."""
    spoilt = {**EXAMPLES, "y": EXAMPLES["y"].clone()}
    spoilt["y"][1, 0] = torch.inf  # within the demonstration
    spoilt["y"][2, 5] = torch.nan  # within what is predicted
    sound = {name: value[[0, 3]] for name, value in EXAMPLES.items()}
    results = []
    for examples in (spoilt, sound):
        here = {name: value.clone().requires_grad_() for name, value in WEIGHTS.items()}
        loss, _, skipped = mean_over_tasks(after(), here, examples, at_once)
        results.append((loss, int(skipped), torch.autograd.grad(loss, list(here.values()))))
    assert [skipped for _, skipped, _ in results] == [2, 0]
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][2], results[1][2])
    spoilt["y"][:] = torch.nan
    loss, _, skipped = mean_over_tasks(after(), WEIGHTS, spoilt, at_once)
    assert loss.isnan()
    assert skipped == 4
