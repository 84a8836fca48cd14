"""Which episodes make a training example, as pure index arithmetic: nothing here touches an observation.

An example is a *context* (demonstrations of a task, and trials with their outcomes) and a *query* (the
demonstration to imitate). The trials come from the query's own scene, the demonstrations from other scenes,
as at test time: a person shows the task once, somewhere else, and the robot then tries and tries again in
front of the same objects. ``Sampling.elsewhere`` mixes in examples whose trials were made anywhere. Other ideas of what
belongs together are in ``data/indices.py``; a method chooses one by the type of its config's field ``sampling``, which
builds the index (``Indexing``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.system.config import shortened
from watchtrylearn.types import WtlError

MOST_EPISODES, MOST_FRAMES = 100, 10_000  # of each kind in an example, and of its query


@dataclass(frozen=True)
class Sampling:
    """What training examples look like.

    Attributes:
        demos: relative frequency of 0, 1, 2 ... demonstrations in a context; ``(0, 1)``: always one.
        trials: relative frequency of 0, 1, 2 ... trials.
        frames: query steps per example, drawn uniformly and independently.
        elsewhere: share of examples whose trials come from any scenes of the task instead of the query's own.
        relabelled: share of examples that ask "what if this trial had been what was meant?" (``_Relabelling``).
        symmetries: each example, context and query alike, is changed by one of the maps that the suite's symmetries
            make (``ops/symmetry.py``), each equally likely. Refused where there are none.

    A count is cut to what exists for the query, but queries that cannot offer even the smallest wanted count
    are not used: with ``trials=(0, 1)`` every query has a trial in its scene.
    """

    demos: tuple[int | float, ...] = (0, 1)
    trials: tuple[int | float, ...] = (1,)
    frames: int = 8
    elsewhere: float = 0.0
    relabelled: float = 0.0
    symmetries: bool = False

    def __post_init__(self) -> None:
        for name in ("elsewhere", "relabelled"):
            if not 0 <= getattr(self, name) <= 1:
                raise WtlError(f"sampling.{name} must be a share between 0 and 1, not {getattr(self, name)}")
        for name in ("demos", "trials"):
            weights = np.asarray(getattr(self, name), float)
            if not ((weights >= 0).all() and 0 < weights.sum() < np.inf and len(weights) <= MOST_EPISODES):
                what = f"up to {MOST_EPISODES} weights of 0, 1, 2 ... episodes"
                raise WtlError(f"sampling.{name} must be {what}, not {shortened(getattr(self, name))}")
        if not 1 <= self.frames <= MOST_FRAMES:
            raise WtlError(f"sampling.frames must be between 1 and {MOST_FRAMES}, not {self.frames}")

    def index(self, table: EpisodeTable) -> Index:
        return PairIndex(table, self)


@dataclass(frozen=True)
class SceneSampling(Sampling):
    """As ``Sampling``, but what is demonstrated comes from the query's own scene (``SceneIndex``). So nothing is
    relabelled: what had been watched before a trial was in another scene."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relabelled:
            raise WtlError("sampling.relabelled must be 0 where demonstrations come from the query's own scene")

    def index(self, table: EpisodeTable) -> Index:
        return SceneIndex(table, self)


@dataclass(frozen=True)
class Pairs:
    """Sampled examples as rows of the episode table; -1 where an episode is absent.

    ``task`` numbers the tasks in the order of the table's task ids.

    Attributes:
        frames: the query steps to imitate.
        demo_span: first step and one past the last of the slice that is shown of each demonstration; None: the whole.
        demo_frames: of which steps of each demonstration (or slice) the images are shown; None: spread evenly.
        answer: of examples whose query is a trial, taken for what was meant: what is then said of each trial, 1 for yes
            and 0 for no. NaN in other examples: how it ended. None: there are only others.
    """

    task: Int[np.ndarray, "task"]
    demo: Int[np.ndarray, "task demo"]
    trial: Int[np.ndarray, "task trial"]
    query: Int[np.ndarray, "task"]
    frames: Int[np.ndarray, "task frame"]
    demo_span: Int[np.ndarray, "task demo 2"] | None = None
    demo_frames: Int[np.ndarray, "task demo shown"] | None = None
    answer: Float[np.ndarray, "task trial"] | None = None


