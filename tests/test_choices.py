"""The suite of N marks: an ideal learner reaches its stated ceilings, exactly, in actual worlds, by the one loop."""

from itertools import product

import numpy as np
import pytest

from watchtrylearn.data.batches import stack
from watchtrylearn.ops.symmetry import SymmetryGroup
from watchtrylearn.protocol import Scene, evaluate
from watchtrylearn.reporting import results
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import make_suite
from watchtrylearn.suites.choices import Choices
from watchtrylearn.suites.toy import READINGS, STEP
from watchtrylearn.types import ENVIRONMENT, STATE, WtlError

TRIALS = 3
DEMO, TRIED, NEW = 1000, 2000, 3000  # seeds of scenes; all multiples of 4, so that they are arranged alike


class Bayes:
    """Keeps the (reading, value) that explain all it saw, and goes to the mark that most of them name."""

    def __init__(self, spec, watches):
        self.name = "watch_try_learn" if watches else "trials_only"  # as tables know who watches
        self.spec, self.watches = spec, watches

    def adapt(self, contexts):
        return Straight(self.spec, [self._left(context) for context in contexts])

    def _left(self, context):
        left = list(product(READINGS, range(self.spec.entities)))
        for episode in (*(context.demos if self.watches else ()), *context.trials):
            marks = positions(self.spec, episode.final)
            reached = np.linalg.norm(marks - episode.final[STATE], axis=-1).argmin()
            left = [h for h in left if (named(h, marks) == reached) == episode.success]
        return left


class Straight:
    """Goes straight to the mark with most votes in every world, the first of several."""

    def __init__(self, spec, beliefs):
        self.spec, self.beliefs = spec, beliefs

    def reset(self, rngs):
        self.moves = None

    def act(self, observation):
        if self.moves is None:
            worlds = list(zip(positions(self.spec, observation), self.beliefs, strict=True))
            votes = [np.bincount([named(h, marks) for h in belief]) for marks, belief in worlds]
            self.moves = STEP * np.stack([marks[v.argmax()] for v, (marks, _) in zip(votes, worlds, strict=True)])
        return self.moves


def positions(spec, observation):
    numbers = observation[ENVIRONMENT]
    return numbers.reshape(*numbers.shape[:-1], spec.entities, spec.entity_size)[..., :2]


def named(hypothesis, marks):
    """The mark that a reading with its value names where the marks lie so."""
    reading, value = hypothesis
    return value if reading == "identity" else int(marks[:, 0].argsort()[value])


@pytest.fixture(scope="module", params=[2, 4])
def played(request):
    """(suite, scenes, attempts) of everything that can be watched or not, tried, and attempted here or elsewhere."""
    suite, n = Choices(request.param), request.param
    arrangements = list(product(range(n), repeat=3))
    jobs = [(task, *seeds) for task in suite.tasks("test")[: 2 * n] for seeds in arrangements]
    demos = suite.demonstrations([job[0] for job in jobs], [DEMO + job[1] for job in jobs])
    scenes = [Scene(task, (demo,), TRIED + t + n * d) for (task, d, t, _), demo in zip(jobs, demos, strict=True)]
    new = [NEW + job[3] for job in jobs]
    found = {}
    for watches in (True, False):
        player = Bayes(suite.spec, watches)
        made = evaluate(player, suite, scenes, trials=TRIALS)
        for k in range(TRIALS + 1):
            found[watches, k, "same"] = [a for a in made if a.trials == k]
            found[watches, k, "new"] = evaluate(player, suite, scenes, trials=k, made=made, retry=new)[-len(scenes) :]
    return suite, found


@pytest.mark.parametrize("scene", ["same", "new"])
@pytest.mark.parametrize("trials", range(TRIALS + 1))
@pytest.mark.parametrize("watches", [True, False])
@pytest.mark.parametrize("subset", ["all", "conflict"])
def test_an_ideal_learner_reaches_the_ceiling_and_no_more(played, watches, trials, subset, scene):
    suite, found = played
    chosen = [
        a.episode.success
        for a in found[watches, trials, scene]
        if subset == "all" or suite.conflict(a.scene.task, a.scene.demos[0].seed, a.scene.seed)
    ]
    stated = suite.ceiling("choice", demos=int(watches), trials=trials, subset=subset, scene=scene)
    assert np.mean(chosen) == pytest.approx(stated, abs=1e-12)


def test_a_table_shows_the_optimum_of_methods_that_watch_and_of_those_that_do_not(played):
    suite, found = played
    once = [a for (_, _, scene), made in found.items() if scene == "same" for a in made[:: suite.marks]]
    rows = results.rows(once, suite)
    assert {(row["method"], row["trials"]) for row in rows} == set(
        product(("watch_try_learn", "trials_only"), range(1, TRIALS + 1))
    )
    for row in rows:
        assert row["value"] == pytest.approx(row["ceiling"], abs=1e-12)


