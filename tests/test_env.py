"""The tabletop as Gymnasium's own tools see it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from itertools import pairwise

import gymnasium
import numpy as np
import pytest

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco")

from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.wrappers import RenderCollection  # noqa: E402
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics  # noqa: E402

import watchtrylearn  # noqa: E402
from watchtrylearn.suites.tabletop.suite import SPEC, Tabletop, find_task  # noqa: E402
from watchtrylearn.types import STATE, WtlError  # noqa: E402

ENV = watchtrylearn.ENV_ID
TASK = "button-test-000"


def test_the_library_makes_it_known_and_imports_nothing_heavy_for_it() -> None:
    script = f"""
import sys, watchtrylearn, gymnasium
assert gymnasium.spec({ENV!r}).max_episode_steps == {SPEC.horizon}
heavy = {{"torch", "mujoco", "scipy", "pyarrow", "matplotlib"}} & sys.modules.keys()
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    script = f"import gymnasium; gymnasium.make('watchtrylearn:{ENV}').reset(seed=1)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_gymnasiums_checker_has_no_complaint() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")  # commands are in metres
        check_env(gymnasium.make(ENV, task=TASK, render_mode="rgb_array", width=32, height=32).unwrapped)


def commands(env: gymnasium.vector.VectorEnv, steps: int) -> np.ndarray:
    env.action_space.seed(0)
    return np.stack([env.action_space.sample() for _ in range(steps)])


def test_many_are_what_a_sync_vector_env_of_one_each_is() -> None:
    """To the last bit, and through several automatic resets into new scenes: observations, rewards, ends and infos."""
    settings = {"num_envs": 3, "task": TASK, "max_episode_steps": 7}
    many = gymnasium.make_vec(ENV, **settings)
    sync = gymnasium.make_vec(ENV, vectorization_mode="sync", **settings)
    assert many.metadata["autoreset_mode"] == sync.metadata["autoreset_mode"]
    assert many.observation_space == sync.observation_space
    same(many.reset(seed=5), sync.reset(seed=5))
    demo = Tabletop(1).demonstrate(find_task(TASK), 5)
    for t, action in enumerate(commands(many, 30)):
        if t < len(demo):
            action[0] = demo.executed[t]
        same(many.step(action), sync.step(action))
    same(many.reset(), sync.reset())
    mask = np.array([False, True, False])
    same(many.reset(options={"reset_mask": mask})[:1], sync.reset(options={"reset_mask": mask})[:1])
    same(many.step(action), sync.step(action))


def same(one: object, other: object) -> None:
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() >= other.keys()
        for name in other:
            same(one[name], other[name])
        for name in one.keys() - other.keys():  # what no world has to say at this step
            assert not one[f"_{name.removeprefix('_')}"].any()
    elif isinstance(one, tuple):
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        np.testing.assert_array_equal(one, other)


def test_a_success_is_followed_by_a_new_scene_and_counted_once() -> None:
    """The demonstrator's commands in one world, while the other waits: statistics, ends and scenes."""
    demo = Tabletop(1).demonstrate(find_task(TASK), 0)
    env = RecordEpisodeStatistics(gymnasium.make_vec(ENV, num_envs=2, task=TASK))
    observation, _ = env.reset(seed=0)
    still = observation[STATE][:, :7].copy()
    ends = []
    for t in range(SPEC.horizon + 1):
        action = still.copy()
        action[0] = demo.executed[min(t, len(demo) - 1)]
        observation, reward, terminated, truncated, info = env.step(action)
        ends.append((terminated.tolist(), truncated.tolist()))
        if t == len(demo) - 1:
            assert reward.tolist() == [1.0, 0.0]
            assert info["episode"]["r"].tolist() == [1.0, 0.0]
            assert info["episode"]["l"].tolist() == [len(demo), 0]
        if t == len(demo):
            assert reward[0] == 0.0
            assert not np.array_equal(observation[STATE][0, :7], demo.observation[STATE][0, :7])
    assert [t for t, (ended, _) in enumerate(ends) if ended[0]] == [len(demo) - 1]
    assert [t for t, (_, cut) in enumerate(ends) if cut[1]] == [SPEC.horizon - 1]
    assert env.episode_count == 2
    assert list(env.length_queue) == [len(demo), SPEC.horizon]


