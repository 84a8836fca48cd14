"""Attempts become episodes: what is recorded, when it ends, and what is refused."""

import re
import signal
import threading
import time
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

from toy_learners import Copy, Straight
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.protocol import Scene, evaluate
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import make_suite
from watchtrylearn.suites.toy import SPEC, PointWorlds
from watchtrylearn.types import ENVIRONMENT, STATE, WtlError
from watchtrylearn.worlds import commands

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


def test_a_diverged_attempt_is_marked_ends_there_and_is_a_failure(caplog):
    episodes = rollout(to_the_left(2), Breaking(TASKS[:2], [1, 2]))
    assert [e.diverged for e in episodes] == [True, False]
    assert f"failed at control step 1, the world says it diverged: {TASKS[0].name} in scene 1" in caplog.text
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


def test_a_policy_that_says_what_it_is_for_is_refused_elsewhere():
    policy = Straight(lambda world, marks: 0, [1.0])
    policy.spec = SPEC
    assert len(rollout(policy, SUITE.worlds(TASKS[:1], [0]))) == 1
    policy.spec = replace(SPEC, horizon=9)
    with pytest.raises(WtlError, match="the policy was made for other dimensions than these worlds: horizon: 9, not 5"):
        rollout(policy, SUITE.worlds(TASKS[:1], [0]))


# ------------------------------------------------------------------------------------ cut off, or settled


def test_an_outcome_that_was_settled_is_told_from_an_attempt_that_was_cut_off(tmp_path):
    class Still(Straight):
        def act(self, observation):
            return np.zeros((2, 2))

    reached = rollout(to_the_left(2), SUITE.worlds(TASKS[:2], [1, 2]))
    cut = rollout(Still(lambda *_: 0, [1.0] * 2), SUITE.worlds(TASKS[:2], [1, 2]))
    assert [e.terminated for e in (*reached, *cut)] == [True, True, False, False]
    assert SUITE.demonstrate(TASKS[0], 1).terminated
    with EpisodeStore.create(tmp_path / "data", SPEC, "toy") as store:
        store.append([*reached, *cut])
    assert [e.terminated for e in EpisodeStore.open(tmp_path / "data").read()] == [True, True, False, False]


# ------------------------------------------------------------------------------------ what breaks down

SEEDS = [1, 2, 3]


class Sending(Straight):
    """In world 1, sends ``value`` in its second step."""

    def __init__(self, value):
        super().__init__(lambda _, marks: int(np.argmin(marks[:, 0])), [1.0] * 3)
        self.value, self.asked = value, 0

    def act(self, observation):
        self.asked += 1
        action = super().act(observation).astype(float)
        if self.asked == 2:
            action[1, 0] = self.value
        return action


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -1e39])
def test_an_action_that_is_no_command_fails_its_attempt_alone(value, tmp_path, caplog):
    expected = rollout(to_the_left(3), SUITE.worlds(TASKS[:3], SEEDS))
    episodes = rollout(Sending(value), SUITE.worlds(TASKS[:3], SEEDS))
    assert [e.diverged for e in episodes] == [False, True, False]
    assert not episodes[1].success
    assert len(episodes[1]) == 2
    assert episodes[1].terms["bad_action"] == 1
    assert episodes[1].problems(SPEC) == []  # what was sent is recorded: the last sound action again
    for i in (0, 2):
        np.testing.assert_array_equal(episodes[i].observation[STATE], expected[i].observation[STATE])
    assert f"failed at control step 1, the action is not finite, or absurdly large: {TASKS[1].name} in scene 2" in (
        caplog.text
    )
    with EpisodeStore.create(tmp_path / "data", SPEC, "toy") as store:
        store.append(episodes)  # nothing is refused


