"""Reaching for one of three blocks: the arm, held-out colours, what counts, the demonstrator, what a camera sees."""

import itertools
import math

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from test_suites import Anything
from watchtrylearn.rollouts import rollout, states
from watchtrylearn.suites import make_suite, reach
from watchtrylearn.suites.reach import BLOCKS, HORIZON, LAST, NEAR, SPEC, Expert, Reach, colour_of, scene
from watchtrylearn.suites.two_link import fingertip, fingertip_velocity, postures
from watchtrylearn.types import ENVIRONMENT, STATE, ImageChannel, WtlError

pytestmark = pytest.mark.sim
SUITE = Reach(nthread=1)
TEST = SUITE.tasks("test")
RNG = np.random.default_rng(0)


# --------------------------------------------------------------------------------------------------- tasks and scenes


def test_the_simulator_has_the_arm_of_the_closed_forms():
    data = mujoco.MjData(reach.model())
    for joints, rates in RNG.uniform(-3, 3, (20, 2, 2)):
        data.qpos[:], data.qvel[:] = joints, rates
        mujoco.mj_forward(reach.model(), data)
        np.testing.assert_allclose(data.geom("fingertip").xpos[:2], fingertip(joints), atol=1e-12)
        velocity = np.zeros(6)
        mujoco.mj_objectVelocity(
            reach.model(), data, mujoco.mjtObj.mjOBJ_GEOM, data.geom("fingertip").id, velocity, False
        )
        np.testing.assert_allclose(velocity[3:5], fingertip_velocity(joints, rates), atol=1e-12)


def test_blocks_of_held_out_tasks_have_colours_that_no_training_task_has():
    tasks = {split: SUITE.tasks(split) for split in ("train", "val", "test")}
    assert {split: len(each) for split, each in tasks.items()} == {"train": 1500, "val": 51, "test": 150}
    assert len({task.name for each in tasks.values() for task in each}) == 1701
    used = {split: {colour_of(t, i) for t in each for i in range(BLOCKS)} for split, each in tasks.items()}
    for one, other in itertools.combinations(used, 2):
        assert not used[one] & used[other]
    for colour in used["train"]:
        assert max(abs(10 * part - round(10 * part)) for part in colour) < 0.03  # tenths, as whole numbers to 255
    trained = np.array(sorted(used["train"]))
    for split in ("val", "test"):
        nearest = [np.abs(trained - colour).max(-1).min() for colour in used[split]]
        assert 0.04 < min(nearest) <= max(nearest) < 0.16


def test_blocks_can_be_told_from_each_other_from_the_floor_and_from_the_arm():
    for split in ("train", "val", "test"):
        for task in SUITE.tasks(split)[::BLOCKS]:
            seen = [colour_of(task, block) for block in range(BLOCKS)]
            assert min(math.dist(a, b) for a, b in itertools.combinations(seen, 2)) > 0.49
            assert min(math.dist(a, b) for a in seen for b in (reach.FLOOR, reach.ARM)) > 0.34


def test_tasks_come_in_threes_that_differ_in_what_is_meant_alone():
    for first in range(0, 30, BLOCKS):
        three = TEST[first : first + BLOCKS]
        assert [SUITE.target(task, 0) for task in three] == [0, 1, 2]
        assert len({tuple(colour_of(task, i) for i in range(BLOCKS)) for task in three}) == 1
        for task in three:
            assert task.sentence.split()[-1] == task[f"colour {task['target']}"]
            np.testing.assert_array_equal(scene(task, 7), scene(three[0], 7))
    assert (scene(TEST[0], 7) != scene(TEST[0], 8)).all()
    assert (scene(TEST[0], 7) != scene(TEST[3], 7)).all()


