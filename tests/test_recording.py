"""What an episode keeps: what is seen after the last action, how it ended, what was meant and what was executed."""

from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest

from test_starts import Playing, Point, apart
from test_suites import SUITES, Anything
from toy_learners import RandomPolicy
from watchtrylearn.ops.noise import SmoothNoise
from watchtrylearn.ops.random import generator
from watchtrylearn.recorder import Recorder
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import make_suite
from watchtrylearn.suites.toy import SPEC, STEP, PointWorlds
from watchtrylearn.types import ENVIRONMENT, STATE, ImageChannel, Task, WtlError

SUITE = make_suite("toy")
TASKS, SEEDS = SUITE.tasks("test")[:3], [1, 2, 3]
STILL = np.zeros((1, 2))


# ------------------------------------------------------------------------------------------- the last observation


@pytest.mark.parametrize("name", SUITES)
def test_the_observation_after_the_last_action_is_kept(name):
    """Two routes: the recorded one, and stepping worlds by hand with what was executed."""
    suite = make_suite(name)
    tasks, seeds = suite.tasks("test")[:4], [3, 4, 5, 6]
    for episode in [*suite.demonstrations(tasks, seeds), *rollout(Anything(suite.spec), suite.worlds(tasks, seeds))]:
        worlds = suite.worlds([episode.task], [episode.seed])
        worlds.reset()
        for action in episode.action if episode.executed is None else episode.executed:
            following, *_ = worlds.step(action[None])
        assert episode.final.keys() == suite.spec.observation.keys()
        for name_, values in episode.final.items():
            np.testing.assert_array_equal(values, following[name_][0])
        assert episode.problems(suite.spec) == []


@pytest.mark.parametrize("mode", [gymnasium.vector.AutoresetMode.NEXT_STEP, gymnasium.vector.AutoresetMode.DISABLED])
def test_worlds_that_begin_anew_by_themselves_do_not_spoil_the_last_observation(mode):
    expected = rollout(RandomPolicy(), SUITE.worlds(TASKS, SEEDS))
    worlds = gymnasium.vector.SyncVectorEnv(
        [partial(Point, t, s) for t, s in zip(TASKS, SEEDS, strict=True)], autoreset_mode=mode
    )
    worlds.tasks, worlds.seeds, worlds.episode_spec = TASKS, SEEDS, SPEC
    if mode == gymnasium.vector.AutoresetMode.DISABLED:
        worlds.step = partial(step_unguarded, worlds)
    for one, other in zip(rollout(RandomPolicy(), worlds), expected, strict=True):
        np.testing.assert_array_equal(one.final[STATE], other.final[STATE])


def step_unguarded(worlds, actions):
    """Gymnasium asserts that ended worlds are not stepped where they are not reset; what they do is ignored here."""
    worlds._autoreset_envs[:] = False
    return gymnasium.vector.SyncVectorEnv.step(worlds, actions)


def test_worlds_that_hide_how_they_ended_are_refused():
    worlds = gymnasium.vector.SyncVectorEnv(
        [partial(Point, TASKS[0], 1)], autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP
    )
    worlds.tasks, worlds.seeds, worlds.episode_spec = TASKS[:1], [1], SPEC
    with pytest.raises(WtlError, match="begin anew in the step in which they end"):
        rollout(RandomPolicy(), worlds)


# --------------------------------------------------------------------------------------------------- how it ended


class Ending(PointWorlds):
    """Worlds 0 to 4 end at their second step: settled, cut off, both, broken down, broken down without an end."""

    def step(self, actions):
        observation, reward, _, _, info = super().step(actions)
        now = self.count == 2
        which = np.arange(self.num_envs)
        broken = now & ((which == 3) | (which == 4))
        terminated = now & ((which == 0) | (which == 2) | (which == 3))
        return observation, reward, terminated, now & ((which == 1) | (which == 2)), info | {"diverged": broken}


def test_settled_is_told_from_cut_off_at_every_boundary():
    episodes = rollout(Playing([STILL] * 6, [0] * 6), Ending(SUITE.tasks("test")[:6], range(6)))
    assert [len(e) for e in episodes] == [2, 2, 2, 2, 2, SPEC.horizon]
    assert [e.terminated for e in episodes] == [True, False, True, True, True, False]  # the last one by the horizon
    assert [e.diverged for e in episodes] == [False, False, False, True, True, False]
    assert [bool(e.final) for e in episodes] == [True, True, True, False, False, True]


def test_an_attempt_that_breaks_down_late_loses_what_it_had_left():
    """Also if it began in the middle: at step 3 of 5, so that two steps are left, of which it took one."""

    class Dear(PointWorlds):
        worst_reward = -1.0

    class Gone(Playing):
        def act(self, observation):
            return np.full((1, 2), np.nan)

    worlds = Dear(TASKS[:1], SEEDS[:1])
    worlds.reset()
    for _ in range(3):
        worlds.step(STILL)
    (episode,) = rollout(Gone([STILL], [0]), worlds, start=worlds.state())
    assert (episode.diverged, len(episode), episode.reward.sum()) == (True, 1, -2.0)
    (episode,) = rollout(Gone([STILL], [0]), worlds)
    assert episode.reward.sum() == -5.0