def test_an_action_somewhat_beyond_the_bounds_is_recorded_as_meant_and_as_executed(tmp_path):
    before, episode, after = rollout(Sending(0.7), SUITE.worlds(TASKS[:3], SEEDS))
    assert not episode.diverged
    assert episode.action[1, 0] == np.float32(0.7)
    assert episode.executed[1, 0] == 0.25
    np.testing.assert_array_equal(np.delete(episode.action, 1, 0), np.delete(episode.executed, 1, 0))
    assert episode.problems(SPEC) == []
    assert before.executed is after.executed is None  # nothing was cut
    moved = np.diff(episode.observation[STATE][:, :2], axis=0)
    sign = [TASKS[1]["sign"], 1]
    np.testing.assert_allclose(moved, episode.executed[:-1] * sign, atol=1e-6)
    with EpisodeStore.open_or_create(tmp_path / "data", SPEC, suite="toy") as store:  # as docs/data.md has it
        store.append([before, episode, after])
    assert (EpisodeStore.open(tmp_path / "data").read()[1].action == episode.executed).all()


@pytest.mark.parametrize("name", ["toy", *(pytest.param(n, marks=pytest.mark.sim) for n in ("reacher", "tabletop"))])
def test_actions_of_the_wrong_width_or_number_are_refused_by_every_suite_alike(name):
    suite = make_suite(name)
    size = suite.spec.action.size
    worlds = suite.worlds(suite.tasks("test")[:3], SEEDS)
    worlds.reset()
    for shape in ((3, size + 1), (2, size)):
        with pytest.raises(WtlError, match=re.escape(f"actions have shape {shape}; 3 worlds need {(3, size)}")):
            worlds.step(np.zeros(shape))


@pytest.mark.parametrize("action", [np.zeros((3, 2), complex), np.array([["a", "b"]] * 3), [[None, 1.0]] * 3])
def test_actions_that_are_no_real_numbers_are_refused(action):
    with pytest.raises(WtlError, match=r"actions are real numbers, not (complex128|<U1|object)"):
        commands(action, SPEC.action, 3)


def test_a_toy_action_that_is_not_finite_ends_its_world_as_diverged():
    worlds = SUITE.worlds(TASKS[:2], [1, 2])
    before, _ = worlds.reset()
    observation, _, terminated, _, info = worlds.step(np.array([[np.nan, 0.1], [0.1, 0.1]]))
    assert info["diverged"].tolist() == terminated.tolist() == [True, False]
    np.testing.assert_array_equal(observation[STATE][0], before[STATE][0])


class Falling(PointWorlds):
    """Raises in its fourth step, when the marks that are 4 steps away have not been reached yet, or its first."""

    at = 3

    def step(self, actions):
        if self.count.max() == self.at:
            raise RuntimeError("the table fell over")
        return super().step(actions)


def first_ends_early(worlds: PointWorlds) -> PointWorlds:
    worlds.marks[0] *= 0.5  # world 0 is there in two steps
    return worlds


def test_what_ended_before_the_worlds_raised_is_kept_and_the_rest_failed(caplog):
    episodes = rollout(to_the_left(3), first_ends_early(Falling(TASKS[:3], SEEDS)))
    (whole, *_) = rollout(to_the_left(3), first_ends_early(PointWorlds(TASKS[:3], SEEDS)))
    assert (episodes[0].success, episodes[0].diverged, len(episodes[0])) == (whole.success, False, len(whole))
    for episode in episodes[1:]:
        assert (episode.success, episode.diverged, len(episode)) == (False, True, 4)
        assert episode.terms == {"raised": 1.0}
    assert "failed at control step 3, worlds.step raised RuntimeError: the table fell over" in caplog.text
    for task, seed in zip(TASKS[1:3], SEEDS[1:], strict=True):
        assert f"{task.name} in scene {seed}" in caplog.text
    assert f"{TASKS[0].name} in scene" not in caplog.text


