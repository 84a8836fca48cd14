"""What a method can be trained from, for learners that say themselves where their batches come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from watchtrylearn.data.memory import EpisodeMemory
from watchtrylearn.ops.symmetry import Symmetry
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.training.sources import Source
from watchtrylearn.training.update import Update
from watchtrylearn.types import Episode, Learner, Spec, Task

Attempts = Callable[..., list[Episode]]  # (policy, tasks, scene seeds, **options of rollout)


@dataclass(frozen=True)
class Material:
    """All there is to train a method from.

    Attributes:
        spec: of the episodes.
        memory: demonstrations, and the trials of the methods from whose trials it learns.
        tasks: the training tasks; none where there is nothing to try them in.
        attempts: ``attempts(policy, tasks, seeds, attempt=..., run_seed=...)`` lets a policy try in one scene of each
            task (``rollout``); None for recordings from elsewhere.
        batch_size, seed: of the training.
        symmetries: those of the suite; none where it declares none, and for recordings from elsewhere.
    """

    spec: Spec
    memory: EpisodeMemory
    tasks: Sequence[Task]
    attempts: Attempts | None
    batch_size: int
    seed: int
    symmetries: Sequence[Symmetry] = ()


@runtime_checkable
class Sourced(Learner, Protocol):
    """A learner that is not trained on (context, query) pairs: it says itself what its batches are."""

    def source(self, material: Material) -> Source:
        """Where the batches of its training come from. It prepares itself too, where it must."""


@runtime_checkable
class Updating(Learner, Protocol):
    """A learner whose step is not gradient descent (which knows groups of parameters and target copies)."""

    def make_update(self, config: TrainConfig) -> Update:
        """What a step of its training does with a batch."""
