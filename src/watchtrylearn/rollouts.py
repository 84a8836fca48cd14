"""Running a policy in worlds: the one place where attempts become episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from watchtrylearn.ops.random import generator
from watchtrylearn.types import Episode, Kind, Policy, Spec, Task, WtlError


def rollout(
    policy: Policy,
    worlds: gymnasium.vector.VectorEnv,
    *,
    attempt: int = 0,
    run_seed: int = 0,
    kind: Kind = "trial",
    on_step: Callable[[int], None] | None = None,
) -> list[Episode]:
    """One attempt of ``policy`` in every world, as episodes.

    Args:
        policy: acts in all worlds at once.
        worlds: from ``suite.worlds(tasks, seeds)``; carries ``tasks``, ``seeds`` and ``spec``.
        attempt: which attempt at the scene this is. World ``i``'s randomness depends on
            (run_seed, task, scene seed, attempt) alone, not on the other worlds or their order.
        on_step: called after every control step with the number of worlds still running.

    Returns:
        One episode per world. A diverged attempt is kept, marked, and counts as a failure.
    """
    tasks, seeds, spec = worlds_identity(worlds)
    found = getattr(policy, "spec", spec).differences(spec)
    if found:
        raise WtlError(f"the policy was made for other dimensions than these worlds: {'; '.join(found)}")
    policy.reset([generator("attempt", run_seed, t.name, s, attempt) for t, s in zip(tasks, seeds, strict=True)])
    observation, info = worlds.reset()
    record = _Recorder(tasks, seeds, spec, info)
    for _ in range(spec.horizon):
        action = policy.act(observation)
        following, reward, terminated, truncated, info = worlds.step(np.asarray(action, np.float32))
        record.step(observation, action, reward, terminated | truncated, info)
        observation = following
        if on_step:
            on_step(int(record.running.sum()))
        if not record.running.any():
            break
    return record.episodes(kind)


def worlds_identity(worlds: gymnasium.vector.VectorEnv) -> tuple[Sequence[Task], Sequence[int], Spec]:
    """The tasks, scene seeds and spec that a suite attached to its worlds."""
    missing = [name for name in ("tasks", "seeds", "episode_spec") if not hasattr(worlds, name)]
    if missing:
        raise WtlError(
            f"the worlds lack the attribute {missing[0]!r}: make them with suite.worlds(tasks, seeds), and in your own "
            "suite set worlds.tasks, worlds.seeds and worlds.episode_spec"
        )
    carried: Any = worlds
    return carried.tasks, carried.seeds, carried.episode_spec


class _Recorder:
    """Collects the steps of all worlds; a world is recorded until it first ends."""

    def __init__(self, tasks: Sequence[Task], seeds: Sequence[int], spec: Spec, info: Mapping[str, Any]) -> None:
        self.tasks, self.seeds, self.spec = tasks, seeds, spec
        count = len(tasks)
        self.observation = {
            name: np.zeros((count, spec.horizon, channel.size), np.float32)
            for name, channel in spec.observation.items()
        }
        self.action = np.zeros((count, spec.horizon, spec.action.size), np.float32)
        self.reward = np.zeros((count, spec.horizon), np.float32)
        self.length = np.zeros(count, np.int64)
        self.running = np.ones(count, bool)
        self.success = np.zeros(count, bool)
        self.diverged = np.zeros(count, bool)
        self.terms: list[dict[str, float]] = [{} for _ in range(count)]
        self.initial_state = np.array(info.get("initial_state", np.zeros((count, 0))), np.float64, copy=True)

    def step(
        self,
        observation: Mapping[str, np.ndarray],
        action: np.ndarray,
        reward: np.ndarray,
        ended: np.ndarray,
        info: Mapping[str, Any],
    ) -> None:
        live = np.flatnonzero(self.running)
        at = self.length[live]
        for name, values in self.observation.items():
            values[live, at] = observation[name][live]
        self.action[live, at] = action[live]
        self.reward[live, at] = reward[live]
        self.length[live] += 1
        self.success[live] |= _flag(info, "success", len(self.tasks))[live]
        self.diverged[live] |= _flag(info, "diverged", len(self.tasks))[live]
        self._keep_terms(live[np.asarray(ended)[live] | (self.length[live] == self.spec.horizon)], info)
        self.running[live] = ~np.asarray(ended)[live]

    def episodes(self, kind: Kind) -> list[Episode]:
        return [self._episode(i, kind) for i in range(len(self.tasks))]

    def _keep_terms(self, ended: np.ndarray, info: Mapping[str, Any]) -> None:
        for name, values in info.get("terms", {}).items():
            if not name.startswith("_"):  # Gymnasium's own masks
                for i in ended:
                    self.terms[i][name] = float(values[i])

    def _episode(self, i: int, kind: Kind) -> Episode:
        steps = slice(0, int(self.length[i]))
        return Episode(
            task=self.tasks[i],
            kind=kind,
            seed=int(self.seeds[i]),
            observation={name: values[i, steps].copy() for name, values in self.observation.items()},
            action=self.action[i, steps].copy(),
            reward=self.reward[i, steps].copy(),
            success=bool(self.success[i] and not self.diverged[i]),
            diverged=bool(self.diverged[i]),
            initial_state=self.initial_state[i],
            terms=self.terms[i],
        )


def _flag(info: Mapping[str, Any], name: str, count: int) -> np.ndarray:
    return np.asarray(info.get(name, np.zeros(count, bool)), bool)
