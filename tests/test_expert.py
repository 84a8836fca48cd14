"""The scripted demonstrators: they succeed, vary, and record intentions apart from disturbances."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco")

from watchtrylearn.suites.tabletop import expert  # noqa: E402
from watchtrylearn.suites.tabletop.suite import FAMILIES, SPEC, Tabletop, find_task  # noqa: E402
from watchtrylearn.types import STATE, Episode, WtlError  # noqa: E402

SUITE = Tabletop(nthread=2)


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    """All held-out tasks in six scenes each: 60 per family, with objects no one tuned anything on."""
    tasks = [task for task in SUITE.tasks("test") for _ in range(6)]
    return SUITE.demonstrations(tasks, list(range(100, 106)) * 40)


@pytest.mark.parametrize("family", FAMILIES)
def test_demonstrators_succeed(episodes: list[Episode], family: str) -> None:
    mine = [episode for episode in episodes if episode.task.family == family]
    assert np.mean([episode.success for episode in mine]) >= 0.95
    assert np.median([len(episode) for episode in mine]) <= 35


def test_recordings_are_sound_and_say_what_was_meant(episodes: list[Episode]) -> None:
    for episode in episodes:
        assert episode.problems(SPEC) == []
        assert not episode.diverged
        assert episode.kind == "demo"
        reach = np.linalg.norm(episode.action[:, :3] - episode.observation[STATE][:, :3], axis=1)
        assert reach.max() < 0.09  # commands are never far ahead of the gripper


def test_the_disturbance_is_smooth_and_of_the_stated_size(episodes: list[Episode]) -> None:
    noise = expert.Noise()
    shakes = [episode.executed - episode.action for episode in episodes]
    x_y = np.concatenate([shake[:, :2] for shake in shakes])
    assert x_y.std() == pytest.approx(noise.position, rel=0.1)
    pairs = np.concatenate([np.stack([s[:-1, :2].ravel(), s[1:, :2].ravel()]) for s in shakes], axis=1)
    assert np.corrcoef(pairs)[0, 1] == pytest.approx(noise.correlation, abs=0.08)
    assert all(np.ptp(shake[:, [3, 4, 6]]) == 0 for shake in shakes)


def test_a_demonstration_depends_on_its_task_and_scene_alone() -> None:
    tasks, seeds = SUITE.tasks("test")[:6], [3, 1, 4, 1, 5, 9]
    together = SUITE.demonstrations(tasks, seeds)
    alone = SUITE.demonstrations(tasks[4:5], seeds[4:5])[0]
    assert np.array_equal(alone.action, together[4].action)
    assert np.array_equal(alone.observation[STATE], together[4].observation[STATE])


def test_without_disturbance_what_is_meant_is_what_is_done() -> None:
    tasks = SUITE.tasks("test")[:8]
    worlds = SUITE.worlds(tasks, range(8))
    targets = [SUITE.target(task, seed) for seed, task in enumerate(tasks)]
    quiet = expert.Noise(position=0.0, yaw=0.0)
    for episode in expert.demonstrations(worlds, targets, quiet):
        assert episode.executed is None


def test_people_differ(episodes: list[Episode]) -> None:
    """Demonstrations of one family differ in speed: not one script played back."""
    lengths = {family: {len(e) for e in episodes if e.task.family == family} for family in FAMILIES}
    assert all(len(found) >= 4 for found in lengths.values())


def test_a_failed_demonstration_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(expert.STAGES, "button", expert.STAGES["grasp"][:1])  # hovers for ever
    task = find_task("button-test-000")
    with pytest.raises(WtlError, match="button-test-000 in scene 3; take another scene"):
        SUITE.demonstrate(task, 3)
