"""The examples do what they say."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from watchtrylearn.data.verify import verify
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import Suite

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def own_robot() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_robot", EXAMPLES / "own_robot.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_arm_learns_from_a_trial_what_no_demonstration_tells(own_robot, tmp_path, capsys):
    rates = own_robot.main(tmp_path, steps=160)
    assert rates["watch_try_learn"][0] == rates["one_shot"][0] < 0.75  # nobody can do better than 2/3
    assert rates["watch_try_learn"][1] >= rates["one_shot"][1] + 0.2
    assert verify(tmp_path / "demos") == verify(tmp_path / "trials") == []
    own_robot.report(rates)
    assert "the best possible" in capsys.readouterr().out


def test_the_arm_is_an_ordinary_gymnasium_environment_and_its_suite_a_suite(own_robot):
    suite = own_robot.ArmSuite()
    assert isinstance(suite, Suite)
    check_env(own_robot.Arm(suite.tasks("train")[0], 3), skip_render_check=True)


def test_every_demonstration_succeeds_and_one_in_three_scenes_leaves_no_doubt(own_robot):
    suite = own_robot.ArmSuite()
    colour, place = suite.tasks("test")[:2]
    for demo in suite.demonstrations([colour, place] * 3, range(6)):
        assert demo.success
        assert demo.problems(suite.spec) == []
    agree = [own_robot.target(colour, scene) == own_robot.target(place, scene) for scene in range(30)]
    assert np.mean(agree) == 1 / 3


def test_a_world_that_gymnasium_restarts_by_itself_is_recorded_until_its_first_end(own_robot):
    suite = own_robot.ArmSuite()
    tasks, seeds = suite.tasks("train")[:6], range(6)
    targets = [own_robot.target(task, seed) for task, seed in zip(tasks, seeds, strict=True)]
    together = suite.demonstrations(tasks, seeds)
    assert len({len(episode) for episode in together}) > 1  # some worlds end before others
    for i, episode in enumerate(together):
        alone = rollout(own_robot.Person([targets[i]]), suite.worlds([tasks[i]], [seeds[i]]), kind="demo")[0]
        np.testing.assert_allclose(episode.action, alone.action, atol=1e-6)
        assert (episode.success, len(episode)) == (alone.success, len(alone))


WITHOUT_SIMULATOR = """
import runpy, sys
from pathlib import Path

sys.modules.update(dict.fromkeys(["mujoco", "mujoco_warp", "warp", "av"]))  # importing one of them fails
main = runpy.run_path(sys.argv[1])["main"]
main.__globals__["TASKS"] = {"train": range(4), "test": range(4, 6)}
main(Path(sys.argv[2]), steps=2)
"""


def test_the_library_needs_no_simulator(tmp_path):
    path = str(EXAMPLES / "own_robot.py")
    subprocess.run([sys.executable, "-c", WITHOUT_SIMULATOR, path, str(tmp_path)], check=True, timeout=120)
    assert (tmp_path / "watch_try_learn" / "model.safetensors").exists()
