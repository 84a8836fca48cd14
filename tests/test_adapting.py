"""Learners that adapt by computing: with one gradient step per demonstration, and anew at every control step."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from points import STEP, Points
from rl_learners import Acting
from stepwise import Stepwise, StepwiseConfig
from watchtrylearn.data.batches import stack
from watchtrylearn.protocol import Scene, evaluate
from watchtrylearn.rollouts import rollout
from watchtrylearn.system.progress import Display
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.training.fit import fit
from watchtrylearn.training.sources import FixedSource
from watchtrylearn.types import Batch, ContextBatch

EXAMPLES = Path(__file__).parents[1] / "examples"

# -------------------------------------------------------------------------------------- one gradient step (MAML)


@pytest.fixture(scope="module")
def sinusoids() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sinusoids", EXAMPLES / "sinusoids.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_gradient_step_on_a_few_points_predicts_a_new_sinusoid(sinusoids: ModuleType, tmp_path: Path) -> None:
    """Who has seen no point errs by 3.0 at best (an amplitude's mean square is 8.5, so the mean square of y is 4.25;
    the mean sinusoid, -1.62 cos x, explains 1.25 of it). docs/sinusoids.md has what longer training comes to."""
    found = sinusoids.main(tmp_path, steps=800)
    assert found[0] > 2.8
    assert found[5] < 1.7
    assert found[10] < 1.0


# ------------------------------------------------------------------------------------ at every step (like GrBAL)

CHANGES = Points(horizon=40, speed=0.1, when=20)  # the mark goes round; the robot's frame turns in the middle


def trained(window: int, turns: list[float], directory: Path) -> Stepwise:
    """Meta-trained on random movements under different turns, each the same from begin to end."""
    suite = Points(horizon=40)
    tasks = suite.tasks("train", turns)
    policy = Acting(lambda state: torch.zeros(len(state), 2), STEP, STEP)
    store = stack(rollout(policy, suite.worlds(tasks, range(len(tasks)))), suite.spec)
    learner = Stepwise(StepwiseConfig(window=window), suite.spec)

    def slices(rng: np.random.Generator) -> Batch:
        query = store[torch.from_numpy(rng.integers(len(tasks), size=32))]
        begin = torch.from_numpy(rng.integers(40 - 12, size=(32, 1)))
        return Batch(ContextBatch(query[:, None], query[:, None]), query, begin)

    plan = TrainConfig(steps=300, learning_rate=3e-2, warmup=10, weight_decay=0.0, average=0.9, threads=1)
    fit(learner, FixedSource(slices), plan, directory, {}, Display(quiet=True))
    return learner


def distances(learner: Stepwise, turn: float) -> tuple[float, float]:
    """How far from the mark (along both axes), in the ten steps before the change and in the last ten."""
    scenes = [Scene(task, (), seed) for seed, task in enumerate(CHANGES.tasks("test", [turn]) * 8)]
    rewards = np.stack([a.episode.reward for a in evaluate(learner, CHANGES, scenes, trials=0)])
    return -float(rewards[:, 10:20].mean()), -float(rewards[:, 30:].mean())


def test_a_policy_that_adapts_at_every_step_recovers_when_its_frame_turns(tmp_path: Path) -> None:
    """The mark moves by 0.1 in a step, so whoever is where it was is 0.13 away. Turned in the middle of an attempt, by
    angles it never trained with, the policy is as near again; without adapting it is lost."""
    adapting = trained(6, np.linspace(-3, 3, 24).tolist(), tmp_path / "adapting")
    fixed = trained(0, [0.0], tmp_path / "fixed")
    for turn in (2.05, np.pi):
        before, after = distances(adapting, turn)
        assert before < 0.15
        assert after < 0.15
        before, after = distances(fixed, turn)
        assert before < 0.15
        assert after > 1
    unturned = distances(fixed, 0.0)
    assert max(unturned) < 0.15  # it is the turn that it cannot cope with
