"""The two-link arm: closed forms, hidden signs, scenes, the demonstrator; and ``wtl reproduce wtl-reacher``, small."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco
import torch

from watchtrylearn import cli
from watchtrylearn.data.batches import collate, stack
from watchtrylearn.experiments import wtl_reacher
from watchtrylearn.nn.encoders import TransitionEncoder
from watchtrylearn.nn.scaling import Scaling
from watchtrylearn.reporting import tables
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import Demonstrator, Suite, make_suite, reacher
from watchtrylearn.suites.reacher import SPEC, Reacher, scene
from watchtrylearn.suites.two_link import fingertip, postures, reachable
from watchtrylearn.types import ENVIRONMENT, STATE, Context, WtlError

pytestmark = pytest.mark.sim
SUITE = Reacher()
TASKS = SUITE.tasks("val")
PLAIN = TASKS[0]  # the first target, both signs 1
RNG = np.random.default_rng(0)


def scripted(task, seed, actions, nthread=1):
    """Observations, rewards and the last info of open-loop ``actions`` (time, act)."""
    worlds = Reacher(nthread).worlds([task], [seed])
    seen, rewards = [worlds.reset()[0]], []
    for action in actions:
        observation, reward, _, _, info = worlds.step(action[None])
        seen.append(observation)
        rewards.append(reward[0])
    return {n: np.stack([o[n][0] for o in seen]) for n in SPEC.observation}, np.array(rewards), info


class Wild:
    """Random commands, beyond the bounds too."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def reset(self, rngs) -> None:
        self.rngs = rngs

    def act(self, observation):
        return np.stack([self.scale * rng.standard_normal(2) for rng in self.rngs])


# ------------------------------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize(("joints", "tip"), [
    ((0.0, 0.0), (0.21, 0.0)),
    ((np.pi / 2, 0.0), (0.0, 0.21)),
    ((0.0, np.pi / 2), (0.1, 0.11)),
    ((np.pi / 2, np.pi / 2), (-0.11, 0.1)),
    ((0.0, np.pi), (-0.01, 0.0)),
])  # fmt: skip
def test_the_fingertip_is_where_geometry_says(joints, tip):
    np.testing.assert_allclose(fingertip(np.array(joints)), tip, atol=1e-12)


def test_the_simulator_has_the_same_arm():
    model = mujoco.MjModel.from_xml_string(reacher.MODEL)
    data = mujoco.MjData(model)
    for joints in RNG.uniform(-3, 3, (20, 2)):
        data.qpos[:] = joints
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(data.site("fingertip").xpos[:2], fingertip(joints), atol=1e-12)


def test_postures_reach_the_target_or_come_as_near_as_the_arm_can():
    targets = np.concatenate([RNG.uniform(-0.2, 0.2, (200, 2)), [[0.2, 0.2], [0.0, 0.005]]])
    for posture in postures(targets).transpose(1, 0, 2):
        np.testing.assert_allclose(fingertip(posture), reachable(targets), atol=1e-9)
    np.testing.assert_allclose(reachable(np.array([[0.2, 0.2], [0.1, 0.0]])), [[0.21 / np.sqrt(2)] * 2, [0.1, 0.0]])


def test_beyond_reach_success_means_near_the_nearest_point_that_can_be_reached():
    """At the stretched arm, turned away from a corner target by so much: 2 cm of arc, and no more."""
    task = SUITE.tasks("train")[0]
    worlds = SUITE.worlds([task], [0])
    worlds.targets[0, worlds.right[0]] = (0.2, 0.2)
    worlds.reset()
    for aside, near in ((0.0, True), (0.019, True), (0.021, False), (0.04, False)):
        worlds._qpos[0] = (np.pi / 4 + 2 * np.arcsin(aside / 0.42), 0.0)
        assert worlds._near()[0] == near


def test_the_reward_is_minus_distance_minus_effort():
    worlds = SUITE.worlds([PLAIN], [0])
    worlds.reset()
    worlds.joints[:], worlds.targets[0, 0] = 0.0, (0.21, 0.04)
    worlds.reset()
    _, reward, _, _, info = worlds.step(np.zeros((1, 2)))
    assert reward[0] == pytest.approx(-0.04)
    assert info["terms"]["distance"][0] == pytest.approx(0.04)
    effort = np.array([[0.5, -2.0]])  # the second is cut to -1
    _, reward, _, _, info = worlds.step(effort)
    assert reward[0] == pytest.approx(-info["terms"]["distance"][0] - 0.25 - 1.0)


