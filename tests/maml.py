"""Regression of sinusoids by model-agnostic meta-learning: ``adapt`` is a step of gradient descent on a demonstration.

A task is a sinusoid. A demonstration of it is ``SHOTS`` points: what is seen at each step is an x, what is done is y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from watchtrylearn.data.batches import collate
from watchtrylearn.ops.random import generator
from watchtrylearn.types import STATE, Batch, Channel, Context, ContextBatch, Episode, EpisodeBatch, Spec, Split, Task
from watchtrylearn.worlds import commands

SHOTS = 10
SPEC = Spec(
    fps=10,
    horizon=SHOTS,
    observation={STATE: Channel(("x",), (-5.0,), (5.0,))},
    action=Channel(("y",), (-20.0,), (20.0,)),
)


# --------------------------------------------------------------------------------------------------- the suite


class Sinusoids:
    """amplitude sin(x - phase), amplitude in [0.1, 5], phase in [0, pi], x in [-5, 5], as in the paper."""

    name = "sinusoids"
    spec = SPEC

    def tasks(self, split: Split, count: int = 100) -> list[Task]:
        return [self._task(split, *draw(generator("sinusoid", split, number))) for number in range(count)]

    def _task(self, split: Split, amplitude: float, phase: float) -> Task:
        values = (("amplitude", amplitude), ("phase", phase))
        return Task(self.name, "sinusoid", f"{split}-{amplitude:.6f}-{phase:.6f}", split, "follow the sinusoid", values)

    def worlds(self, tasks: Sequence[Task], seeds: Sequence[int]) -> SinusoidWorlds:
        return SinusoidWorlds(tasks, seeds)

    def demonstrations(self, tasks: Sequence[Task], seeds: Sequence[int]) -> list[Episode]:
        found = []
        for task, seed in zip(tasks, seeds, strict=True):
            x = points(task, seed)
            seen, done = {STATE: x[:, None].astype(np.float32)}, height(task, x)[:, None].astype(np.float32)
            found.append(Episode(task, "demo", seed, seen, done, np.zeros(SHOTS, np.float32), success=True))
        return found


def draw(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(0.1, 5)), float(rng.uniform(0, np.pi))


def points(task: Task, seed: int) -> np.ndarray:
    return generator("points", task.name, seed).uniform(-5, 5, SHOTS)


def height(task: Task, x: np.ndarray) -> np.ndarray:
    return float(task["amplitude"]) * np.sin(x - float(task["phase"]))


class SinusoidWorlds(VectorEnv):
    """Shows one x after another; the reward is minus the squared error of what is done."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(self, tasks: Sequence[Task], seeds: Sequence[int]) -> None:
        self.tasks, self.seeds, self.episode_spec = list(tasks), list(seeds), SPEC
        self.num_envs = len(self.tasks)
        self.single_observation_space = gymnasium.spaces.Dict({STATE: SPEC.observation[STATE].space()})
        self.single_action_space = SPEC.action.space()
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


def sample(rng: np.random.Generator, tasks: int = 25) -> Batch:
    """New sinusoids: points to adapt to, and others to predict."""
    amplitude, phase = rng.uniform(0.1, 5, (tasks, 1)), rng.uniform(0, np.pi, (tasks, 1))

    def episodes(*shape: int) -> EpisodeBatch:
        x = rng.uniform(-5, 5, (*shape, SHOTS))
        place = (..., *(None,) * (len(shape) - 1), slice(None))
        y = amplitude[place] * np.sin(x - phase[place])
        x, y = (torch.from_numpy(each[..., None].astype(np.float32)) for each in (x, y))
        length, nothing = torch.full(shape, SHOTS), torch.zeros(shape)
        return EpisodeBatch({STATE: x}, y, torch.zeros(*shape, SHOTS), nothing, length, nothing.bool())

    demos = episodes(tasks, 1)
    frames = torch.arange(SHOTS).expand(tasks, SHOTS)
    return Batch(ContextBatch(demos, demos[:, :0]), episodes(tasks), frames)


# ------------------------------------------------------------------------------------------------- the learner


@dataclass(frozen=True)
class MamlConfig:
    width: int = 40
    rate: float = 0.01  # of the inner step


class Maml(nn.Module):
    """MAML (Finn et al. 2017): weights from which one gradient step on a demonstration goes a long way."""

    name = "maml"
    spec = SPEC

    def __init__(self, config: MamlConfig) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            width = config.width
            self.net = nn.Sequential(
                nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
            )

    def prepare(self, episodes: EpisodeBatch) -> None:
        pass

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The error on the query after one step on the demonstration: the gradient goes through that step."""
        demo, query = batch.context.demos[:, 0], batch.query

        def after(x: Tensor, y: Tensor, new_x: Tensor, new_y: Tensor) -> Tensor:
            return self._error(self._stepped(self._weights(), x, y), new_x, new_y)

        errors = vmap(after)(demo.observation[STATE], demo.action, query.observation[STATE], query.action)
        return errors.mean(), {}

    def _weights(self) -> dict[str, Tensor]:
        return dict(self.net.named_parameters())

    def _error(self, weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return ((functional_call(self.net, weights, (x,)) - y) ** 2).mean()

    def _stepped(self, weights: dict[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        slope = grad(self._error)(weights, x, y)
        return {name: value - self.config.rate * slope[name] for name, value in weights.items()}

    def adapt(self, contexts: Sequence[Context]) -> Predicting:
        """Weights of their own for every context; without a demonstration, those before adaptation."""
        weights = self._weights()
        if not any(context.demos for context in contexts):
            return Predicting(self.net, {n: w.detach().expand(len(contexts), *w.shape) for n, w in weights.items()})
        demos = collate(contexts, SPEC).demos[:, 0]
        stepped = vmap(lambda x, y: self._stepped(weights, x, y))(demos.observation[STATE], demos.action)
        return Predicting(self.net, {name: value.detach() for name, value in stepped.items()})


class Predicting:
    """The network, with weights of its own in every world."""

    def __init__(self, net: nn.Module, weights: dict[str, Tensor]) -> None:
        self.net, self.weights = net, weights

    def reset(self, rngs: Sequence[np.random.Generator]) -> None: ...

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        def one(weights: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self.net, weights, (x,))

        with torch.no_grad():
            return vmap(one)(self.weights, torch.from_numpy(observation[STATE])).numpy()
