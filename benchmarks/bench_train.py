"""What does the library cost per meta-training step, compared with a loop written by hand?

Both train the same network on the same batches with the same optimizer, in turns: before each of its own
steps, ``fit`` asks for a batch, and while it waits, the hand-written loop makes one step with that batch. So
both see the same caches, the same heat and the same neighbours; medians are compared. Drawing a batch is
timed apart; the samples per second add it to the library's side alone, as if the other got its for nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from watchtrylearn.data.batches import gather
from watchtrylearn.data.memory import EpisodeMemory
from watchtrylearn.data.sampling import PairIndex
from watchtrylearn.learners import make_learner
from watchtrylearn.ops.random import generator
from watchtrylearn.system.progress import Display
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.training.fit import fit
from watchtrylearn.training.sources import FixedSource
from watchtrylearn.types import Batch, Channel, Episode, Kind, Learner, Spec, Task

LIMIT = 1.20  # the library's time per step over the hand-written loop's
SHARE = 0.80  # the library's samples per second, drawing included, over the hand-written loop's


def spec() -> Spec:
    """The sizes of the tabletop suite: 14 numbers of robot state, 4 things with 7 numbers, 7 of action."""

    def channel(size: int) -> Channel:
        return Channel(tuple(f"x{i}" for i in range(size)), (-9.0,) * size, (9.0,) * size)

    observation = {"state": channel(14), "environment_state": channel(28)}
    return Spec(10, 50, observation, channel(7), entities=4, position=3, commands_state=True)


def episodes(tasks: int) -> list[Episode]:
    """For each task four scenes, each with a demonstration and two trials, of random numbers."""
    found = []
    for number in range(tasks):
        task = Task("bench", "noise", f"task-{number}", "train", "do something")
        for seed in range(4):
            kinds: tuple[Kind, ...] = ("demo", "trial", "trial")
            found += [_episode(task, kind, seed, generator("bench", number, seed, i)) for i, kind in enumerate(kinds)]
    return found


def _episode(task: Task, kind: Kind, seed: int, rng: np.random.Generator) -> Episode:
    def numbers(size: int) -> np.ndarray:
        return rng.normal(size=(50, size)).astype(np.float32)

    observation = {"state": numbers(14), "environment_state": numbers(28)}
    success = kind == "demo" or bool(rng.integers(2))
    return Episode(task, kind, seed, observation, numbers(7), np.zeros(50, np.float32), success)


class Plain:
    """The hand-written loop: what one would type without the library."""

    def __init__(self, learner: Learner, config: TrainConfig) -> None:
        self.learner = learner
        self.config = config
        self.parameters = [p for _, p in learner.named_parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate, fused=True)

    def step(self, batch: Batch) -> None:
        self.optimizer.zero_grad()
        loss, _ = self.learner.loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        self.optimizer.step()


class Turns:
    """A ``sample`` for ``fit`` that lets the hand-written loop make its step, and keeps the times."""

    def __init__(self, draw: Callable[[np.random.Generator], Batch], plain: Plain) -> None:
        self.draw, self.plain = draw, plain
        self.drawing: list[float] = []
        self.by_hand: list[float] = []
        self.library: list[float] = []
        self._left = 0.0

    def __call__(self, rng: np.random.Generator) -> Batch:
        entered = time.perf_counter()
        if self._left:
            self.library.append(entered - self._left)
        batch = self.draw(rng)
        drawn = time.perf_counter()
        self.plain.step(batch)
        self._left = time.perf_counter()
        self.drawing.append(drawn - entered)
        self.by_hand.append(self._left - drawn)
        return batch


def compare(name: str, steps: int, threads: int) -> bool:
    """Print both ratios for one learner; are they within the limits?"""
    config = TrainConfig(steps=steps, batch_size=64, threads=threads)
    data = episodes(tasks=32)
    learner, twin = (make_learner(name, spec()) for _ in range(2))
    memory = EpisodeMemory(spec(), data)
    pairs = PairIndex(memory.table, learner.config.sampling)
    for each in (learner, twin):
        each.prepare(memory.numbers())
        each.train()
    turns = Turns(lambda rng: gather(memory, pairs.sample(rng, config.batch_size)), Plain(twin, config))
    with tempfile.TemporaryDirectory() as directory:
        fit(learner, FixedSource(turns), config, directory, {}, Display(quiet=True))
    drawing, by_hand, library = (float(np.median(t[5:])) for t in (turns.drawing, turns.by_hand, turns.library))
    share = by_hand / (library + drawing)
    print(
        f"{name:<16} by hand {by_hand * 1e3:6.2f} ms/step, library {library * 1e3:6.2f} ms/step: "
        f"ratio {library / by_hand:.3f}\n"
        f"{'':<16} by hand {config.batch_size / by_hand:6.0f} samples/s, library with drawing the batch "
        f"({drawing * 1e3:.2f} ms) {config.batch_size * share / by_hand:6.0f} samples/s: ratio {share:.3f}"
    )
    return library <= LIMIT * by_hand and share >= SHARE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch's choice")
    options = parser.parse_args()
    within = [compare(name, options.steps, options.threads) for name in ("bc", "one_shot", "watch_try_learn")]
    print(f"limits {LIMIT:.2f} (time) and {SHARE:.2f} (samples/s): {'met' if all(within) else 'missed'}")
    raise SystemExit(0 if all(within) else 1)


if __name__ == "__main__":
    main()