def test_blocks_fill_the_square_as_far_as_the_arm_can_reach():
    blocks = np.stack([scene(TEST[0], seed) for seed in range(2000)])
    between = [np.linalg.norm(blocks[:, i] - blocks[:, j], axis=-1) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert np.min(between) >= 0.15
    assert np.linalg.norm(blocks, axis=-1).max() <= 0.25  # 4 cm beyond the stretched arm, less than the 5 that count
    assert 0.199 < np.abs(blocks).max() <= 0.2
    assert np.abs(blocks.mean(0)).max() < 0.02


# --------------------------------------------------------------------------------------------------- attempts


@pytest.mark.parametrize(("there", "counts"), [(HORIZON - LAST, False), (HORIZON - LAST + 1, True), (HORIZON, True)])
def test_only_the_last_steps_count(there, counts):
    """The fingertip is put onto its block after one step alone, or a bit too far from it."""
    task = TEST[1]
    (posture, _), *_ = postures(scene(task, 3)[None, 1] * 0.5)  # half way, where the arm can go anywhere
    for aside, near in ((0.0, True), (NEAR + 1e-4, False)):
        worlds = SUITE.worlds([task], [3])
        worlds._scenes[0, 1] = fingertip(posture) + np.array([aside, 0])
        worlds.reset()
        found = []
        for step in range(1, HORIZON + 1):
            worlds._qpos[0] = posture if step == there else posture + np.pi
            worlds._qvel[0] = 0
            *_, truncated, info = worlds.step(np.zeros((1, 2)))
            found.append(bool(info["success"][0]))
        assert sum(found) == (counts and near)
        assert found[there - 1] == (counts and near)
        assert truncated[0]


def test_the_demonstrator_succeeds_though_its_commands_are_disturbed():
    tasks = [task for task in TEST for _ in range(2)]
    demos = SUITE.demonstrations(tasks, list(range(300)))
    assert np.mean([demo.success for demo in demos]) >= 0.98
    for demo in demos[::20]:
        assert demo.problems(SPEC) == []
        assert len(demo) == HORIZON
        assert 0.04 < (demo.executed - demo.action).std() < 0.06
        assert np.abs(demo.action).max() < 1
    again = SUITE.demonstrate(demos[7].task, demos[7].seed)
    np.testing.assert_array_equal(again.executed, demos[7].executed)


def test_whoever_does_not_know_which_block_is_meant_is_right_in_one_of_three_scenes():
    worlds = SUITE.worlds(TEST, [4] * len(TEST))
    blind = rollout(Expert(worlds, np.zeros(len(TEST), int)), worlds)
    assert np.mean([attempt.success for attempt in blind]) == 1 / 3


def test_random_commands_succeed_as_often_as_in_the_paper():
    tasks = TEST * 4
    attempts = rollout(Anything(SPEC, 1.0), SUITE.worlds(tasks, list(range(len(tasks)))))
    assert np.mean([attempt.success for attempt in attempts]) == pytest.approx(0.257, abs=0.05)
    assert all(attempt.problems(SPEC) == [] for attempt in attempts)


def test_full_power_stays_within_the_bounds():
    for command in ([1.0, 1.0], [-1.0, 1.0]):
        worlds = SUITE.worlds(TEST[:1], [0])
        worlds.reset()
        for _ in range(HORIZON):
            seen, *_, info = worlds.step(np.array([command]))
            assert not any(channel.problems(name, seen[name], 1) for name, channel in SPEC.observation.items())
        assert not info["diverged"].any()


def test_a_command_that_is_no_number_ends_its_world_alone_with_the_worst_return():
    worlds = SUITE.worlds(TEST[:2], [0, 0])
    before, _ = worlds.reset()
    seen, reward, terminated, _, info = worlds.step(np.array([[np.nan, 0.0], [0.1, 0.1]]))
    assert info["diverged"].tolist() == terminated.tolist() == [True, False]
    assert reward[0] == pytest.approx(-HORIZON * (0.21 + 0.25))
    np.testing.assert_array_equal(seen[STATE][0], before[STATE][0])
    with pytest.raises(WtlError, match="keep their scenes"):
        worlds.reset(seed=3)


# --------------------------------------------------------------------------------------------------- a camera


@pytest.fixture(scope="module")
def seeing():
    pytest.importorskip("mujoco_warp")
    pytest.importorskip("av")
    return make_suite("reach_vision@40x32")


@pytest.fixture(scope="module")
def shown(seeing):
    return seeing.demonstrations(TEST[:3], [2, 2, 5])


def test_the_camera_sees_the_same_attempts(seeing, shown):
    assert seeing.spec.images == {"images.above": ImageChannel(height=32, width=40)}
    assert make_suite("reach_vision").spec.images == {"images.above": ImageChannel(height=64, width=80)}
    assert ENVIRONMENT not in seeing.spec.observation  # it does not tell where the blocks lie
    for demo, same in zip(shown, SUITE.demonstrations(TEST[:3], [2, 2, 5]), strict=True):
        assert demo.problems(seeing.spec) == []
        np.testing.assert_array_equal(demo.observation[STATE], same.observation[STATE])
        np.testing.assert_array_equal(demo.executed, same.executed)
        assert demo.success == same.success
        frames = demo.observation["images.above"]
        assert frames.shape == (HORIZON, 32, 40, 3)
        assert (frames[0] != frames[-1]).any()


def test_blocks_are_seen_in_their_colours_where_they_lie(shown):
    """The pixel onto which the middle of a block's top falls, where the arm is not over it."""
    looked = 0
    for demo in shown:
        image = demo.observation["images.above"][0] / 255
        for block, (x, y) in enumerate(scene(demo.task, demo.seed)):
            scale = 16 / reach.VIEW * reach.EYE / (reach.EYE + 0.02)
            if abs(y) < 0.045 and x > -0.05:  # near the stretched arm
                continue
            found = image[int(16 - scale * y), int(20 + scale * x)]
            np.testing.assert_allclose(found, colour_of(demo.task, block), atol=0.06)
            looked += 1
    assert looked >= 5
    np.testing.assert_array_equal(shown[0].observation["images.above"][0], shown[1].observation["images.above"][0])


def test_an_attempt_that_goes_on_from_the_middle_sees_the_same(seeing, shown):
    demo = shown[2]
    here = states(seeing.worlds([demo.task], [demo.seed]), [demo], [30])

    class Rest:
        def reset(self, rngs):
            self.left = iter(demo.executed[30:])

        def act(self, observation):
            return next(self.left)[None]

    (rest,) = rollout(Rest(), seeing.worlds([demo.task], [demo.seed]), start=here)
    for name, values in demo.observation.items():
        np.testing.assert_array_equal(rest.observation[name], values[30:])
        np.testing.assert_array_equal(rest.final[name], demo.final[name])
    assert rest.success == demo.success


def test_a_clip_shows_the_scene_and_beside_it_what_was_seen(seeing, shown):
    (clip,) = seeing.film(shown[:1])
    assert clip.shape == (HORIZON + 1, 256, 640, 3)
    np.testing.assert_array_equal(clip[:-1, 4::8, 324::8], shown[0].observation["images.above"])
    np.testing.assert_array_equal(clip[-1, 4::8, 324::8], shown[0].final["images.above"])
    told = []
    (plain,) = SUITE.film(SUITE.demonstrations(TEST[:1], [2]), lambda: told.append(1))
    np.testing.assert_array_equal(plain, clip[:, :, :320])
    assert told == [1]
    whole = plain[0].reshape(32, 8, 40, 8, 3).mean((1, 3))
    assert np.abs(whole - shown[0].observation["images.above"][0]).mean() < 6  # the same view