def test_a_command_turns_a_joint_as_a_motor_with_friction_does():
    """One control step of the elbow alone: two implicit Euler steps of v' = 200 a - v, links next to weightless."""
    seen, _, _ = scripted(PLAIN, 0, np.array([[0.0, 0.3]]))
    first = 0.01 * 200 * 0.3 / 1.01
    assert seen[STATE][1, 5] == pytest.approx((first + 0.01 * 200 * 0.3) / 1.01, rel=2e-3)


# ------------------------------------------------------------------------------------------------ hidden signs


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_signs_turn_commands_round_and_change_nothing_else(number):
    task, same = TASKS[number], TASKS[number - number % 4]
    sign = np.array([task["shoulder sign"], task["elbow sign"]])
    actions = RNG.uniform(-1, 1, (20, 2)).astype(np.float32)
    begin = SUITE.worlds([task], [3])
    worlds = SUITE.worlds([same], [3])
    worlds.joints, worlds.targets = begin.joints, begin.targets  # the same scene
    worlds.reset()
    begin.reset()
    for action in actions:
        one, two = begin.step(action[None])[:2], worlds.step((sign * action)[None])[:2]
        np.testing.assert_array_equal(one[0][STATE], two[0][STATE])
        np.testing.assert_array_equal(one[0][ENVIRONMENT], two[0][ENVIRONMENT])
        assert one[1] == two[1]


def test_a_demonstration_does_not_show_the_signs():
    demos = []
    for signs in range(4):
        worlds = SUITE.worlds([TASKS[signs]], [0])
        worlds.joints[:], worlds.targets[:] = scene(PLAIN, 0)
        demos += rollout(reacher.Expert(worlds), worlds, kind="demo")
    for demo in demos[1:]:
        np.testing.assert_array_equal(demo.observation[STATE], demos[0].observation[STATE])
    assert len({demo.action.tobytes() for demo in demos}) == 4


def test_a_least_squares_fit_to_one_trial_of_random_commands_finds_the_signs():
    for task in TASKS:
        (trial,) = rollout(Wild(0.2), SUITE.worlds([task], [5]))
        change = np.diff(trial.observation[STATE][:, 4:], axis=0)
        found = np.sign((trial.action[:-1] * change).sum(0))
        assert found.tolist() == [task["shoulder sign"], task["elbow sign"]]


def test_a_network_reads_the_signs_from_the_transitions_of_one_trial():
    """Of commands that are small beside the demonstrator's, to which the scaling is fitted, as in training."""
    tasks = TASKS * 32
    demos = SUITE.demonstrations(tasks, range(len(tasks)))
    trials = rollout(Wild(0.01), SUITE.worlds(tasks, range(len(tasks))))
    signs = torch.tensor([[t["shoulder sign"], t["elbow sign"]] for t in tasks]).float()
    torch.manual_seed(0)
    scaling, encoder, readout = Scaling(SPEC, 1), TransitionEncoder(SPEC, 16), torch.nn.Linear(16, 2)
    scaling.fit(stack(demos, SPEC))
    shown = collate([Context(trials=(trial,)) for trial in trials], SPEC)
    learned, optimizer = slice(0, 192), torch.optim.Adam([*encoder.parameters(), *readout.parameters()], 3e-3)
    for _ in range(100):
        found = readout(encoder(shown, {}, scaling).embedding)
        optimizer.zero_grad()
        torch.nn.functional.soft_margin_loss(found[learned], signs[learned]).backward()
        optimizer.step()
    assert (found.sign() == signs)[192:].float().mean() > 0.95


# ------------------------------------------------------------------------------------------------ tasks and scenes


def test_the_suite_keeps_the_protocol():
    suite = make_suite("reacher")
    assert isinstance(suite, Suite)
    assert isinstance(suite, Demonstrator)
    assert sum(channel.size for channel in SPEC.observation.values()) == 16
    with pytest.raises(WtlError, match="one scene seed per task"):
        SUITE.worlds([PLAIN], [0, 1])
    with pytest.raises(WtlError, match="keep their scenes"):
        SUITE.worlds([PLAIN], [0]).reset(seed=3)


