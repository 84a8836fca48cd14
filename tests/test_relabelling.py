"""What if this trial had been meant? Examples made of trials, their answers, and what is learned from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from watchtrylearn.data.batches import gather
from watchtrylearn.data.memory import EpisodeMemory
from watchtrylearn.data.sampling import PairIndex, Pairs, Sampling
from watchtrylearn.learners import learner_entry, make_learner
from watchtrylearn.nn.target_net import NetConfig
from watchtrylearn.ops.random import generator
from watchtrylearn.suites import make_suite
from watchtrylearn.types import Episode, WtlError

SUITE = make_suite("toy")
ONLY = Sampling(demos=(0, 1), trials=(0, 1, 1), frames=3, relabelled=1.0)


def to(mark: int, demo: Episode, watched: tuple[int, ...]) -> Episode:
    """A trial in the scene of ``demo`` that goes straight to a mark, by somebody who had watched those scenes."""
    things = demo.observation["environment_state"].reshape(len(demo), 2, 2)
    way = np.linspace(np.zeros(2), things[0, mark], len(demo), dtype=np.float32)
    state = np.concatenate([way, demo.observation["state"][:, 2:]], 1)
    return replace(
        demo,
        kind="trial",
        observation={**demo.observation, "state": state},
        success=mark == SUITE.target(demo.task, demo.seed),
        watched=watched,
    )


@pytest.fixture(scope="module")
def memory() -> EpisodeMemory:
    """Two tasks, three scenes each; in every scene three trials: to mark 0, to mark 1, to mark 0."""
    tasks = SUITE.tasks("train")[:2]
    demos = SUITE.demonstrations([t for t in tasks for _ in range(3)], [0, 1, 2] * 2)
    trials = [to(mark, demo, ((demo.seed + 1) % 3,)) for demo in demos for mark in (0, 1, 0)]
    return EpisodeMemory(SUITE.spec, demos + trials)


def test_what_a_trial_acted_on_and_what_had_been_watched_is_known_of_each_row(memory: EpisodeMemory) -> None:
    table = memory.table
    assert table.acted_on[6:].tolist() == [0, 1, 0] * 6
    assert table.acted_on[:6].tolist() == [SUITE.target(t, s) for t in SUITE.tasks("train")[:2] for s in (0, 1, 2)]
    watched = table.watched[6:, 0]
    assert table.is_demo[watched].all()
    assert (table.task[watched] == table.task[6:]).all()
    assert (table.scene[watched] == (table.scene[6:] + 1) % 3).all()
    assert (table.watched[:6] == -1).all()


def test_each_example_is_what_somebody_might_have_meant(memory: EpisodeMemory) -> None:
    table, pairs = memory.table, PairIndex(memory.table, ONLY).sample(generator("what if"), 2000)
    assert pairs.answer is not None
    assert table.is_trial[pairs.query].all()
    assert set(pairs.query) == set(range(6, 24))
    assert (pairs.demo[:, 0] == table.watched[pairs.query, 0]).all()
    assert (pairs.demo[:, 1:] == -1).all()
    assert (pairs.frames < table.length[pairs.query][:, None]).all()
    present = pairs.trial >= 0
    assert present[:, 0].all()
    assert present[:, 1].mean() == pytest.approx(0.5, abs=0.05)
    query = np.broadcast_to(pairs.query[:, None], pairs.trial.shape)
    assert (table.task[pairs.trial] == table.task[query])[present].all()
    assert (table.scene[pairs.trial] == table.scene[query])[present].all()
    same = table.acted_on[pairs.trial] == table.acted_on[query]
    assert (pairs.answer == same)[present].all()
    assert 0.2 < same[present].mean() < 0.8


def test_a_share_of_the_examples_is_asked_so_and_the_others_are_as_they_would_be(memory: EpisodeMemory) -> None:
    plain = PairIndex(memory.table, replace(ONLY, relabelled=0.0)).sample(generator("share"), 1000)
    mixed = PairIndex(memory.table, replace(ONLY, relabelled=0.3)).sample(generator("share"), 1000)
    assert plain.answer is None
    assert mixed.answer is not None
    asked = ~np.isnan(mixed.answer).any(1)
    assert asked.mean() == pytest.approx(0.3, abs=0.05)
    for name in ("task", "trial", "query", "frames"):
        assert (getattr(plain, name)[~asked] == getattr(mixed, name)[~asked]).all()


def test_a_trial_is_told_as_it_is_answered_everywhere(memory: EpisodeMemory) -> None:
    example = Pairs(
        task=np.array([0, 0]),
        demo=np.array([[1], [1]]),
        trial=np.array([[6, 7], [6, 7]]),
        query=np.array([6, 0]),
        frames=np.array([[0], [0]]),
        answer=np.array([[1.0, 0.0], [np.nan, np.nan]]),
    )
    batch, plain = gather(memory, example), gather(memory, replace(example, answer=None))
    trials, before = batch.context.trials, plain.context.trials
    last = trials.length[0] - 1
    assert trials.success[0].tolist() == [1, 0]
    assert trials.terminated[0].tolist() == [True, False]
    assert trials.reward[0].sum(-1).tolist() == [1, 0]
    assert trials.reward[0, 0, last[0]] == 1
    for name in ("success", "reward", "terminated"):
        assert torch.equal(getattr(trials, name)[1], getattr(before, name)[1])
    assert batch.hypothetical is not None
    assert batch.hypothetical.tolist() == [True, False]
    assert plain.hypothetical is None


@pytest.mark.parametrize("name", ["watch_try_learn", "trials_only"])
def test_of_what_might_have_been_meant_the_target_is_learned_and_not_the_motion(
    name: str, memory: EpisodeMemory
) -> None:
    net = NetConfig(embedding="object", width=16, hidden=(16,), mixtures=1, chunk=2, execute=1)
    learner = make_learner(name, SUITE.spec, replace(learner_entry(name).config(), net=net), seed=0)
    learner.prepare(memory.numbers())
    batch = gather(memory, PairIndex(memory.table, replace(ONLY, relabelled=0.5)).sample(generator(1), 16))
    assert batch.hypothetical is not None
    asked = batch.hypothetical
    assert 0 < asked.sum() < 16

    def parts(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
        return learner.loss(replace(batch, query=replace(batch.query, **changes)))[1]

    before = parts()
    assert torch.equal(parts(action=batch.query.action + 0.1 * asked[:, None, None])["nll"], before["nll"])
    assert not torch.equal(parts(action=batch.query.action + 0.1 * ~asked[:, None, None])["nll"], before["nll"])
    elsewhere = batch.query.observation["state"] + 5.0 * asked[:, None, None]  # nearest is now what is outermost
    observation = {**batch.query.observation, "state": elsewhere}
    after = parts(observation=observation)
    assert torch.equal(after["nll"], before["nll"])
    assert not torch.equal(after["target_cross_entropy"], before["target_cross_entropy"])


def test_what_cannot_be_asked_is_refused_in_a_sentence(memory: EpisodeMemory) -> None:
    demos = memory.only(np.arange(6))
    with pytest.raises(WtlError, match="nothing says what the trials acted on"):
        PairIndex(demos.table, Sampling(relabelled=0.5))
    unwatched = replace(memory.table, watched=np.zeros((24, 0), int))
    with pytest.raises(WtlError, match="no trial says which demonstrations had been watched"):
        PairIndex(unwatched, ONLY)
    PairIndex(unwatched, replace(ONLY, demos=(1,)))  # where no demonstration is shown, none need be known
    with pytest.raises(WtlError, match=r"sampling.relabelled must be a share between 0 and 1, not 1.5"):
        Sampling(relabelled=1.5)
