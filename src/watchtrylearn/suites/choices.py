r"""One of N marks: point tasks whose optimum is known with and without a demonstration, after any number of trials.

As ``toy``, a point starts at the centre of a plane and must reach the right mark; reaching any mark ends the attempt
with a yes or a no. The N marks lie on the half circle before it, and the right one is meant by *identity* ("mark C") or
by *place* ("the third mark from the left"), half of the tasks each. In scene ``seed`` mark ``i`` lies at place
``(i + seed) mod N``: two scenes whose seeds differ by a multiple of N are arranged alike, in all others every mark has
another place. So the two readings of a demonstration agree in one scene of N, and are in conflict in the others.

Every mark has a size and a height, drawn once per task, as a real object looks like itself in every scene. They say
nothing about which mark is right. But a network can know a training task by them and learn its answer by heart, and a
network that does has no use for demonstrations and outcomes, and nothing to say about a new task.

Optimal success, by counting. All is over arrangements and tasks in equal shares.

*One demonstration* leaves two readings. The first attempt succeeds in agreeing scenes, and in half of the conflicting
ones: 1/N + (1 - 1/N)/2 = (N + 1)/(2N) over all. There any outcome tells the readings apart, so later attempts succeed.
In a *new scene*, trials elsewhere have settled the reading unless their scene was arranged as the demonstration's
(1/N): then the chance is that of a first attempt.

*No demonstration* leaves N marks, each as likely as another: k failures exclude k of them, so an attempt after k trials
succeeds with (k + 1)/N. In a *new scene*, arranged d places on from the trials': a mark that was found (k/N) is as good
as a demonstration, (N + 1)/(2N). Else U, the N - k marks not tried, leaves 2(N - k) hypotheses, two for each of the new
scene's marks that is in U and lies where another of U lay, for others one or none. If there is such a mark the chance
is 1/(N - k), else half of it. There is one for D of the N values of d, where D is the number of differences between
members of U modulo N (0 included); trials are chosen so that D is largest. Together

    k/N (N + 1)/(2N) + (N - k)/N (1 + D/N)/2 1/(N - k)  =  (k (N + 1) + N + D) / (2 N^2),

for N = 4 and k = 0, 1, 2, 3: D = 4, 4, 3, 1, hence 8/32, 13/32, 17/32, 20/32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

from watchtrylearn.ops.random import generator
from watchtrylearn.ops.symmetry import Symmetry
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites.toy import READINGS, STEP, STEPS, PointWorlds, StraightWay, paid
from watchtrylearn.system.config import require_within
from watchtrylearn.types import ACTION, ENVIRONMENT, STATE, Channel, Episode, Spec, Split, Task, WtlError

FAMILY = "choice"
DRAWS: dict[Split, int] = {"train": 16, "val": 4, "test": 4}  # tasks of each reading and value
LOOKS = ("size", "height")
MOST = 8  # marks; more would lie in each other's way
JITTER = 0.2  # how far a mark lies off its place, as a share of the distance to the next


class Choices:
    """The suite ``choices`` of ``marks`` marks; see the module's text for the tasks and their optima."""

    name = "choices"

    def __init__(self, marks: int = 4) -> None:
        self.marks = marks
        require_within("", self, marks=(2, MOST))
        numbers = [f"{_letter(i)} {number}" for i in range(marks) for number in ("x", "y", *LOOKS)]
        self.spec = Spec(
            fps=10,
            horizon=STEPS,
            observation={
                STATE: Channel(("x", "y"), (-2.0, -2.0), (2.0, 2.0)),
                ENVIRONMENT: Channel(tuple(numbers), (-1.0, -1.0, 0.0, 0.0) * marks, (1.0,) * 4 * marks),
            },
            action=Channel(("dx", "dy"), (-STEP, -STEP), (STEP, STEP)),
            entities=marks,
            position=2,
        )

    def tasks(self, split: Split) -> list[Task]:
        """All combinations of reading and value in turn, as often as the split has draws of looks."""
        if split not in DRAWS:
            raise WtlError(f"unknown split {split!r}; did you mean one of {', '.join(DRAWS)}?")
        return [self._task(split, number) for number in range(DRAWS[split] * len(READINGS) * self.marks)]

    def worlds(self, tasks: Sequence[Task], seeds: Sequence[int]) -> PointWorlds:
        return PointWorlds(tasks, seeds, self.spec, self._scene)

    def target(self, task: Task, seed: int) -> int:
        """The slot of the right mark in scene ``seed``."""
        value = int(task["value"])
        return value if task["reading"] == "identity" else (value - seed) % self.marks

    def conflict(self, task: Task, demo_seed: int, seed: int) -> bool:
        """Do the two readings of a demonstration in scene ``demo_seed`` disagree in scene ``seed``?"""
        return (demo_seed - seed) % self.marks != 0

    def ceiling(self, family: str, *, demos: int, trials: int, subset: str, scene: str = "same") -> float | None:
        """The optimum, as the module's text derives it. Several demonstrations: in different arrangements."""
        n = self.marks
        if demos > 1:
            return 1.0
        if demos == 0:
            k = min(trials, n - 1)
            return (k + 1) / n if scene == "same" else (k * (n + 1) + n + _differences(n, n - k)) / (2 * n**2)
        first = {"all": (n + 1) / (2 * n), "conflict": 1 / 2}[subset]
        settled = 0.0 if trials == 0 else 1.0 if scene == "same" else 1 - 1 / n
        return settled + (1 - settled) * first

    def symmetries(self) -> Sequence[Symmetry]:
        """Mirror images, in which the marks are listed in the reverse order; one of them begins with another mark.

        Mark ``i`` becomes ``c - i`` and place ``p`` becomes ``N - 1 - p``, so the scene of seed ``s`` becomes one of
        ``N - 1 - c - s``. One mirror after the other renumbers the marks.
        """
        return [
            self._mirror("left and right, A to the last", self.marks - 1),
            self._mirror("left and right, A to A", 0),
        ]

    def reward(
        self,
        tasks: Sequence[Task],
        observation: Mapping[str, np.ndarray],
        action: Float[np.ndarray, "batch act"],
        next_observation: Mapping[str, np.ndarray],
    ) -> Float[np.ndarray, "batch"]:
        """1 where the right mark is reached; an attempt ends there."""
        return paid(self.spec, tasks, next_observation)

    def demonstrate(self, task: Task, seed: int) -> Episode:
        """The straight way to the right mark."""
        return self.demonstrations([task], [seed])[0]

    def demonstrations(self, tasks: Sequence[Task], seeds: Sequence[int]) -> list[Episode]:
        worlds = self.worlds(tasks, seeds)
        return rollout(StraightWay(worlds), worlds, kind="demo")

    def _mirror(self, name: str, last: int) -> Symmetry:
        letters = [_letter(i) for i in range(self.marks)]
        pairs = [(i, (last - i) % self.marks) for i in range(self.marks)]
        exchanged = [(letters[i], letters[j]) for i, j in pairs if i < j]
        return Symmetry(
            name,
            negated={STATE: ("x",), ENVIRONMENT: [f"{letter} x" for letter in letters], ACTION: ("dx",)},
            exchanged={ENVIRONMENT: [(f"{a} {n}", f"{b} {n}") for a, b in exchanged for n in ("x", "y", *LOOKS)]},
        )

    def _task(self, split: Split, number: int) -> Task:
        reading, value = READINGS[number % 2], number // 2 % self.marks
        name = f"{FAMILY}-{split}-{number:03d}"
        looks = generator("choices looks", name).uniform(size=(self.marks, len(LOOKS))).round(3)
        mark = f"mark {_letter(value)}" if reading == "identity" else f"mark {value + 1} from the left"
        own = [(f"{_letter(i)} {look}", float(looks[i, j])) for i in range(self.marks) for j, look in enumerate(LOOKS)]
        return Task(self.name, FAMILY, name, split, f"go to {mark}", (("reading", reading), ("value", value), *own))

    def _scene(self, task: Task, seed: int) -> Float[np.ndarray, "mark number"]:
        """Position and looks of every mark: on the half circle of radius 1, near the place that the seed gives it."""
        n, rng = self.marks, generator("choices scene", task.name, seed)
        place = (np.arange(n) + seed) % n
        angle = np.pi * (1 - (place + 0.5 + rng.uniform(-JITTER, JITTER, n)) / n)
        looks = [[float(task[f"{_letter(i)} {look}"]) for look in LOOKS] for i in range(n)]
        return np.concatenate([np.stack([np.cos(angle), np.sin(angle)], 1), looks], 1)


def make() -> Choices:
    return Choices()


def _letter(mark: int) -> str:
    return "ABCDEFGH"[mark]


def _differences(n: int, size: int) -> int:
    """The most differences modulo ``n`` that there can be between ``size`` numbers below ``n``, 0 included."""
    return max(len({(a - b) % n for a in chosen for b in chosen}) for chosen in combinations(range(n), size))