def test_every_split_has_all_eight_tasks_under_names_of_its_own():
    tasks = [task for split in ("train", "val", "test") for task in SUITE.tasks(split)]
    assert len({task.name for task in tasks}) == 24
    for split in ("train", "val", "test"):
        assert len({task.parameters for task in SUITE.tasks(split)}) == 8
    assert [SUITE.target(task, 0) for task in TASKS] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_targets_fill_the_square_and_keep_apart():
    scenes = [scene(PLAIN, seed) for seed in range(3000)]
    joints, targets = np.stack([j for j, _ in scenes]), np.stack([t for _, t in scenes])
    assert (np.abs(targets) <= 0.2).all()
    assert (np.abs(joints) <= 0.1).all()
    assert np.linalg.norm(targets[:, 0] - targets[:, 1], axis=-1).min() >= 0.1
    assert targets.min() < -0.195
    assert targets.max() > 0.195
    assert np.abs(targets.mean(0)).max() < 4 * 0.2 / np.sqrt(3 * 3000) * 1.2  # symmetric about 0, spread a bit
    assert np.abs(joints.mean(0)).max() < 4 * 0.1 / np.sqrt(3 * 3000)
    every = targets.reshape(-1, 2)
    beyond = (np.linalg.norm(every - reachable(every), axis=-1) > 1e-9).mean()
    assert beyond == pytest.approx(0.16, abs=0.04)  # the corners


