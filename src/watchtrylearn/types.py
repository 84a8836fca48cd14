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

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import msgspec
import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from watchtrylearn.errors import WtlError as WtlError

Split = Literal["train", "val", "test"]
Kind = Literal["demo", "trial"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

STATE = "state"  # the robot itself (LeRobot: observation.state)
ENVIRONMENT = "environment_state"  # everything around it (LeRobot: observation.environment_state)

MOST_SIZES, MOST_CHANNELS, MOST_STEPS = 10_000, 100, 1_000_000  # of a spec: numbers in a channel, channels, steps

Scalar = str | int | float | bool
Observation = Mapping[str, np.ndarray]  # channel name -> (world, size)


# ---------------------------------------------------------------------------------------------------- spec


@dataclass(frozen=True)
class Channel:
    """One named vector: what each number is, and the range outside which a recording is refused.

    ``low`` and ``high`` are per number, in the unit of the number (metres, radians, 0..1).
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.names) > MOST_SIZES:
            raise WtlError(f"a channel has at most {MOST_SIZES:,} numbers, got {len(self.names):,}")
        if not len(self.names) == len(self.low) == len(self.high):
            raise WtlError(
                f"a channel needs one low and one high per name, got {len(self.names)} names, "
                f"{len(self.low)} lows and {len(self.high)} highs"
            )

    @property
    def size(self) -> int:
        return len(self.names)

    @cached_property
    def bounds(self) -> tuple[Float[np.ndarray, "size"], Float[np.ndarray, "size"]]:
        """Lowest and highest finite values that pass: ``low`` and ``high`` with room for rounding."""
        slack = 1e-5 * (1.0 + np.abs(np.asarray(self.high)))
        largest = np.finfo(float).max
        return np.maximum(np.asarray(self.low) - slack, -largest), np.minimum(np.asarray(self.high) + slack, largest)


@dataclass(frozen=True)
class Spec:
    """What every episode of a suite looks like: channels, rate, horizon and what the numbers mean.

    Attributes:
        fps: control steps per second.
        horizon: most control steps in an episode.
        observation: the channels, by name; ``"state"`` is the robot, ``"environment_state"`` the rest.
        action: what the policy commands.
        entities: how many things ``environment_state`` lists, each with the same numbers, one after the
            other (0: it has no such structure). A slot keeps its meaning within a task ("object A").
        position: the first ``position`` numbers of ``state`` and of each entity are positions in one common
            frame (0: they are not).
        commands_state: the action is the desired value of the first ``action.size`` numbers of ``state``
            (position control, as in the papers' gripper).
    """

    fps: int
    horizon: int
    observation: Mapping[str, Channel]
    action: Channel
    entities: int = 0
    position: int = 0
    commands_state: bool = False

    def __post_init__(self) -> None:
        for name, most in (("fps", MOST_STEPS), ("horizon", MOST_STEPS)):
            if not 1 <= getattr(self, name) <= most:
                raise WtlError(f"a spec's {name} is between 1 and {most:,}, got {getattr(self, name)}")
        if len(self.observation) > MOST_CHANNELS:
            raise WtlError(f"a spec has at most {MOST_CHANNELS} observation channels, got {len(self.observation)}")
        if STATE not in self.observation:
            raise WtlError(f"a spec needs the observation channel {STATE!r}, got {sorted(self.observation)}")
        if self.entities < 0 or (self.entities and self.environment_size % self.entities):
            raise WtlError(
                f"environment_state has {self.environment_size} numbers, not a multiple of {self.entities} entities"
            )
        positions = min(self.state_size, self.entity_size) if self.entities else self.state_size
        if not 0 <= self.position <= positions:
            raise WtlError(
                f"a spec's position is at most {positions}, the numbers of state or entity; got {self.position}"
            )
        if self.commands_state and self.action.size > self.state_size:
            raise WtlError(f"an action of {self.action.size} numbers cannot command {self.state_size} numbers of state")

    @property
    def state_size(self) -> int:
        return self.observation[STATE].size

    @property
    def environment_size(self) -> int:
        return self.observation[ENVIRONMENT].size if ENVIRONMENT in self.observation else 0

    @property
    def entity_size(self) -> int:
        return self.environment_size // self.entities if self.entities else 0

    def to_json(self) -> dict[str, Any]:
        """JSON values; an infinite bound becomes the text ``"inf"`` or ``"-inf"`` (JSON has no infinity)."""

        def channel(value: Channel) -> dict[str, Any]:
            bounds = {
                name: [x if math.isfinite(x) else str(x) for x in getattr(value, name)] for name in ("low", "high")
            }
            return {"names": list(value.names), **bounds}

        return {
            **dataclasses.asdict(self),
            "observation": {name: channel(value) for name, value in self.observation.items()},
            "action": channel(self.action),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Spec:
        """The inverse of ``to_json``; ``WtlError`` names the field that is of another type or out of bounds."""
        try:
            found = msgspec.convert(value, _SpecJson, strict=True)
        except msgspec.ValidationError as error:
            raise WtlError(f"the spec is not one: {str(error).replace('`', '')}") from error

        def channel(entry: _ChannelJson) -> Channel:
            low, high = (tuple(map(float, bounds)) for bounds in (entry.low, entry.high))
            return Channel(tuple(entry.names), low, high)

        observation = {name: channel(entry) for name, entry in found.observation.items()}
        others = (found.entities, found.position, found.commands_state)
        return Spec(found.fps, found.horizon, observation, channel(found.action), *others)

    def differences(self, other: Spec) -> list[str]:
        """Every field in which two specs disagree, as ``"field: this, not that"`` (bounds are not compared)."""
        found = [
            f"{name}: {getattr(self, name)}, not {getattr(other, name)}"
            for name in ("fps", "horizon", "entities", "position", "commands_state")
            if getattr(self, name) != getattr(other, name)
        ]
        for name in sorted(set(self.observation) | set(other.observation)):
            mine, theirs = (s.observation[name].size if name in s.observation else 0 for s in (self, other))
            if mine != theirs:
                found.append(f"observation.{name}: {mine} numbers, not {theirs}")
        if self.action.size != other.action.size:
            found.append(f"action: {self.action.size} numbers, not {other.action.size}")
        return found


class _ChannelJson(msgspec.Struct):
    """``Channel`` in ``Spec.to_json``."""

    names: list[str]
    low: list[float | Literal["inf", "-inf"]]
    high: list[float | Literal["inf", "-inf"]]


class _SpecJson(msgspec.Struct):
    """``Spec.to_json``."""

    fps: int
    horizon: int
    observation: dict[str, _ChannelJson]
    action: _ChannelJson
    entities: int = 0
    position: int = 0
    commands_state: bool = False


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
        observation: channel -> (time, size), before each action.
        action: (time, act), what the demonstrator or the policy intended.
        reward: (time,), received after each action.
        success: did the attempt achieve the task (the yes or no).
        diverged: the attempt broke down: its physics did, an action was no usable number, or the world or the
            policy raised or hung (``terms`` tells). Such an episode is a failure and never training data.
        terminated: the episode ended because its outcome was settled; False if it was cut off, by the horizon or
            otherwise, or if nobody noted it. (Gymnasium's ``terminated``, as opposed to ``truncated``.)
        executed: (time, act) what reached the robot where that differs from ``action`` (disturbances
            injected while demonstrating), else None.
        initial_state: the full simulator state at the start; empty if the suite has none.
        terms: named success terms at the end of the episode, for the log.
    """

    task: Task
    kind: Kind
    seed: int
    observation: Mapping[str, Float[np.ndarray, "time _"]]
    action: Float[np.ndarray, "time act"]
    reward: Float[np.ndarray, "time"]
    success: bool
    diverged: bool = False
    executed: Float[np.ndarray, "time act"] | None = None
    initial_state: Float[np.ndarray, "_"] = field(default_factory=lambda: np.zeros(0))
    terms: Mapping[str, float] = field(default_factory=dict)
    terminated: bool = False

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
        checks: list[tuple[str, np.ndarray | None, Channel]] = [("action", self.action, spec.action)]
        checks += [(f"observation.{n}", self.observation.get(n), c) for n, c in spec.observation.items()]
        for name, values, channel in checks:
            found += _channel_problems(name, values, channel, len(self))
        if self.reward.shape != (len(self),):
            found.append(f"reward: shape {self.reward.shape}, expected ({len(self)},)")
        elif not np.isfinite(self.reward).all():
            found.append(f"reward: not a finite number at step {int(np.argmin(np.isfinite(self.reward)))}")
        return found


def _channel_problems(name: str, values: np.ndarray | None, channel: Channel, steps: int) -> list[str]:
    if values is None:
        return [f"{name}: missing"]
    if values.shape != (steps, channel.size):
        return [f"{name}: shape {values.shape}, expected ({steps}, {channel.size})"]
    low, high = channel.bounds
    sound = (values >= low) & (values <= high)  # False for what is not finite, too
    if sound.all():
        return []
    bad = ~np.isfinite(values)
    if bad.any():
        step, column = np.argwhere(bad)[0]
        return [f"{name}: {channel.names[column]} is {values[step, column]} at step {step}"]
    step, column = np.argwhere(~sound)[0]
    return [
        f"{name}: {channel.names[column]} is {values[step, column]:.4g} at step {step}, "
        f"outside [{channel.low[column]:.4g}, {channel.high[column]:.4g}]"
    ]


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