# --------------------------------------------------------------------------------------------------------- images

CAMERA = ImageChannel(64, 48)


class Filming(PointWorlds):
    """Toy worlds that are also seen by a camera, and may go on for long."""

    horizon = 100_000

    def __init__(self, tasks, seeds):
        super().__init__(tasks, seeds)
        self.episode_spec = replace(SPEC, horizon=self.horizon, observation=SPEC.observation | {"camera": CAMERA})

    def _observe(self):
        shade = 10 * self.count[:, None, None, None] + np.arange(self.num_envs)[:, None, None, None]
        self.buffer = getattr(self, "buffer", np.zeros((self.num_envs, *CAMERA.shape), np.uint8))
        self.buffer[:] = shade  # the same memory at every step, as simulators have it
        return super()._observe() | {"camera": self.buffer}


def test_images_are_recorded_as_they_come():
    worlds = Filming(TASKS, SEEDS)
    for i, episode in enumerate(rollout(Playing([STILL] * 3, [0] * 3), worlds)):
        frames = episode.observation["camera"]
        assert frames.dtype == np.uint8
        assert frames.shape == (5, *CAMERA.shape)
        assert frames[:, 0, 0, 0].tolist() == [i, 10 + i, 20 + i, 30 + i, 40 + i]
        assert (episode.final["camera"] == 50 + i).all()
        assert list(episode.observation) == [STATE, ENVIRONMENT, "camera"]
        assert episode.problems(worlds.episode_spec) == []


def test_memory_for_images_is_for_the_steps_that_were_taken():
    """The horizon would be 184 GB of frames; five steps are 138 kB."""
    record = Recorder(TASKS, SEEDS, Filming(TASKS, SEEDS).episode_spec, 0.0)
    assert record.images == {"camera": [[], [], []]}
    episodes = rollout(Playing([STILL] * 3, [0] * 3), Filming(TASKS, SEEDS))
    for episode in episodes:
        for values in episode.observation.values():
            whole = values if values.base is None else values.base
            assert whole.nbytes == values.nbytes  # no view into something larger


# --------------------------------------------------------------------------------------------------- disturbances


def test_a_disturbance_reaches_the_robot_and_not_the_record_of_what_was_meant():
    """With random numbers of its own: what is meant does not depend on whether it is disturbed."""
    plain = rollout(RandomPolicy(), SUITE.worlds(TASKS, SEEDS), run_seed=4)
    noise = SmoothNoise((0.02, 0.0))
    shaken = rollout(RandomPolicy(), SUITE.worlds(TASKS, SEEDS), run_seed=4, disturbance=noise)
    for i, (one, other) in enumerate(zip(plain, shaken, strict=True)):
        both = min(len(one), len(other))
        np.testing.assert_array_equal(one.action[:both], other.action[:both])
        assert one.executed is None
        assert (other.executed[:, 0] != other.action[:, 0]).any()
        np.testing.assert_array_equal(other.executed[:, 1], other.action[:, 1])
        assert other.problems(SPEC) == []
        moved = np.diff(other.observation[STATE][:, :2], axis=0)
        np.testing.assert_allclose(moved, other.executed[:-1] * (TASKS[i]["sign"], 1), atol=1e-6)
    (alone,) = rollout(RandomPolicy(), SUITE.worlds(TASKS[1:2], SEEDS[1:2]), run_seed=4, disturbance=noise)
    np.testing.assert_array_equal(alone.executed, shaken[1].executed)


def test_smooth_noise_is_of_the_stated_size_and_smoothness():
    rngs = [generator("test noise", i) for i in range(400)]
    noise, still = SmoothNoise((0.5, 0.0, 2.0), 0.8), np.ones((400, 3))
    track = np.stack([noise(t, still, rngs) - still for t in range(30)])
    np.testing.assert_allclose(track.std((0, 1)), (0.5, 0.0, 2.0), rtol=0.05)
    assert np.corrcoef(track[:-1, :, 2].ravel(), track[1:, :, 2].ravel())[0, 1] == pytest.approx(0.8, abs=0.02)


def test_what_a_disturbance_sends_is_cut_to_the_bounds():
    meant = np.full((1, 2), 0.4)
    (episode,) = rollout(
        Playing([meant], [0]), SUITE.worlds(TASKS[:1], [1]), disturbance=lambda step, action, rngs: action + step
    )
    assert (episode.action == np.float32(0.4)).all()
    assert (episode.executed == STEP).all()  # it was given what the bounds leave of 0.4


@pytest.mark.parametrize(("sends", "message"), [
    (lambda action: action[:1], r"the disturbance at step 0: actions have shape \(1, 2\); 3 worlds need \(3, 2\)"),
    (lambda action: None, "the disturbance at step 0: actions are real numbers, not object"),
    (lambda action: np.where([[1], [0], [0]], np.nan, action), f"sends in {TASKS[0].name} in scene 1 is not finite"),
    (lambda action: np.where([[0], [0], [1]], np.inf, action), f"sends in {TASKS[2].name} in scene 3 is not finite"),
])  # fmt: skip
def test_a_disturbance_that_sends_nonsense_is_refused_in_a_sentence(sends, message):
    policy = Playing([np.full((1, 2), 0.1)] * 3, [0] * 3)
    with pytest.raises(WtlError, match=message):
        rollout(policy, SUITE.worlds(TASKS, SEEDS), disturbance=lambda step, action, rngs: sends(action))


