"""Clips show what was recorded: a replay passes through the very states of the episode."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco_warp")

from test_starts import Playing
from watchtrylearn.rollouts import rollout, states
from watchtrylearn.suites import make_suite
from watchtrylearn.suites.tabletop.film import (
    AFTER,
    CAMERA,
    MARGIN,
    Replay,
    _about,
    _only_objects_of,
    _viewpoint,
    film,
    replay,
)
from watchtrylearn.suites.tabletop.suite import library
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
    for episode, seen in zip(episodes, replay(suite, episodes), strict=True):
        assert len(seen) == len(episode) + 1
        hand = episode.observation[STATE][:, :3]
        np.testing.assert_array_equal(seen.qpos[:-1, first : first + 3].astype(np.float32), hand)
        buttons = episode.observation[ENVIRONMENT][:, 14:16]
        np.testing.assert_array_equal(seen.mocap_pos[:-1, 1, :2].astype(np.float32), buttons)
        assert seen.settled == len(episode)  # a success is one at its last step


def test_an_episode_that_began_in_the_middle_is_shown_from_there(suite, episodes):
    episode = episodes[1]
    worlds = suite.worlds([episode.task], [episode.seed])
    start = states(worlds, [episode], [9])
    (rest,) = rollout(Playing([episode.executed], [9]), worlds, start=start)
    (whole,), (seen,) = replay(suite, [episode]), replay(suite, [rest])
    np.testing.assert_array_equal(seen.qpos, whole.qpos[9:])
    assert seen.settled == whole.settled - 9


def test_a_failed_attempt_ends_when_it_has_failed(suite, episodes):
    """The demonstrator lifts what was not asked for: the rest of the time is not shown."""
    demo = episodes[1]
    values = [(name, 1 - value if name == "value" else value) for name, value in demo.task.parameters]
    asked = replace(demo.task, parameters=tuple(values))  # for the other one
    failed = replace(
        demo,
        task=asked,
        success=False,
        observation={name: waiting(values) for name, values in demo.observation.items()},
        action=waiting(demo.action),
        reward=waiting(demo.reward),
        executed=None,
    )
    (seen,) = replay(suite, [failed])
    assert len(seen) == 51
    assert 3 < seen.settled < len(demo) + 1
    assert len(seen.cut()) == seen.settled + AFTER + 1


def waiting(values):
    """Fifty steps: what was recorded, and its last one until the time is up."""
    return np.concatenate([values, np.repeat(values[-1:], 50 - len(values), axis=0)])


def test_a_clip_ends_soon_after_the_last_movement(suite, episodes):
    (seen,) = replay(suite, episodes[:1])
    long = [np.concatenate([values, np.repeat(values[-1:], 30, axis=0)]) for values in (seen.qpos, seen.mocap_pos)]
    still = Replay(seen.episode, *long, settled=len(long[0]) - 1)
    assert len(still.cut()) <= len(seen) + AFTER
    assert len(seen.cut()) == len(seen)


def test_every_clip_has_a_frame_per_step_and_shows_motion(suite, episodes):
    done = []
    clips = film(suite, episodes, width=64, height=48, samples=1, on_clip=lambda: done.append(1))
    assert len(done) == len(clips) == 2
    for episode, frames in zip(episodes, clips, strict=True):
        assert frames.shape == (len(episode) + 1, 48, 64, 3)
        assert (frames[0] != frames[-1]).any(-1).mean() > 0.01
        assert frames.std() > 10  # a scene, not a blank
    assert (clips[0][0] != clips[1][0]).any()  # different objects, different worlds


def test_what_the_story_is_about_fills_the_picture(suite, episodes):
    """Seen from the viewpoint, everything is inside the margins and touches two opposite ones."""
    for episode in episodes:
        seen, shared, aspect = replay(suite, [episode]), _only_objects_of([episode]), 1.4
        model, eye = shared.model, _viewpoint(shared, seen, aspect)
        local = (_about(shared, seen[0]) - eye) @ model.cam_mat0[model.camera(CAMERA).id].reshape(3, 3)
        tangent = np.tan(np.radians(model.cam_fovy[model.camera(CAMERA).id]) / 2)
        places = local[:, :2] / -local[:, 2:] / tangent / (aspect, 1.0)  # the picture is -1 to 1
        low, high, edge = places.min(axis=0), places.max(axis=0), 1 - 2 * MARGIN
        assert (low >= -edge - 1e-9).all()
        assert (high <= edge + 1e-9).all()
        assert np.isclose(-low, edge).any()
        assert np.isclose(high, edge).any()


def test_an_episode_without_its_simulator_state_is_refused(suite, episodes):
    bare = replace(episodes[0], initial_state=np.zeros(0))
    with pytest.raises(WtlError, match="no simulator state"):
        film(suite, [bare])
