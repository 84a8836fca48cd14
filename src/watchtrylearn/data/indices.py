"""More ways to make examples of episodes, beside those of ``data/sampling.py``: one small class per idea, on integers
alone.

Each has ``sample(rng, batch)``, and ``gather`` does not care which of them made what it gathers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from watchtrylearn.data.sampling import Index, Pairs, Steps, distinct
from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.types import WtlError


@dataclass(frozen=True)
class TransitionSampling:
    """Batches of single transitions (``TransitionIndex``)."""

    steps: int = 1
    gamma: float = 0.99

    def index(self, table: EpisodeTable) -> Index:
        return TransitionIndex(table, self.steps, self.gamma)


@dataclass(frozen=True)
class SliceSampling:
    """Slices of one and the same demonstration (``SliceIndex``)."""

    query: int = 8
    context: int | None = None

    def index(self, table: EpisodeTable) -> Index:
        return SliceIndex(table, self.query, self.context)


class TransitionIndex:
    """Single transitions, each of the table's steps equally likely, ``steps`` ahead or as far as the episode goes.

    The reward of a transition is then the ``steps``-step return: the rewards on the way, discounted by ``gamma``.
    """

    def __init__(self, table: EpisodeTable, steps: int = 1, gamma: float = 0.99) -> None:
        if steps < 1 or not 0 <= gamma <= 1:
            raise WtlError(f"a transition goes 1 or more steps ahead, gamma is from 0 to 1; got {steps} and {gamma}")
        self.steps, self.gamma = steps, gamma
        self._rows = np.flatnonzero(table.is_demo | table.is_trial)
        self._length = table.length[self._rows]
        self._ends = np.cumsum(self._length)
        if not len(self._rows):
            raise WtlError("there is no episode to take transitions from")

    def __len__(self) -> int:
        """How many transitions there are."""
        return int(self._ends[-1])

    def sample(self, rng: np.random.Generator, batch: int) -> Steps:
        """``batch`` independent transitions."""
        step = rng.integers(self._ends[-1], size=batch)
        which = np.searchsorted(self._ends, step, side="right")
        begin = step - self._ends[which] + self._length[which]
        end = np.minimum(begin + self.steps, self._length[which])
        return Steps(self._rows[which], begin, end, self.gamma)


class SliceIndex:
    """Slices of one and the same demonstration: ``query`` steps in a row are to be imitated, given another slice of
    ``context`` steps that does not overlap them or, without ``context``, the whole demonstration.

    Uniform over tasks, over a task's demonstrations that are long enough, and over where the slices lie in them.
    """

    def __init__(self, table: EpisodeTable, query: int, context: int | None = None) -> None:
        if query < 1 or (context is not None and context < 1):
            raise WtlError(f"a slice has 1 or more steps; got query={query} and context={context}")
        self.query, self.context = query, context
        needed = query + (context or 0)
        rows = np.flatnonzero(table.is_demo & (table.length >= needed))
        if not len(rows):
            raise WtlError(f"no demonstration has the {needed} steps that slices of it need")
        self._rows = rows[np.argsort(table.task[rows], kind="stable")]
        self._length = table.length[self._rows]
        self.tasks, self._first, self._count = np.unique(table.task[self._rows], return_index=True, return_counts=True)

    def sample(self, rng: np.random.Generator, batch: int) -> Pairs:
        """``batch`` independent examples; a query's ``frames`` are its slice's steps."""
        group = rng.integers(len(self.tasks), size=batch)
        which = self._first[group] + rng.integers(self._count[group])
        length = self._length[which]
        if self.context is None:
            shown, begin = np.stack([np.zeros_like(length), length], 1), rng.integers(length - self.query + 1)
        else:
            shown, begin = self._apart(rng, length, self.context)
        return Pairs(
            task=self.tasks[group],
            demo=self._rows[which][:, None],
            trial=np.full((batch, 1), -1),
            query=self._rows[which],
            frames=begin[:, None] + np.arange(self.query),
            demo_span=shown[:, None],
        )

    def _apart(
        self, rng: np.random.Generator, length: Int[np.ndarray, "task"], context: int
    ) -> tuple[Int[np.ndarray, "task 2"], Int[np.ndarray, "task"]]:
        """Context slice and first step of the query: every way to lay them side by side is equally likely.

        With each slice shrunk to a point they are two of the places left, in one order or the other.
        """
        one, two = distinct(rng, length - self.query - context + 2, 2).T
        begin = np.where(one < two, one, one + context - 1)
        shown = np.where(two < one, two, two + self.query - 1)
        return np.stack([shown, shown + context], 1), begin


class TableIndex:
    """Examples that somebody listed: row i of ``demo`` (and ``trial``) is shown for row i of ``query``.

    Args:
        table: of the episodes.
        demo, trial: rows of the table; -1 where there is none.
        query: the row to imitate.
        frames: query steps per example, drawn uniformly and independently.
        weights: how often an example is drawn, relative to the others; by default all are equally likely.
        demo_frames: of which steps of each demonstration the images are shown; by default spread evenly.
    """

    def __init__(
        self,
        table: EpisodeTable,
        demo: Int[np.ndarray, "example demo"],
        query: Int[np.ndarray, "example"],
        frames: int = 8,
        *,
        trial: Int[np.ndarray, "example trial"] | None = None,
        weights: Float[np.ndarray, "example"] | None = None,
        demo_frames: Int[np.ndarray, "example demo shown"] | None = None,
    ) -> None:
        self.frames = frames
        self._demo, self._query, self._demo_frames = demo, query, demo_frames
        self._trial = np.full((len(query), 1), -1) if trial is None else trial
        rows = len(table.length)
        for name, found, least in (("demo", demo, -1), ("trial", self._trial, -1), ("query", query, 0)):
            wrong = found[(found < least) | (found >= rows)]
            if len(wrong):
                raise WtlError(f"the list of examples names row {wrong[0]} as {name}; there are {rows} episodes")
        if not len(query) or not table.length[query].all():
            raise WtlError("the list of examples names " + ("an episode without steps" if len(query) else "none"))
        share = np.ones(len(query)) if weights is None else np.asarray(weights, float)
        if not ((share >= 0).all() and 0 < share.sum() < np.inf):
            raise WtlError("the weights of listed examples must be finite, at least 0, and not all 0")
        self._share = np.cumsum(share)
        self._share /= self._share[-1]
        self._task, self._length = table.task[query], table.length[query]

    def sample(self, rng: np.random.Generator, batch: int) -> Pairs:
        """``batch`` independent examples."""
        which = np.searchsorted(self._share, rng.random(batch), side="right")
        return Pairs(
            task=self._task[which],
            demo=self._demo[which],
            trial=self._trial[which],
            query=self._query[which],
            frames=rng.integers(self._length[which][:, None], size=(batch, self.frames)),
            demo_frames=None if self._demo_frames is None else self._demo_frames[which],
        )
