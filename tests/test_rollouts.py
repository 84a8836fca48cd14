"""Attempts become episodes: what is recorded, when it ends, and what is refused."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from toy_learners import Copy, Straight
from watchtrylearn.protocol import Scene, evaluate
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import make_suite
from watchtrylearn.suites.toy import SPEC, PointWorlds
from watchtrylearn.types import ENVIRONMENT, STATE, WtlError

SUITE = make_suite("toy")
TASKS = SUITE.tasks("test")


class Breaking(PointWorlds):
    """World 0's physics breaks down in its second step, after which it reports nonsense."""

    def step(self, actions):
        observation, reward, terminated, truncated, info = super().step(actions)
        broken = (np.arange(self.num_envs) == 0) & (self.count >= 2)
        observation[STATE][broken] = 99.0
        info["diverged"] = broken
        info["success"] = info["success"] | broken  # a liar
        return observation, reward, terminated | broken, truncated, info


def to_the_left(worlds: int) -> Straight:
    return Straight(lambda _, marks: int(np.argmin(marks[:, 0])), [1.0] * worlds)


def test_an_episode_holds_what_was_seen_before_each_action():
    worlds = SUITE.worlds(TASKS[:3], [1, 2, 3])
    for i, episode in enumerate(rollout(to_the_left(3), worlds)):
        assert (episode.task, episode.seed, episode.kind) == (TASKS[i], i + 1, "trial")
        assert episode.problems(SPEC) == []
        np.testing.assert_array_equal(episode.observation[STATE][0, :2], 0.0)
        moved = np.diff(episode.observation[STATE][:, :2], axis=0)
        np.testing.assert_allclose(moved, episode.action[:-1] * worlds.sign[i], atol=1e-6)
        np.testing.assert_array_equal(
            episode.observation[ENVIRONMENT], episode.observation[ENVIRONMENT][:1].repeat(len(episode), 0)
        )
        assert episode.success == bool(episode.reward[-1])
        assert set(episode.terms) == {"distance"}


def test_a_diverged_attempt_is_marked_ends_there_and_is_a_failure():
    episodes = rollout(to_the_left(2), Breaking(TASKS[:2], [1, 2]))
    assert [e.diverged for e in episodes] == [True, False]
    assert not episodes[0].success
    assert len(episodes[0]) == 2
    assert np.abs(episodes[0].observation[STATE]).max() < 2  # the nonsense after it is not recorded


def test_worlds_that_say_not_whose_they_are_are_refused():
    bare = gymnasium.make_vec("CartPole-v1", num_envs=2)
    with pytest.raises(WtlError, match="lack the attribute 'tasks'"):
        rollout(to_the_left(2), bare)
    bare.close()


def test_a_learner_for_other_dimensions_is_refused_by_name():
    other = Copy()
    other.spec = replace(SPEC, horizon=9, entities=0)
    scene = Scene(TASKS[0], (SUITE.demonstrate(TASKS[0], 0),), 1)
    with pytest.raises(
        WtlError, match=r"copy was trained for other dimensions than suite 'toy': horizon: 9, not 5; entities"
    ):
        evaluate(other, SUITE, [scene], trials=0)
    with pytest.raises(WtlError, match="no scenes"):
        evaluate(Copy(), SUITE, [], trials=0)
