"""The five nouns of the library: Task, Episode, Context, Policy, Learner (and the Spec they share).

Suites and learners meet only here, so N suites and M methods cost N + M.

Array conventions
-----------------
NumPy holds what happened (episodes, worlds); torch holds what is learned from (padded, masked batches).
Named dimensions: ``task`` (one context each), ``shot`` (episodes of one kind in a context), ``time``
(control steps), ``world`` (parallel simulations), ``size`` (numbers in one observation), ``act`` (numbers in
one action). Episodes are time-major and store the observation *before* each action.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped

from watchtrylearn.errors import WtlError as WtlError
from watchtrylearn.spec import ENVIRONMENT as ENVIRONMENT
from watchtrylearn.spec import MOST_STEPS as MOST_STEPS
from watchtrylearn.spec import STATE as STATE
from watchtrylearn.spec import Channel as Channel
from watchtrylearn.spec import ImageChannel as ImageChannel
from watchtrylearn.spec import Spec as Spec

Split = Literal["train", "val", "test"]
Kind = Literal["demo", "trial"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Scalar = str | int | float | bool
Observation = Mapping[str, np.ndarray]  # channel name -> (world, *shape)


# ---------------------------------------------------------------------------------------------------- task


@dataclass(frozen=True)
class Task:
    """One variation of a family: what must be achieved, with which objects.

    ``name`` is unique within the suite; ``sentence`` is what a person would say ("push the mug into the
    bowl"); ``parameters`` are JSON scalars that determine the task completely.
    """

    suite: str
    family: str
    name: str
    split: Split
    sentence: str
    parameters: tuple[tuple[str, Scalar], ...] = ()

    def __getitem__(self, key: str) -> Scalar:
        for name, value in self.parameters:
            if name == key:
                return value
        raise KeyError(f"task {self.name} has no parameter {key!r}; it has {[n for n, _ in self.parameters]}")

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "parameters": dict(self.parameters)}  # not asdict, whose deep copies are slow

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Task:
        return Task(**{**value, "parameters": tuple(value["parameters"].items())})


# ------------------------------------------------------------------------------------------------- episode


@dataclass(frozen=True, eq=False, repr=False)
class Episode:
    """One attempt at a task, time-major.

    Attributes:
        task, kind: which task; a demonstration or the robot's own trial.
        seed: the scene: the same task and seed is the same scene, always.
        observation: channel -> (time, *shape), before each action; numbers as float32, images as uint8.
        action: (time, act), what the demonstrator or the policy intended: finite, and where ``executed`` tells what
            reached the robot, perhaps outside the bounds.
        final: channel -> (*shape), the observation after the last action; empty if nobody noted it.
        reward: (time,), received after each action.
        success: did the attempt achieve the task (the yes or no).
        diverged: the attempt broke down: its physics did, an action was no usable number, or the world or the
            policy raised or hung (``terms`` tells). Such an episode is a failure and never training data.
        terminated: the episode ended because its outcome was settled; False if it was cut off, by the horizon or
            otherwise, or if nobody noted it. (Gymnasium's ``terminated``, as opposed to ``truncated``.)
        executed: (time, act) what reached the robot, within its bounds, where that differs from ``action``
            (disturbances injected while demonstrating, commands cut to their bounds), else None.
        initial_state: where it began: the simulator's state at the start of its scene, or the full state of a later
            step (``worlds.py``); empty if the suite has none.
        terms: named success terms at the end of the episode, for the log.
    """

    task: Task
    kind: Kind
    seed: int
    observation: Mapping[str, Shaped[np.ndarray, "time ..."]]
    action: Float[np.ndarray, "time act"]
    reward: Float[np.ndarray, "time"]
    success: bool
    diverged: bool = False
    executed: Float[np.ndarray, "time act"] | None = None
    initial_state: Float[np.ndarray, "_"] = field(default_factory=lambda: np.zeros(0))
    terms: Mapping[str, float] = field(default_factory=dict)
    terminated: bool = False
    final: Mapping[str, Shaped[np.ndarray, "..."]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise WtlError(f"an episode is of kind 'demo' or 'trial', not {self.kind!r}")
        for name in ("success", "diverged", "terminated"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise WtlError(f"an episode's {name} is True or False, not {getattr(self, name)!r}")

    def __repr__(self) -> str:
        outcome = "diverged" if self.diverged else "success" if self.success else "failure"
        return f"<{self.kind} of {self.task.name!r} in scene {self.seed}: {len(self)} steps, {outcome}>"

    def __len__(self) -> int:
        return len(self.action)

    def problems(self, spec: Spec) -> list[str]:
        """What is wrong with the numbers, each naming field and step; empty when the episode is sound."""
        found: list[str] = []
        if len(self) == 0:
            return ["the episode has no steps"]
        if len(self) > spec.horizon:
            found.append(f"{len(self)} steps, more than the horizon of {spec.horizon}")
        sent = "action" if self.executed is None else "executed"
        found += spec.action.problems(sent, getattr(self, sent), len(self))
        if self.executed is not None:  # what was intended may lie outside the bounds
            found += spec.action.unbounded().problems("action", self.action, len(self))
        for name, channel in spec.observation.items():
            found += channel.problems(f"observation.{name}", self.observation.get(name), len(self))
            if self.final:
                last = self.final.get(name)
                found += channel.problems(f"final.{name}", None if last is None else last[None], 1)
        if self.reward.shape != (len(self),):
            found.append(f"reward: shape {self.reward.shape}, expected ({len(self)},)")
        elif not np.isfinite(self.reward).all():
            found.append(f"reward: not a finite number at step {int(np.argmin(np.isfinite(self.reward)))}")
        return found


# ------------------------------------------------------------------------------------------------- context


@dataclass(frozen=True, eq=False)
class Context:
    """The evidence about one task so far: any number of demonstrations and of trials with their outcomes."""

    demos: Sequence[Episode] = ()
    trials: Sequence[Episode] = ()

    def __post_init__(self) -> None:
        for name in ("demos", "trials"):
            given = getattr(self, name)
            if isinstance(given, Episode):
                raise WtlError(f"a context's {name} are a list of episodes, not one episode: Context({name}=[episode])")
            if not isinstance(given, Sequence) or not all(isinstance(each, Episode) for each in given):
                raise WtlError(f"a context's {name} are a list of episodes, not {given!r:.80}")

    def with_trial(self, trial: Episode) -> Context:
        """This evidence and one more attempt (its ``success`` is the yes or no)."""
        return Context(tuple(self.demos), (*self.trials, trial))


@dataclass(frozen=True, eq=False)
class EpisodeBatch:
    """Episodes as tensors, padded in time to a common length; ``length`` 0 marks an absent episode.

    The leading dimensions ``*batch`` are ``(episode,)`` in a store, ``(task, shot)`` in a context,
    ``(task,)`` for queries.
    """

    observation: Mapping[str, Float[torch.Tensor, "*batch time _"]]
    action: Float[torch.Tensor, "*batch time act"]
    reward: Float[torch.Tensor, "*batch time"]
    success: Float[torch.Tensor, "*batch"]
    length: Int[torch.Tensor, "*batch"]

    @property
    def mask(self) -> Bool[torch.Tensor, "*batch time"]:
        """True where a step exists."""
        return torch.arange(self.action.shape[-2], device=self.length.device) < self.length[..., None]

    def __getitem__(self, index: Any) -> EpisodeBatch:
        return EpisodeBatch(
            {name: value[index] for name, value in self.observation.items()},
            self.action[index],
            self.reward[index],
            self.success[index],
            self.length[index],
        )


@dataclass(frozen=True, eq=False)
class ContextBatch:
    """Contexts of several tasks side by side: ``demos`` (task, demo, ...) and ``trials`` (task, trial, ...)."""

    demos: EpisodeBatch
    trials: EpisodeBatch


@dataclass(frozen=True, eq=False)
class Batch:
    """One meta-training batch: contexts, and for each the episode to imitate at ``frames`` (task, frame)."""

    context: ContextBatch
    query: EpisodeBatch
    frames: Int[torch.Tensor, "task frame"]


# --------------------------------------------------------------------------------------- policy and learner


@runtime_checkable
class Policy(Protocol):
    """Acts in a batch of worlds at once. It may keep state between ``reset`` and the end of the episodes."""

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        """Begin one episode per world; world ``i`` draws all its randomness from ``rngs[i]``."""

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        """The next action of every world, from channel -> (world, size)."""


@runtime_checkable
class Adaptive(Protocol):
    """Whatever turns evidence into a policy: all that evaluation asks of a method."""

    name: str
    spec: Spec

    def adapt(self, context: Sequence[Context]) -> Policy:
        """A policy for one world per context."""


@runtime_checkable
class Learner(Adaptive, Protocol):
    """What a method *is*: a loss for meta-training and ``adapt`` for everything after. A torch module."""

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Takes what it needs from the training episodes before the first step (scaling)."""

    def loss(self, batch: Batch) -> tuple[Float[torch.Tensor, ""], dict[str, Float[torch.Tensor, ""]]]:
        """The meta-training loss and named parts of it for the log."""

    def adapt(self, context: Context | Sequence[Context]) -> Policy:
        """A policy for one world per context."""

    def explore(self, context: Context | Sequence[Context]) -> Policy:
        """A policy that gathers diverse trials (a stochastic version of ``adapt`` in most methods)."""


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
