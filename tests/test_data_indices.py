"""The other ideas of what an example is: every one is legal, every legal one as likely as it should be."""

import numpy as np
import pytest

from image_episodes import SPEC, episode, mark
from test_data_sampling import SMALL, table
from watchtrylearn.data.batches import gather, stack
from watchtrylearn.data.indices import SliceIndex, TableIndex, TransitionIndex
from watchtrylearn.data.memory import EpisodeMemory
from watchtrylearn.data.sampling import PairIndex, Sampling, SceneIndex
from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.ops.random import generator
from watchtrylearn.types import WtlError


def test_the_draws_of_the_pair_index_are_those_of_version_0_1() -> None:
    pairs = PairIndex(SMALL, Sampling(demos=(0, 1, 1), trials=(1, 2, 1), frames=3, elsewhere=0.5))
    drawn = pairs.sample(generator("pinned"), 6)
    assert drawn.task.tolist() == [7, 7, 7, 3, 3, 3]
    assert drawn.demo.tolist() == [[0, 4], [3, -1], [6, 3], [7, -1], [8, -1], [7, -1]]
    assert drawn.trial.tolist() == [[1, 2], [1, -1], [5, -1], [-1, -1], [-1, -1], [-1, -1]]
    assert drawn.query.tolist() == [3, 6, 4, 8, 7, 8]
    assert drawn.frames.tolist() == [[1, 3, 0], [3, 4, 4], [0, 3, 3], [6, 6, 2], [0, 4, 6], [4, 5, 8]]


# ------------------------------------------------------------------------------------- the query's own scene

SCENES = table([(1, 0, "d"), (1, 0, "d"), (1, 0, "d"), (1, 1, "d"), (1, 1, "d"), (1, 2, "d"), (2, 0, "d"), (2, 0, "t")])


def test_demonstrations_of_the_own_scene_are_all_others_there_equally_often() -> None:
    drawn = SceneIndex(SCENES, Sampling(demos=(0, 1, 1))).sample(generator("scene"), 6000)
    assert set(drawn.query) == {0, 1, 2, 3, 4}  # the others are alone in their scenes
    for query in range(5):
        shown = drawn.demo[drawn.query == query]
        assert query not in shown
        others = np.flatnonzero((SCENES.scene == SCENES.scene[query]) & SCENES.is_demo & (SCENES.task == 1))
        shares = [(shown[:, 0] == row).mean() for row in others if row != query]
        assert sum(shares) == 1.0
        assert shares == pytest.approx([1 / len(shares)] * len(shares), abs=0.05)
    assert np.bincount(drawn.query) / 6000 == pytest.approx(1 / 5, abs=0.02)


def test_a_scene_with_one_demonstration_is_enough_where_none_must_be_shown() -> None:
    drawn = SceneIndex(SCENES, Sampling(demos=(1, 1))).sample(generator("alone"), 2000)
    assert set(drawn.query) == {0, 1, 2, 3, 4, 5, 6}
    assert (drawn.demo[drawn.query == 5] == -1).all()
    with pytest.raises(WtlError, match="3 demonstrations from its own scene"):
        SceneIndex(SCENES, Sampling(demos=(0, 0, 0, 1)))


# ------------------------------------------------------------------------------------- slices of one episode

LONG = table([(5, 0, "d")] * 3 + [(4, 0, "d"), (5, 0, "t"), (4, 1, "d"), (5, 1, "d")])  # 1 to 7 steps


def test_slices_of_one_demonstration_never_overlap_and_lie_everywhere_equally_often() -> None:
    index = SliceIndex(LONG, query=2, context=3)
    drawn = index.sample(generator("slices"), 12_000)
    assert drawn.demo_span is not None
    assert (drawn.demo[:, 0] == drawn.query).all()
    assert set(drawn.query) == {5, 6}  # with 6 and 7 steps; 5 of them is the trial
    assert (drawn.trial == -1).all()
    assert (np.diff(drawn.frames, axis=1) == 1).all()
    for row, steps in ((5, 6), (6, 7)):
        mine = drawn.query == row
        assert mine.mean() == pytest.approx(1 / 2, abs=0.02)  # uniform over tasks
        shown, begin = drawn.demo_span[mine, 0], drawn.frames[mine, 0]
        assert (shown[:, 1] - shown[:, 0] == 3).all()
        legal = [(c, q) for c in range(steps - 2) for q in range(steps - 1) if q + 2 <= c or c + 3 <= q]
        found, count = np.unique(np.stack([shown[:, 0], begin], 1), axis=0, return_counts=True)
        assert list(map(tuple, found.tolist())) == sorted(legal)
        assert count / mine.sum() == pytest.approx(1 / len(legal), abs=0.03)


def test_a_query_slice_lies_anywhere_in_a_demonstration_that_is_shown_whole() -> None:
    drawn = SliceIndex(LONG, query=6).sample(generator("whole"), 2000)
    assert drawn.demo_span is not None
    for row, steps in ((5, 6), (6, 7)):
        mine = drawn.query == row
        assert (drawn.demo_span[mine] == [0, steps]).all()
        assert set(drawn.frames[mine, 0]) == set(range(steps - 5))
    with pytest.raises(WtlError, match="no demonstration has the 8 steps"):
        SliceIndex(LONG, query=4, context=4)
    with pytest.raises(WtlError, match="1 or more steps"):
        SliceIndex(LONG, query=0)


def test_stacked_episodes_are_no_place_for_slices_and_transitions() -> None:
    episodes = [episode(0, 6), episode(1, 6)]
    table = EpisodeTable.of(episodes)
    for index in (SliceIndex(table, 2, 2), TransitionIndex(table)):
        with pytest.raises(WtlError, match="from an EpisodeMemory"):
            gather(stack(episodes, SPEC), index.sample(generator("none"), 4))  # type: ignore[arg-type, call-overload]


