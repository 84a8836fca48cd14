"""Gradient steps as a way to adapt, on the smallest problem there is: sinusoids (MAML, Finn et al. 2017, section 5.1).

A task is a sinusoid, a demonstration of it is a few points: what is seen at each step is an x, what is done is y. The
learner is ``mil``: after one gradient step on the points it knows the sinusoid everywhere. docs/sinusoids.md goes
through this file; ``python examples/sinusoids.py`` takes two minutes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Float

import watchtrylearn as wtl
from watchtrylearn.data.sampling import Sampling
from watchtrylearn.learners.mil import MIL, MILConfig
from watchtrylearn.nn.policy_net import PolicyNetConfig
from watchtrylearn.ops.random import generator
from watchtrylearn.types import STATE, Batch, ContextBatch, EpisodeBatch, Split
from watchtrylearn.worlds import commands, describe

SHOTS = 10
SPEC = wtl.Spec(
    fps=10,
    horizon=SHOTS,
    observation={STATE: wtl.Channel(("x",), (-5.0,), (5.0,))},
    action=wtl.Channel(("y",), (-20.0,), (20.0,)),
)
# MAML as its paper has it: no bias transformation, one head, nothing clipped.
CONFIG = MILConfig(
    net=PolicyNetConfig(hidden=(40, 40), bias_transformation=0, heads=1),
    inner_rate=0.01,
    learn_rates=False,
    clip="none",
    loss_scale=2.06,  # the standard deviation of y: the inner step descends errors in the unit of y, as in the paper
    image_frames=SHOTS,
    sampling=Sampling(demos=(0, 1), frames=SHOTS),
)


class Sinusoids:
    """amplitude sin(x - phase), amplitude in [0.1, 5], phase in [0, pi], x in [-5, 5], as in the paper."""

    name = "sinusoids"
    spec = SPEC

    def tasks(self, split: Split, count: int = 100) -> list[wtl.Task]:
        return [self._task(split, *draw(generator("sinusoid", split, number))) for number in range(count)]

    def _task(self, split: Split, amplitude: float, phase: float) -> wtl.Task:
        values = (("amplitude", amplitude), ("phase", phase))
        name = f"{split}-{amplitude:.6f}-{phase:.6f}"
        return wtl.Task(self.name, "sinusoid", name, split, "follow the sinusoid", values)

    def worlds(self, tasks: Sequence[wtl.Task], seeds: Sequence[int]) -> SinusoidWorlds:
        return SinusoidWorlds(tasks, seeds)

    def demonstrations(self, tasks: Sequence[wtl.Task], seeds: Sequence[int]) -> list[wtl.Episode]:
        found = []
        for task, seed in zip(tasks, seeds, strict=True):
            x = points(task, seed)
            seen, done = {STATE: x[:, None].astype(np.float32)}, height(task, x)[:, None].astype(np.float32)
            found.append(wtl.Episode(task, "demo", seed, seen, done, np.zeros(SHOTS, np.float32), success=True))
        return found


def draw(rng: np.random.Generator) -> tuple[float, float]:
    """Amplitude and phase of a new sinusoid."""
    return float(rng.uniform(0.1, 5)), float(rng.uniform(0, np.pi))


def points(task: wtl.Task, seed: int) -> Float[np.ndarray, "step"]:
    """The places x that a scene shows, one in each step."""
    return generator("points", task.name, seed).uniform(-5, 5, SHOTS)


def height(task: wtl.Task, x: Float[np.ndarray, "step"]) -> Float[np.ndarray, "step"]:
    return np.asarray(float(task["amplitude"]) * np.sin(x - float(task["phase"])))


class SinusoidWorlds(VectorEnv):
    """Shows one x after another; the reward is minus the squared error of what is done."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(self, tasks: Sequence[wtl.Task], seeds: Sequence[int]) -> None:
        describe(self, SPEC, tasks, seeds)
        self.x = np.stack([points(task, seed) for task, seed in zip(tasks, seeds, strict=True)])
        self.y = np.stack([height(task, x) for task, x in zip(tasks, self.x, strict=True)])

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self.count = 0
        return self._observe(), {}

    def step(self, actions: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict]:
        error = commands(actions, SPEC.action, self.num_envs)[:, 0] - self.y[:, self.count]
        self.count += 1
        over = np.full(self.num_envs, self.count >= SHOTS)
        return self._observe(), -(error**2), np.zeros(self.num_envs, bool), over, {"success": np.abs(error) < 0.1}

    def _observe(self) -> dict[str, np.ndarray]:
        return {STATE: self.x[:, min(self.count, SHOTS - 1), None].astype(np.float32)}


def sample(rng: np.random.Generator, tasks: int = 25, shots: int = SHOTS) -> Batch:
    """A batch of new sinusoids: ``shots`` points to adapt to, and others to predict."""
    amplitude, phase = np.array([draw(rng) for _ in range(tasks)]).T

    def episodes(*shape: int) -> EpisodeBatch:
        x = rng.uniform(-5, 5, (*shape, shots))
        of_task = (..., *(None,) * len(shape))
        y = amplitude[of_task] * np.sin(x - phase[of_task])
        seen, done = (torch.from_numpy(each[..., None].astype(np.float32)) for each in (x, y))
        length, nothing = torch.full(shape, shots), torch.zeros(shape)
        return EpisodeBatch({STATE: seen}, done, torch.zeros(*shape, shots), nothing, length, nothing.bool())

    demos = episodes(tasks, 1)
    frames = torch.arange(shots).expand(tasks, shots)
    return Batch(ContextBatch(demos, demos[:, :0]), episodes(tasks), frames)


def train(directory: Path, steps: int, config: MILConfig = CONFIG) -> MIL:
    """Meta-trained on new sinusoids in every step."""
    learner = MIL(config, SPEC)
    learner.prepare(sample(np.random.default_rng(0), tasks=1000).query)
    plan = wtl.TrainConfig(steps, learning_rate=1e-2, warmup=50, clip_norm=10.0, weight_decay=0.0, average=0.99)
    wtl.fit(learner, wtl.FixedSource(sample), plan, directory, data={})
    return learner


def error(learner: MIL, shots: int, count: int = 200) -> float:
    """Mean squared error on sinusoids that nobody has trained on, at places that were not shown, after ``shots``."""
    suite = Sinusoids()
    tasks = suite.tasks("test", count)
    shown = suite.demonstrations(tasks, [0] * count)
    contexts = [wtl.Context([first(demo, shots)] if shots else []) for demo in shown]
    attempts = wtl.rollout(learner.adapt(contexts), suite.worlds(tasks, [1] * count))
    return -float(np.mean([attempt.reward.mean() for attempt in attempts]))


def first(demo: wtl.Episode, steps: int) -> wtl.Episode:
    """The first steps of a demonstration."""
    seen = {STATE: demo.observation[STATE][:steps]}
    return wtl.Episode(demo.task, "demo", demo.seed, seen, demo.action[:steps], demo.reward[:steps], success=True)


def main(directory: Path, steps: int = 8000) -> dict[int, float]:
    """Error before the step (0 shots), and after one step on 5 and on 10 points."""
    learner = train(directory, steps)
    return {shots: error(learner, shots) for shots in (0, 5, 10)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for shots, found in main(Path(folder), *map(int, sys.argv[1:])).items():
            print(f"{shots:2} points: mean squared error {found:.2f}")