def test_a_disturbance_that_raises_at_once_is_a_mistake_and_later_a_breakdown():
    def late(step, action, rngs):
        if step == at:
            raise RuntimeError("no more noise")
        return action

    policy, at = Playing([STILL] * 3, [0] * 3), 0
    with pytest.raises(RuntimeError, match="no more noise"):
        rollout(policy, SUITE.worlds(TASKS, SEEDS), disturbance=late)
    at = 2
    episodes = rollout(policy, SUITE.worlds(TASKS, SEEDS), disturbance=late)
    assert [(e.diverged, len(e)) for e in episodes] == [(True, 3)] * 3


# ------------------------------------------------------------------------- demonstrations are what they always were


def by_hand(worlds, act, shake=None):
    """The loop that suites had before ``rollout``: (observation, action, executed, reward) per step, world 0."""
    seen, _ = worlds.reset()
    low, high = worlds.single_action_space.low, worlds.single_action_space.high
    rows, ended = [], False
    while not ended:
        action = np.clip(act(seen).astype(np.float32), low, high)
        executed = action if shake is None else np.clip(action + shake[len(rows)], low, high).astype(np.float32)
        following, reward, terminated, truncated, _ = worlds.step(executed)
        rows.append((seen, action, executed, reward))
        seen, ended = following, bool(terminated[0] or truncated[0])
    return rows, bool(terminated[0])


def same(demo, rows, terminated):
    for name, values in demo.observation.items():
        np.testing.assert_array_equal(values, np.stack([seen[name][0] for seen, *_ in rows]))
    np.testing.assert_array_equal(demo.action, np.stack([action[0] for _, action, _, _ in rows]))
    sent = demo.action if demo.executed is None else demo.executed
    np.testing.assert_array_equal(sent, np.stack([executed[0] for _, _, executed, _ in rows]))
    np.testing.assert_array_equal(demo.reward, np.float32([reward[0] for *_, reward in rows]))
    assert (demo.kind, demo.terminated) == ("demo", terminated)


def test_toy_demonstrations_are_the_straight_way_in_full_precision():
    tasks = SUITE.tasks("train")[:16]
    for task, demo in zip(tasks, SUITE.demonstrations(tasks, range(16)), strict=True):
        worlds, goal = SUITE.worlds([task], [demo.seed]), SUITE.target(task, demo.seed)

        def straight(seen, worlds=worlds, goal=goal):
            way = worlds.marks[0, goal] - worlds.point[0]
            return (worlds.sign[0] * way * min(1.0, STEP / np.linalg.norm(way)))[None]

        same(demo, *by_hand(worlds, straight))


@pytest.mark.sim
def test_tabletop_demonstrations_draw_the_manner_first_and_then_the_noise():
    from watchtrylearn.suites.tabletop import arrange, expert

    suite = make_suite("tabletop")
    tasks = suite.tasks("test")[:4]
    for seed, (task, demo) in enumerate(zip(tasks, suite.demonstrations(tasks, range(4)), strict=True)):
        worlds, rng = suite.worlds([task], [seed]), generator("demo", task.name, seed)
        side = [arrange.goal_side(task)]
        person = expert.Expert([task.family], [suite.target(task, seed)], side, worlds.single_action_space)
        person.reset([rng])
        white, scale = rng.standard_normal((50, 7)), (*(0.006,) * 3, 0.0, 0.0, 0.03, 0.0)
        for t in range(1, 50):
            white[t] = 0.6 * white[t - 1] + np.sqrt(1 - 0.6**2) * white[t]
        same(demo, *by_hand(worlds, person.act, (white * scale)[:, None]))


@pytest.mark.sim
def test_reacher_demonstrations_come_from_what_is_seen():
    from watchtrylearn.suites import reacher

    suite = make_suite("reacher")
    tasks = suite.tasks("test")
    for seed, (task, demo) in enumerate(zip(tasks, suite.demonstrations(tasks, range(8)), strict=True)):
        worlds, (_, targets) = suite.worlds([task], [seed]), reacher.scene(task, seed)

        def command(seen, worlds=worlds, task=task, targets=targets):
            state = seen[STATE].astype(np.float64)
            joints = np.arctan2(state[:, 2:4], state[:, :2])
            return worlds.sign * reacher.command(joints, state[:, 4:], targets[None, task["target"]])

        same(demo, *by_hand(worlds, command))


def test_own_worlds_need_nothing_more_than_before():
    """Worlds without states, steps or terms are recorded as ever."""
    worlds = apart(Point, TASKS, SEEDS)
    for episode in rollout(RandomPolicy(), worlds):
        assert isinstance(episode.task, Task)
        assert episode.problems(SPEC) == []
