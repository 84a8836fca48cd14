"""The suite ``push``: a seven-jointed arm, driven by torques, pushes the right one of two objects onto a red disk.

The counterpart of the simulated pushing of Finn et al. 2017 (one-shot visual imitation learning), with an arm, objects
and pictures of our own. A task is a pair of objects (shape, size, paint, mass, friction of each) and which of the two
is meant; every pair makes two tasks, so only a demonstration tells. New in a new scene: where the objects stand, which
of them is on which side (a coin for each scene), and, by a little, how the arm begins. Shapes and paint are split:
those of test tasks are never seen in training.

An attempt lasts all of its 100 steps. It succeeds if the middle of the right object was within the disk as it is drawn
for ten steps; the term ``loose`` is 1 where it would by the rule in the authors' code, within 0.13 m.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from watchtrylearn.ops.random import generator
from watchtrylearn.suites.kitchen.objects import kitchen_names
from watchtrylearn.suites.push import expert
from watchtrylearn.suites.push.model import CHANNEL, GOAL, HIGH, JOINTS, LOW, OBJECTS, SUBSTEPS, TIMESTEP, Thing
from watchtrylearn.suites.push.textures import TEXTURES
from watchtrylearn.suites.push.world import PushWorlds, Start
from watchtrylearn.types import (
    SPLITS,
    STATE,
    Channel,
    Episode,
    ImageChannel,
    Scalar,
    Spec,
    Split,
    Task,
    WtlError,
)

IMAGES = (125, 125)  # width and height of the camera's images (pixels), as in the paper
TASKS: dict[Split, int] = {"train": 700, "val": 40, "test": 74}
THIN = ("ladle", "spatula")  # kinds of which a small image shows a few pixels; left out
SIZE = (0.060, 0.082)  # of objects: radius of the outline (m)
MASS = (0.15, 0.9)  # kilograms, even in the logarithm
FRICTION = (0.15, 0.5)
ASIDE = (0.07, 0.23)  # |x| of an object
DEPTH = (-0.08, 0.13)  # its y
FAR, ROOM = 0.17, 0.07  # least distance (m) of an object from the middle of the disk; between two outlines
SHAKE = 0.02  # radians by which each joint begins elsewhere, at most

_XYZ = ("x", "y", "z")


def spec(size: tuple[int, int] | None) -> Spec:
    """What an episode looks like, with images of ``size``, (width, height), or without if None."""
    slack, reach = 0.3, 2.0
    state = Channel(
        (*JOINTS, *(f"{name} velocity" for name in JOINTS), *(f"tip {c}" for c in _XYZ), *(f"goal {c}" for c in _XYZ)),
        (*(low - slack for low in LOW), *(-60.0,) * 7, *(-reach,) * 6),
        (*(high + slack for high in HIGH), *(60.0,) * 7, *(reach,) * 6),
    )
    camera = {} if size is None else {CHANNEL: ImageChannel(height=size[1], width=size[0])}
    return Spec(
        fps=round(1 / (TIMESTEP * SUBSTEPS)),
        horizon=100,
        observation={STATE: state, **camera},
        action=Channel(JOINTS, (-1.0,) * len(JOINTS), (1.0,) * len(JOINTS)),
    )


class Push:
    """The suite ``push``; see the module's text.

    Args:
        size: of the camera's images, width and height in pixels; on the command line ``--suite push@64x64``. None: no
            camera, for those who ask about the simulation alone.
        nthread: threads that step and draw worlds; 0 for all.
    """

    name = "push"

    def __init__(self, size: tuple[int, int] | None = IMAGES, nthread: int = 0) -> None:
        self.size, self.nthread, self.spec = size, nthread, spec(size)

    def tasks(self, split: Split) -> list[Task]:
        """The tasks of a split: both of the first pair, then both of the next."""
        if split not in SPLITS:
            raise WtlError(f"unknown split {split!r}; did you mean one of {', '.join(SPLITS)}?")
        return list(_tasks(split))

    def worlds(self, tasks: Sequence[Task], seeds: Sequence[int]) -> PushWorlds:
        """One world per task, in the scenes given by ``seeds``."""
        rows = [things(task) for task in tasks]
        chosen = [self.target(task, seed) for task, seed in zip(tasks, seeds, strict=True)]
        starts = [scene(task, seed) for task, seed in zip(tasks, seeds, strict=True)]
        camera = None if self.size is None else CHANNEL
        return PushWorlds(self.spec, tasks, seeds, rows, starts, chosen, camera, self.nthread)

    def target(self, task: Task, seed: int) -> int:
        """Which of the task's two objects is to be pushed, 0 or 1: the same in every scene."""
        return int(task["target"])

    def demonstrate(self, task: Task, seed: int) -> Episode:
        """One successful demonstration in scene ``seed``; raises ``WtlError`` if the expert fails there."""
        episode = self.demonstrations([task], [seed])[0]
        if not episode.success:
            raise WtlError(f"the scripted demonstrator failed at task {task.name} in scene {seed}; take another scene")
        return episode

    def demonstrations(self, tasks: Sequence[Task], seeds: Sequence[int]) -> list[Episode]:
        """The expert's attempts at many tasks at once, failures included (``success`` tells)."""
        return expert.demonstrations(self.worlds(tasks, seeds))

    def film(
        self, episodes: Sequence[Episode], on_clip: Callable[[], None] | None = None
    ) -> list[UInt8[np.ndarray, "time height width 3"]]:
        """The frames of each episode, from the side at viewing size; beside them what was seen, pixel by pixel."""
        from watchtrylearn.suites.push.film import film

        return film(Push(None, self.nthread), episodes, on_clip=on_clip)


