"""Attempts that begin where told: from any step of a stored episode a world goes on exactly as it did."""

import re
from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest

from test_suites import SUITES, Anything
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.rollouts import replayed, rollout, states
from watchtrylearn.suites import make_suite
from watchtrylearn.suites.toy import SPEC, PointWorlds
from watchtrylearn.types import STATE, WtlError
from watchtrylearn.worlds import full_states


class Playing:
    """Plays actions (time, act) from its own step on in every world, the last one again and again."""

    def __init__(self, actions, begin):
        self.actions, self.begin = actions, begin

    def reset(self, rngs):
        self.now = list(self.begin)

    def act(self, observation):
        sent = np.stack([a[min(t, len(a) - 1)] for a, t in zip(self.actions, self.now, strict=True)])
        self.now = [t + 1 for t in self.now]
        return sent


def sent(episode):
    return episode.action if episode.executed is None else episode.executed


def attempts(name, first=0):
    """Experts sent to the right thing and to the wrong one, and random commands; all families."""
    suite = make_suite(name)
    several = {"toy": 4, "choices": 4, "reach": 2, "reacher": 2, "tabletop": 4}[name]
    tasks = suite.tasks("test")[first : first + several]
    seeds = [7 + i for i in range(len(tasks))]
    found = [*suite.demonstrations(tasks, seeds), *rollout(Anything(suite.spec), suite.worlds(tasks, seeds))]
    if name == "tabletop":
        from watchtrylearn.suites.tabletop import expert

        wrong = [suite.target(task, seed) ^ 1 for task, seed in zip(tasks, seeds, strict=True)]
        found += expert.demonstrations(suite.worlds(tasks, seeds), wrong)
    return suite, found


def same_rest(whole, step, rest):
    """``rest`` is what ``whole`` was from ``step`` on, to the last bit."""
    for name, values in whole.observation.items():
        np.testing.assert_array_equal(rest.observation[name], values[step:])
        np.testing.assert_array_equal(rest.final[name], whole.final[name])
    np.testing.assert_array_equal(rest.reward, whole.reward[step:])
    for fact in ("success", "diverged", "terminated", "terms"):
        assert getattr(rest, fact) == getattr(whole, fact), fact


@pytest.mark.parametrize("name", SUITES)
def test_from_any_step_an_episode_goes_on_exactly_as_it_did(name):
    """What the judge remembers, the step counter and the physics are all in the state."""
    suite, found = attempts(name)
    apart = 8 if name == "tabletop" else 1
    jobs = [(e, t) for i, e in enumerate(found) for t in [*range(i % apart, len(e), apart), len(e) - 1]]
    wholes, steps = [e for e, _ in jobs], [t for _, t in jobs]
    worlds = suite.worlds([e.task for e in wholes], [e.seed for e in wholes])
    here = states(worlds, wholes, steps)
    rests = rollout(Playing([sent(e) for e in wholes], steps), worlds, start=here)
    for whole, step, state, rest in zip(wholes, steps, here, rests, strict=True):
        assert len(rest) == len(whole) - step
        same_rest(whole, step, rest)
        np.testing.assert_array_equal(rest.initial_state, state)
        assert rest.problems(suite.spec) == []


@pytest.mark.parametrize("name", SUITES)
def test_an_episode_that_began_in_the_middle_is_stored_replayed_and_begun_again_like_any(name, tmp_path):
    suite, (episode, *_) = attempts(name)
    worlds = suite.worlds([episode.task] * 2, [episode.seed] * 2)
    here = states(worlds, [episode] * 2, [1, 2])
    rests = rollout(Playing([sent(episode)] * 2, [1, 2]), worlds, start=here)
    with EpisodeStore.create(tmp_path / "data", suite.spec, name) as store:
        store.append(rests)
    kept = EpisodeStore.open(tmp_path / "data").read()
    again = states(worlds, kept, [1, 0])
    np.testing.assert_array_equal(again[0], again[1])  # the second step of the whole episode
    seen = [{n: v.copy() for n, v in observation.items()} for observation, _ in replayed(worlds, kept)]
    for name_, values in episode.observation.items():
        for i, begin in enumerate((1, 2)):
            np.testing.assert_array_equal(np.stack([s[name_][i] for s in seen[: len(kept[i])]]), values[begin:])


