"""Clips show what was recorded: a replay passes through the very states of the episode."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco_warp")

from watchtrylearn.suites import make_suite
from watchtrylearn.suites.film import film, replay
from watchtrylearn.suites.tabletop import library
from watchtrylearn.types import ENVIRONMENT, STATE, WtlError

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def suite():
    return make_suite("tabletop")


@pytest.fixture(scope="module")
def episodes(suite):
    tasks = [suite.tasks("test")[i] for i in (0, 15)]
    return [suite.demonstrate(task, 3) for task in tasks]


def test_a_replay_passes_through_the_recorded_states(suite, episodes):
    first = library().model.joint("x").qposadr[0]
    for episode, poses in zip(episodes, replay(suite, episodes), strict=True):
        assert len(poses["qpos"]) == len(episode) + 1
        hand = episode.observation[STATE][:, :3]
        np.testing.assert_array_equal(poses["qpos"][:-1, first : first + 3].astype(np.float32), hand)
        buttons = episode.observation[ENVIRONMENT][:, 14:16]
        np.testing.assert_array_equal(poses["mocap_pos"][:-1, 1, :2].astype(np.float32), buttons)


def test_every_clip_has_a_frame_per_step_and_shows_motion(suite, episodes):
    clips = film(suite, episodes, width=64, height=48, samples=1)
    for episode, frames in zip(episodes, clips, strict=True):
        assert frames.shape == (len(episode) + 1, 48, 64, 3)
        assert (frames[0] != frames[-1]).any(-1).mean() > 0.005
        assert frames.std() > 10  # a scene, not a blank
    assert (clips[0][0] != clips[1][0]).any()  # different objects, different worlds


def test_an_episode_without_its_simulator_state_is_refused(suite, episodes):
    bare = replace(episodes[0], initial_state=np.zeros(0))
    with pytest.raises(WtlError, match="no simulator state"):
        film(suite, [bare])
