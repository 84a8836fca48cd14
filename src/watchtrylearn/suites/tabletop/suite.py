"""The tabletop suite: two kitchen objects, two coloured buttons, one gripper, four families of tasks.

A task refers to its target by *identity* ("the mug", "the red button") or by *place* ("the one on the
left"); half of each. Scene seeds decide the arrangement. **What lies on which side alternates with the
seed's parity**: in even scenes object A and button colour 0 are on the left, in odd scenes on the right. So
among consecutive seeds exactly half are in conflict with a given demonstration: scenes where the two
readings of it disagree. Everything else about a scene is drawn from ``generator("scene", task.name,
seed)``.

Entity slots (``environment_state``; ``target``): 0 object A, 1 object B, 2 the button of colour 0, 3 of
colour 1.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from watchtrylearn.ops.random import generator
from watchtrylearn.ops.symmetry import Symmetry
from watchtrylearn.suites.kitchen.objects import KitchenObject, kitchen_objects
from watchtrylearn.suites.tabletop import arrange, expert
from watchtrylearn.suites.tabletop.judge import Judge
from watchtrylearn.suites.tabletop.model import ModelRow, SharedModel, build
from watchtrylearn.suites.tabletop.world import TabletopWorlds
from watchtrylearn.types import (
    ACTION,
    ENVIRONMENT,
    SPLITS,
    STATE,
    Channel,
    Episode,
    Scalar,
    Spec,
    Split,
    Task,
    WtlError,
)

FAMILIES = ("button", "grasp", "push", "place")
READINGS = ("identity", "place")
SIDES = ("left", "right")
TASKS_PER_FAMILY: dict[Split, int] = {"train": 130, "val": 10, "test": 10}
SLOTS = ("object A", "object B", "button 0", "button 1")
COLOURS: dict[str, tuple[float, float, float, float]] = {
    "red": (0.80, 0.16, 0.14, 1.0),
    "green": (0.18, 0.60, 0.26, 1.0),
    "blue": (0.14, 0.34, 0.78, 1.0),
    "yellow": (0.94, 0.78, 0.16, 1.0),
    "orange": (0.93, 0.48, 0.12, 1.0),
    "purple": (0.50, 0.24, 0.62, 1.0),
    "white": (0.92, 0.92, 0.90, 1.0),
    "black": (0.08, 0.08, 0.09, 1.0),
}

_POSE = ("x", "y", "z", "rx", "ry", "rz")
_WORKSPACE = ((-0.46, -0.32, 0.012, -0.6, -0.6, -2.2, 0.0), (0.46, 0.36, 0.34, 0.6, 0.6, 2.2, 0.08))
_ENTITY = ("x", "y", "z", "qw", "qx", "qy", "qz")
_REACHED = ((-0.7, -0.6, -0.03, -3.2, -3.2, -3.2, -0.02), (0.7, 0.6, 0.6, 3.2, 3.2, 3.2, 0.1))

SPEC = Spec(
    fps=10,
    horizon=50,
    observation={
        STATE: Channel(
            (*_POSE, "opening", *(f"{name} velocity" for name in (*_POSE, "opening"))),
            (*_REACHED[0], *(-4.0,) * 3, *(-40.0,) * 3, -4.0),
            (*_REACHED[1], *(4.0,) * 3, *(40.0,) * 3, 4.0),
        ),
        ENVIRONMENT: Channel(
            tuple(f"{slot} {name}" for slot in SLOTS for name in _ENTITY),
            (-2.0, -2.0, -0.1, 0.0, -1.0, -1.0, -1.0) * len(SLOTS),
            (2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0) * len(SLOTS),
        ),
    },
    action=Channel((*_POSE, "opening"), *_WORKSPACE),
    entities=len(SLOTS),
    position=3,
    commands_state=True,
)

# Left becomes right. Of positions and velocities x changes its sign; of rotations, which are axial, y and z do. Objects
# become their mirror images too (a handle that pointed along their own x axis points against it): no observation shows
# shapes.
_MIRRORED = ("x", "ry", "rz")
MIRROR = Symmetry(
    "left and right",
    negated={
        STATE: (*_MIRRORED, *(f"{name} velocity" for name in _MIRRORED)),
        ENVIRONMENT: tuple(f"{slot} {name}" for slot in SLOTS for name in ("x", "qy", "qz")),
        ACTION: _MIRRORED,
    },
)
# What was called A is called B, and so with the buttons: nothing moves, a task just lists its things in another order.
# Both at once, since what is on the left is A and button 0, or B and button 1.
SWAP = Symmetry(
    "first and second",
    exchanged={
        ENVIRONMENT: tuple(
            (f"{one} {name}", f"{other} {name}") for one, other in (SLOTS[:2], SLOTS[2:]) for name in _ENTITY
        )
    },
)


class Tabletop:
    """The suite ``tabletop``; see the module's text. ``nthread``: threads that step worlds, 0 for all."""

    name = "tabletop"
    spec = SPEC

    def __init__(self, nthread: int = 0) -> None:
        self.nthread = nthread

    def tasks(self, split: Split) -> list[Task]:
        """The tasks of a split, family by family in turn; objects come from the split's own set."""
        if split not in SPLITS:
            raise WtlError(f"unknown split {split!r}; did you mean one of {', '.join(SPLITS)}?")
        return list(_tasks(split))

    def worlds(self, tasks: Sequence[Task], seeds: Sequence[int]) -> TabletopWorlds:
        """One world per task, in the scenes given by ``seeds``."""
        shared = library()
        return TabletopWorlds(
            shared=shared,
            spec=SPEC,
            tasks=tasks,
            seeds=seeds,
            rows=[model_row(task) for task in tasks],
            start=functools.partial(arrange.start, shared),
            judge=_judge,
            nthread=self.nthread,
        )

    def target(self, task: Task, seed: int) -> int:
        """The entity slot of the right target in scene ``seed``."""
        return 2 * (task.family == "button") + _chosen(task, arrange.swapped(seed))

    def conflict(self, task: Task, demo_seed: int, seed: int) -> bool:
        """Do the two readings of a demonstration in scene ``demo_seed`` disagree in scene ``seed``?"""
        return arrange.swapped(demo_seed) != arrange.swapped(seed)

    def ceiling(self, family: str, *, demos: int, trials: int, subset: str, scene: str = "same") -> float | None:
        """The best possible success rate: one demonstration leaves two readings, one trial settles which.

        Where they disagree nothing tells them apart, so half of those scenes fail at the first attempt; the
        outcome of any attempt at one of the two names the other. In a new scene that only helps if the trial's
        scene was in conflict (half of them): elsewhere both readings explain the outcome, however often one
        tries. Demonstrations in both arrangements leave one reading. Unknown (None) without a demonstration.
        """
        if demos == 0:
            return None
        if demos > 1 or (trials and scene == "same"):
            return 1.0
        guessed = {"all": 0.75, "conflict": 0.5}[subset]
        return (1.0 + guessed) / 2 if trials else guessed

    def demonstrate(self, task: Task, seed: int) -> Episode:
        """One successful demonstration in scene ``seed``; raises ``WtlError`` if the expert fails there."""
        episode = self.demonstrations([task], [seed])[0]
        if not episode.success:
            raise WtlError(f"the scripted demonstrator failed at task {task.name} in scene {seed}; take another scene")
        return episode

    def demonstrations(self, tasks: Sequence[Task], seeds: Sequence[int]) -> list[Episode]:
        """The expert's attempts at many tasks at once, failures included (``success`` tells)."""
        targets = [self.target(task, seed) for task, seed in zip(tasks, seeds, strict=True)]
        return expert.demonstrations(self.worlds(tasks, seeds), targets)

    def symmetries(self) -> list[Symmetry]:
        """Mirror images, and the things of a task listed in the other order."""
        return [MIRROR, SWAP]

    def film(
        self, episodes: Sequence[Episode], on_clip: Callable[[], None] | None = None
    ) -> list[UInt8[np.ndarray, "time height width 3"]]:
        """The frames of each episode of one story, one per control step until there is nothing more to see."""
        from watchtrylearn.suites.tabletop.film import film

        return film(self, episodes, on_clip=on_clip)


