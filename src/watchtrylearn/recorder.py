"""What is noted of every attempt while it runs, and the episodes that come of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from watchtrylearn.types import Episode, Kind, Observation, Spec, Task, WtlError

WILD = 1e6  # an action farther outside its bounds than this many times their width is no command but a breakdown

log = logging.getLogger("watchtrylearn.rollouts")


class Recorder:
    """Collects the steps of all worlds; a world is recorded until it first ends.

    Memory: images as they come, one uint8 frame per step taken; numbers in arrays (world, horizon, size) of zeros, of
    which the system provides what is written.
    """

    def __init__(self, tasks: Sequence[Task], seeds: Sequence[int], spec: Spec, worst_reward: float) -> None:
        self.tasks, self.seeds, self.spec, self.worst_reward = tasks, seeds, spec, worst_reward
        count = len(tasks)
        self.numbers = {
            name: np.zeros((count, spec.horizon, channel.size), np.float32) for name, channel in spec.numbers.items()
        }
        self.images: dict[str, list[list[np.ndarray]]] = {name: [[] for _ in tasks] for name in spec.images}
        self.action, self.executed = np.zeros((2, count, spec.horizon, spec.action.size), np.float32)
        self.reward = np.zeros((count, spec.horizon), np.float32)
        self.length = np.zeros(count, np.int64)
        self.running = np.ones(count, bool)
        self.success, self.diverged, self.terminated, self.differs = np.zeros((4, count), bool)
        self.terms: list[dict[str, float]] = [{} for _ in tasks]
        self.final = {name: np.zeros((count, *channel.shape), channel.dtype) for name, channel in spec.numbers.items()}
        self.last_images: list[dict[str, np.ndarray]] = [{} for _ in tasks]
        low, high = np.array(spec.action.low), np.array(spec.action.high)
        self.bounds = low.astype(np.float32), high.astype(np.float32)
        self.least, self.most = low - WILD * np.maximum(high - low, 1.0), high + WILD * np.maximum(high - low, 1.0)

    def begin(self, info: Mapping[str, Any], start: Sequence[np.ndarray | None] | None) -> None:
        """From ``reset``'s info, and the states that the worlds were told to begin at."""
        states = info.get("initial_state", np.zeros((len(self.tasks), 0)))
        told = start or [None] * len(self.tasks)
        self.initial_state = [
            np.array(own if state is None else state, np.float64) for own, state in zip(states, told, strict=True)
        ]
        nothing = np.zeros(len(self.tasks), np.int64)
        done = nothing if start is None else np.asarray(info.get("step", nothing), np.int64)
        self.left = self.spec.horizon - done  # control steps that the horizon leaves
        if (self.left < 1).any():
            i = int(np.argmin(self.left))
            raise WtlError(f"world {i} is to begin at step {done[i]}, but an episode has {self.spec.horizon}")

    def usable(self, action: Float32[np.ndarray, "world act"]) -> Bool[np.ndarray, "world"]:
        """False where an action is not finite (which compares as False) or absurdly far outside its bounds."""
        usable: np.ndarray = ((action > self.least) & (action < self.most)).all(axis=1)
        return usable

    def see(self, observation: Observation) -> None:
        """What is seen before the next action. At once, since worlds may show the next thing in the same memory."""
        live = np.flatnonzero(self.running)
        for name, values in self.numbers.items():
            values[live, self.length[live]] = observation[name][live]
        for name, frames in self.images.items():
            for i in live:
                frames[i].append(np.array(observation[name][i]))

    def step(
        self,
        action: Float32[np.ndarray, "world act"],
        executed: Float32[np.ndarray, "world act"],
        reward: Float[np.ndarray, "world"],
        terminated: Bool[np.ndarray, "world"],
        truncated: Bool[np.ndarray, "world"],
        info: Mapping[str, Any],
        following: Observation,
    ) -> None:
        """What was meant and done, and what came of it; ``following`` is what is seen afterwards."""
        live = np.flatnonzero(self.running)
        at = self.length[live]
        self.action[live, at], self.executed[live, at] = action[live], executed[live]
        self.differs[live] |= (action != executed).any(axis=1)[live]
        self.reward[live, at] = reward[live]
        self.length[live] += 1
        self.success[live] |= self._flag(info, "success")[live]
        self.diverged[live] |= self._flag(info, "diverged")[live]
        self.terminated[live] |= (np.asarray(terminated) | self.diverged)[live]
        ended = live[(self.terminated | truncated | (self.length == self.left))[live]]
        self._keep_terms(ended, info)
        for name, values in self.final.items():
            values[ended] = following[name][ended]
        for i in ended if self.images else ():
            self.last_images[i] = {name: np.array(following[name][i]) for name in self.images}
        self.running[ended] = False

    def fail(self, which: Bool[np.ndarray, "world"], term: str, why: str, error: Exception | None = None) -> None:
        """Attempts that broke down at the step just recorded get the worst reward there is for all they had left."""
        for i in np.flatnonzero(which):
            self.terms[i][term] = 1.0
            self.reward[i, self.length[i] - 1] = self.worst_reward * (self.left[i] + 1 - self.length[i])
        self.diverged[which] = self.terminated[which] = True
        self.running[which] = False
        self.warn(which, why, error)

    def warn(self, which: Bool[np.ndarray, "world"], why: str, error: Exception | None = None) -> None:
        """Names what broke down at the step just recorded."""
        if which.any():
            where = [f"{self.tasks[i].name} in scene {self.seeds[i]}" for i in np.flatnonzero(which).tolist()]
            step = self.length[which].max() - 1
            log.warning("failed at control step %d, %s: %s", step, why, ", ".join(where), exc_info=error)

    def episodes(self, kind: Kind) -> list[Episode]:
        """One per world. The frames noted so far are handed over with them."""
        return [self._episode(i, kind) for i in range(len(self.tasks))]

    def _episode(self, i: int, kind: Kind) -> Episode:
        steps = slice(0, int(self.length[i]))
        observation = {name: values[i, steps].copy() for name, values in self.numbers.items()}
        for name, frames in self.images.items():
            observation[name] = np.stack(frames[i])
            frames[i] = []  # what is stacked is not held twice
        final: dict[str, np.ndarray] = {}
        if not self.diverged[i]:  # nobody knows what a breakdown shows
            last = {name: values[i].copy() for name, values in self.final.items()} | self.last_images[i]
            final = {name: last[name] for name in self.spec.observation}
        return Episode(
            task=self.tasks[i],
            kind=kind,
            seed=int(self.seeds[i]),
            observation={name: observation[name] for name in self.spec.observation},
            action=self.action[i, steps].copy(),
            reward=self.reward[i, steps].copy(),
            success=bool(self.success[i] and not self.diverged[i]),
            diverged=bool(self.diverged[i]),
            terminated=bool(self.terminated[i]),
            executed=self.executed[i, steps].copy() if self.differs[i] else None,
            initial_state=self.initial_state[i],
            terms=self.terms[i],
            final=final,
        )

    def _keep_terms(self, ended: np.ndarray, info: Mapping[str, Any]) -> None:
        for name, values in info.get("terms", {}).items():
            if not name.startswith("_"):  # Gymnasium's own masks
                for i in ended:
                    self.terms[i][name] = float(values[i])

    def _flag(self, info: Mapping[str, Any], name: str) -> np.ndarray:
        return np.asarray(info.get(name, np.zeros(len(self.tasks), bool)), bool)