def test_infos_can_be_taken_apart_by_world() -> None:
    env = DictInfoToList(gymnasium.make_vec(ENV, num_envs=2, task=TASK, max_episode_steps=1))
    _, infos = env.reset(seed=0)
    assert [set(info) for info in infos] == [{"initial_state"}] * 2
    env.step(env.action_space.sample())
    assert set(env.step(env.action_space.sample())[4][0]) == {"initial_state"}  # a reset, not a step


def test_scenes_are_seeds() -> None:
    many = gymnasium.make_vec(ENV, num_envs=3, task=TASK)
    one = gymnasium.make(ENV, task=TASK)
    observation, _ = many.reset(seed=7)
    single, _ = one.reset(seed=8)
    suite = Tabletop(1).worlds([find_task(TASK)], [8]).reset()[0]
    for name in SPEC.observation:
        np.testing.assert_array_equal(single[name], observation[name][1])
        np.testing.assert_array_equal(single[name], suite[name][0])


@pytest.mark.parametrize("make", [gymnasium.make, gymnasium.make_vec])
def test_what_is_not_known_is_refused(make) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        make(ENV, tusk="grasp-train-000")
    with pytest.raises(WtlError, match="did you mean 'grasp-test-000'"):
        make(ENV, task="grasp-tset-000")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium warns as well
        with pytest.raises(WtlError, match="did you mean 'rgb_array'"):
            make(ENV, render_mode="depth_array")


def test_the_time_limit_is_the_callers() -> None:
    def steps(env: gymnasium.Env) -> int:
        observation, _ = env.reset(seed=0)
        for t in range(1, 99):
            if env.step(observation[STATE][:7])[3]:
                return t
        return 0

    assert steps(gymnasium.make(ENV, task=TASK)) == SPEC.horizon
    assert steps(gymnasium.make(ENV, task=TASK, max_episode_steps=70)) == 70
    with pytest.raises(WtlError, match="max_episode_steps is a number from 1 on, not 0"):
        gymnasium.make_vec(ENV, max_episode_steps=0)


def test_pictures_are_taken_without_opengl() -> None:
    """As ``RecordVideo`` takes them: one after the reset, one after every step; and one per world of many."""
    one = RenderCollection(gymnasium.make(ENV, task=TASK, render_mode="rgb_array", width=64, height=48))
    one.reset(seed=3)
    for _ in range(4):
        one.step(one.action_space.sample())
    frames = one.render()
    assert [(f.shape, f.dtype) for f in frames] == [((48, 64, 3), np.uint8)] * 5
    assert all((a != b).any() for a, b in pairwise(frames))
    assert one.metadata["render_fps"] == SPEC.fps
    many = gymnasium.make_vec(ENV, num_envs=2, task=TASK, render_mode="rgb_array", width=64, height=48)
    many.reset(seed=3)
    images = many.render()
    np.testing.assert_array_equal(images[0], frames[0])
    assert (images[0] != images[1]).any()
    assert gymnasium.make(ENV, task=TASK).unwrapped.render() is None


def test_they_tell_their_states_and_go_on_from_there() -> None:
    one, again = (gymnasium.make(ENV, task=TASK).unwrapped for _ in range(2))
    one.reset(seed=5)
    actions = commands(gymnasium.make_vec(ENV, num_envs=1, task=TASK), 12)[:, 0]
    for action in actions[:6]:
        seen = one.step(action)[0]
    same(again.reset(seed=5, options={"initial_state": one.state()})[0], seen)
    assert again.state()[-13] == 6  # steps done
    for action in actions[6:]:
        same(again.step(action), one.step(action))
    many = gymnasium.make_vec(ENV, num_envs=2, task=TASK)
    many.reset(seed=5)
    many.reset(seed=[5, 6], options={"initial_state": [one.state(), None]})
    np.testing.assert_array_equal(many.state()[0], one.state())
    assert many.state()[:, -13].tolist() == [12, 0]