@pytest.mark.parametrize("name", SUITES)
def test_the_initial_states_of_today_and_none_begin_at_the_scenes_start(name):
    suite, (episode, *_) = attempts(name)
    worlds = suite.worlds([episode.task] * 3, [episode.seed] * 3)
    (middle,) = states(suite.worlds([episode.task], [episode.seed]), [episode], [1])
    rests = rollout(Playing([sent(episode)] * 3, [0, 0, 1]), worlds, start=[episode.initial_state, None, middle])
    for step, rest in zip((0, 0, 1), rests, strict=True):
        same_rest(episode, step, rest)
    for rest in rests[:2]:
        np.testing.assert_array_equal(rest.initial_state, episode.initial_state)
    (plain, *_) = rollout(Playing([sent(episode)] * 3, [0, 0, 0]), worlds)  # and nothing of it is left
    same_rest(episode, 0, plain)


@pytest.mark.parametrize("name", SUITES)
def test_the_horizon_counts_from_the_episodes_own_step(name):
    suite, found = attempts(name)
    horizon = suite.spec.horizon
    idle = (np.array(suite.spec.action.low) + np.array(suite.spec.action.high)) / 2
    task, seed = found[0].task, found[0].seed
    worlds = suite.worlds([task] * 2, [seed] * 2)
    (whole, _) = rollout(Playing([idle[None]] * 2, [0, 0]), worlds)
    assert len(whole) == horizon
    rests = rollout(Playing([idle[None]] * 2, [0, 0]), worlds, start=states(worlds, [whole] * 2, [horizon - 1, 2]))
    assert [len(rest) for rest in rests] == [1, horizon - 2]
    assert not any(rest.terminated for rest in rests)


# --------------------------------------------------------------------------------------------- one's own worlds

TOY = make_suite("toy")
TASKS = TOY.tasks("test")


class Point(gymnasium.Env):
    """One toy world as an ordinary environment that can begin where told."""

    def __init__(self, task, seed):
        self.inner = PointWorlds([task], [seed])
        self.observation_space = self.inner.single_observation_space
        self.action_space = self.inner.single_action_space

    def reset(self, *, seed=None, options=None):
        given = (options or {}).get("initial_state")
        observation, info = self.inner.reset(options=None if given is None else {"initial_state": [given]})
        return {n: v[0] for n, v in observation.items()}, {n: v[0] for n, v in info.items()}

    def step(self, action):
        observation, reward, terminated, truncated, info = self.inner.step(action[None])
        told = {"success": bool(info["success"][0])}
        first = {n: v[0] for n, v in observation.items()}
        return first, float(reward[0]), bool(terminated[0]), bool(truncated[0]), told

    def state(self):
        return self.inner.state()[0]


def apart(kind, tasks, seeds):
    worlds = gymnasium.vector.SyncVectorEnv([partial(kind, t, s) for t, s in zip(tasks, seeds, strict=True)])
    worlds.tasks, worlds.seeds, worlds.episode_spec = list(tasks), list(seeds), SPEC
    return worlds


def test_ordinary_environments_take_each_its_own_state():
    demos = TOY.demonstrations(TASKS[:3], [1, 2, 3])
    worlds = apart(Point, TASKS[:3], [1, 2, 3])
    here = states(worlds, demos, [1, 2, 0])
    np.testing.assert_array_equal(here, states(TOY.worlds(TASKS[:3], [1, 2, 3]), demos, [1, 2, 0]))
    rests = rollout(Playing([sent(d) for d in demos], [1, 2, 0]), worlds, start=[here[0], here[1], None])
    for demo, step, rest in zip(demos, (1, 2, 0), rests, strict=True):
        same_rest(replace(demo, terms={}), step, rest)
    assert all(isinstance(env, Point) for env in worlds.envs)


class Forgetful(Point):
    """Says that it can begin where told, and does not."""

    def reset(self, *, seed=None, options=None):
        return super().reset()


