"""Every sampled example is legal, every legal one is reachable, and tasks are drawn uniformly."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchtrylearn.data.sampling import PairIndex, Sampling, choose, distinct
from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.ops.random import generator
from watchtrylearn.types import WtlError


def table(rows: list[tuple[int, int, str]]) -> EpisodeTable:
    """A table from (task, scene, "d" or "t") rows; episode i has i + 1 steps."""
    task, scene, kind = (np.array(column) for column in zip(*rows, strict=True))
    nothing = np.full(len(rows), -1), np.zeros((len(rows), 0), int)
    return EpisodeTable(task, scene, np.arange(1, len(rows) + 1), kind == "d", kind == "t", *nothing)


SEVEN = [(7, 0, "d"), (7, 0, "t"), (7, 0, "t"), (7, 1, "d"), (7, 2, "d"), (7, 2, "t"), (7, 0, "d")]
THREE = [(3, 5, "d"), (3, 6, "d"), (3, 0, "t"), (3, 6, "t")]
SMALL = table([*SEVEN, *THREE, (4, 1, "d"), (4, 1, "d"), (4, 1, "t")])


def illegal(t: EpisodeTable, demo: np.ndarray, trial: np.ndarray, query: int, frames: np.ndarray) -> str | None:
    """What breaks the rules in one example, checked from the definition."""
    demo, trial = demo[demo >= 0], trial[trial >= 0]
    if not t.is_demo[query] or not t.is_demo[demo].all() or not t.is_trial[trial].all():
        return "kinds"
    if (t.task[demo] != t.task[query]).any() or (t.task[trial] != t.task[query]).any():
        return "tasks"
    if (t.scene[demo] == t.scene[query]).any() or (t.scene[trial] != t.scene[query]).any():
        return "scenes"
    if len(set(demo)) < len(demo) or len(set(trial)) < len(trial):
        return "repeats"
    return "frames" if (frames < 0).any() or (frames >= t.length[query]).any() else None


rows = st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("dt"))


@given(st.lists(rows, min_size=1, max_size=25), st.integers(0, 2), st.integers(0, 3), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_every_example_is_legal(entries: list, demos: int, trials: int, seed: int) -> None:
    t = table(entries)
    sampling = Sampling(demos=(0,) * demos + (1, 1), trials=(0,) * trials + (1, 1, 1), frames=3)
    try:
        index = PairIndex(t, sampling)
    except WtlError:
        return
    pairs = index.sample(generator(seed), 40)
    for i in range(40):
        assert illegal(t, pairs.demo[i], pairs.trial[i], pairs.query[i], pairs.frames[i]) is None
        assert pairs.task[i] == t.task[pairs.query[i]]
        assert (pairs.demo[i] >= 0).sum() >= demos
        assert (pairs.trial[i] >= 0).sum() >= trials


def test_all_legal_queries_are_reached_and_tasks_are_uniform() -> None:
    pairs = PairIndex(SMALL, Sampling(trials=(1, 1, 1))).sample(generator("reach"), 6000)
    assert set(pairs.query) == {0, 3, 4, 6, 7, 8}  # task 4 has one scene only: no demonstration from another
    share = np.bincount(pairs.task, minlength=8) / 6000
    assert share[[3, 7]] == pytest.approx(0.5, abs=0.03)
    of_seven = pairs.query[pairs.task == 7]
    assert np.bincount(of_seven)[[0, 3, 4, 6]] / len(of_seven) == pytest.approx(0.25, abs=0.04)


def test_contexts_are_uniform_over_what_fits_the_query() -> None:
    pairs = PairIndex(SMALL, Sampling(demos=(0, 1), trials=(0, 1))).sample(generator("fit"), 8000)
    assert set(pairs.query) == {0, 4, 6, 8}
    first = pairs.query == 0
    assert np.bincount(pairs.demo[first, 0])[[3, 4]] / first.sum() == pytest.approx(0.5, abs=0.05)
    assert np.bincount(pairs.trial[first, 0])[[1, 2]] / first.sum() == pytest.approx(0.5, abs=0.05)


def test_counts_follow_the_weights_and_are_cut_to_what_exists() -> None:
    count = (choose(generator("w"), np.full(20_000, 9), (1, 0, 3)) >= 0).sum(1)
    assert np.bincount(count) / 20_000 == pytest.approx([0.25, 0, 0.75], abs=0.02)
    assert ((choose(generator("w"), np.array([0, 1, 2]), (0, 0, 0, 1)) >= 0).sum(1) == [0, 1, 2]).all()
    assert choose(generator("w"), np.array([5]), (1,)).tolist() == [[-1]]  # one absent slot, never none


def test_trials_from_elsewhere_are_drawn_from_all_scenes_of_the_task_and_from_no_other_task() -> None:
    always = PairIndex(SMALL, Sampling(demos=(1,), trials=(0, 1), elsewhere=1.0)).sample(generator(1), 4000)
    for query in np.unique(always.query):
        drawn = always.trial[always.query == query, 0]
        own = np.flatnonzero(SMALL.is_trial & (SMALL.task == SMALL.task[query]))
        shares = [(drawn == trial).mean() for trial in own]
        assert sum(shares) == 1.0
        assert shares == pytest.approx([1 / len(own)] * len(own), abs=0.1)
    mixed = PairIndex(SMALL, Sampling(demos=(1,), trials=(0, 1), elsewhere=0.5)).sample(generator(1), 4000)
    here = SMALL.scene[mixed.trial[:, 0]] == SMALL.scene[mixed.query]
    there = SMALL.scene[always.trial[:, 0]] == SMALL.scene[always.query]
    assert here.mean() == pytest.approx(0.5 + there.mean() / 2, abs=0.04)


def test_distinct_choices_are_uniform_over_ordered_pairs() -> None:
    picked = distinct(generator("pairs"), np.full(24_000, 4), 2)
    pair, count = np.unique(picked, axis=0, return_counts=True)
    assert len(pair) == 12
    assert count / 24_000 == pytest.approx(1 / 12, abs=0.01)


def test_same_generator_same_examples() -> None:
    index = PairIndex(SMALL, Sampling(trials=(1, 1)))
    one, two = (index.sample(generator("same"), 16) for _ in range(2))
    assert (one.query == two.query).all()
    assert (one.frames == two.frames).all()


def test_impossible_and_wrong_options_are_refused() -> None:
    with pytest.raises(WtlError, match="3 trials in its own scene"):
        PairIndex(SMALL, Sampling(trials=(0, 0, 0, 1)))
    for wrong in (
        {"demos": ()},
        {"trials": (0.0,)},
        {"trials": (1, -1)},
        {"demos": (float("nan"),)},
        {"frames": 0},
        {"elsewhere": 1.5},
    ):
        with pytest.raises(WtlError, match="sampling"):
            Sampling(**wrong)  # type: ignore[arg-type]


def test_the_calls_that_drawing_costs_do_not_grow_with_the_batch() -> None:
    """Nor with the number of episodes: all examples are drawn at once, by arithmetic on arrays."""

    def calls(tasks: int, batch: int) -> int:
        task, scene = np.repeat(np.arange(tasks), 16), np.tile(np.arange(8).repeat(2), tasks)
        is_demo = np.tile([True, False], 8 * tasks)
        table = EpisodeTable(
            task,
            scene,
            np.full(16 * tasks, 50),
            is_demo,
            ~is_demo,
            acted_on=np.full(16 * tasks, -1),
            watched=np.zeros((16 * tasks, 0), int),
        )
        index, rng, found = PairIndex(table, Sampling(trials=(1, 1, 1, 1))), generator("fast"), 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal found
            found += event in ("call", "c_call")

        index.sample(rng, batch)  # whoever checks types has seen all of them
        sys.setprofile(count)
        try:
            index.sample(rng, batch)
        finally:
            sys.setprofile(None)
        return found

    assert 0 < calls(3, 2) == calls(3, 5000) == calls(500, 64)