def test_a_scene_is_a_function_of_task_and_seed():
    first, again, other = (scene(PLAIN, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).all()
    assert (first[1] != scene(TASKS[1], 4)[1]).all()


# ------------------------------------------------------------------------------------------------ worlds


def test_results_are_the_same_at_any_number_of_threads_and_beside_any_other_worlds():
    jobs = [(task, seed) for task in TASKS for seed in range(3)]
    runs = [
        rollout(Wild(0.5), Reacher(threads).worlds([t for t, _ in some], [s for _, s in some]))
        for threads, some in ((1, jobs), (2, jobs), (2, jobs[:5]))
    ]
    for run in runs[1:]:
        for one, other in zip(runs[0], run, strict=False):
            np.testing.assert_array_equal(one.observation[STATE], other.observation[STATE])
            np.testing.assert_array_equal(one.reward, other.reward)
            np.testing.assert_array_equal(one.initial_state, other.initial_state)


@pytest.mark.parametrize("scale", [0.0, 0.1, 10.0])
def test_episodes_conform_to_the_spec(scale):
    for episode in rollout(Wild(scale), SUITE.worlds(TASKS, range(8))):
        assert episode.problems(SPEC) == []
        assert (episode.executed is None) == (scale < 1)  # commands beyond the bounds are cut to them
        assert not episode.terminated
        assert len(episode) == SPEC.horizon
        assert not episode.diverged
        assert (episode.reward <= -np.square(np.clip(episode.action, -1, 1)).sum(1) + 1e-6).all()


def test_full_power_from_beginning_to_end_stays_within_the_bounds():
    seen, _, info = scripted(PLAIN, 0, np.ones((50, 2)))
    for name, channel in SPEC.observation.items():
        assert (seen[name] <= np.array(channel.high)).all()
        assert (seen[name] >= np.array(channel.low)).all()
    assert not info["diverged"].any()


def test_a_command_that_is_no_number_ends_its_world_alone_with_the_worst_return():
    worlds = SUITE.worlds(TASKS[:2], [0, 0])
    before, _ = worlds.reset()
    observation, reward, terminated, _, info = worlds.step(np.array([[np.nan, 0.0], [0.1, 0.1]]))
    assert info["diverged"].tolist() == terminated.tolist() == [True, False]
    assert reward[0] == pytest.approx(-50 * (0.21 + 0.2 * np.sqrt(2) + 2))
    np.testing.assert_array_equal(observation[STATE][0], before[STATE][0])
    _, reward, _, _, info = worlds.step(np.full((2, 2), 0.1))
    assert reward[0] == 0.0
    assert info["diverged"].tolist() == [True, False]


def test_breaking_down_never_pays():
    """The return of an attempt that broke down is the worst there is, whoever noticed it."""

    class Gone(Wild):
        def act(self, observation):
            action = super().act(observation)
            action[0] = np.nan
            return action

    broken, sound = rollout(Gone(0.1), SUITE.worlds(TASKS[:2], [0, 0]))
    assert broken.diverged
    assert len(broken) == 1
    assert broken.reward.sum() == pytest.approx(-50 * (0.21 + 0.2 * np.sqrt(2) + 2))
    assert sound.reward.sum() > -50 * 2


# ------------------------------------------------------------------------------------------------ demonstrator


@pytest.fixture(scope="module")
def demos():
    return SUITE.demonstrations([t for t in TASKS for _ in range(25)], list(range(25)) * 8)


def test_the_demonstrator_succeeds_everywhere_and_beats_doing_nothing_by_far(demos):
    idle = rollout(Wild(0.0), SUITE.worlds([d.task for d in demos], [d.seed for d in demos]))
    gained = np.array([d.reward.sum() - i.reward.sum() for d, i in zip(demos, idle, strict=True)])
    assert all(demo.success for demo in demos)
    assert np.mean([demo.reward.sum() for demo in demos]) > -4.0
    assert gained.mean() > 7.0
    assert (gained > 0).mean() > 0.97
    assert np.mean([episode.success for episode in idle]) < 0.05


def test_demonstrations_conform_and_success_is_what_the_term_says(demos):
    for demo in demos:
        assert demo.problems(SPEC) == []
        _, targets = scene(demo.task, demo.seed)
        right = targets[SUITE.target(demo.task, demo.seed)]
        assert demo.success
        assert demo.terms["distance"] < np.linalg.norm(right - reachable(right)) + reacher.NEAR
    again = SUITE.demonstrate(demos[7].task, demos[7].seed)
    np.testing.assert_array_equal(again.action, demos[7].action)


# ------------------------------------------------------------------------------------------------ the reproduction


TINY = [
    "demos_per_task=2",
    "one_shot.tries=1",
    "scenes=4",
    "net.hidden=[16]",
    "net.code=4",
    "bc.train.steps=2",
    "one_shot.train.steps=2",
    "watch_try_learn.train.steps=2",
]


@pytest.fixture(scope="module")
def document(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("reproduce")
    command = ["reproduce", "wtl-reacher", "--out", str(folder / "runs"), "--results", str(folder), "--set", *TINY]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wtl_reacher, "SEEDS", (0, 1))
        assert cli.main(command) == 0
    loaded: dict = json.loads(Path(folder / "wtl-reacher.json").read_text())
    return loaded


def test_the_reproduction_has_every_line_as_return_and_as_success(document):
    for name, metric in (("rows", "return"), ("success", "success")):
        overall = [r for r in document[name] if r["family"] == "all"]
        found = {(r["method"], r["trials"], r["scene"]): r for r in overall}
        assert set(found) == {
            ("expert", 0, "same"), ("idle", 0, "same"), ("bc", 0, "same"), ("one_shot", 0, "same"),
            ("watch_try_learn", 1, "same"), ("expert", 0, "new"), ("idle", 0, "new"), ("one_shot", 0, "new"),
            ("watch_try_learn", 1, "new"),
        }  # fmt: skip
        assert {r["metric"] for r in overall} == {metric}
        assert {r["n"] for r in overall} == {2 * 8 * 4}
        assert all(r["ci"][0] <= r["value"] <= r["ci"][1] for r in overall)
    assert next(r for r in document["success"] if r["method"] == "expert")["value"] == 1.0


def test_the_recovered_gap_is_the_ratio_of_the_rows(document):
    value = {(r["method"], r["scene"]): r["value"] for r in document["rows"] if r["family"] == "all"}
    for where in ("same", "new"):
        low, high = value["one_shot", where], value["expert", where]
        gap = document["gap_recovered"][where]
        assert set(gap["of_seeds"]) == {"0", "1"}
        assert gap["value"] == pytest.approx((value["watch_try_learn", where] - low) / (high - low))
        assert gap["ci"][0] <= gap["value"] <= gap["ci"][1]


def test_the_table_shows_returns_as_plain_numbers(document):
    row = next(r for r in document["rows"] if r["method"] == "expert" and r["family"] == "all")
    assert f"**{row['value']:.2f}** ({row['ci'][0]:.2f} to {row['ci'][1]:.2f})" in tables.markdown(document)
    assert "best possible" not in tables.markdown(document)  # nobody knows it
    assert "return" in str(tables.table(document).title)