# --------------------------------------------------------------------------------------------------- refusals


def starting(start, worlds=None):
    worlds = worlds or TOY.worlds(TASKS[:2], [1, 2])
    return rollout(Playing([np.zeros((1, 2))] * 2, [0, 0]), worlds, start=start)


FULL = [0.0, 0.0, -0.8, 0.6, 0.8, -0.6, 1.0, 0.0]  # the point, the marks, one step done, not ended


@pytest.mark.parametrize(("start", "message"), [
    ([FULL], "2 worlds need as many states to begin at (or None for a scene's start), got 1 states"),
    (7, "2 worlds need as many states to begin at (or None for a scene's start), got int"),
    ([None, FULL[:3]], "the state that world 1 is to begin at has 3 numbers; in these worlds a scene's start has 6"),
    ([None, [*FULL[:2], np.nan, *FULL[3:]]], "the state that world 1 is to begin at is not finite: number 2 is nan"),
    ([[FULL], None], "the state that world 0 is to begin at is no vector of numbers"),
    (["there", None], "the state that world 0 is to begin at is no vector of numbers: array('there'"),
    ([None, [*FULL[:6], 5.0, 0.0]], "world 1 is to begin where its attempt has ended"),
    ([None, [*FULL[:6], 2.0, 1.0]], "world 1 is to begin where its attempt has ended"),
    ([None, [*FULL[:6], 1.5, 0.0]], "the state that world 1 is to begin at says that 1.5 steps are done"),
    ([None, [*FULL[:6], -1.0, 0.0]], "the state that world 1 is to begin at says that -1 steps are done"),
])  # fmt: skip
def test_a_state_that_no_world_can_begin_at_is_refused_in_a_sentence(start, message):
    given = [None if s is None else np.array(s) for s in start] if isinstance(start, list) else start
    with pytest.raises(WtlError, match=re.escape(message)):
        TOY.worlds(TASKS[:2], [1, 2]).reset(options={"initial_state": given})
    if isinstance(given, list) and all(s is None or (s.dtype == float and s.ndim == 1) for s in given):  # else a type
        with pytest.raises(WtlError, match=re.escape(message)):
            starting(given)


@pytest.mark.sim
@pytest.mark.parametrize("name", ["reach", "reacher", "tabletop"])
def test_a_state_of_another_suite_is_refused(name):
    suite = make_suite(name)
    worlds = suite.worlds(suite.tasks("test")[:2], [1, 2])
    with pytest.raises(WtlError, match="world 0 is to begin at has 8 numbers; in these worlds a scene's start has"):
        rollout(Anything(suite.spec), worlds, start=[np.array(FULL), None])
    with pytest.raises(WtlError, match=r"call reset\(\) before state\(\)"):
        worlds.state()
    worlds.reset()
    physics = worlds.state()[0]
    physics[3] = np.inf
    with pytest.raises(WtlError, match="world 0 is to begin at is not finite: number 3 is inf"):
        rollout(Anything(suite.spec), worlds, start=[physics, None])


def test_worlds_that_cannot_begin_where_told_are_refused():
    demos = TOY.demonstrations(TASKS[:2], [1, 2])
    here = states(TOY.worlds(TASKS[:2], [1, 2]), demos, [1, 1])
    with pytest.raises(WtlError, match=r"these worlds cannot begin where told: they have no state\(\)"):
        starting(here, apart(lambda t, s: gymnasium.wrappers.TransformReward(Bare(t, s), abs), TASKS[:2], [1, 2]))
    with pytest.raises(WtlError, match=f"world 0 \\({TASKS[0].name} in scene 1\\) did not begin at the state it was"):
        starting(here, apart(Forgetful, TASKS[:2], [1, 2]))


class Bare(gymnasium.Env):
    """A world that tells no state: what it has under that name is something else, as Gymnasium's CartPole has."""

    state = (0.0, 0.0)

    def __init__(self, task, seed):
        inner = PointWorlds([task], [seed])
        self.observation_space, self.action_space = inner.single_observation_space, inner.single_action_space


