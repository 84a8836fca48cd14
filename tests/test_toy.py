"""The toy suite and the protocol: known optima come out as exact numbers."""

import numpy as np
import pytest

from toy_learners import Copy, Ideal, Random
from watchtrylearn.protocol import Attempt, Scene, evaluate
from watchtrylearn.suites import make_suite
from watchtrylearn.suites.toy import FAMILIES, optimum
from watchtrylearn.types import WtlError

SCENES = 8  # per task: both parities of the scene with both of the demonstration, twice


@pytest.fixture(scope="module")
def scenes():
    suite = make_suite("toy")
    return [
        Scene(task, (suite.demonstrate(task, 1000 + j // 2),), 2000 + j)
        for task in suite.tasks("test")
        for j in range(SCENES)
    ]


def success(attempts: list[Attempt], family: str, trials: int) -> float:
    return float(np.mean([a.episode.success for a in attempts if a.scene.task.family == family and a.trials == trials]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("trials", [0, 1, 2, 3])
def test_the_protocol_reports_exactly_the_optimum_for_an_ideal_learner(scenes, family, trials):
    attempts = evaluate(Ideal(), make_suite("toy"), scenes, trials=3)
    assert success(attempts, family, trials) == optimum(family, trials)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("trials", [0, 1, 2])
def test_demonstrations_in_both_arrangements_leave_only_the_sign_open(scenes, family, trials):
    suite = make_suite("toy")
    both = [Scene(s.task, (*s.demos, suite.demonstrate(s.task, s.demos[0].seed + 1)), s.seed) for s in scenes]
    stated = suite.ceiling(family, demos=2, trials=trials, subset="all")
    assert success(evaluate(Ideal(), suite, both, trials=2), family, trials) == stated


def test_no_optimum_is_claimed_where_none_was_derived():
    for claim in ({"demos": 0}, {"demos": 1, "scene": "new"}, {"demos": 2, "scene": "new"}):
        assert make_suite("toy").ceiling("mirror", trials=1, subset="all", **claim) is None


def test_copying_the_demonstration_never_improves(scenes):
    attempts = evaluate(Copy(), make_suite("toy"), scenes, trials=2)
    for trials in range(3):
        assert success(attempts, "reference", trials) == 3 / 4
        assert success(attempts, "mirror", trials) == 3 / 8


def test_a_random_policy_succeeds_by_chance(scenes):
    attempts = evaluate(Random(), make_suite("toy"), scenes, trials=15)
    for family, chance in (("reference", 1 / 4), ("mirror", 1 / 4)):
        outcomes = [a.episode.success for a in attempts if a.scene.task.family == family]
        assert abs(np.mean(outcomes) - chance) < 4 * np.sqrt(chance * (1 - chance) / len(outcomes))


def test_readings_disagree_in_exactly_half_of_the_scenes(scenes):
    suite = make_suite("toy")
    assert np.mean([suite.conflict(s.task, s.demos[0].seed, s.seed) for s in scenes]) == 0.5


def test_demonstrations_always_succeed_and_stay_within_the_spec():
    suite = make_suite("toy")
    for task in suite.tasks("train"):
        demo = suite.demonstrate(task, 7)
        assert demo.success
        assert demo.problems(suite.spec) == []


def test_an_episode_does_not_depend_on_the_worlds_beside_it(scenes):
    suite = make_suite("toy")
    together = evaluate(Random(), suite, scenes[:6], trials=1)
    alone = [a for s in reversed(scenes[:6]) for a in evaluate(Random(), suite, [s], trials=1)]
    for one in together:
        other = next(a for a in alone if (a.scene, a.trials) == (one.scene, one.trials))
        np.testing.assert_array_equal(one.episode.action, other.episode.action)


def test_an_unknown_suite_is_refused_with_the_nearest_name():
    with pytest.raises(WtlError, match="did you mean 'tabletop'"):
        make_suite("tabeltop")


@pytest.mark.parametrize("subset", ["all", "conflict"])
def test_the_stated_ceilings_are_what_an_ideal_learner_reaches(scenes, subset):
    suite = make_suite("toy")
    chosen = [s for s in scenes if subset == "all" or suite.conflict(s.task, s.demos[0].seed, s.seed)]
    attempts = evaluate(Ideal(), suite, chosen, trials=2)
    for family in FAMILIES:
        for trials in range(3):
            assert success(attempts, family, trials) == suite.ceiling(family, demos=1, trials=trials, subset=subset)