@dataclass(frozen=True)
class Steps:
    """Sampled transitions: from frame ``begin`` of the episode in ``row`` to frame ``end``, rewards discounted by
    ``gamma`` a step."""

    row: Int[np.ndarray, "transition"]
    begin: Int[np.ndarray, "transition"]
    end: Int[np.ndarray, "transition"]
    gamma: float


@runtime_checkable
class Index(Protocol):
    """Draws examples: which rows of an episode table, and which of their steps."""

    def sample(self, rng: np.random.Generator, batch: int) -> Pairs | Steps:
        """``batch`` independent examples."""


@runtime_checkable
class Indexing(Protocol):
    """What a method's config says of its examples, as its field ``sampling``: a frozen dataclass of JSON values that
    builds its own index, so that its type chooses the idea."""

    def index(self, table: EpisodeTable) -> Index:
        """The index of the episodes in ``table``."""


class PairIndex:
    """Draws (context, query) examples of the same task in other scenes: uniform over tasks, over a task's queries, and
    over what fits a query. Its demonstrations come from other scenes than the query's."""

    def __init__(self, table: EpisodeTable, sampling: Sampling) -> None:
        self._pairing = _Pairing(table, sampling, own_scene=False)
        self.sampling, self.tasks = sampling, self._pairing.tasks
        self._relabelling = _Relabelling(table, sampling) if sampling.relabelled else None

    def sample(self, rng: np.random.Generator, batch: int) -> Pairs:
        """``batch`` independent examples."""
        pairs = self._pairing.sample(rng, batch)
        return pairs if self._relabelling is None else self._relabelling.mixed_into(pairs, rng)


class SceneIndex:
    """As ``PairIndex``, but the demonstrations come from the query's own scene: the other ones that were made there,
    never the query itself. What is shown is then what has to be done, motion by motion."""

    def __init__(self, table: EpisodeTable, sampling: Sampling) -> None:
        self._pairing = _Pairing(table, sampling, own_scene=True)
        self.sampling, self.tasks = sampling, self._pairing.tasks

    def sample(self, rng: np.random.Generator, batch: int) -> Pairs:
        """``batch`` independent examples."""
        return self._pairing.sample(rng, batch)