def test_a_policy_that_raises_fails_what_is_running(caplog):
    class Tired(Straight):
        acted = 0

        def act(self, observation):
            self.acted += 1
            if self.acted > self.enough:
                raise ValueError("no more")
            return super().act(observation)

    policy = Tired(lambda *_: 0, [0.1] * 3)
    policy.enough = 1
    episodes = rollout(policy, SUITE.worlds(TASKS[:3], SEEDS))
    assert [(e.diverged, len(e)) for e in episodes] == [(True, 2)] * 3
    assert "policy.act raised ValueError: no more" in caplog.text
    policy.enough = 0  # in its very first action: nothing would be lost, and a table of failures would hide a mistake
    with pytest.raises(ValueError, match="no more"):
        rollout(policy, SUITE.worlds(TASKS[:3], SEEDS))


def test_what_is_no_fault_of_an_attempt_is_no_failure():
    class Full(PointWorlds):
        def step(self, actions):
            raise MemoryError

    with pytest.raises(MemoryError):
        rollout(to_the_left(3), Full(TASKS[:3], SEEDS))


class Point(gymnasium.Env):
    """One toy world as an ordinary environment; scene 2 raises in its third step."""

    def __init__(self, task, seed):
        self.inner = PointWorlds([task], [seed])
        self.observation_space, self.action_space = (
            self.inner.single_observation_space,
            self.inner.single_action_space,
        )

    def reset(self, *, seed=None, options=None):
        return {n: v[0] for n, v in self.inner.reset()[0].items()}, {}

    def step(self, action):
        if self.inner.seeds == [2] and self.inner.count[0] == 2:
            raise OSError("a cable came off")
        observation, reward, terminated, truncated, info = self.inner.step(action[None])
        first = {n: v[0] for n, v in observation.items()}
        return first, float(reward[0]), bool(terminated[0]), bool(truncated[0]), {"success": bool(info["success"][0])}


def test_where_worlds_are_apart_only_the_one_that_raised_fails(caplog):
    def make(i):
        return lambda: Point(TASKS[i], SEEDS[i])

    worlds = gymnasium.vector.SyncVectorEnv([make(i) for i in range(3)])
    worlds.tasks, worlds.seeds, worlds.episode_spec = TASKS[:3], SEEDS, SPEC
    expected = rollout(to_the_left(3), SUITE.worlds(TASKS[:3], SEEDS))
    for _ in range(2):  # and the next attempt is not spoiled by it
        episodes = rollout(to_the_left(3), worlds)
        assert [e.diverged for e in episodes] == [False, True, False]
        assert episodes[1].terms == {"raised": 1.0}
        assert len(episodes[1]) == 3
        for i in (0, 2):
            assert (episodes[i].success, len(episodes[i])) == (expected[i].success, len(expected[i]))
    assert f"the world raised OSError: a cable came off: {TASKS[1].name} in scene 2" in caplog.text
    assert all(isinstance(env, Point) for env in worlds.envs)


def test_a_world_that_cannot_begin_fails_alone(caplog):
    class Stuck(Point):
        def reset(self, *, seed=None, options=None):
            raise OSError("the drawer is locked")

    kinds = [Point, Stuck, Point]
    worlds = gymnasium.vector.SyncVectorEnv([lambda i=i: kinds[i](TASKS[i], i + 3) for i in range(3)])
    worlds.tasks, worlds.seeds, worlds.episode_spec = TASKS[:3], [3, 4, 5], SPEC
    episodes = rollout(to_the_left(3), worlds)
    assert [e.diverged for e in episodes] == [False, True, False]
    assert f"the world raised OSError: the drawer is locked: {TASKS[1].name} in scene 4" in caplog.text


class Hanging(PointWorlds):
    """Hangs in its fourth step: forever asleep, or busy for nothing."""

    def __init__(self, *args, asleep=True):
        super().__init__(*args)
        self.asleep = asleep

    def step(self, actions):
        if self.count.max() == 3:
            begin = time.monotonic()
            while time.monotonic() < begin + 60:
                time.sleep(60 if self.asleep else 0)
        return super().step(actions)