def make(size: tuple[int, int] = IMAGES) -> Push:
    return Push(size)


def things(task: Task) -> tuple[Thing, Thing]:
    """What stands in the two slots of a task."""
    first, second = (
        Thing(
            shape=str(task[f"object {slot}"]),
            size=float(task[f"size {slot}"]),
            turn=float(task[f"turn {slot}"]),
            mass=float(task[f"mass {slot}"]),
            friction=float(task[f"friction {slot}"]),
            split=task.split,
            texture=int(task[f"texture {slot}"]),
        )
        for slot in range(OBJECTS)
    )
    return first, second


def scene(task: Task, seed: int) -> Start:
    """Where objects and arm are when an attempt begins; the same task and seed is the same scene, always."""
    rng = generator("push scene", task.name, seed)
    left = int(rng.integers(2))  # the slot whose object is on the left
    apart = sum(float(task[f"size {slot}"]) for slot in range(OBJECTS)) + ROOM
    for _ in range(1000):
        x, y = rng.uniform(*ASIDE, OBJECTS), rng.uniform(*DEPTH, OBJECTS)
        x[left] *= -1
        spots = np.stack([x, y], axis=1)
        if _clear(spots, apart):
            return Start(spots, rng.uniform(-SHAKE, SHAKE, len(JOINTS)))
    raise WtlError(f"no room on the table for the objects of task {task.name}")


def _clear(spots: Float[np.ndarray, "2 2"], apart: float) -> bool:
    """Are two objects far enough from the disk and from each other?"""
    far = np.linalg.norm(spots - GOAL, axis=1).min() >= FAR
    return bool(far and np.linalg.norm(spots[1] - spots[0]) >= apart)


@functools.cache
def _tasks(split: Split) -> tuple[Task, ...]:
    kinds = {name: kind for name, kind in kitchen_names(split).items() if kind not in THIN}
    rng = generator("push tasks", split)
    found: list[Task] = []
    while len(found) < TASKS[split]:
        pair = [str(name) for name in rng.choice(list(kinds), OBJECTS, replace=False)]
        paints = rng.choice(TEXTURES[split], OBJECTS, replace=False)
        drawn: list[tuple[str, Scalar]] = []
        for slot, shape in enumerate(pair):
            measures = {
                "size": rng.uniform(*SIZE),
                "turn": rng.uniform(-np.pi, np.pi),
                "mass": np.exp(rng.uniform(*np.log(MASS))),
                "friction": rng.uniform(*FRICTION),
            }
            drawn += [(f"object {slot}", shape), (f"texture {slot}", int(paints[slot]))]
            drawn += [(f"{name} {slot}", round(float(value), 4)) for name, value in measures.items()]
        if kinds[pair[0]] != kinds[pair[1]]:
            for target, shape in enumerate(pair):
                name = f"push-{split}-{len(found):03d}"
                sentence = f"push the {kinds[shape]} onto the red disk"
                found.append(Task("push", "push", name, split, sentence, (("target", target), *drawn)))
    return tuple(found)