class _Pairing:
    """Queries, and what may accompany each.

    Demonstrations are kept sorted by task and scene. Those that may accompany a query are a run of them without a run
    inside it: its task's without its scene's, or its scene's without itself. Trials are a run too. So there are a few
    integers per query.
    """

    def __init__(self, table: EpisodeTable, sampling: Sampling, own_scene: bool) -> None:
        self.sampling = sampling
        task = np.unique(table.task, return_inverse=True)[1]
        place = np.unique(np.stack([table.task, table.scene], 1), axis=0, return_inverse=True)[1]
        order = np.argsort(place, kind="stable")  # by task, then scene
        self._demo = order[table.is_demo[order]]  # table rows of the demonstrations
        self._trial = order[table.is_trial[order]]
        self._length = table.length[self._demo]
        of_task = _runs(task[self._demo], task[self._demo])
        of_scene = _runs(place[self._demo], place[self._demo])
        itself = np.arange(len(self._demo)), np.ones(len(self._demo), int)
        self._run = of_scene if own_scene else of_task
        self._hole = itself if own_scene else of_scene
        self._trial_run = _runs(place[self._trial], place[self._demo])
        self._task_trials = _runs(task[self._trial], task[self._demo])
        self._others = self._run[1] - self._hole[1]
        usable = (self._others >= _least(sampling.demos)) & (self._trial_run[1] >= _least(sampling.trials))
        self._queries = np.flatnonzero(usable)  # positions in self._demo, grouped by task
        if not len(self._queries):
            where = "its own scene" if own_scene else "other scenes"
            raise WtlError(
                f"no task has a demonstration to imitate with {_least(sampling.demos)} demonstrations from "
                f"{where} and {_least(sampling.trials)} trials in its own scene "
                f"({len(self._demo)} demonstrations, {len(self._trial)} trials)"
            )
        trials = self._task_trials if sampling.elsewhere else self._trial_run
        if any(sampling.trials[1:]) and not trials[1][self._queries].any():
            raise WtlError("nothing can be learned from trials: no demonstration to imitate has one in its own scene")
        self.tasks, self._begin, self._count = np.unique(
            table.task[self._demo[self._queries]], return_index=True, return_counts=True
        )

    def sample(self, rng: np.random.Generator, batch: int) -> Pairs:
        group = rng.integers(len(self.tasks), size=batch)
        query = self._queries[self._begin[group] + rng.integers(self._count[group])]
        return Pairs(
            task=self.tasks[group],
            demo=self._pick_demos(rng, query),
            trial=self._pick_trials(rng, query),
            query=self._demo[query],
            frames=rng.integers(self._length[query][:, None], size=(batch, self.sampling.frames)),
        )

    def _pick_demos(self, rng: np.random.Generator, query: Int[np.ndarray, "task"]) -> np.ndarray:
        pick = choose(rng, self._others[query], self.sampling.demos)
        begin, size = self._hole[0][query], self._hole[1][query]
        position = self._run[0][query][:, None] + pick
        position += size[:, None] * (position >= begin[:, None])  # step over the hole
        return _rows(self._demo, position, pick >= 0)

    def _pick_trials(self, rng: np.random.Generator, query: Int[np.ndarray, "task"]) -> np.ndarray:
        begin, available = (run[query] for run in self._trial_run)
        if self.sampling.elsewhere:
            away = rng.random(len(query)) < self.sampling.elsewhere
            begin, available = (
                np.where(away, anywhere[query], here)
                for anywhere, here in zip(self._task_trials, (begin, available), strict=True)
            )
        pick = choose(rng, available, self.sampling.trials)
        return _rows(self._trial, begin[:, None] + pick, pick >= 0)


class _Relabelling:
    """Examples that ask of a trial: what if this had been meant?

    A trial is what somebody did who had watched some demonstrations of the task and read them one way. So it is what
    that reading asks for in this scene, whichever reading the task has (MILI's insight, inside one scene: a trial is
    a success at *some* task). The trial becomes the *query*, what its policy had watched becomes the context's
    demonstrations, and of every trial in its scene, itself among them, the context says yes where it acted on the
    same entity as the query, and no elsewhere.

    Who learns from such examples cannot remember which reading belongs to which training task, since both do: what
    tells them apart are the answers.
    """

    def __init__(self, table: EpisodeTable, sampling: Sampling) -> None:
        self.sampling, self._table = sampling, table
        if not (table.acted_on[table.is_trial] >= 0).any():
            raise WtlError(
                "sampling.relabelled: nothing says what the trials acted on: it needs trials, and a suite whose "
                "environment_state lists entities with positions"
            )
        shown = (table.watched >= 0).sum(1)
        usable = table.is_trial & (table.acted_on >= 0) & (shown >= _least(sampling.demos))
        if not usable.any():
            raise WtlError("sampling.relabelled: no trial says which demonstrations had been watched before it")
        place = np.unique(np.stack([table.task, table.scene], 1), axis=0, return_inverse=True)[1]
        self._trial = np.flatnonzero(usable)[np.argsort(place[usable], kind="stable")]  # by task, then scene
        self._scene = _runs(place[self._trial], place[self._trial])
        self._tasks, self._begin, self._count = np.unique(
            table.task[self._trial], return_index=True, return_counts=True
        )
        self._shown = table.watched if any(sampling.demos[1:]) else np.full((len(table.task), 1), -1)

    def mixed_into(self, pairs: Pairs, rng: np.random.Generator) -> Pairs:
        """``pairs``, of which each has given way to such an example with the sampling's chance; uniform over tasks, and
        over a task's trials."""
        batch = len(pairs.task)
        here = rng.random(batch) < self.sampling.relabelled
        group = rng.integers(len(self._tasks), size=batch)
        query = self._begin[group] + rng.integers(self._count[group])
        pick = choose(rng, self._scene[1][query], self.sampling.trials)
        trial = _rows(self._trial, self._scene[0][query][:, None] + pick, pick >= 0)
        row, acted_on = self._trial[query], self._table.acted_on
        same = (acted_on[trial] == acted_on[row][:, None]).astype(float)
        frames = rng.integers(self._table.length[row][:, None], size=pairs.frames.shape)
        return Pairs(
            task=np.where(here, self._tasks[group], pairs.task),
            demo=_either(here, self._shown[row], pairs.demo),
            trial=np.where(here[:, None], trial, pairs.trial),
            query=np.where(here, row, pairs.query),
            frames=np.where(here[:, None], frames, pairs.frames),
            answer=np.where(here[:, None], same, np.nan),
        )


