"""Where the batches of a training come from: a fixed dataset, or episodes that the learner gathers meanwhile.

The batch of step ``k`` is a function of ``k`` and of the rounds gathered so far, and what a round gathers is a function
of the weights, the seed and the round's number. So a training that was killed and resumed has the same batches.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from watchtrylearn.data.batches import gather
from watchtrylearn.data.memory import EpisodeMemory
from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.ops.random import generator
from watchtrylearn.system.config import require_within
from watchtrylearn.training.rounds import Collect, Rounds
from watchtrylearn.types import Episode, EpisodeBatch, Learner, Spec, WtlError

MOST = 10**9

Sample = Callable[[np.random.Generator], Any]


@runtime_checkable
class Source(Protocol):
    """Gives a training its batches. The loop calls ``begin`` once, and then ``batch(k)`` for one step after another.

    An object may be used again after that: ``begin`` forgets all that was before.
    """

    def settings(self) -> dict[str, Any]:
        """What the batches depend on beside the data, as JSON: a training is not continued with another."""

    def begin(self, learner: Learner, directory: Path, seed: int, gathered: Mapping[str, Any]) -> None:
        """Be what it was when it said ``gathered`` ({}: at the very start), whatever was gathered after that.

        ``directory`` is the training's own.
        """

    def batch(self, step: int) -> Any:
        """The batch of step 0, 1, ...: whatever the learner's loss takes; it has ``.to(device)``."""

    def gathers(self, step: int) -> bool:
        """Whether new episodes are gathered before ``step``, which takes its time; at step 0, if there ever are any."""

    def gathered(self) -> dict[str, Any]:
        """What has been gathered so far, as JSON for a checkpoint; it is on the disk. {} if nothing ever is."""

    def measures(self) -> dict[str, float]:
        """Named numbers for the log, about what was gathered since the last call."""

    def saved(self, oldest: int) -> None:
        """A checkpoint was written, and nobody will ask for what came before step ``oldest`` any more."""


class FixedSource:
    """Batches of a dataset: ``sample`` draws one with the generator it is given and no other randomness.

    ``described``: what batches depend on beside data and config, as JSON; a training is not continued with another.
    """

    def __init__(self, sample: Sample, described: Mapping[str, Any] | None = None) -> None:
        self.sample, self.described = sample, dict(described or {})
        self.seed = 0

    def settings(self) -> dict[str, Any]:
        return self.described

    def begin(self, learner: Learner, directory: Path, seed: int, gathered: Mapping[str, Any]) -> None:
        self.seed = seed

    def batch(self, step: int) -> Any:
        return self.sample(generator("train", self.seed, step))

    def gathers(self, step: int) -> bool:
        return False

    def gathered(self) -> dict[str, Any]:
        return {}

    def measures(self) -> dict[str, float]:
        return {}

    def saved(self, oldest: int) -> None:
        pass


def require_source(source: object) -> None:
    """Raises ``WtlError`` where something else is given, such as the function that draws a batch."""
    if not isinstance(source, Source):
        raise WtlError(
            f"a training takes its batches from a source, such as FixedSource(sample), not from {source!r:.80}"
        )


# ------------------------------------------------------------------------------------------------- gathering


class ReplaySource:
    """Batches from a memory of what the learner has done so far, drawn through an index. Off-policy.

    Attributes:
        collect: (learner, seed, number of the round) -> new episodes; a few lines around ``rollout``. It takes its
            randomness from these numbers alone. The first round has what training begins with.
        index: makes the index of a memory's table, an object with ``sample(rng, batch)``: a class such as
            ``TransitionIndex``, or a function, with its options by ``functools.partial``. Its name and all its options
            are settings of the training, so a lambda, which has neither, is refused.
        batch_size: examples in a batch.
        every: steps between rounds.
        capacity: frames in the memory (an episode has one more than steps); the oldest episodes leave it first.
    """

    def __init__(
        self,
        collect: Collect,
        spec: Spec,
        index: Callable[[EpisodeTable], Any],
        batch_size: int,
        every: int,
        capacity: int,
    ) -> None:
        self.index, self.batch_size, self.every, self.capacity = index, batch_size, every, capacity
        require_within("replay: ", self, batch_size=(1, MOST), every=(1, MOST), capacity=(1, MOST))
        self.described = _described(index)
        self.spec, self.rounds = spec, Rounds(collect, spec, every, capacity)

    def settings(self) -> dict[str, Any]:
        sizes = {"batch_size": self.batch_size, "every": self.every, "capacity": self.capacity}
        return {"kind": "replay", **sizes, "index": self.described}

    def begin(self, learner: Learner, directory: Path, seed: int, gathered: Mapping[str, Any]) -> None:
        self.rounds.begin(learner, directory, seed, gathered)
        self.memory = EpisodeMemory(self.spec, capacity=self.capacity)
        for number in self.rounds.needed(self.rounds.count):
            self._remember(self.rounds.read(number))

    def batch(self, step: int) -> Any:
        self._remember(self.rounds.gather(step) or [])
        if not len(self.memory):
            raise WtlError("the first round gathered no sound episode, so there is nothing to learn from")
        return gather(self.memory, self.examples.sample(generator("train", self.rounds.seed, step), self.batch_size))

    def _remember(self, episodes: Sequence[Episode]) -> None:
        if episodes:
            self.memory.append(episodes)
            self.examples = self.index(self.memory.table)

    def gathers(self, step: int) -> bool:
        return self.rounds.due(step)

    def gathered(self) -> dict[str, Any]:
        return self.rounds.gathered()

    def measures(self) -> dict[str, float]:
        return self.rounds.measures()

    def saved(self, oldest: int) -> None:
        self.rounds.saved(oldest)


