"""Batches hold exactly the episodes they name; statistics are right and never NaN."""

import numpy as np
import pytest
import torch

from watchtrylearn.data.batches import collate, gather, stack, take
from watchtrylearn.data.sampling import PairIndex, Sampling
from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.ops.random import generator
from watchtrylearn.types import Channel, Context, Episode, Spec, Task, WtlError


def channel(*names: str) -> Channel:
    return Channel(names, (-1e6,) * len(names), (1e6,) * len(names))


SPEC = Spec(
    fps=10,
    horizon=6,
    observation={"state": channel("x", "y"), "environment_state": channel("a", "b", "c")},
    action=channel("dx", "dy"),
)


def episode(number: int, steps: int, kind: str = "demo", task: int = 0, seed: int = 0) -> Episode:
    """An episode whose every number says which episode and step it is from."""
    mark = number + 1 + 0.01 * np.arange(steps, dtype=np.float32)[:, None]
    return Episode(
        task=Task("toy", "f", f"t{task}", "train", "do it"),
        kind=kind,  # type: ignore[arg-type]
        seed=seed,
        observation={"state": np.repeat(mark, 2, 1), "environment_state": np.repeat(mark, 3, 1)},
        action=np.repeat(mark, 2, 1),
        reward=mark[:, 0],
        success=number % 2 == 0,
    )


def test_stack_pads_with_zeros_and_masks() -> None:
    batch = stack([episode(0, 2), episode(1, 6)], SPEC)
    assert batch.action.shape == (2, 6, 2)
    assert batch.mask.sum(1).tolist() == batch.length.tolist() == [2, 6]
    assert batch.action[0, :2, 0].tolist() == pytest.approx([1.0, 1.01])
    assert (batch.action[0, 2:] == 0).all()
    assert batch.success.tolist() == [1.0, 0.0]


def test_stack_refuses_an_episode_beyond_the_horizon() -> None:
    with pytest.raises(WtlError, match="episode 1 has 7 steps"):
        stack([episode(0, 2), episode(1, 7)], SPEC)


def test_take_copies_episodes_and_leaves_the_store_alone() -> None:
    store = stack([episode(i, i + 1) for i in range(3)], SPEC)
    taken = take(store, np.array([[2, -1], [0, 2]]))
    assert taken.length.tolist() == [[3, 0], [1, 3]]
    assert (taken.action[0, 1] == 0).all()
    assert torch.equal(taken.action[0, 0], store.action[2])
    assert store.length.tolist() == [1, 2, 3]


def test_collate_pads_shots_and_always_has_a_slot() -> None:
    one, two = episode(0, 2), episode(1, 3)
    batch = collate([Context([one], [two, one]), Context([two], [])], SPEC)
    assert batch.demos.length.tolist() == [[2], [3]]
    assert batch.trials.length.tolist() == [[3, 2], [0, 0]]
    assert batch.trials.success.tolist() == [[0.0, 1.0], [0.0, 0.0]]
    nothing = collate([Context(), Context()], SPEC)
    assert nothing.demos.action.shape == (2, 1, 6, 2)
    assert not nothing.demos.mask.any()


def test_gather_and_collate_agree() -> None:
    """Two routes to one batch: indices into a store, and the episodes themselves."""
    episodes = [episode(i, 1 + i % 6, "demo" if i % 2 else "trial", task=i // 12, seed=i // 2 % 3) for i in range(24)]
    episodes = [e if e.kind == "trial" else _successful(e) for e in episodes]
    sampling = Sampling(demos=(0, 1, 1), trials=(1, 1, 1), frames=4)
    pairs = PairIndex(EpisodeTable.of(episodes), sampling).sample(generator("two routes"), 16)
    batch = gather(stack(episodes, SPEC), pairs)

    def picked(rows: np.ndarray) -> list[Episode]:
        return [episodes[row] for row in rows if row >= 0]

    contexts = [Context(picked(d), picked(t)) for d, t in zip(pairs.demo, pairs.trial, strict=True)]
    expected = collate(contexts, SPEC)
    for kind in ("demos", "trials"):
        mine, theirs = getattr(batch.context, kind), getattr(expected, kind)
        slots = theirs.length.shape[1]  # collate has only as many as present
        assert torch.equal(mine.length[:, :slots], theirs.length)
        assert torch.equal(mine.observation["state"][:, :slots], theirs.observation["state"])
    assert (batch.frames < batch.query.length[:, None]).all()
    assert torch.equal(batch.query.action, stack([episodes[q] for q in pairs.query], SPEC).action)


def _successful(value: Episode) -> Episode:
    return Episode(**{**vars(value), "success": True})


def test_table_gives_no_role_to_failed_demonstrations_or_diverged_trials() -> None:
    bad = Episode(**{**vars(episode(1, 3, "trial")), "diverged": True})
    table = EpisodeTable.of([episode(0, 3), episode(1, 3), episode(2, 3, "trial"), bad])
    assert table.is_demo.tolist() == [True, False, False, False]
    assert table.is_trial.tolist() == [False, False, True, False]