@pytest.mark.parametrize("asleep", [True, False])
def test_a_hang_ends_what_is_running_within_the_time_out(asleep, caplog):
    begin, before = time.monotonic(), threading.active_count()
    worlds = first_ends_early(Hanging(TASKS[:3], SEEDS, asleep=asleep))
    episodes = rollout(to_the_left(3), worlds, step_timeout=0.4)
    assert time.monotonic() - begin < 10
    assert [e.diverged for e in episodes] == [False, True, True]
    assert episodes[1].terms == {"hung": 1.0}
    assert "failed at control step 3, worlds.step did not return within 0.4 s" in caplog.text
    while not asleep and threading.active_count() > before:  # a busy thread does not go on in the background
        assert time.monotonic() - begin < 20
        time.sleep(0.05)


def test_worlds_that_hang_before_the_first_step_are_named():
    class Deaf(PointWorlds):
        def reset(self, **_):
            time.sleep(30)

    with pytest.raises(WtlError, match=r"worlds.reset did not return within 0.2 s, before .* task reference-test-000"):
        rollout(to_the_left(3), Deaf(TASKS[:3], SEEDS), step_timeout=0.2)


def test_a_person_who_thinks_is_no_hang():
    """``on_step`` may wait as long as it likes."""
    episodes = rollout(
        to_the_left(1), SUITE.worlds(TASKS[:1], [1]), on_step=lambda _: time.sleep(0.15), step_timeout=0.1
    )
    assert not episodes[0].diverged


def test_ctrl_c_ends_an_attempt_between_two_steps():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background does not have
    steps = []

    def interrupt(running):
        steps.append(running)
        if len(steps) == 2:
            time.sleep(0.3)  # until the caller waits
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # as from a terminal
            time.sleep(1.5)

    try:
        with pytest.raises(KeyboardInterrupt):
            rollout(to_the_left(3), SUITE.worlds(TASKS[:3], SEEDS), on_step=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(steps) == 2


def test_errors_of_the_caller_reach_the_caller():
    def fail(running):
        raise LookupError("not mine")

    for limit in (None, 60.0):
        with pytest.raises(LookupError, match="not mine"):
            rollout(to_the_left(3), SUITE.worlds(TASKS[:3], SEEDS), on_step=fail, step_timeout=limit)


def test_a_policy_finds_the_callers_torch_mode_and_context():
    modes, threads = [], []

    class Asking(Straight):
        def act(self, observation):
            modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled(), np.geterr()["divide"]))
            threads.append(torch.get_num_threads())
            return super().act(observation)

    policy = Asking(lambda *_: 0, [1.0])
    with torch.no_grad(), np.errstate(divide="raise"):
        rollout(policy, SUITE.worlds(TASKS[:1], [1]))
    with torch.inference_mode():
        rollout(policy, SUITE.worlds(TASKS[:1], [1]))
    rollout(policy, SUITE.worlds(TASKS[:1], [1]))
    assert {modes[0], modes[-1]} == {(False, False, "raise"), (True, False, "warn")}
    assert (False, True, "warn") in modes
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    rollout(policy, SUITE.worlds(TASKS[:1], [1]))
    torch.set_num_threads(before)
    assert (threads[0], threads[-1]) == (before, before + 1)


def test_an_evaluation_goes_on_after_worlds_that_broke_down():
    """In new worlds: nobody knows in which state the others are."""
    made = []

    class Suite(type(SUITE)):
        def worlds(self, tasks, seeds):
            made.append(Falling(tasks, seeds) if not made else PointWorlds(tasks, seeds))
            return made[-1]

    scene = Scene(TASKS[0], (SUITE.demonstrate(TASKS[0], 0),), 1)
    attempts = evaluate(Copy(), Suite(), [scene], trials=2)
    assert [a.episode.diverged for a in attempts] == [True, False, False]
    assert len(made) == 2
