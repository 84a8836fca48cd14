"""More ways to make examples of episodes, beside ``sampling.PairIndex``: one small class per idea, on integers alone.

Each has ``sample(rng, batch)``, and ``gather`` does not care which of them made what it gathers.
"""

from __future__ import annotations

import numpy as np

from watchtrylearn.data.sampling import EpisodeTable, Steps
from watchtrylearn.types import WtlError


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
