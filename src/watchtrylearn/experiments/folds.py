"""Cross-fitting: trials at training tasks by policies that were not trained on those tasks.

A policy that has been trained on a task by heart does not err there as it will at new ones, and who learns from its
trials learns that answers carry no news. So the training tasks are dealt out into folds; for each fold one more policy
is trained without it, and makes the trials of its tasks. The folds are random, since tasks may be listed in any order
that means something.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from watchtrylearn.experiments.run import Run
from watchtrylearn.ops.random import generator
from watchtrylearn.types import Context, Explorer, Observation, Policy, Task, WtlError

FOLDS = "folds"  # in the folder of a method: its further trainings, each in a folder of its own number


def fold_directories(run: Run, name: str) -> list[Path]:
    """Where the further trainings of method ``name`` are, fold by fold; none if it is not cross-fitted."""
    return [run.directory / name / FOLDS / str(fold) for fold in range(run.experiment.method(name).folds)]


def fold_of(run: Run, tasks: Sequence[Task], folds: int) -> dict[str, int]:
    """The fold of each task, by its name: those of a family are dealt out evenly."""
    families: dict[str, list[str]] = {}
    for task in tasks:
        families.setdefault(task.family, []).append(task.name)
    if folds > len(tasks):
        raise WtlError(f"{folds} folds need as many training tasks, and there are {len(tasks)}")
    found: dict[str, int] = {}
    for family, names in families.items():
        dealt = generator("folds", run.experiment.seed, family).permutation(len(names))
        found |= {names[position]: (len(found) + place) % folds for place, position in enumerate(dealt.tolist())}
    return found


def explored(explorers: Sequence[Explorer], fold: Int[np.ndarray, "world"], contexts: Sequence[Context]) -> Policy:
    """The policy by which each explorer tries in the worlds of its own ``fold``."""
    own = [np.flatnonzero(fold == number) for number in range(len(explorers))]
    return Divided(
        [
            (explorer.explore([contexts[world] for world in worlds.tolist()]), worlds)
            for explorer, worlds in zip(explorers, own, strict=True)
            if len(worlds)
        ]
    )


class Divided:
    """Several policies, each of which acts in the worlds whose numbers are beside it."""

    def __init__(self, parts: Sequence[tuple[Policy, Int[np.ndarray, "own"]]]) -> None:
        self.parts = parts

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        for policy, worlds in self.parts:
            policy.reset([rngs[world] for world in worlds])

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        acted = [
            policy.act({name: values[worlds] for name, values in observation.items()}) for policy, worlds in self.parts
        ]
        order = np.argsort(np.concatenate([worlds for _, worlds in self.parts]))
        found: np.ndarray = np.concatenate(acted)[order]
        return found
