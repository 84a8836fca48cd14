"""The tabletop suite: tasks, scenes, readings, and what counts as success."""

from __future__ import annotations

import collections
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco")

from watchtrylearn.suites import Demonstrator, Suite, make_suite  # noqa: E402
from watchtrylearn.suites import geometry as geo  # noqa: E402
from watchtrylearn.suites.kitchen.objects import kitchen_objects  # noqa: E402
from watchtrylearn.suites.tabletop import arrange, expert  # noqa: E402
from watchtrylearn.suites.tabletop.judge import FAMILY_TERMS, Judge, Measured  # noqa: E402
from watchtrylearn.suites.tabletop.suite import FAMILIES, TASKS_PER_FAMILY, Tabletop, find_task, library  # noqa: E402
from watchtrylearn.types import ENVIRONMENT, SPLITS, Split, Task, WtlError  # noqa: E402

SUITE = Tabletop(nthread=2)
OBJECTS = {item.name: item for item in kitchen_objects()}


def test_it_is_a_suite_that_demonstrates_itself() -> None:
    suite = make_suite("tabletop")
    assert isinstance(suite, Suite)
    assert isinstance(suite, Demonstrator)


@pytest.mark.parametrize("split", SPLITS)
def test_families_readings_values_and_goals_are_balanced(split: Split) -> None:
    tasks = SUITE.tasks(split)
    assert len({task.name for task in tasks}) == len(tasks) == 4 * TASKS_PER_FAMILY[split]
    for family in FAMILIES:
        mine = [task for task in tasks if task.family == family]
        assert len(mine) == TASKS_PER_FAMILY[split]
        readings = collections.Counter(task["reading"] for task in mine)
        assert readings["identity"] == readings["place"]
        assert abs(sum(int(task["value"]) for task in mine) - len(mine) / 2) <= 1
        if family == "place":
            assert abs(sum(task["goal"] == "left" for task in mine) - len(mine) / 2) <= 2


@pytest.mark.parametrize("split", SPLITS)
def test_objects_stay_in_their_split_and_sentences_are_unambiguous(split: Split) -> None:
    for task in SUITE.tasks(split):
        items = [OBJECTS[str(task[name])] for name in ("object A", "object B")]
        assert all(item.split == split for item in items)
        assert items[0].kind != items[1].kind
        assert task["colour 0"] != task["colour 1"]
        assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_the_sentence_names_the_target() -> None:
    for task in SUITE.tasks("train"):
        if task["reading"] == "place":
            assert f"on the {('left', 'right')[int(task['value'])]}" in task.sentence
            continue
        name = "colour" if task.family == "button" else "object"
        slots = "01" if task.family == "button" else "AB"
        word = str(task[f"{name} {slots[int(task['value'])]}"])
        first = task.sentence.split(" into ")[0]
        assert (word if task.family == "button" else OBJECTS[word].kind) in first


def test_the_target_in_a_scene_is_what_the_sentence_says() -> None:
    """Two routes: the rule by parity, and where things stand in the observation."""
    tasks = SUITE.tasks("val")
    for seed in (4, 5):
        observation, _ = SUITE.worlds(tasks, [seed] * len(tasks)).reset()
        x = observation[ENVIRONMENT].reshape(len(tasks), 4, 7)[..., 0]
        for i, task in enumerate(tasks):
            slot, value = SUITE.target(task, seed), int(task["value"])
            assert (slot >= 2) == (task.family == "button")
            if task["reading"] == "identity":
                assert slot % 2 == value
            else:
                assert np.sign(x[i, slot]) == (-1, 1)[value]
            pair = x[i, :2], x[i, 2:]
            assert all(side[seed % 2] < side[1 - seed % 2] for side in pair)


@given(demo=st.integers(0, 10**6), first=st.integers(0, 10**6), half=st.integers(1, 20))
def test_exactly_half_of_consecutive_scenes_are_in_conflict(demo: int, first: int, half: int) -> None:
    task = SUITE.tasks("test")[0]
    conflicts = [SUITE.conflict(task, demo, seed) for seed in range(first, first + 2 * half)]
    assert sum(conflicts) == half
    assert all(a != b for a, b in pairwise(conflicts))