def make() -> Tabletop:
    return Tabletop()


@functools.cache
def library() -> SharedModel:
    """The layout with every object of every split: any task is a row of it."""
    return build(kitchen_objects())


def find_task(task: Task | str) -> Task:
    """The task of this name; an unknown name is refused with the nearest right one."""
    if isinstance(task, Task):
        return task
    known = {each.name: each for split in SPLITS for each in _tasks(split)}
    if task not in known:
        near = difflib.get_close_matches(task, known, n=1, cutoff=0.0)[0]
        raise WtlError(f"unknown tabletop task {task!r}; did you mean {near!r}?")
    return known[task]


def model_row(task: Task) -> ModelRow:
    """The model parameters of a task."""
    objects, colours = (task["object A"], task["object B"]), (task["colour 0"], task["colour 1"])
    return ModelRow((str(objects[0]), str(objects[1])), (COLOURS[str(colours[0])], COLOURS[str(colours[1])]))


def _judge(tasks: Sequence[Task], swapped: Sequence[int] | Bool[np.ndarray, "world"]) -> Judge:
    return Judge(
        families=[task.family for task in tasks],
        target=np.array([_chosen(task, int(other)) for task, other in zip(tasks, swapped, strict=True)]),
        side=np.array([arrange.goal_side(task) for task in tasks]),
    )


