"""The update: what one step of training does with a batch. Gradient descent is one; the loop knows of none.

A learner that is more than one network says how its parts are trained: ``parameter_groups()`` (an actor that learns
more slowly than its critic, a temperature that is not decayed) and ``target_copies()`` (copies that follow other
weights: a target critic, the policy that gathered the data). Their losses are one sum, with gradients stopped where
they must be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from watchtrylearn.system.config import require_within
from watchtrylearn.training.config import LARGEST, MOST_STEPS, TrainConfig, learning_rate
from watchtrylearn.types import Learner, WtlError

_MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's


@runtime_checkable
class Update(Protocol):
    """Changes a learner, and remembers what it needs to do so again: moments, averages.

    It is made with (learner, config) and is a function of the weights, of what it remembers, of the batch and the
    step's number; then training can be resumed bit for bit.
    """

    name: str

    def step(self, batch: Any, step: int) -> dict[str, float] | None:
        """Step 0, 1, ...: learns from ``batch``, and returns named numbers for the log, "loss" among them.

        None if loss or gradient were not finite: then no weight that is trained has changed. (What follows them, or
        is only counted, may have: target copies, a network's running means.)
        """

    def tensors(self) -> dict[str, Tensor]:
        """What it remembers beside the learner's own tensors, by name."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Remember ``tensors``. Raises ``KeyError`` naming one that is missing or of another shape."""

    def finish(self) -> None:
        """Give the learner the weights that are exported."""


MakeUpdate = Callable[[Learner, TrainConfig], Update]


# ------------------------------------------------------------------------------------------ what learners say


@dataclass(frozen=True)
class Group:
    """Parameters that are trained in a way of their own: those of the module or the parameter called ``name``.

    Attributes:
        name: as in ``named_parameters()``, such as "actor" or "log_alpha".
        rate: factor of the learning rate.
        weight_decay: of its matrices; None: as all others.
        clip_norm: the largest norm of its gradient; None: clipped together with all others that have none.
    """

    name: str
    rate: float = 1.0
    weight_decay: float | None = None
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        require_within(f"group {self.name}: ", self, rate=(0, LARGEST))
        for field in ("weight_decay", "clip_norm"):
            if getattr(self, field) is not None:
                require_within(f"group {self.name}: ", self, **{field: (0, LARGEST)})


@dataclass(frozen=True)
class TargetCopy:
    """A copy that follows: every ``every`` steps, ``copy`` moves by the share ``tau`` towards ``of``.

    ``tau`` 0.005 and ``every`` 1 is Polyak averaging, ``tau`` 1 a hard copy every so many steps. Both are modules of
    the learner, so checkpoints hold the copy; it begins as the learner made it, and its parameters ask for no gradient.
    """

    of: str
    copy: str
    tau: float = 1.0
    every: int = 1

    def __post_init__(self) -> None:
        require_within(f"target {self.copy}: ", self, tau=(0, 1), every=(1, MOST_STEPS))


@runtime_checkable
class Grouped(Protocol):
    """A learner whose parts are trained in different ways."""

    def parameter_groups(self) -> Sequence[Group]:
        """Each with parameters of its own; those in none are trained as the config says."""


@runtime_checkable
class Copying(Protocol):
    """A learner with copies of its weights that follow them."""

    def target_copies(self) -> Sequence[TargetCopy]:
        """Each a copy."""


# ------------------------------------------------------------------------------------------- gradient descent


class GradientDescent:
    """AdamW on ``learner.loss(batch)``, the gradient clipped, the weights averaged for export."""

    name = "gradient descent"

    def __init__(self, learner: Learner, config: TrainConfig) -> None:
        self.learner, self.config = learner, config
        self.parameters = {n: p for n, p in learner.named_parameters() if p.requires_grad}
        members = _members(self.parameters, learner.parameter_groups() if isinstance(learner, Grouped) else [])
        self.optimizer = _optimizer(members, config)
        self.clipped = _clipped(members, config)
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        copies = learner.target_copies() if isinstance(learner, Copying) else []
        self.copies = [(copy, _pairs(learner, copy)) for copy in copies]

    def step(self, batch: Any, step: int) -> dict[str, float] | None:
        rate = learning_rate(step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.zero_grad()
        loss, parts = self.learner.loss(batch)
        loss.backward()
        logged = {**parts, "loss": loss, **self._clip()}
        # one transfer for all the numbers of a step
        values = dict(zip(logged, torch.stack([v.detach() for v in logged.values()]).cpu().tolist(), strict=True))
        sound = math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])
        if sound:
            self.optimizer.step()
            decay = min(self.config.average, (1 + step) / (10 + step))
            for name, parameter in self.parameters.items():
                self.average[name].lerp_(parameter.detach(), 1 - decay)
        self._follow(step)
        return {**values, "learning_rate": rate} if sound else None

    def _clip(self) -> dict[str, Tensor]:
        """Clip the gradients, and return the norms they had: of all, and of each group that is clipped on its own."""
        norms = {name: nn.utils.clip_grad_norm_(members, most) for name, members, most in self.clipped}
        if len(norms) == 1:
            return {"gradient_norm": next(iter(norms.values()))}
        own = {f"gradient_norm/{name}": norm for name, norm in norms.items() if name}
        return {"gradient_norm": torch.linalg.vector_norm(torch.stack(list(norms.values()))), **own}

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Move the copies. After a skipped step too: a copy that is due must not wait until it is due again."""
        for each, pairs in self.copies:
            if (step + 1) % each.every == 0:
                for copy, of in pairs:
                    if each.tau == 1 or not copy.is_floating_point():
                        copy.copy_(of)
                    else:
                        copy.lerp_(of, each.tau)

    def tensors(self) -> dict[str, Tensor]:
        found = {f"average/{name}": value for name, value in self.average.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                found[f"optimizer/{name}/{key}"] = value
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            self.average[name].copy_(_like(parameter, tensors, f"average/{name}"))
            state = under(f"optimizer/{name}/", tensors)
            for key in _MOMENTS if state else ():
                _like(parameter, tensors, f"optimizer/{name}/{key}")
            if state:
                _like(torch.zeros(()), state, "step")
            self.optimizer.state[parameter] = {key: v.to(parameter.device) for key, v in state.items()}

    def finish(self) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.average[name])


Members = list[tuple[Group, list[nn.Parameter]]]


def _members(parameters: Mapping[str, nn.Parameter], groups: Sequence[Group]) -> Members:
    """The parameters of every group, and first those that are in none."""
    owner: dict[str, str] = {}
    members: Members = []
    for group in groups:
        names = [name for name in parameters if _is_in(group.name, name)]
        if not names:
            raise WtlError(f"group {group.name}: the learner has no parameter of that name that is trained")
        taken = [name for name in names if name in owner]
        if taken:
            raise WtlError(f"the parameter {taken[0]} is in two groups, {owner[taken[0]]} and {group.name}")
        owner |= dict.fromkeys(names, group.name)
        members.append((group, [parameters[name] for name in names]))
    return [(Group(""), [p for name, p in parameters.items() if name not in owner]), *members]


def _optimizer(members: Members, config: TrainConfig) -> torch.optim.AdamW:
    groups: list[dict[str, Any]] = []
    for group, parameters in members:
        decay = config.weight_decay if group.weight_decay is None else group.weight_decay
        matrices, vectors = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
        groups += [{"params": matrices, "weight_decay": decay, "rate": group.rate}]
        groups += [{"params": vectors, "weight_decay": 0.0, "rate": group.rate}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, fused=True)


def _clipped(members: Members, config: TrainConfig) -> list[tuple[str, list[nn.Parameter], float]]:
    """What is clipped together, and to which norm; first (as "") all that is clipped as the config says."""
    shared = [p for group, parameters in members if group.clip_norm is None for p in parameters]
    own = [(group.name, parameters, group.clip_norm) for group, parameters in members if group.clip_norm is not None]
    return [("", shared, config.clip_norm), *own] if shared else own


def _pairs(learner: Learner, target: TargetCopy) -> list[tuple[Tensor, Tensor]]:
    """The tensors of a copy, each with the one it follows."""
    tensors = learner.state_dict()
    copies, originals = under(f"{target.copy}.", tensors), under(f"{target.of}.", tensors)
    if not copies or {n: t.shape for n, t in copies.items()} != {n: t.shape for n, t in originals.items()}:
        raise WtlError(f"target {target.copy}: it is not a copy of the learner's {target.of}")
    trained = [name for name, p in learner.named_parameters() if p.requires_grad and _is_in(target.copy, name)]
    if trained:
        raise WtlError(f"target {target.copy}: its parameter {trained[0]} asks for a gradient; requires_grad_(False)")
    return [(copies[name], originals[name]) for name in copies]


def _is_in(module: str, name: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _like(parameter: Tensor, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """The tensor ``name``; another shape or type would be broadcast or converted without a word."""
    found = tensors[name]
    if (found.shape, found.dtype) != (parameter.shape, parameter.dtype):
        raise KeyError(f"{name} is {list(found.shape)} of {found.dtype}")
    return found


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