def test_conflict_is_when_the_two_readings_name_different_things() -> None:
    task, demo = SUITE.tasks("test")[0], 8
    assert task["reading"] == "identity"
    by_place = Task(**{**task.__dict__, "parameters": tuple(dict(task.parameters, reading="place").items())})
    shown = SUITE.target(task, demo) == SUITE.target(by_place, demo)
    for seed in range(6):
        agree = SUITE.target(task, seed) == SUITE.target(by_place, seed)
        assert SUITE.conflict(task, demo, seed) == (agree != shown)


def test_scenes_leave_room() -> None:
    shared = library()
    for task in SUITE.tasks("train")[::7]:
        for seed in range(4):
            start = arrange.start(shared, task, seed)
            radii = [OBJECTS[str(task[name])].radius for name in ("object A", "object B")]
            gap = np.linalg.norm(start.objects[0, :2] - start.objects[1, :2]) - sum(radii)
            if task.family == "push":
                assert arrange.PUSH_GAP[0] <= gap + 1e-9 <= arrange.PUSH_GAP[1] + 1e-6
            else:
                assert gap >= arrange.ROOM
            assert (np.abs(start.objects[:, 0]) <= 0.25).all()  # the goal zones are free
            assert start.objects[0, 0] * start.objects[1, 0] < 0


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(WtlError, match="grasp-test-003"):
        find_task("grasp-tst-003")
    with pytest.raises(WtlError, match="one scene seed per task"):
        SUITE.worlds(SUITE.tasks("val"), [0])


def test_acting_on_the_wrong_target_fails_and_says_so() -> None:
    """The same skilled demonstrator, sent to the other thing: never a success, and the terms say why."""
    tasks = SUITE.tasks("test")
    worlds = SUITE.worlds(tasks, range(40))
    wrong = [SUITE.target(task, seed) ^ 1 for seed, task in enumerate(tasks)]
    episodes = expert.demonstrations(worlds, wrong)
    assert not any(episode.success for episode in episodes)
    for episode in episodes:
        assert sum(episode.reward) == 0
    spoiled = [e.terms["other_not_pressed" if e.task.family == "button" else "other_untouched"] == 0 for e in episodes]
    by_family = {
        f: np.mean([s for s, e in zip(spoiled, episodes, strict=True) if e.task.family == f]) for f in FAMILIES
    }
    assert by_family["button"] == by_family["grasp"] == by_family["place"] == 1.0
    assert by_family["push"] >= 0.8


def test_it_is_told_when_the_outcome_is_settled() -> None:
    """Sent to the wrong thing, or to the right one: from some step on nothing can change the outcome any more."""
    tasks = SUITE.tasks("test")[:16]
    meant = [SUITE.target(task, seed) ^ (seed % 2) for seed, task in enumerate(tasks)]
    episodes = expert.demonstrations(SUITE.worlds(tasks, range(16)), meant)
    worlds = SUITE.worlds(tasks, range(16))
    worlds.reset()
    told = []
    for t in range(50):
        action = np.stack([e.executed[min(t, len(e) - 1)] for e in episodes])
        info = worlds.step(action)[4]
        told.append(info["settled"])
    settled = np.stack(told)
    assert (settled == np.maximum.accumulate(settled)).all()  # for good
    for i, episode in enumerate(episodes):
        if episode.success:
            assert settled[:, i].argmax() == len(episode) - 1
        elif i % 2 and episode.task.family != "push":  # a wrong push may also just come to nothing
            assert 0 < settled[:, i].argmax() < 49
            assert settled[-1, i]


