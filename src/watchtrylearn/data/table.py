"""What is known of each episode before anything is read of it: whose it is, and what it can be used for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int

from watchtrylearn.ops.interaction import acted_on
from watchtrylearn.types import ENVIRONMENT, STATE, Episode, Spec


class EpisodeFacts(NamedTuple):
    """What sampling needs to know of one episode; failed demonstrations and diverged episodes have no role in
    training.

    ``acted_on``: which entity of the spec it acted on; -1 where nobody can say. ``watched``: ``Episode.watched``.
    """

    task: str
    scene: int
    length: int
    is_demo: bool
    is_trial: bool
    acted_on: int = -1
    watched: tuple[int, ...] = ()

    @staticmethod
    def of(episode: Episode, spec: Spec | None = None) -> EpisodeFacts:
        usable = not episode.diverged and len(episode) > 0
        is_demo, is_trial = episode.kind == "demo" and bool(episode.success), episode.kind == "trial"
        return EpisodeFacts(
            task=episode.task.name,
            scene=episode.seed,
            length=len(episode),
            is_demo=usable and is_demo,
            is_trial=usable and is_trial,
            acted_on=entity_acted_on(episode, spec) if usable and spec is not None else -1,
            watched=episode.watched,
        )


def entity_acted_on(episode: Episode, spec: Spec) -> int:
    """The entity that the episode acts on: what the effector came nearest to; -1 where the spec lists no entities with
    positions."""
    if not (spec.entities and spec.position):
        return -1
    things = episode.observation[ENVIRONMENT].reshape(len(episode), spec.entities, spec.entity_size)
    effector, things = episode.observation[STATE][:, : spec.position], things[..., : spec.position]
    exists = torch.ones(len(episode), dtype=torch.bool)
    return int(acted_on(torch.from_numpy(effector), torch.from_numpy(things), exists))


@dataclass(frozen=True)
class EpisodeTable:
    """What sampling needs to know about each episode (a row each): plain integers, any tasks, any scenes.

    ``acted_on`` is the entity that the episode acted on, -1 if unknown; ``watched`` are the rows of the demonstrations
    that the policy of a trial had been shown, then -1.
    """

    task: Int[np.ndarray, "episode"]
    scene: Int[np.ndarray, "episode"]
    length: Int[np.ndarray, "episode"]
    is_demo: Bool[np.ndarray, "episode"]
    is_trial: Bool[np.ndarray, "episode"]
    acted_on: Int[np.ndarray, "episode"]
    watched: Int[np.ndarray, "episode shown"]

    @staticmethod
    def of(episodes: Sequence[Episode], spec: Spec | None = None) -> EpisodeTable:
        """The table of ``episodes``; failed demonstrations and diverged episodes have no role in training. What they
        acted on is found with their ``spec``."""
        return EpisodeTable.from_facts([EpisodeFacts.of(episode, spec) for episode in episodes])

    @staticmethod
    def from_facts(facts: Sequence[EpisodeFacts]) -> EpisodeTable:
        names = {name: number for number, name in enumerate(sorted({fact.task for fact in facts}))}
        demos = {(fact.task, fact.scene): row for row, fact in enumerate(facts) if fact.is_demo}
        watched = np.full((len(facts), max([0, *(len(fact.watched) for fact in facts)])), -1)
        for row, fact in enumerate(facts):
            for shot, scene in enumerate(fact.watched):
                watched[row, shot] = demos.get((fact.task, scene), -1)
        return EpisodeTable(
            task=np.array([names[fact.task] for fact in facts], int),
            scene=np.array([fact.scene for fact in facts], int),
            length=np.array([fact.length for fact in facts], int),
            is_demo=np.array([fact.is_demo for fact in facts], bool),
            is_trial=np.array([fact.is_trial for fact in facts], bool),
            acted_on=np.array([fact.acted_on for fact in facts], int),
            watched=watched,
        )