def test_what_cannot_be_replayed_is_refused_in_a_sentence():
    demos = TOY.demonstrations(TASKS[:2], [1, 2])
    worlds = TOY.worlds(TASKS[:2], [1, 2])
    with pytest.raises(WtlError, match=rf"episode 1 \({TASKS[1].name}\) has steps 0 to {len(demos[1]) - 1}, not 9"):
        states(worlds, demos, [0, 9])
    with pytest.raises(WtlError, match="2 episodes need as many steps, got 1"):
        states(worlds, demos, [0])
    with pytest.raises(WtlError, match="2 worlds replay as many episodes, got 1"):
        states(worlds, demos[:1], [0])
    with pytest.raises(
        WtlError, match=f"episode 0 is of task {TASKS[1].name} in scene 2, its world of {TASKS[0].name}"
    ):
        states(worlds, demos[::-1], [0, 0])
    with pytest.raises(WtlError, match=f"episode 1 .{TASKS[1].name}. holds no simulator state to replay it from"):
        states(worlds, [demos[0], replace(demos[1], initial_state=np.zeros(0))], [0, 0])
    other = replace(demos[1], observation={n: v + np.float32(1e-3) for n, v in demos[1].observation.items()})
    with pytest.raises(
        WtlError, match=rf"episode 1 \({TASKS[1].name} in scene 2\) does not replay exactly: state differs"
    ):
        states(worlds, [demos[0], other], [0, 1])


def test_worlds_tell_where_they_are():
    worlds = TOY.worlds(TASKS[:2], [1, 2])
    begun, _ = worlds.reset()
    worlds.step(np.full((2, 2), 0.1))
    (first, _) = full_states(worlds)
    assert first[6:].tolist() == [1, 0]
    worlds.reset(options={"initial_state": [None, first]})
    observation, info = worlds.reset(options={"initial_state": [None, first]})
    assert info["step"].tolist() == [0, 1]
    np.testing.assert_array_equal(observation[STATE][0], begun[STATE][0])


# ---------------------------------------------------------------------------------------- states of other scenes


@pytest.mark.parametrize("name", SUITES)
def test_a_state_of_another_scene_is_taken_whole(name):
    """What is meant there is meant here: told the other scene's start, or a step of it, a world goes on as that one."""
    suite, found = attempts(name, first=4 if name == "tabletop" else 0)  # there, tasks that mean a place
    wholes = [e for e in found if len(e) > 1]
    steps = [1 + i % (len(e) - 1) for i, e in enumerate(wholes)]
    there = suite.worlds([e.task for e in wholes], [e.seed for e in wholes])
    here = suite.worlds([e.task for e in wholes], [e.seed + 1 for e in wholes])  # what was on the left is on the right
    playing = [sent(e) for e in wholes]
    for start, begin in ((states(there, wholes, steps), steps), ([e.initial_state for e in wholes], [0] * len(wholes))):
        rests = rollout(Playing(playing, begin), here, start=start)
        for whole, step, rest in zip(wholes, begin, rests, strict=True):
            same_rest(whole, step, rest)
    assert {e.success for e in wholes} == {True, False}
    plain = rollout(Playing(playing, [0] * len(wholes)), here)  # and in their own scenes they mean what they meant
    again = rollout(
        Playing(playing, [0] * len(wholes)), suite.worlds([e.task for e in wholes], [e.seed + 1 for e in wholes])
    )
    for one, other in zip(plain, again, strict=True):
        same_rest(other, 0, one)


@pytest.mark.sim
def test_a_later_state_of_another_task_of_the_tabletop_is_refused():
    suite = make_suite("tabletop")
    tasks = [task for task in suite.tasks("test") if task.family == "grasp"][:2]
    (demo,) = suite.demonstrations(tasks[:1], [3])
    (middle,) = states(suite.worlds(tasks[:1], [3]), [demo], [5])
    told = f"the state that world 1 is to begin at is of another task than {tasks[1].name}"
    with pytest.raises(WtlError, match=told):
        rollout(Anything(suite.spec), suite.worlds(tasks, [3, 3]), start=[middle, middle])
