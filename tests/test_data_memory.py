"""What a memory hands out is what was put in: the right frames of the right episodes, and no others."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from image_episodes import SPEC, episode, mark
from watchtrylearn.data.batches import collate, gather, stack, take
from watchtrylearn.data.indices import TransitionIndex
from watchtrylearn.data.memory import EpisodeMemory
from watchtrylearn.data.sampling import PairIndex, Sampling
from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.ops.random import generator
from watchtrylearn.types import Batch, Context, Episode, EpisodeBatch, WtlError


def many(count: int = 24) -> list[Episode]:
    """Two tasks, three scenes each, demonstrations and trials in every scene."""
    return [
        episode(i, 1 + i % 6, "demo" if i % 2 else "trial", task=i // 12, seed=i // 2 % 3, ended=i % 3 == 0)
        for i in range(count)
    ]


def same_numbers(one: EpisodeBatch, two: EpisodeBatch) -> None:
    assert one.observation.keys() == two.observation.keys()
    pairs = [(one.observation[name], two.observation[name]) for name in one.observation]
    pairs += [(getattr(one, n), getattr(two, n)) for n in ("action", "reward", "success", "length", "terminated")]
    for mine, theirs in pairs:
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)


def test_batches_are_bit_for_bit_those_of_episodes_stacked_side_by_side() -> None:
    """Two routes: rows of padded arrays, as it was always done, and frames gathered from flat ones."""
    episodes = many()
    pairs = PairIndex(EpisodeTable.of(episodes), Sampling(demos=(1, 1, 1), trials=(1, 1, 1), frames=4))
    memory, padded = EpisodeMemory(SPEC, episodes), stack(episodes, SPEC)
    drawn = pairs.sample(generator("two routes"), 64)
    one, two = gather(memory, drawn), gather(padded, drawn)
    same_numbers(one.query, two.query)
    same_numbers(one.context.demos, two.context.demos)
    same_numbers(one.context.trials, two.context.trials)
    assert torch.equal(one.frames, two.frames)
    same_numbers(memory.numbers(), padded)


def test_the_table_of_a_memory_is_that_of_its_episodes() -> None:
    episodes = many()
    for name, column in vars(EpisodeTable.of(episodes)).items():
        assert (column == getattr(EpisodeMemory(SPEC, episodes).table, name)).all()


def test_images_are_of_the_frames_asked_for_and_of_no_others() -> None:
    episodes = many()
    pairs = PairIndex(EpisodeTable.of(episodes), Sampling(trials=(1, 1, 1), frames=5)).sample(generator(1), 32)
    batch = gather(EpisodeMemory(SPEC, episodes), pairs, image_frames=3)
    assert batch.query.images["camera"].shape == (32, 6, 3, 4, 3)
    assert batch.query.images["camera"].dtype == torch.uint8
    assert batch.query.image_frames is not None
    assert torch.equal(batch.query.image_frames[:, 1:], batch.frames)
    for i in range(32):
        assert (batch.query.images["wrist"][i, 0] == mark(pairs.query[i], 0)).all()
        for j, frame in enumerate(pairs.frames[i]):
            assert (batch.query.images["camera"][i, 1 + j] == mark(pairs.query[i], frame)).all()
        for slot, row in enumerate(pairs.trial[i]):
            shown = batch.context.trials.images["camera"][i, slot]
            if row < 0:
                assert not shown.any()
                continue
            last = len(episodes[row]) - 1
            assert (shown[0] == mark(row, 0)).all()
            assert (shown[2] == mark(row, last)).all()


def test_gather_and_collate_show_the_same_images() -> None:
    episodes = many()
    pairs = PairIndex(EpisodeTable.of(episodes), Sampling(demos=(0, 1), trials=(0, 1))).sample(generator(2), 16)
    gathered = gather(EpisodeMemory(SPEC, episodes), pairs, image_frames=4).context
    contexts = [
        Context([episodes[d] for d in demo], [episodes[t] for t in trial])
        for demo, trial in zip(pairs.demo, pairs.trial, strict=True)
    ]
    collated = collate(contexts, SPEC, image_frames=4)
    for kind in ("demos", "trials"):
        one, two = getattr(gathered, kind), getattr(collated, kind)
        same_numbers(one, two)
        assert torch.equal(one.image_frames, two.image_frames)
        for camera in SPEC.images:
            assert torch.equal(one.images[camera], two.images[camera])


@pytest.mark.parametrize("where", ["observation", "final"])
def test_images_that_are_not_uint8_are_refused_and_not_cut_to_0(where: str) -> None:
    """0.7 of white would be black."""
    sound = episode(0, 4)
    wrong = {name: seen.astype(np.float32) / 255 for name, seen in getattr(sound, where).items()}
    told = rf"episode 1: {where}\.camera: float32 instead of uint8 \(0 to 255\)$"
    with pytest.raises(WtlError, match=told):
        EpisodeMemory(SPEC, [sound, replace(sound, **{where: wrong})])


@pytest.mark.parametrize(("change", "told"), [
    (lambda seen: seen / 255, "float64 instead of uint8"),
    (lambda seen: seen[:, 1:], "shape"),
    (lambda seen: None, "missing"),
])  # fmt: skip
def test_images_of_a_trial_are_checked_as_those_of_a_demonstration(change, told: str) -> None:
    trial = episode(0, 4, "trial")
    seen = {**trial.observation, "wrist": change(trial.observation["wrist"])}
    wrong = replace(trial, observation={name: values for name, values in seen.items() if values is not None})
    with pytest.raises(WtlError, match=rf"the trial at .* in context 1 is refused: observation\.wrist: {told}"):
        collate([Context(trials=[trial]), Context(trials=[trial, wrong])], SPEC)
    with pytest.raises(WtlError, match=rf"the demonstration of .* in context 0 is refused: observation\.wrist: {told}"):
        collate([Context(demos=[replace(wrong, kind="demo")])], SPEC)


def test_the_frame_after_the_last_action_is_final_or_the_last_one_again() -> None:
    memory = EpisodeMemory(SPEC, [episode(0, 4), episode(1, 3, final=False)])
    found = memory.frames(np.array([0, 1, -1]), np.array([[3, 4], [2, 3], [0, 1]]))
    assert found["camera"][:, :, 0, 0, 0].tolist() == [[mark(0, 3), mark(0, 4)], [mark(1, 2), mark(1, 2)], [0, 0]]
    assert found["state"][:, :, 0].tolist() == [pytest.approx(row) for row in ([1.03, 1.04], [2.02, 2.02], [0, 0])]
    assert found["reward"].tolist() == [pytest.approx(row) for row in ([2.06, 0], [4.04, 0], [0, 0])]
    assert found["action"][:, 1].abs().sum() == 0


def test_what_does_not_exist_is_refused_by_name() -> None:
    memory = EpisodeMemory(SPEC, [episode(0, 4), episode(1, 2)])
    for frame in (3, -1):
        with pytest.raises(WtlError, match=f"the episode in row 1 has frames 0 to 2, not {frame}"):
            memory.frames(np.array([0, 1]), np.array([[0], [frame]]))
    with pytest.raises(WtlError, match="no channel 'depth'; there are state, camera"):
        memory.frames(np.array([0]), np.array([[0]]), ["depth"])
    with pytest.raises(WtlError, match="episode 1 has 7 steps, more than the horizon"):
        memory.append([episode(2, 2), episode(3, 7)])
    blind = episode(4, 2)
    del blind.observation["camera"]  # type: ignore[attr-defined]
    with pytest.raises(WtlError, match=r"episode 0: observation.camera is missing"):
        memory.append([blind])
    assert len(memory) == 2


# --------------------------------------------------------------------------------------------------- replay


def test_a_memory_grows_and_keeps_what_it_had() -> None:
    episodes, memory = many(), EpisodeMemory(SPEC)
    for begin in range(0, 24, 5):
        memory.append(episodes[begin : begin + 5])
    whole = EpisodeMemory(SPEC, episodes)
    same_numbers(memory.numbers(), whole.numbers())
    rows, frames = np.arange(24), np.array([[0, len(e)] for e in episodes])
    for name, values in memory.frames(rows, frames).items():
        assert torch.equal(values, whole.frames(rows, frames)[name])


@pytest.mark.parametrize("batch", [1, 3, 24])
def test_a_replay_keeps_the_newest_episodes_that_fit_and_its_size(batch: int) -> None:
    episodes, memory = many(), EpisodeMemory(SPEC, capacity=30)
    size = memory.nbytes
    for begin in range(0, 24, batch):
        memory.append(episodes[begin : begin + batch])
        seen = episodes[: begin + batch]
        kept = seen[len(seen) - len(memory) :]
        assert sum(len(e) + 1 for e in kept) <= 30
        more = sum(len(e) + 1 for e in seen[-len(memory) - 1 :])
        assert more > 30 or len(kept) == len(seen)  # not one that could have stayed was dropped
        fresh = EpisodeMemory(SPEC, kept)
        same_numbers(memory.numbers(), fresh.numbers())
        rows, frames = np.arange(len(kept)), np.array([[0, len(e)] for e in kept])
        for name, values in memory.frames(rows, frames).items():
            assert torch.equal(values, fresh.frames(rows, frames)[name])
        assert memory.dropped == len(seen) - len(kept)
        assert (memory.table.length == [len(e) for e in kept]).all()
    assert memory.nbytes == size == 31 * (4 * (2 + 2 + 1) + 36 + 12)


def test_an_episode_larger_than_the_replay_is_refused() -> None:
    with pytest.raises(WtlError, match="5 frames, more than the capacity of 4"):
        EpisodeMemory(SPEC, capacity=4).append([episode(0, 4)])


def test_a_replay_may_be_empty() -> None:
    memory = EpisodeMemory(SPEC, capacity=10)
    assert len(memory) == len(memory.table.task) == 0
    assert not memory.take(np.array([-1])).mask.any()


# ---------------------------------------------------------------------------------------------- transitions


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_n_step_returns_are_those_computed_by_hand(steps: int) -> None:
    episodes, gamma = [e for e in many(12) if e.kind == "trial"], 0.9
    memory = EpisodeMemory(SPEC, episodes)
    index = TransitionIndex(memory.table, steps, gamma)
    drawn = index.sample(generator("transitions"), 500)
    batch = gather(memory, drawn)
    reached = set()
    for i in range(500):
        e, t = episodes[drawn.row[i]], int(drawn.begin[i])
        reached.add((int(drawn.row[i]), t))
        n = min(steps, len(e) - t)
        value = sum(gamma**k * float(e.reward[t + k]) for k in range(n))
        assert batch.reward[i].item() == pytest.approx(value, rel=1e-6)
        over = e.terminated and t + n == len(e)
        assert batch.discount[i].item() == (0.0 if over else np.float32(gamma**n))
        following = e.final["state"] if t + n == len(e) else e.observation["state"][t + n]
        assert (batch.next_observation["state"][i].numpy() == following).all()
        assert (batch.observation["camera"][i].numpy() == e.observation["camera"][t]).all()
        assert (batch.action[i].numpy() == e.action[t]).all()
    assert len(reached) == len(index) == sum(map(len, episodes))


def test_transitions_are_uniform_over_steps() -> None:
    memory = EpisodeMemory(SPEC, [episode(0, 1), episode(1, 6)])
    drawn = TransitionIndex(memory.table).sample(generator("uniform"), 14_000)
    counts = np.bincount(drawn.row * 10 + drawn.begin, minlength=20)
    assert counts[[0, *range(10, 16)]] / 14_000 == pytest.approx(1 / 7, abs=0.01)


# ---------------------------------------------------------------------------------------------- other places


def test_a_batch_moves_to_a_device_as_a_whole() -> None:
    episodes = many()
    memory = EpisodeMemory(SPEC, episodes)
    batch = gather(memory, PairIndex(memory.table, Sampling(trials=(1, 1))).sample(generator(3), 4)).to("meta")
    assert isinstance(batch, Batch)
    for part in (batch.query, batch.context.demos, batch.context.trials):
        part.map(lambda value: pytest.fail("left behind") if value.device.type != "meta" else value)
    assert batch.frames.device.type == "meta"
    moved = gather(memory, TransitionIndex(memory.table).sample(generator(4), 4)).to("meta")
    values = [*moved.observation.values(), *moved.next_observation.values(), moved.action, moved.reward, moved.discount]
    assert {value.device.type for value in values} == {"meta"}


def test_take_from_stacked_episodes_leaves_absent_ones_out() -> None:
    taken = take(stack(many(), SPEC), np.array([3, -1]))
    assert taken.length.tolist() == [4, 0]
    assert taken.terminated.tolist() == [True, False]
    assert not taken.observation["state"][1].any()