def _chosen(task: Task, swapped: int) -> int:
    """0 or 1: which of the two objects, or of the two buttons, is meant; ``swapped``: the first one is on the right."""
    value = int(task["value"])
    return value if task["reading"] == "identity" else value ^ swapped


# --------------------------------------------------------------------------------------------------- tasks


@functools.cache
def _tasks(split: Split) -> tuple[Task, ...]:
    objects = kitchen_objects(split)
    per_family = [_family(family, split, objects) for family in FAMILIES]
    return tuple(task for group in zip(*per_family, strict=True) for task in group)


def _family(family: str, split: Split, objects: Sequence[KitchenObject]) -> list[Task]:
    """The tasks of one family: no two share the same pair of objects in the same order."""
    rng = generator("tasks", family, split)
    seen: set[tuple[str, str]] = set()
    tasks: list[Task] = []
    while len(tasks) < TASKS_PER_FAMILY[split]:
        a, b = (objects[i] for i in rng.choice(len(objects), 2, replace=False))
        colours = [str(c) for c in rng.choice(list(COLOURS), 2, replace=False)]
        if a.kind != b.kind and (a.name, b.name) not in seen:
            seen.add((a.name, b.name))
            tasks.append(_task(family, split, len(tasks), (a, b), colours))
    return tasks


def _task(family: str, split: Split, number: int, objects: Sequence[KitchenObject], colours: Sequence[str]) -> Task:
    """Reading, value and goal go through all combinations as ``number`` counts up."""
    reading, value, goal = READINGS[number % 2], number // 2 % 2, SIDES[number // 4 % 2]
    parameters: list[tuple[str, Scalar]] = [
        ("reading", reading),
        ("value", value),
        ("object A", objects[0].name),
        ("object B", objects[1].name),
        ("colour 0", colours[0]),
        ("colour 1", colours[1]),
    ]
    if family == "place":
        parameters.append(("goal", goal))
    sentence = _sentence(family, reading, value, goal, [item.kind for item in objects], colours)
    return Task("tabletop", family, f"{family}-{split}-{number:03d}", split, sentence, tuple(parameters))


def _sentence(family: str, reading: str, value: int, goal: str, kinds: Sequence[str], colours: Sequence[str]) -> str:
    """What a person would say."""
    named = reading == "identity"
    if family == "button":
        return f"press the {colours[value]} button" if named else f"press the button on the {SIDES[value]}"
    target = f"the {kinds[value]}" if named else f"the object on the {SIDES[value]}"
    other = f"the {kinds[1 - value]}" if named else "the other one"
    return {
        "grasp": f"lift {target}",
        "push": f"push {target} into {other}",
        "place": f"put {target} at the {goal} edge",
    }[family]
