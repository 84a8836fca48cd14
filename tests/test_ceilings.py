"""The tabletop's stated ceilings are what an ideal learner reaches: one that draws every conclusion there is.

Simulated without physics: the learner keeps the readings that its evidence allows, guesses evenly among them, and
executes perfectly. Scenes run over all arrangements of demonstration, trial and attempt.
"""

from itertools import product

import pytest

pytest.importorskip("mujoco")

from watchtrylearn.suites import make_suite
from watchtrylearn.suites.tabletop.suite import FAMILIES
from watchtrylearn.types import Task

pytestmark = pytest.mark.sim
SUITE = make_suite("tabletop")
READINGS = ("identity", "place")
SEEDS = range(10, 12)  # both arrangements


def points_to(reading: str, task: Task, demo: int, scene: int) -> int:
    """The entity that a reading of the demonstration in scene ``demo`` names in ``scene``."""
    shown = SUITE.target(task, demo)
    if reading == "identity" or not SUITE.conflict(task, demo, scene):
        return shown
    return shown ^ 1  # the things have changed sides


def left_after(task: Task, demos: tuple[int, ...], trials: tuple[int, ...], guess: str) -> list[str]:
    """The readings that survive the demonstrations and trials which tried ``guess`` as long as it was alive."""
    alive = [r for r in READINGS if all(points_to(r, task, demos[0], d) == SUITE.target(task, d) for d in demos)]
    for scene in trials:
        tried = points_to(guess if guess in alive else alive[0], task, demos[0], scene)
        outcome = tried == SUITE.target(task, scene)
        alive = [r for r in alive if (points_to(r, task, demos[0], scene) == tried) == outcome]
    return alive


def success(family: str, demos: int, trials: int, subset: str, scene: str) -> float:
    """Average over tasks, arrangements and even guesses."""
    rates = []
    for task in (t for t in SUITE.tasks("test") if t.family == family):
        for demo, tried, new in product(SEEDS, SEEDS, SEEDS):
            there = tried if scene == "same" else new
            if subset == "conflict" and not SUITE.conflict(task, demo, there):
                continue
            watched = (demo,) if demos == 1 else tuple(SEEDS)
            for guess in READINGS:
                alive = left_after(task, watched, (tried,) * trials, guess)
                rates += [points_to(r, task, demo, there) == SUITE.target(task, there) for r in alive] * (
                    3 - len(alive)
                )
    return sum(rates) / len(rates)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("subset", ["all", "conflict"])
@pytest.mark.parametrize(("demos", "trials", "scene"), [
    (1, 0, "same"), (1, 1, "same"), (1, 2, "same"), (1, 1, "new"), (1, 3, "new"),
])  # fmt: skip
def test_an_ideal_learner_reaches_the_ceiling_and_no_more(family, demos, trials, subset, scene):
    stated = SUITE.ceiling(family, demos=demos, trials=trials, subset=subset, scene=scene)
    assert success(family, demos, trials, subset, scene) == stated


@pytest.mark.parametrize("family", FAMILIES)
def test_demonstrations_in_both_arrangements_leave_one_reading(family):
    assert success(family, 2, 0, "all", "same") == SUITE.ceiling(family, demos=2, trials=0, subset="all") == 1.0


def test_without_a_demonstration_no_ceiling_is_claimed():
    assert SUITE.ceiling("push", demos=0, trials=1, subset="all") is None
