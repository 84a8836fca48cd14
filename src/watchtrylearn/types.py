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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Shaped

from watchtrylearn.batch import Batch as Batch
from watchtrylearn.batch import ContextBatch as ContextBatch
from watchtrylearn.batch import EpisodeBatch as EpisodeBatch
from watchtrylearn.batch import Transitions as Transitions
from watchtrylearn.errors import WtlError as WtlError
from watchtrylearn.spec import ACTION as ACTION
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
Loss = tuple[Float[torch.Tensor, ""], dict[str, Float[torch.Tensor, ""]]]  # what is minimised, and parts of it to log


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
        watched: of a trial, the scenes (``seed``) of the demonstrations of its task that its policy had been shown.
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
    watched: tuple[int, ...] = ()

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
        outside = spec.action.problems("action", self.action, len(self))
        if self.executed is not None and outside:  # what was intended may lie outside of the bounds, if what was sent
            outside = spec.action.problems("executed", self.executed, len(self))  # does not (in version 0.1 it might)
        found += outside
        if self.executed is not None and not outside:
            anything = spec.action.unbounded()
            found += anything.problems("action", self.action, len(self))
            found += anything.problems("executed", self.executed, len(self))
        for name, channel in spec.observation.items():
            found += channel.problems(f"observation.{name}", self.observation.get(name), len(self))
            if self.final:
                last = self.final.get(name)
                wrong = channel.problems(f"final.{name}", None if last is None else last[None], 1)
                found += [text.replace(" at step 0", "") for text in wrong]
        if self.reward.shape != (len(self),):
            found.append(f"reward: shape {self.reward.shape}, expected ({len(self)},)")
        elif not np.isfinite(self.reward).all():
            found.append(f"reward: not a finite number at step {int(np.argmin(np.isfinite(self.reward)))}")
        return found


# ------------------------------------------------------------------------------------------------- context


@dataclass(frozen=True, eq=False)
class Context:
    """The evidence about one task so far: any number of demonstrations and of trials with their outcomes.

    ``hidden``: nobody says how the trials ended. In batches (``collate``) their success is then 0.5, every reward 0 and
    ``terminated`` False; the episodes themselves keep all three, and a method that reads them without ``collate`` must
    not look. What was seen and done stays, and so does an episode's length, which may betray an outcome that ends it.
    """

    demos: Sequence[Episode] = ()
    trials: Sequence[Episode] = ()
    hidden: bool = False

    def __post_init__(self) -> None:
        for name in ("demos", "trials"):
            given = getattr(self, name)
            if isinstance(given, Episode):
                raise WtlError(f"a context's {name} are a list of episodes, not one episode: Context({name}=[episode])")
            if not isinstance(given, Sequence) or not all(isinstance(each, Episode) for each in given):
                raise WtlError(f"a context's {name} are a list of episodes, not {given!r:.80}")

    def with_trial(self, trial: Episode) -> Context:
        """This evidence and one more attempt (its ``success`` is the yes or no)."""
        return Context(tuple(self.demos), (*self.trials, trial), self.hidden)


def require_contexts(contexts: Sequence[Context]) -> Sequence[Context]:
    """The contexts that a method adapts to, one per world; anything else is refused with the right call."""
    if isinstance(contexts, Context):
        raise WtlError("a learner adapts to a list of contexts, one per world, not to one context: adapt([context])")
    if isinstance(contexts, Episode):
        raise WtlError("a learner adapts to contexts, not to an episode: adapt([Context(demos=[episode])])")
    wrong = [each for each in contexts if not isinstance(each, Context)]
    if wrong:
        raise WtlError(f"a learner adapts to contexts, not to {wrong[0]!r:.80}: adapt([Context(demos=[...])])")
    return contexts


# --------------------------------------------------------------------------------------- policy and learner


@runtime_checkable
class Policy(Protocol):
    """Acts in a batch of worlds at once. It may keep state between ``reset`` and the end of the episodes.

    It may have a ``spec``; worlds of other dimensions then refuse it before anything is attempted.
    """

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        """Begin one episode per world; world ``i`` draws all its randomness from ``rngs[i]``."""

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        """The next action of every world, from channel -> (world, size)."""


@runtime_checkable
class Adaptive(Protocol):
    """Whatever turns evidence into a policy: all that evaluation asks of a method."""

    name: str
    spec: Spec

    def adapt(self, contexts: Sequence[Context]) -> Policy:
        """A policy for one world per context."""


@runtime_checkable
class Explorer(Adaptive, Protocol):
    """A method that can gather diverse trials for others (or itself) to learn from."""

    def explore(self, contexts: Sequence[Context]) -> Policy:
        """A policy for one world per context whose attempts differ from each other: mostly ``adapt``, sampled."""


@runtime_checkable
class Tellable(Adaptive, Protocol):
    """A method that acts on one of the entities that ``environment_state`` lists, and can be told on which."""

    def adapt_told(self, contexts: Sequence[Context], targets: Sequence[int]) -> Policy:
        """As ``adapt``, and told the number of the right entity in each world: what is left is carrying it out."""


@runtime_checkable
class Learner(Adaptive, Protocol):
    """What a method *is*: a loss for meta-training and ``adapt`` for everything after.

    Whatever is a ``torch.nn.Module`` has the methods that training asks for beside these.
    """

    config: Any  # a frozen dataclass of JSON values

    def __init__(self, config: Any, spec: Spec) -> None:
        """Untrained: ``learners.make_learner`` builds those of the table like this."""

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Takes what it needs from the numbers of all training episodes before the first step (scaling).

        Images are not part of them: their scale is fixed. Many methods take nothing.
        """

    def loss(self, batch: Any) -> Loss:
        """The training loss and named parts of it for the log.

        ``batch`` is whatever the method is trained on: a ``Batch`` for those that imitate a query episode, transitions
        for others; it must only be able to move ``.to(device)``.
        """

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...

    def train(self, mode: bool = True) -> Any: ...

    def to(self, device: torch.device | str) -> Any: ...


@runtime_checkable
class Successor(Learner, Protocol):
    """A learner that begins where another method ended: ``start_from`` comes before ``prepare``."""

    starts_from: str  # the name of that method

    def start_from(self, trained: Any) -> None:
        """Takes what it needs of the trained learner ``starts_from``."""


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