@pytest.mark.parametrize("grip_by", ["force", "a touch"])
def test_dragging_in_a_grip_is_no_push(grip_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object arrives at the other one, moved far enough, and still: that was no push, however light the grip."""
    *grip, _ = expert.STAGES["grasp"]

    def drag(view: expert.Sight) -> np.ndarray:
        goal = view.other.copy()
        light = np.maximum(view.hand[:, 6] - 0.004, 0)  # the fingers close 4 mm farther than they are
        goal[:, 2:6], goal[:, 6] = view.hand[:, 2:6], expert.SHUT if grip_by == "force" else light
        return goal

    def never(view: expert.Sight) -> np.ndarray:
        return np.zeros(len(view.hand), bool)

    monkeypatch.setitem(expert.STAGES, "push", [*grip, expert.Stage(drag, never)])
    tasks = [task for task in SUITE.tasks("train") if task.family == "push"][:32]
    episodes = SUITE.demonstrations(tasks, range(32))
    assert not any(episode.success for episode in episodes)
    assert sum(e.terms["pushed_far_enough"] for e in episodes) > 24
    assert not any(e.terms["pushed_fairly"] for e in episodes if e.terms["pushed_far_enough"])


def test_terms_of_a_success_all_hold() -> None:
    tasks = SUITE.tasks("val")[:16]
    for episode in SUITE.demonstrations(tasks, [3] * 16):
        if episode.success:
            assert all(episode.terms[name] >= 1 for name in FAMILY_TERMS[episode.task.family])
            assert episode.reward.sum() == episode.reward[-1] == 1


angles = st.floats(-1.4, 1.4)


@settings(deadline=None)
@given(yaw=st.floats(-3.1, 3.1), pitch=angles, roll=angles)
def test_rotations_agree_with_scipy_and_invert(yaw: float, pitch: float, roll: float) -> None:
    hinges = np.array([[yaw, pitch, roll]])
    expected = Rotation.from_euler("ZYX", hinges)
    quaternion = geo.quaternion_from_hinges(hinges)
    vector = geo.rotation_vector(quaternion)
    w_last = np.roll(quaternion, -1, axis=1)
    assert (expected.inv() * Rotation.from_quat(w_last)).magnitude()[0] < 1e-7
    assert (expected.inv() * Rotation.from_rotvec(vector)).magnitude()[0] < 1e-7
    np.testing.assert_allclose(geo.hinges_from_rotation_vector(vector), hinges, atol=1e-6)
    np.testing.assert_allclose(geo.upright(quaternion), expected.as_matrix()[:, 2, 2], atol=1e-9)


@settings(deadline=None)
@given(yaw=st.floats(-3, 3), pitch=angles, roll=angles, rates=st.tuples(angles, angles, angles))
def test_angular_velocity_is_the_derivative_of_rotation(
    yaw: float, pitch: float, roll: float, rates: tuple[float, float, float]
) -> None:
    hinges, speed, dt = np.array([[yaw, pitch, roll]]), np.array([rates]), 1e-5
    before, after = (Rotation.from_euler("ZYX", hinges + sign * dt * speed) for sign in (-1, 1))
    expected = (after * before.inv()).as_rotvec() / (2 * dt)
    np.testing.assert_allclose(geo.angular_velocity(hinges, speed), expected, atol=1e-6)


def test_a_place_beyond_the_drawn_zone_is_no_place() -> None:
    """The zone has an end in every direction: nothing that is put behind the table counts."""
    judge = Judge(["place"], np.array([0]), np.array([1]))
    start = np.array([[[0.1, 0.0, 0.03], [-0.1, 0.0, 0.03]]])
    facts = still_facts(start)
    judge.reset(facts, np.array([True]))
    lifted = start + np.array([[[0.0, 0.0, 0.06], [0.0, 0.0, 0.0]]])
    judge.update(still_facts(lifted, held=True), np.array([True]))
    for x, y, there in (
        (0.39, 0.0, True),
        (0.39, 0.29, True),
        (0.39, 0.6, False),
        (0.39, -0.3, False),
        (0.29, 0.0, False),
    ):
        put = start.copy()
        put[0, 0, :2] = x, y
        success, terms = judge.update(still_facts(put), np.array([True]))
        assert bool(success[0]) == bool(terms["in_zone"][0]) == there


def still_facts(position: np.ndarray, held: bool = False) -> Measured:
    return Measured(
        position=position,
        tilt=np.ones((1, 2)),
        speed=np.zeros((1, 2, 2)),
        fingers=np.array([[[held, held], [False, False]]]),
        together=np.array([False]),
        squeeze=np.array([5.0 * held]),
        press=np.zeros((1, 2)),
    )
