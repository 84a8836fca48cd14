"""Rounds of episodes that a learner gathers while it is trained: when, with which randomness, and where they are kept.

What a round gathers is a function of the weights, the seed and the round's number, and a checkpoint notes how many
rounds there were. Later ones are dropped on resumption, and gathered again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta

from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.ops.random import generator
from watchtrylearn.system.files import parse_typed, sync_directory
from watchtrylearn.types import Episode, Learner, Spec, WtlError, canonical_json

FOLDER = "gathered"
Collect = Callable[[Learner, int, int], Sequence[Episode]]  # (learner, seed, number of the round) -> episodes

_ROUND = re.compile(r"^round-(\d{6,})$")
_LEFTOVER = re.compile(r"^\.round-\d{6,}\.tmp$")


@dataclass(frozen=True)
class _Facts:
    """What is known of a round without reading it."""

    frames: int
    digest: str


class Datasets:
    """The folder ``gathered`` of a training: datasets ``round-000000``, ``round-000001``, ..., whole or not there.

    A round is written under a temporary name and renamed, so a crash leaves those before it and perhaps a leftover that
    nobody reads. What is learned from is always what was read back, so that a training which is resumed sees the same
    numbers to the last bit.
    """

    def __init__(self, directory: Path, spec: Spec) -> None:
        self.path, self.spec = directory / FOLDER, spec
        self._facts: dict[int, _Facts] = {}
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if _LEFTOVER.match(path.name):
                shutil.rmtree(path)

    def numbers(self) -> list[int]:
        """The rounds that are there, oldest first."""
        names = [path.name for path in self.path.iterdir()] if self.path.is_dir() else []
        return sorted(int(found[1]) for found in map(_ROUND.match, names) if found)

    def write(self, number: int, episodes: Sequence[Episode]) -> list[Episode]:
        """Store a round; when this returns it is on the disk. Returns its episodes as ``read`` does."""
        temporary = self._folder(number, temporary=True)
        with EpisodeStore.create(temporary, self.spec, executed=True) as store:
            store.append_attempts(episodes)
        self._rename(temporary, self._folder(number))
        return self.read(number)

    def read(self, number: int) -> list[Episode]:
        """The episodes of a round that one may learn from: those that did not diverge."""
        return [episode for episode in EpisodeStore.open(self._folder(number), self.spec) if not episode.diverged]

    def frames(self, number: int) -> int:
        """How many frames ``read`` returns: one more than steps of every episode."""
        return self._known(number).frames

    def digest(self, numbers: Sequence[int]) -> str:
        """SHA-256 of what these rounds hold."""
        content = [f"{number}:{self._known(number).digest}" for number in numbers]
        return hashlib.sha256("\n".join(content).encode()).hexdigest()

    def drop(self, numbers: Sequence[int]) -> None:
        """Remove rounds, newest first."""
        for number in sorted(numbers, reverse=True):
            temporary = self._folder(number, temporary=True)
            self._rename(self._folder(number), temporary)
            shutil.rmtree(temporary)
            self._facts.pop(number, None)

    def _known(self, number: int) -> _Facts:
        if number not in self._facts:
            store = EpisodeStore.open(self._folder(number), self.spec)
            frames = sum(record.length + 1 for record in store.records if not record.diverged)
            self._facts[number] = _Facts(frames, store.digest())
        return self._facts[number]

    def _folder(self, number: int, temporary: bool = False) -> Path:
        return self.path / (f".round-{number:06d}.tmp" if temporary else f"round-{number:06d}")

    def _rename(self, old: Path, new: Path) -> None:
        try:
            os.replace(old, new)
            sync_directory(self.path)
        except OSError as error:
            raise WtlError(f"cannot rename {old}: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Noted:
    """What a checkpoint says of the rounds."""

    rounds: Annotated[int, Meta(ge=0)] = 0
    sha256: str = ""


class Rounds:
    """The rounds of a training: ``collect(learner, seed, number)`` makes one before step 0, ``every``, 2 ``every``, ...

    Attributes:
        needed_frames: so many of the newest are needed to go on; older ones go once no checkpoint asks for them.
        count: how many rounds there have been.
    """

    def __init__(self, collect: Collect, spec: Spec, every: int, needed_frames: int) -> None:
        self.collect, self.spec, self.every, self.needed_frames = collect, spec, every, needed_frames
        self.count = 0
        self._measures: dict[str, float] = {}

    def begin(self, learner: Learner, directory: Path, seed: int, gathered: Mapping[str, Any]) -> None:
        """As they were when they said ``gathered``; later ones are dropped."""
        self.learner, self.seed, self.stored = learner, seed, Datasets(directory, self.spec)
        noted = parse_typed(canonical_json(gathered), _Noted, f"what the checkpoint of {directory} says was gathered")
        self.count, self._measures = noted.rounds, {}
        self.stored.drop([number for number in self.stored.numbers() if number >= self.count])
        try:
            found = self.gathered()
        except WtlError as error:
            raise WtlError(f"{error}; remove {directory} to train again") from error
        if found != gathered:
            raise WtlError(
                f"{self.stored.path} does not hold what the checkpoint of {directory} was trained on; "
                "remove that folder to train again"
            )

    def gathered(self) -> dict[str, Any]:
        """How many rounds there have been, and what those hold that are needed to go on."""
        needed = self.needed(self.count)
        return {"rounds": self.count, "sha256": self.stored.digest(needed)} if self.count else {}

    def needed(self, count: int) -> list[int]:
        """The rounds that a training needs after the first ``count``: the newest, with ``needed_frames`` in them."""
        first, frames = count, 0
        while first > 0 and frames < self.needed_frames:
            first -= 1
            frames += self.stored.frames(first)
        return list(range(first, count))

    def due(self, step: int) -> bool:
        """Whether a round is made before ``step``."""
        return step % self.every == 0

    def gather(self, step: int) -> list[Episode] | None:
        """The episodes of the round that is due before ``step``, None if none is: it is on the disk then."""
        number = step // self.every
        if number < self.count:
            return None
        self.learner.train(False)
        with torch.random.fork_rng():
            seed_torch("gather", self.seed, number)
            episodes = self.collect(self.learner, self.seed, number)
        self.learner.train(True)
        kept = self.stored.write(number, episodes)
        self.count = number + 1
        self._measures = _measures(kept, len(episodes))
        return kept

    def measures(self) -> dict[str, float]:
        """How the attempts of a round gathered since the last call went, for the log."""
        found, self._measures = self._measures, {}
        return found

    def read(self, number: int) -> list[Episode]:
        """The episodes of a round that one may learn from."""
        return self.stored.read(number)

    def saved(self, oldest: int) -> None:
        """Remove the rounds that a training does not need any more which goes on from step ``oldest`` or later."""
        needed = self.needed(min(self.count, -(-oldest // self.every)))
        first = needed[0] if needed else 0
        self.stored.drop([number for number in self.stored.numbers() if number < first])


def _measures(kept: Sequence[Episode], count: int) -> dict[str, float]:
    """The means over the sound ones of ``count`` episodes, and the share of those that diverged."""
    found = {"gathered/diverged": 1 - len(kept) / max(1, count)}
    if kept:
        found["gathered/return"] = float(np.mean([episode.reward.sum(dtype=np.float64) for episode in kept]))
        found["gathered/success"] = float(np.mean([episode.success for episode in kept]))
        found["gathered/steps"] = float(np.mean([len(episode) for episode in kept]))
    return found


def seed_torch(*keys: str | int) -> None:
    """What is drawn from torch's own generators is a function of ``keys`` too, as everything else."""
    number = int(generator(*keys).integers(2**63))
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