def test_gather_cuts_the_slice_out_of_numbers_and_images() -> None:
    episodes = [episode(i, 6, task=i % 2) for i in range(4)]
    memory = EpisodeMemory(SPEC, episodes)
    drawn = SliceIndex(memory.table, query=2, context=3).sample(generator("cut"), 30)
    batch = gather(memory, drawn, image_frames=3)
    demos = batch.context.demos
    assert (demos.length == 3).all()
    assert demos.mask.sum() == 90
    assert drawn.demo_span is not None
    for i in range(30):
        begin, shown = drawn.demo_span[i, 0, 0], episodes[drawn.query[i]]
        assert (demos.observation["state"][i, 0, :3].numpy() == shown.observation["state"][begin : begin + 3]).all()
        assert not demos.observation["state"][i, 0, 3:].any()
        pixels = demos.images["camera"][i, 0, :, 0, 0, 0]
        assert pixels.tolist() == [mark(drawn.query[i], begin + k) for k in range(3)]
        assert batch.query.images["camera"][i, 1, 0, 0, 0] == mark(drawn.query[i], drawn.frames[i, 0])


# ----------------------------------------------------------------------------------------- pairs from a table


def test_listed_examples_are_drawn_as_often_as_their_weights_say() -> None:
    demo, query = np.array([[0, 3], [4, -1], [7, 8]]), np.array([6, 0, 9])
    index = TableIndex(
        SMALL, demo, query, frames=4, weights=np.array([1.0, 0.0, 3.0]), trial=np.array([[1], [5], [-1]])
    )
    drawn = index.sample(generator("table"), 8000)
    assert np.bincount(drawn.query, minlength=10)[[6, 0, 9]] / 8000 == pytest.approx([0.25, 0, 0.75], abs=0.02)
    for row in (0, 2):
        mine = drawn.query == query[row]
        assert (drawn.demo[mine] == demo[row]).all()
        assert (drawn.trial[mine] == [[1], [5], [-1]][row]).all()
        assert (drawn.task[mine] == SMALL.task[query[row]]).all()
        frames = np.bincount(drawn.frames[mine].ravel()) / mine.sum() / 4
        assert frames == pytest.approx([1 / SMALL.length[query[row]]] * SMALL.length[query[row]], abs=0.03)
    even = TableIndex(SMALL, demo, query).sample(generator("even"), 6000)
    assert np.bincount(even.query)[[6, 0, 9]] / 6000 == pytest.approx(1 / 3, abs=0.02)


def test_gather_shows_the_frames_that_a_table_names() -> None:
    episodes = [episode(i, 5) for i in range(3)]
    named = np.array([[[4, 0, 5]], [[1, 1, 2]]])
    memory = EpisodeMemory(SPEC, episodes)
    index = TableIndex(memory.table, np.array([[0], [1]]), np.array([1, 2]), frames=1, demo_frames=named)
    drawn = index.sample(generator("named"), 20)
    batch = gather(memory, drawn)
    for i in range(20):
        wanted = named[drawn.demo[i, 0]][0]
        pixels = batch.context.demos.images["wrist"][i, 0, :, 0, 0, 0]
        assert pixels.tolist() == [mark(drawn.demo[i, 0], frame) for frame in wanted]


def test_a_list_that_names_what_is_not_there_is_refused() -> None:
    for demo, query, named in (
        ([[14]], [0], "row 14 as demo"),
        ([[0]], [-1], "row -1 as query"),
        ([[-2]], [0], "row -2"),
    ):
        with pytest.raises(WtlError, match=named):
            TableIndex(SMALL, np.array(demo), np.array(query))
    for weights in ([-1.0], [0.0], [np.nan], [np.inf]):
        with pytest.raises(WtlError, match="weights"):
            TableIndex(SMALL, np.array([[0]]), np.array([3]), weights=np.array(weights))
    with pytest.raises(WtlError, match="names none"):
        TableIndex(SMALL, np.zeros((0, 1), int), np.zeros(0, int))


# -------------------------------------------------------------------------------------------------- transitions


def test_the_value_bootstraps_through_the_end_of_time_and_never_through_an_outcome() -> None:
    """Every boundary: one step before the end, at it, and a horizon beyond it, in both kinds of episode."""
    episodes = [episode(0, 4, ended=True), episode(1, 4), episode(2, 4, final=False), episode(3, 1, ended=True)]
    memory = EpisodeMemory(SPEC, episodes)
    for steps in (1, 3, 9):
        drawn = TransitionIndex(memory.table, steps, gamma=0.5).sample(generator("ends", steps), 600)
        batch = gather(memory, drawn)
        seen = set()
        for i in range(600):
            row, begin = int(drawn.row[i]), int(drawn.begin[i])
            seen.add((row, begin))
            length = len(episodes[row])
            n = min(steps, length - begin)
            terminal = episodes[row].terminated and begin + n == length
            assert batch.discount[i].item() == (0.0 if terminal else 0.5**n)
            last = begin + n if row != 2 else min(begin + n, length - 1)  # nobody noted what came last
            assert (batch.next_observation["camera"][i] == mark(row, last)).all()
        assert len(seen) == 13


def test_transitions_of_failed_demonstrations_and_broken_attempts_are_left_out() -> None:
    assert len(TransitionIndex(table([(0, 0, "d"), (0, 0, "-"), (0, 0, "t")]))) == 1 + 3
    with pytest.raises(WtlError, match="no episode"):
        TransitionIndex(table([(0, 0, "-")]))
    for options in ({"steps": 0}, {"gamma": 1.1}, {"gamma": float("nan")}):
        with pytest.raises(WtlError, match="a transition goes"):
            TransitionIndex(LONG, **options)