def _described(index: Callable[..., Any]) -> dict[str, Any]:
    """The name of what makes an index of a table, and its options, those left at their defaults too, as JSON."""
    table = object()
    made = index if isinstance(index, partial) else partial(index)
    name = getattr(made.func, "__name__", "<lambda>")
    if name == "<lambda>":
        raise WtlError("replay: index must be a class or a function with a name: partial(TransitionIndex, steps=3)")
    try:
        bound = inspect.signature(made.func).bind(*made.args, table, **made.keywords)
        bound.apply_defaults()
        options = {option: value for option, value in bound.arguments.items() if value is not table}
        return {"name": name, **json.loads(json.dumps(options, default=dataclasses.asdict))}
    except TypeError as error:
        raise WtlError(f"replay: index: {name} of a table and the options given: {error}") from error


class OnPolicySource:
    """Batches of what the learner has just done: every round is gone through ``epochs`` times, then dropped.

    A batch is an ``EpisodeBatch``: in each epoch the round's episodes are dealt, in a new order, to ``minibatches`` of
    them. It has the images of every step, and those after the last. A loss that compares with the policy that gathered
    them keeps that as a copy (``update.TargetCopy``) with ``every = epochs * minibatches``.

    Attributes:
        collect: (learner, seed, number of the round) -> new episodes, with their actions as intended.
    """

    def __init__(self, collect: Collect, spec: Spec, epochs: int = 1, minibatches: int = 1) -> None:
        self.spec, self.epochs, self.minibatches = spec, epochs, minibatches
        require_within("on-policy: ", self, epochs=(1, MOST), minibatches=(1, MOST))
        self.rounds = Rounds(collect, spec, epochs * minibatches, needed_frames=1)

    def settings(self) -> dict[str, Any]:
        return {"kind": "on-policy", "epochs": self.epochs, "minibatches": self.minibatches}

    def begin(self, learner: Learner, directory: Path, seed: int, gathered: Mapping[str, Any]) -> None:
        self.rounds.begin(learner, directory, seed, gathered)
        self.round = EpisodeMemory(self.spec)
        if self.rounds.count:
            self._take(self.rounds.read(self.rounds.count - 1))

    def batch(self, step: int) -> EpisodeBatch:
        episodes = self.rounds.gather(step)
        if episodes is not None:
            self._take(episodes)
        epoch, part = divmod(step % self.rounds.every, self.minibatches)
        number = step // self.rounds.every
        order = generator("train", self.rounds.seed, number, epoch).permutation(len(self.round))
        rows = order[part :: self.minibatches]
        steps = np.minimum(np.arange(self.spec.horizon + 1), self.round.lengths(rows)[:, None])
        return self.round.take(rows, frames=steps if self.spec.images else None)

    def _take(self, episodes: Sequence[Episode]) -> None:
        if len(episodes) < self.minibatches:
            raise WtlError(
                f"a round gathered {len(episodes)} sound episodes, too few for {self.minibatches} minibatches"
            )
        self.round = EpisodeMemory(self.spec, episodes)

    def gathers(self, step: int) -> bool:
        return self.rounds.due(step)

    def gathered(self) -> dict[str, Any]:
        return self.rounds.gathered()

    def measures(self) -> dict[str, float]:
        return self.rounds.measures()

    def saved(self, oldest: int) -> None:
        self.rounds.saved(oldest)
