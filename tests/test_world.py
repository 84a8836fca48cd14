"""The vectorised world: one layout for all tasks, exact repetition, honest physics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.sim
mujoco = pytest.importorskip("mujoco")

from watchtrylearn.data.batches import stack  # noqa: E402
from watchtrylearn.learners import make_learner  # noqa: E402
from watchtrylearn.learners.watch_try_learn import WatchTryLearnConfig  # noqa: E402
from watchtrylearn.nn.target_net import NetConfig  # noqa: E402
from watchtrylearn.protocol import Scene, evaluate  # noqa: E402
from watchtrylearn.reporting import results  # noqa: E402
from watchtrylearn.rollouts import rollout  # noqa: E402
from watchtrylearn.suites.kitchen.objects import kitchen_objects  # noqa: E402
from watchtrylearn.suites.tabletop import model as scene_module  # noqa: E402
from watchtrylearn.suites.tabletop.model import SUBSTEPS  # noqa: E402
from watchtrylearn.suites.tabletop.suite import SPEC, Tabletop, model_row  # noqa: E402
from watchtrylearn.suites.tabletop.world import TabletopWorlds  # noqa: E402
from watchtrylearn.types import ENVIRONMENT, STATE, Context, Episode, WtlError  # noqa: E402

SUITE = Tabletop(nthread=2)
TASKS = SUITE.tasks("val")[:8]
SEEDS = list(range(8))


@pytest.fixture(scope="module")
def demos() -> list[Episode]:
    return SUITE.demonstrations(TASKS, SEEDS)


def play(worlds: TabletopWorlds, actions: np.ndarray, **options: object) -> list[dict[str, np.ndarray]]:
    """Observations of all worlds while they are fed ``actions`` (time, world, act)."""
    observation, _ = worlds.reset(options=dict(options))
    return [observation, *(worlds.step(action)[0] for action in actions)]


def padded(demos: list[Episode], steps: int) -> np.ndarray:
    """What reached the robots, the last command repeated: (time, world, act)."""
    rows = [np.concatenate([e.executed, np.repeat(e.executed[-1:], steps, 0)])[:steps] for e in demos]
    return np.stack(rows, axis=1)


def equal(a: list[dict[str, np.ndarray]], b: list[dict[str, np.ndarray]]) -> bool:
    return all(np.array_equal(x[n], y[n]) for x, y in zip(a, b, strict=True) for n in SPEC.observation)


def compiled(task_number: int) -> mujoco.MjModel:
    """The model of one task compiled from scratch, with no rows and no library: the second route."""
    items = {item.name: item for item in kitchen_objects()}
    spec = scene_module._layout()
    for slot, name in enumerate(model_row(TASKS[task_number]).objects):
        scene_module._add_meshes(spec, items[name])
        scene_module._add_object(spec, items[name], f"object{slot}")
    scene_module._add_contact_sensors(spec)
    return spec.compile()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_row_moves_like_a_model_compiled_for_the_task_alone(number: int, demos: list[Episode]) -> None:
    """A grasp, a push and a place: the whole demonstration, contacts and all."""
    model, episode = compiled(number), demos[number]
    data = mujoco.MjData(model)
    worlds = SUITE.worlds([TASKS[number]], [SEEDS[number]])
    worlds.reset()
    mujoco.mj_setState(model, data, episode.initial_state, mujoco.mjtState.mjSTATE_INTEGRATION)
    for action in episode.executed:
        worlds.step(action[None])
        data.ctrl[:] = worlds.batch.ctrl[0]
        mujoco.mj_step(model, data, SUBSTEPS)
        np.testing.assert_allclose(data.qpos, worlds.batch.qpos[0], atol=1e-9)


def test_results_do_not_depend_on_threads_or_on_the_other_worlds(demos: list[Episode]) -> None:
    actions = padded(demos, 12)
    one, two = (play(Tabletop(n).worlds(TASKS, SEEDS), actions) for n in (1, 2))
    assert equal(one, two)
    alone = play(SUITE.worlds(TASKS[3:4], SEEDS[3:4]), actions[:, 3:4])
    for a, b in zip(one, alone, strict=True):
        assert all(np.array_equal(a[n][3:4], b[n]) for n in SPEC.observation)


def test_what_is_recorded_and_reported_does_not_depend_on_threads(demos: list[Episode]) -> None:
    """Demonstrations, stochastic trials, attempts after attempts, and the rows made of them."""
    learner = make_learner("watch_try_learn", SPEC, WatchTryLearnConfig(NetConfig(width=16, hidden=(32,), mixtures=2)))
    for net in (learner.trial, learner.retrial):
        net.scaling.fit(stack(demos, SPEC))
    scenes = [Scene(task, (demo,), seed + 1) for task, demo, seed in zip(TASKS, demos, SEEDS, strict=True)]
    found = []
    for threads in (1, 2):
        suite = Tabletop(threads)
        shown = suite.demonstrations(TASKS, SEEDS)
        trials = rollout(learner.explore([Context(s.demos) for s in scenes]), suite.worlds(TASKS, SEEDS))
        attempts = evaluate(learner, suite, scenes, trials=1)
        rows = results.rows(attempts, suite, [("watch_try_learn", 0), ("watch_try_learn", 1)])
        found.append(([*shown, *trials, *(a.episode for a in attempts)], rows))
    (one, rows), (two, same_rows) = found
    assert len(one) == 8 + 8 + 16
    assert all(identical(a, b) for a, b in zip(one, two, strict=True))
    assert rows == same_rows
    assert not identical(one[8], one[9])


def identical(a: Episode, b: Episode) -> bool:
    """To the last bit."""
    pairs = [(a.observation[n], b.observation[n]) for n in SPEC.observation]
    pairs += [(a.action, b.action), (a.reward, b.reward), (a.initial_state, b.initial_state)]
    facts = [(e.task, e.seed, e.success, e.diverged, dict(e.terms)) for e in (a, b)]
    return facts[0] == facts[1] and all(np.array_equal(x, y) for x, y in pairs)


def test_reset_forgets_everything(demos: list[Episode]) -> None:
    worlds, actions = SUITE.worlds(TASKS, SEEDS), padded(demos, 15)
    first = play(worlds, actions)
    assert equal(first, play(worlds, actions))


def test_a_stored_episode_replays_bit_exactly(demos: list[Episode]) -> None:
    """Also in worlds made for other scenes: the initial state says it all."""
    worlds = SUITE.worlds(TASKS, [99] * 8)
    stored = np.stack([episode.initial_state for episode in demos])
    seen = play(worlds, padded(demos, 50), initial_state=stored)
    for i, episode in enumerate(demos):
        for name, values in episode.observation.items():
            assert np.array_equal(np.stack([s[name][i] for s in seen[: len(episode)]]), values)


def test_an_ended_world_stands_still_and_stays_ended(demos: list[Episode]) -> None:
    worlds = SUITE.worlds(TASKS[:1], SEEDS[:1])
    worlds.reset()
    outcomes = [worlds.step(action[None]) for action in demos[0].executed]
    assert outcomes[-1][2][0]
    assert [o[1][0] for o in outcomes].count(1.0) == 1
    before = worlds.batch.state.copy()
    _, reward, terminated, truncated, info = worlds.step(demos[0].executed[:1])
    assert np.array_equal(before, worlds.batch.state)
    assert (reward[0], terminated[0], truncated[0], info["success"][0]) == (0.0, True, False, False)


def test_reset_mask_begins_anew_in_some_worlds_only(demos: list[Episode]) -> None:
    worlds, actions = SUITE.worlds(TASKS, SEEDS), padded(demos, 10)
    start = play(worlds, actions)[0]
    mask = np.arange(8) < 4
    observation, _ = worlds.reset(options={"reset_mask": mask})
    assert np.array_equal(observation[STATE][mask], start[STATE][mask])
    assert not np.array_equal(observation[STATE][~mask], start[STATE][~mask])


def test_episodes_are_truncated_at_the_horizon() -> None:
    worlds = SUITE.worlds(TASKS[:1], [0])
    observation, _ = worlds.reset()
    still = observation[STATE][:, :7]
    ends = [worlds.step(still)[3][0] for _ in range(SPEC.horizon)]
    assert ends == [False] * (SPEC.horizon - 1) + [True]


def test_actions_are_clipped_to_the_workspace() -> None:
    far, edge = np.full((8, 7), 99.0), np.tile(np.array(SPEC.action.high), (8, 1))
    a, b = (play(SUITE.worlds(TASKS, SEEDS), np.repeat(x[None], 3, 0)) for x in (far, edge))
    assert equal(a, b)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_ends_its_world_only(bad: float) -> None:
    worlds = SUITE.worlds(TASKS, SEEDS)
    observation, _ = worlds.reset()
    action = observation[STATE][:, :7].copy()
    action[2, 4] = bad
    _, _, terminated, _, info = worlds.step(action)
    assert np.flatnonzero(info["diverged"]).tolist() == np.flatnonzero(terminated).tolist() == [2]
    assert np.isfinite(worlds.batch.state).all()


def test_diverged_physics_is_noticed_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """MuJoCo resets such a simulation silently and goes on; the world must not, not even the second time."""
    monkeypatch.chdir(tmp_path)
    worlds = SUITE.worlds(TASKS, SEEDS)
    for _ in range(2):
        observation, _ = worlds.reset()
        worlds.batch.qvel[5, 0] = 1e12
        following, _, terminated, _, info = worlds.step(observation[STATE][:, :7])
        assert np.flatnonzero(info["diverged"]).tolist() == np.flatnonzero(terminated).tolist() == [5]
        assert not info["success"].any()
        assert np.array_equal(following[STATE][5], observation[STATE][5])
        assert worlds.step(observation[STATE][:, :7])[4]["diverged"][5]
    assert list(tmp_path.iterdir()) == []  # no MUJOCO_LOG.TXT where a person works
    assert capfd.readouterr().out == ""
    assert mujoco.MjLogConfig.get().logto_file  # MuJoCo's settings are the person's


def test_objects_rest_where_they_are_put() -> None:
    """Two seconds without touching anything: every object stays within a millimetre or two and upright."""
    tasks = SUITE.tasks("train")[:256]
    worlds = SUITE.worlds(tasks, range(256))
    observation, _ = worlds.reset()
    start = observation[ENVIRONMENT].reshape(-1, 4, 7)[:, :2]
    for _ in range(20):
        following = worlds.step(observation[STATE][:, :7])[0]
    end = following[ENVIRONMENT].reshape(-1, 4, 7)[:, :2]
    assert np.abs(end - start)[..., :3].max() < 2.5e-3


def test_the_wrong_number_of_anything_is_refused() -> None:
    worlds = SUITE.worlds(TASKS, SEEDS)
    with pytest.raises(WtlError, match=r"reset\(\) before step"):
        worlds.step(np.zeros((8, 7)))
    with pytest.raises(WtlError, match="world 0 is to begin at has 3 numbers; in these worlds a scene's start has 186"):
        worlds.reset(options={"initial_state": np.zeros((8, 3))})
    with pytest.raises(WtlError, match="at least one task"):
        SUITE.worlds([], [])
