r"""Physics-free point tasks with known optima: for tests, documentation and the ``debug`` preset.

A point starts at the centre of a plane with two marks, one on the left and one on the right, and must reach one
of them. The demonstration refers to its mark by *identity* ("mark A") or by *place* ("the mark on the left"): in
half of all new scenes the two readings disagree. In family ``reference`` that is all. In family ``mirror`` the
robot's x axis may moreover be mirrored: a hidden sign of the task that no demonstration shows (the demonstrator is
not the robot: a context tells positions, not the demonstrator's controls) and any trial reveals.

Optimal success, by counting (``optimum``). Let R be the event that the reading is right and S that the sign is
right. ``reference``: the first attempt succeeds with 3/4 (agreeing scenes always, conflicting ones half of the
time); a failure names the other mark, so every later attempt succeeds. ``mirror``: the first needs R and S,
3/4 * 1/2 = 3/8. If S was right (1/2), its outcome settles the reading; if S was wrong, the attempt fails, its
motion reveals the sign, but says nothing about the reading: the second attempt succeeds with
1/2 * 1 + 1/2 * 3/4 = 7/8. The third always.

Episodes are as long as the straight way takes, so there is no time to try twice within one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Float, Int

from watchtrylearn.ops.random import generator
from watchtrylearn.ops.symmetry import Symmetry
from watchtrylearn.rollouts import rollout
from watchtrylearn.types import ACTION, ENVIRONMENT, STATE, Channel, Episode, Observation, Spec, Split, Task, WtlError
from watchtrylearn.worlds import begin, commands, describe

FAMILIES = ("reference", "mirror")
READINGS = ("identity", "place")
STEP = 0.25  # farthest the point moves in one control step
STEPS = 5  # control steps in an episode; the marks are at distance 1, i.e. 4 steps
REACH = 0.2  # how close counts as reached
TASKS: dict[Split, int] = {"train": 64, "val": 16, "test": 16}

SPEC = Spec(
    fps=10,
    horizon=STEPS,
    observation={
        STATE: Channel(("x", "y", "may be mirrored"), (-2.0, -2.0, 0.0), (2.0, 2.0, 1.0)),
        ENVIRONMENT: Channel(("A x", "A y", "B x", "B y"), (-1.0,) * 4, (1.0,) * 4),
    },
    action=Channel(("dx", "dy"), (-STEP, -STEP), (STEP, STEP)),
    entities=2,
    position=2,
)

SYMMETRIES = (
    Symmetry("left and right", {STATE: ("x",), ENVIRONMENT: ("A x", "B x"), ACTION: ("dx",)}),
    Symmetry("up and down", {STATE: ("y",), ENVIRONMENT: ("A y", "B y"), ACTION: ("dy",)}),
    # nothing moves; what was called A is called B
    Symmetry("A and B", exchanged={ENVIRONMENT: (("A x", "B x"), ("A y", "B y"))}),
)

OPTIMUM = {  # (family, subset) -> best success rate after 0, 1, 2 or more trials
    ("reference", "all"): (3 / 4, 1.0, 1.0),
    ("reference", "conflict"): (1 / 2, 1.0, 1.0),
    ("mirror", "all"): (3 / 8, 7 / 8, 1.0),
    ("mirror", "conflict"): (1 / 4, 3 / 4, 1.0),
}


def optimum(family: str, trials: int, subset: str = "all") -> float:
    """Best possible success rate after one demonstration and ``trials`` trials in the same scene."""
    return OPTIMUM[family, subset][min(trials, 2)]


class Toy:
    """The suite ``toy``; see the module's text for the tasks and their optima."""

    name = "toy"
    spec = SPEC

    def tasks(self, split: Split) -> list[Task]:
        """All combinations of family, reading, value and sign, in turn; the split only names them."""
        if split not in TASKS:
            raise WtlError(f"unknown split {split!r}; did you mean one of {', '.join(TASKS)}?")
        return [self._task(split, number) for number in range(TASKS[split])]

    def worlds(self, tasks: Sequence[Task], seeds: Sequence[int]) -> PointWorlds:
        return PointWorlds(tasks, seeds)

    def target(self, task: Task, seed: int) -> int:
        """The right mark in scene ``seed``: slot 0 (A) or 1 (B)."""
        value = int(task["value"])
        if task["reading"] == "identity":
            return value
        return value ^ _swapped(seed)  # value 0: the left one, which is A in even scenes

    def conflict(self, task: Task, demo_seed: int, seed: int) -> bool:
        """Do the two readings of a demonstration in scene ``demo_seed`` disagree in scene ``seed``?"""
        return _swapped(demo_seed) != _swapped(seed)

    def ceiling(self, family: str, *, demos: int, trials: int, subset: str, scene: str = "same") -> float | None:
        """The optimum in the trials' scene; unknown (None) in another one and without a demonstration.

        Demonstrations in both arrangements leave one reading, and the sign to the first trial.
        """
        if demos == 0 or scene != "same":
            return None
        if demos > 1:
            return 0.5 if family == "mirror" and trials == 0 else 1.0
        return optimum(family, trials, subset)

    def symmetries(self) -> Sequence[Symmetry]:
        """Two mirrors, and the marks listed in the other order."""
        return SYMMETRIES

    def reward(
        self,
        tasks: Sequence[Task],
        observation: Mapping[str, np.ndarray],
        action: Float[np.ndarray, "batch act"],
        next_observation: Mapping[str, np.ndarray],
    ) -> Float[np.ndarray, "batch"]:
        """1 where the right mark is reached; an attempt ends there."""
        return paid(SPEC, tasks, next_observation)

    def demonstrate(self, task: Task, seed: int) -> Episode:
        """The straight way to the right mark."""
        return self.demonstrations([task], [seed])[0]

    def demonstrations(self, tasks: Sequence[Task], seeds: Sequence[int]) -> list[Episode]:
        worlds = self.worlds(tasks, seeds)
        return rollout(StraightWay(worlds), worlds, kind="demo")

    def _task(self, split: Split, number: int) -> Task:
        family = FAMILIES[number % 2]
        reading, value = READINGS[number // 2 % 2], number // 4 % 2
        sign = -1 if family == "mirror" and number // 8 % 2 else 1
        mark = f"mark {'AB'[value]}" if reading == "identity" else f"the mark on the {('left', 'right')[value]}"
        parameters = (("reading", reading), ("value", value), ("sign", sign))
        return Task("toy", family, f"{family}-{split}-{number:03d}", split, f"go to {mark}", parameters)


class StraightWay:
    """Demonstrates: a policy that knows where everything is, and which sign and mark are right."""

    def __init__(self, worlds: PointWorlds) -> None:
        self.worlds = worlds

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        """There is only one way."""

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        worlds = self.worlds
        way = worlds.goal_position - worlds.point
        distance = np.linalg.norm(way, axis=-1, keepdims=True)
        moves: np.ndarray = worlds.sign * way * np.minimum(1.0, STEP / np.maximum(distance, 1e-9))
        return moves


class PointWorlds(VectorEnv):
    """Many points at once. World ``i`` is ``tasks[i]`` in scene ``seeds[i]``.

    ``spec`` says how many marks there are and what is seen of each; ``scene(task, seed)`` gives their numbers,
    (mark, number), a position first.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own convention)
    tasks: list[Task]
    seeds: list[int]
    episode_spec: Spec

    def __init__(
        self,
        tasks: Sequence[Task],
        seeds: Sequence[int],
        spec: Spec = SPEC,
        scene: Callable[[Task, int], np.ndarray] | None = None,
    ) -> None:
        describe(self, spec, tasks, seeds)
        scene = scene or _marks
        self.marks = np.stack([scene(task, seed) for task, seed in zip(tasks, seeds, strict=True)])  # of the scenes
        self.mirrored = np.array([float(t.family == "mirror") for t in tasks])
        self.sign = np.array([[float(t["sign"]) if t.family == "mirror" else 1.0, 1.0] for t in tasks])
        self._ready = False

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Back to the start of every world's scene, or to the states in ``options`` (``worlds.Resumable``)."""
        own = np.concatenate([np.zeros((self.num_envs, 2)), self.marks.reshape(self.num_envs, -1)], 1)
        physics, memory, _ = begin(options, own, 2, STEPS)
        self.point = physics[:, :2].copy()
        self.placed = physics[:, 2:].reshape(self.marks.shape)  # the marks as they lie now
        self.goal = meant(self.tasks, self.placed)
        self.count = memory[:, 0].astype(int)
        self._ready = True
        self.ended, self.diverged = np.zeros((2, self.num_envs), bool)
        return self._observe(), {"initial_state": physics, "step": self.count.copy()}

    def state(self) -> Float[np.ndarray, "world state"]:
        """The point and the marks, steps done, and whether the attempt has ended."""
        if not self._ready:
            raise WtlError("call reset() before state()")
        ended = self.ended | (self.count >= STEPS)
        return np.concatenate([self.point, self.placed.reshape(len(ended), -1), np.stack([self.count, ended], 1)], 1)

    def step(
        self, actions: Float[np.ndarray, "world act"]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One move of at most ``STEP`` along each axis. An action that is not finite ends its world as diverged."""
        actions = commands(actions, self.episode_spec.action, self.num_envs).astype(np.float64)
        broken = ~np.isfinite(actions).all(axis=1)
        actions[broken] = 0.0
        self.diverged |= broken & ~self.ended
        self.ended |= broken
        move = np.clip(actions, -STEP, STEP) * self.sign
        self.point = np.where(self.ended[:, None], self.point, np.clip(self.point + move, -2.0, 2.0))
        self.count += 1
        distance = np.linalg.norm(self.placed[..., :2] - self.point[:, None], axis=-1)
        reached = distance < REACH
        right = reached[np.arange(self.num_envs), self.goal] & ~self.ended
        terminated = reached.any(1) | self.ended
        self.ended = terminated
        truncated = self.count >= STEPS
        terms = {"distance": distance[np.arange(self.num_envs), self.goal]}
        info = {"success": right, "diverged": self.diverged.copy(), "terms": terms}
        return self._observe(), right.astype(float), terminated, truncated, info

    @property
    def goal_position(self) -> Float[np.ndarray, "world dim"]:
        """Where the right mark of every world lies."""
        found: np.ndarray = self.placed[np.arange(self.num_envs), self.goal, :2]
        return found

    def _observe(self) -> dict[str, np.ndarray]:
        known = {"x": self.point[:, 0], "y": self.point[:, 1], "may be mirrored": self.mirrored}
        return {
            STATE: np.stack([known[name] for name in self.episode_spec.observation[STATE].names], 1).astype(np.float32),
            ENVIRONMENT: self.placed.reshape(self.num_envs, -1).astype(np.float32),
        }


def make() -> Toy:
    return Toy()


def _swapped(seed: int) -> int:
    """1 where A is on the right: odd seeds, so that consecutive seeds are exactly half and half."""
    return seed % 2


def meant(tasks: Sequence[Task], marks: Float[np.ndarray, "task mark number"]) -> Int[np.ndarray, "task"]:
    """The right mark of every task where the marks lie so: the slot that its value names, or the slot of what comes
    at that place from left to right."""
    values = np.array([int(t["value"]) for t in tasks])
    order = np.argsort(marks[..., 0], axis=1, kind="stable")
    return np.where([t["reading"] == "identity" for t in tasks], values, order[np.arange(len(values)), values])


def paid(spec: Spec, tasks: Sequence[Task], next_observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, "batch"]:
    """1 where the right mark is reached, for steps that lead to ``next_observation``."""
    marks = next_observation[ENVIRONMENT].astype(np.float64).reshape(-1, spec.entities, spec.entity_size)
    right = marks[np.arange(len(marks)), meant(tasks, marks), :2]
    reached: np.ndarray = np.linalg.norm(right - next_observation[STATE][:, :2], axis=-1) < REACH
    return reached.astype(np.float64)


def _marks(task: Task, seed: int) -> Float[np.ndarray, "mark dim"]:
    """Both marks at distance 1, one left and one right, one up and one down (so that a mirrored way to one never
    ends at the other)."""
    rng = generator("toy scene", task.name, seed)
    angle = rng.uniform(0.35, 0.8, 2)
    up = rng.choice([-1.0, 1.0])
    left = np.array([-np.cos(angle[0]), up * np.sin(angle[0])])
    right = np.array([np.cos(angle[1]), -up * np.sin(angle[1])])
    return np.stack([right, left] if _swapped(seed) else [left, right])
