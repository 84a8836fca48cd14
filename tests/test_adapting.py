"""Learners that adapt by computing: with one gradient step per demonstration, and anew at every control step."""

from pathlib import Path

import numpy as np
import pytest
import torch

from maml import SHOTS, Maml, MamlConfig, Sinusoids, sample
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
from watchtrylearn.types import STATE, Batch, Context, ContextBatch

# -------------------------------------------------------------------------------------- one gradient step (MAML)

SINUSOIDS = Sinusoids()


def errors(learner: Maml, shots: bool, count: int = 200) -> float:
    """Mean squared error on sinusoids that nobody has trained on, at points that were not shown."""
    tasks = SINUSOIDS.tasks("test", count)
    demos = SINUSOIDS.demonstrations(tasks, [0] * count)
    scenes = [Scene(task, (demo,) if shots else (), 1) for task, demo in zip(tasks, demos, strict=True)]
    return -float(np.mean([a.episode.reward.mean() for a in evaluate(learner, SINUSOIDS, scenes, trials=0)]))


def test_one_gradient_step_on_ten_points_predicts_a_new_sinusoid(tmp_path: Path) -> None:
    """Who has seen no point errs by 3.0 at best (an amplitude's mean square is 8.5, so the mean square of y is 4.25;
    the mean sinusoid, -1.62 cos x, explains 1.25 of it). After one step it is 0.8 with these 1200 batches, 0.6 with
    2000; the paper makes 70,000."""
    plan = TrainConfig(
        steps=1200,
        learning_rate=1e-2,
        warmup=50,
        clip_norm=10.0,
        weight_decay=0.0,
        average=0.99,
        log_every=50,
        threads=1,
    )
    learner = Maml(MamlConfig())
    untrained = errors(learner, shots=True)
    fit(learner, FixedSource(sample), plan, tmp_path, {}, Display(quiet=True))
    before, after = errors(learner, shots=False), errors(learner, shots=True)
    assert untrained > 3
    assert before > 2.8
    assert after < 0.9


def test_the_meta_gradient_is_that_of_finite_differences() -> None:
    learner = Maml(MamlConfig(width=8, rate=0.05)).double()
    batch = sample(np.random.default_rng(0), tasks=4)
    batch = Batch(
        ContextBatch(*(each.map(_double) for each in (batch.context.demos, batch.context.trials))),
        batch.query.map(_double),
        batch.frames,
    )
    parameters = list(learner.parameters())
    whole = torch.autograd.grad(learner.loss(batch)[0], parameters)
    rng = torch.Generator().manual_seed(0)
    for _ in range(5):
        way = [torch.randn(p.shape, generator=rng, dtype=torch.float64) for p in parameters]
        found = _slope(learner, batch, parameters, way, 1e-6)
        wanted = float(sum((g * w).sum() for g, w in zip(whole, way, strict=True)))
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-8)


def test_the_meta_gradient_goes_through_the_step() -> None:
    """To first order it would be another one."""
    learner, batch = Maml(MamlConfig(rate=0.05)), sample(np.random.default_rng(0), tasks=4)
    parameters = list(learner.parameters())
    whole = torch.autograd.grad(learner.loss(batch)[0], parameters)
    plain = learner._stepped
    learner._stepped = lambda weights, x, y: {
        name: weights[name] + (value - weights[name]).detach() for name, value in plain(weights, x, y).items()
    }
    first_order = torch.autograd.grad(learner.loss(batch)[0], parameters)
    assert not torch.allclose(whole[2], first_order[2], rtol=0.02)


def test_adapting_is_one_step_against_the_gradient_on_the_demonstration() -> None:
    """The policy's weights against the same step by plain autograd, for each context by itself."""
    learner, tasks = Maml(MamlConfig()), SINUSOIDS.tasks("test", 3)
    demos = SINUSOIDS.demonstrations(tasks, [0] * 3)
    policy = learner.adapt([Context(demos=[demo]) for demo in demos])
    for row, demo in enumerate(demos):
        x, y = torch.from_numpy(demo.observation[STATE]), torch.from_numpy(demo.action)
        assert len(x) == SHOTS
        slopes = torch.autograd.grad(((learner.net(x) - y) ** 2).mean(), list(learner.net.parameters()))
        for (name, weight), slope in zip(learner.net.named_parameters(), slopes, strict=True):
            torch.testing.assert_close(policy.weights[name][row], weight - 0.01 * slope)


def _double(value: torch.Tensor) -> torch.Tensor:
    return value.double() if value.is_floating_point() else value


def _slope(learner: Maml, batch: Batch, parameters: list, way: list, size: float) -> float:
    """(loss(weights + size way) - loss(weights - size way)) / 2 size."""
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, direction in zip(parameters, way, strict=True):
                parameter += sign * size * direction
        values.append(float(learner.loss(batch)[0].detach()))
    with torch.no_grad():
        for parameter, direction in zip(parameters, way, strict=True):
            parameter += size * direction
    return (values[0] - values[1]) / (2 * size)


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