def test_demonstrations_in_different_arrangements_leave_one_reading():
    suite = Choices()
    jobs = [(task, d, t) for task in suite.tasks("test")[:8] for d in (0, 1) for t in range(4)]
    scenes = [Scene(t, (suite.demonstrate(t, DEMO + d), suite.demonstrate(t, DEMO + 3)), TRIED + s) for t, d, s in jobs]
    attempts = evaluate(Bayes(suite.spec, watches=True), suite, scenes, trials=0)
    assert all(a.episode.success for a in attempts)
    assert suite.ceiling("choice", demos=2, trials=0, subset="all") == 1.0


def test_with_two_marks_the_optimum_is_that_of_the_toy_suite():
    suite, toy = Choices(2), make_suite("toy")
    for trials, subset in product(range(4), ("all", "conflict")):
        asked = {"demos": 1, "trials": trials, "subset": subset}
        assert suite.ceiling("choice", **asked) == toy.ceiling("reference", **asked)


def test_what_is_right_follows_from_what_lies_where():
    """The target as the suite tells it is the one that the reading names and the demonstrator reaches."""
    suite = make_suite("choices")
    tasks = suite.tasks("val")
    for seed in range(4):
        for task, demo in zip(tasks, suite.demonstrations(tasks, [seed] * len(tasks)), strict=True):
            marks = positions(suite.spec, demo.final)
            right = suite.target(task, seed)
            assert right == named((task["reading"], task["value"]), marks)
            assert np.linalg.norm(marks - demo.final[STATE], axis=-1).argmin() == right
            assert demo.success
            assert demo.problems(suite.spec) == []


def test_a_new_task_differs_from_those_of_training_by_nothing_but_its_looks():
    """Looks are the task's own in every scene, and come from the same range; what is right is balanced over them."""
    suite = make_suite("choices")
    looks = {}
    for split in ("train", "val", "test"):
        tasks = suite.tasks(split)
        assert {(t["reading"], t["value"]) for t in tasks} == set(product(READINGS, range(4)))
        (first, _), (again, _) = (suite.worlds(tasks, [seed] * len(tasks)).reset() for seed in (3, 8))
        seen = [o[ENVIRONMENT].reshape(len(tasks), 4, 4)[..., 2:] for o in (first, again)]
        np.testing.assert_array_equal(*seen)
        looks[split] = seen[0].reshape(len(tasks), -1)
    every = np.concatenate(list(looks.values()))
    assert len(np.unique(every, axis=0)) == len(every) == 128 + 32 + 32
    assert all(abs(found.mean() - 0.5) < 0.06 for found in looks.values())


def test_one_scene_of_four_agrees_with_its_demonstration_as_evaluation_counts_them():
    suite = make_suite("choices")
    task = suite.tasks("test")[0]
    told = [suite.conflict(task, 1_000_000 + j // 2, 2_000_000 + j) for j in range(16)]
    assert np.mean(told) == 0.75


def test_any_mark_ends_an_attempt():
    suite = make_suite("choices")
    tasks = suite.tasks("test")[:8]
    every = [(task, slot) for task in tasks for slot in range(4)]
    going = Straight(suite.spec, [[("identity", slot)] for _, slot in every])
    attempts = rollout(going, suite.worlds([task for task, _ in every], [5] * len(every)))
    assert all(a.terminated for a in attempts)
    assert [a.success for a in attempts] == [suite.target(task, 5) == slot for task, slot in every]


@pytest.mark.parametrize("marks", [1, 9])
def test_marks_must_have_room(marks):
    with pytest.raises(WtlError, match=f"marks must be between 2 and 8, got {marks}"):
        Choices(marks)


@pytest.mark.parametrize("marks", [2, 4, 5])
def test_an_image_of_a_task_is_a_task_of_the_same_reading(marks):
    """In every scene marks lie in turn, and what is reached is one mark, or one place, wherever that scene's lie."""
    suite = Choices(marks)
    group = SymmetryGroup(suite.symmetries(), suite.spec)
    assert len(group) == 2 * marks
    for task in suite.tasks("test")[: 2 * marks]:
        demos = stack(suite.demonstrations([task] * marks, list(range(marks))), suite.spec)
        for which in range(len(group)):
            image = group.apply(demos, np.full(marks, which))
            seen = image.observation[ENVIRONMENT].numpy()[:, 0].reshape(marks, marks, 4)
            place = seen[..., 0].argsort(1).argsort(1)
            assert ((place - np.arange(marks)) % marks == (place[:, :1]) % marks).all()
            end = image.final[STATE].numpy() if image.final else image.observation[STATE].numpy()[:, 3]
            reached = np.linalg.norm(seen[..., :2] - end[:, None], axis=-1).argmin(1)
            told = reached if task["reading"] == "identity" else place[np.arange(marks), reached]
            assert len(set(told)) == 1