def choose(
    rng: np.random.Generator, available: Int[np.ndarray, "task"], weights: Sequence[int | float]
) -> Int[np.ndarray, "task shot"]:
    """Per row, a random number of distinct integers below ``available``, then -1.

    The count is drawn from ``weights`` (of 0, 1, 2 ...) and cut to ``available``. There are as many columns
    as weights allow, and at least one.
    """
    most = len(weights) - 1
    share = np.cumsum(np.asarray(weights, float))
    share /= share[-1]
    count = np.minimum(np.searchsorted(share, rng.random(len(available)), side="right"), available)
    picked = distinct(rng, available, max(1, most))
    return np.where(np.arange(max(1, most)) < count[:, None], picked, -1)


def distinct(rng: np.random.Generator, available: Int[np.ndarray, "task"], count: int) -> Int[np.ndarray, "task shot"]:
    """``count`` distinct integers below ``available`` per row, every ordered choice equally likely.

    The j-th is drawn among the ``available - j`` not yet taken and shifted past those that are. Columns
    beyond ``available`` are -1.
    """
    picked = np.full((len(available), count), -1)
    for column in range(count):
        pick = rng.integers(np.maximum(available - column, 1))
        for taken in np.sort(picked[:, :column], axis=1).T:
            pick += pick >= taken
        picked[:, column] = np.where(column < available, pick, -1)
    return picked


def _runs(
    ordered: Int[np.ndarray, "row"], keys: Int[np.ndarray, "query"]
) -> tuple[Int[np.ndarray, "query"], Int[np.ndarray, "query"]]:
    """Where each key's stretch of the ``ordered`` keys begins, and how long it is (0 if it is not there)."""
    begin = np.searchsorted(ordered, keys, side="left")
    return begin, np.searchsorted(ordered, keys, side="right") - begin


def _rows(
    rows: Int[np.ndarray, "row"],
    position: Int[np.ndarray, "task shot"],
    present: Bool[np.ndarray, "task shot"],
) -> Int[np.ndarray, "task shot"]:
    if not len(rows):
        return np.full(position.shape, -1)
    return np.where(present, rows[np.where(present, position, 0)], -1)


def _either(
    which: Bool[np.ndarray, "task"], one: Int[np.ndarray, "task _"], other: Int[np.ndarray, "task _"]
) -> Int[np.ndarray, "task shot"]:
    """The rows of ``one`` where ``which``, else those of the ``other``; the shorter ones are followed by -1."""
    width = max(one.shape[1], other.shape[1])
    one, other = (np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=-1) for rows in (one, other))
    return np.where(which[:, None], one, other)


def _least(weights: Sequence[int | float]) -> int:
    """The smallest count with a positive weight."""
    return int(np.flatnonzero(np.asarray(weights))[0])
