"""Episodes to learn from, in memory: every channel one flat array of frames, of which only what is asked for is copied.

A *frame* is one observation. An episode of ``length`` steps has ``length + 1`` of them, the last one after its last
action, and they lie in a row; nothing is padded. Rows number the episodes, the oldest first. What a batch holds is
gathered by index: numbers as whole episodes, padded to the horizon, images at chosen frames only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from watchtrylearn.data.table import EpisodeFacts, EpisodeTable
from watchtrylearn.ops.frames import spread_frames
from watchtrylearn.types import ACTION, Episode, EpisodeBatch, Spec, WtlError

REWARD = "reward"
NOTHING = -1  # the place of a frame that does not exist, which is all zeros


@runtime_checkable
class Frames(Protocol):
    """All frames of one channel, wherever they are."""

    def take(self, places: Int[np.ndarray, "*batch"]) -> Shaped[np.ndarray, "*batch ..."]:
        """Copies of the frames at ``places``; zeros where a place is ``NOTHING``."""

    @property
    def nbytes(self) -> int:
        """How much memory they occupy."""


class FramesInMemory:
    """Frames in one array, which grows where it must. (Its first row is the frame that does not exist.)"""

    def __init__(self, shape: Sequence[int], dtype: np.dtype, count: int) -> None:
        self._rows = np.zeros((count + 1, *shape), dtype)

    def take(self, places: Int[np.ndarray, "*batch"]) -> Shaped[np.ndarray, "*batch ..."]:
        return self._rows.take(places + 1, axis=0)

    def put(self, places: Int[np.ndarray, "frame"], values: Shaped[np.ndarray, "frame ..."]) -> None:
        self._rows[places + 1] = values

    def grow(self, count: int) -> None:
        rows = np.zeros((count + 1, *self._rows.shape[1:]), self._rows.dtype)
        rows[: len(self._rows)] = self._rows
        self._rows = rows

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes


def frames_of(episode: Episode, channel: str) -> Shaped[np.ndarray, "frame ..."]:
    """One frame more than steps. After the last action: ``final``, or what was seen last; action and reward are 0."""
    if channel in (ACTION, REWARD):
        values = getattr(episode, channel)
        last = np.zeros(values.shape[1:], values.dtype)
    else:
        values = episode.observation[channel]
        seen = values[-1] if len(values) else np.zeros(values.shape[1:], values.dtype)
        last = episode.final.get(channel, seen)
    return np.concatenate([values, last[None]])


class EpisodeMemory:
    """Episodes to draw training batches from; see the module's text for how they lie in memory.

    ::

        memory = EpisodeMemory(spec, episodes)
        batch = gather(memory, PairIndex(memory.table, sampling).sample(rng, 64))

    As a replay it is bounded: with ``capacity`` (in frames; an episode has one more than steps) the oldest episodes go
    where a new one needs their room, and ``nbytes`` never changes. Without, it grows by what is appended. ``images``
    says where the frames of a camera are if not in memory (``data/frames.py``); such a memory does not grow.

    Attributes:
        dropped: how many episodes were dropped so far to make room.
    """

    def __init__(
        self,
        spec: Spec,
        episodes: Sequence[Episode] = (),
        capacity: int | None = None,
        images: Mapping[str, Frames] | None = None,
    ) -> None:
        self.spec, self.capacity, self.dropped = spec, capacity, 0
        self._elsewhere = dict(images or {})
        self._room = sum(len(e) + 1 for e in episodes) if capacity is None else capacity
        kinds = {**spec.observation, ACTION: spec.action}
        shapes = {name: (kind.shape, kind.dtype) for name, kind in kinds.items()} | {REWARD: ((), np.dtype(np.float32))}
        self._here = {
            name: FramesInMemory(shape, dtype, self._room)
            for name, (shape, dtype) in shapes.items()
            if name not in self._elsewhere
        }
        self._frames: dict[str, Frames] = {name: {**self._here, **self._elsewhere}[name] for name in shapes}
        self._end = 0  # frames ever appended; frame number i is at place i % room
        self._begin, self._length = np.zeros((2, 0), int)
        self._success, self._terminated = np.zeros(0, np.float32), np.zeros(0, bool)
        self._facts: list[EpisodeFacts] = []
        self._table: EpisodeTable | None = None
        self._add(episodes)

    def __len__(self) -> int:
        return len(self._length)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the frames occupy; of images in a file, none."""
        return sum(frames.nbytes for frames in self._frames.values())

    @property
    def table(self) -> EpisodeTable:
        """What an index needs to know of each row; another one after ``append``."""
        if self._table is None:
            self._table = EpisodeTable.from_facts(self._facts)
        return self._table

    @property
    def tasks(self) -> list[str]:
        """The name of each row's task."""
        return [fact.task for fact in self._facts]

    def only(self, rows: Int[np.ndarray, "episode"]) -> EpisodeMemory:
        """The episodes at ``rows`` alone, as rows 0, 1 ... of a memory that shares the frames of this one. Episodes may
        be appended to one of the two only."""
        found = copy.copy(self)
        found._begin, found._length = self._begin[rows], self._length[rows]
        found._success, found._terminated = self._success[rows], self._terminated[rows]
        found._facts, found._table = [self._facts[row] for row in rows], None
        return found

    # ------------------------------------------------------------------------------------------- adding

    def reserve(self, frames: int) -> None:
        """Makes room for so many frames at once, where it is known how many will come."""
        if self.capacity is None and frames > self._room:
            self._room = frames
            for each in self._here.values():
                each.grow(frames)

    def append(self, episodes: Sequence[Episode]) -> None:
        """Adds episodes as the last rows. Where ``capacity`` is short of room, the first rows go, and rows are
        numbered anew. An episode longer than the horizon or than the capacity is refused (``WtlError``).
        """
        if self._elsewhere:
            raise WtlError(f"images of {', '.join(self._elsewhere)} lie in a file, so no episodes can be added to them")
        self._add(episodes)

    def _add(self, episodes: Sequence[Episode]) -> None:
        for number, episode in enumerate(episodes):
            self._check(number, episode)
        needed = self._end + sum(len(e) + 1 for e in episodes)
        if needed > self._room:
            self.reserve(max(needed, 2 * self._room))
        begins = self._end + np.cumsum([0, *(len(e) + 1 for e in episodes)])
        kept = np.searchsorted(begins[:-1], begins[-1] - self._room) if len(episodes) else 0  # the others go at once
        for begin, episode in zip(begins[kept:-1].tolist(), episodes[kept:], strict=True):
            self._write(begin, episode)
        self._end = int(begins[-1])
        self._begin = np.concatenate([self._begin, begins[:-1]])
        self._length = np.concatenate([self._length, np.array([len(e) for e in episodes], int)])
        self._success = np.concatenate([self._success, np.array([e.success for e in episodes], np.float32)])
        self._terminated = np.concatenate([self._terminated, np.array([e.terminated for e in episodes], bool)])
        self._facts += [EpisodeFacts.of(episode, self.spec) for episode in episodes]
        self._table = None
        self._drop(int(np.searchsorted(self._begin, self._end - self._room)))

    def _drop(self, count: int) -> None:
        """Forgets the first ``count`` rows."""
        self._begin, self._length = self._begin[count:], self._length[count:]
        self._success, self._terminated = self._success[count:], self._terminated[count:]
        del self._facts[:count]
        self.dropped += count

    def _check(self, number: int, episode: Episode) -> None:
        steps = len(episode)
        if steps > self.spec.horizon:
            raise WtlError(f"episode {number} has {steps} steps, more than the horizon of {self.spec.horizon}")
        if self.capacity is not None and steps + 1 > self.capacity:
            raise WtlError(f"episode {number} has {steps + 1} frames, more than the capacity of {self.capacity}")
        for name, channel in self.spec.observation.items():
            shape = getattr(episode.observation.get(name), "shape", None)
            if name not in self._elsewhere and shape != (steps, *channel.shape):
                found = "is missing" if shape is None else f"has shape {shape}, not {(steps, *channel.shape)}"
                raise WtlError(f"episode {number}: observation.{name} {found}")
        for name, camera in self.spec.images.items() if not self._elsewhere else ():
            last = episode.final.get(name)  # numbers may come with more bits; images of another type have another scale
            wrong = camera.problems(f"observation.{name}", episode.observation[name], steps)
            wrong += [] if last is None else camera.problems(f"final.{name}", last[None], 1)
            if wrong:
                raise WtlError(f"episode {number}: {wrong[0]}")

    def _write(self, begin: int, episode: Episode) -> None:
        places = np.arange(begin, begin + len(episode) + 1) % self._room
        for name, frames in self._here.items():
            frames.put(places, frames_of(episode, name))

    # ------------------------------------------------------------------------------------------- taking

    def lengths(self, rows: Int[np.ndarray, "*batch"]) -> Int[np.ndarray, "*batch"]:
        """Steps of the episodes at ``rows``; 0 for an absent one (row -1)."""
        return _where_present(rows, self._length)

    def terminated(self, rows: Int[np.ndarray, "*batch"]) -> Bool[np.ndarray, "*batch"]:
        """Which of the episodes at ``rows`` ended because their outcome was settled."""
        return _where_present(rows, self._terminated)

    def frames(
        self,
        rows: Int[np.ndarray, "*batch"],
        frames: Int[np.ndarray, "*batch frame"],
        channels: Iterable[str] | None = None,
    ) -> dict[str, Shaped[Tensor, "*batch frame ..."]]:
        """Channels of the episodes at ``rows``, at ``frames`` of each; images are uint8.

        Frame ``length`` is the observation after the last action: ``Episode.final``, or where nobody noted it the last
        observation again; action and reward are 0 there. ``channels``: observation channels, "action", "reward"; by
        default all. An absent episode (row -1) is all zeros; a frame that an episode does not have is refused.
        """
        length = self.lengths(rows)[..., None]
        outside = ((frames < 0) | (frames > length)) & (rows >= 0)[..., None]
        if outside.any():
            place = tuple(np.argwhere(outside)[0])
            row, steps = rows[place[:-1]], length[place[:-1]].item()
            raise WtlError(f"the episode in row {row} has frames 0 to {steps}, not {frames[place]}")
        return self._take(self._places(rows, frames, (rows >= 0)[..., None]), channels)

    def take(
        self,
        rows: Int[np.ndarray, "*batch"],
        frames: Int[np.ndarray, "*batch frame"] | None = None,
        channels: Iterable[str] | None = None,
        spans: Int[np.ndarray, "*batch 2"] | None = None,
        spread: int = 0,
    ) -> EpisodeBatch:
        """The episodes at ``rows``, with its shape as leading dimensions; row -1 gives an absent one (all zeros).

        Numbers are whole episodes, padded with zeros to the horizon. Images are those of ``frames`` or, without, of
        ``spread`` steps spread evenly over each episode. ``channels``: the observation channels wanted, by default all.
        ``spans`` cuts a slice out of each episode, from its first step to one past its last; everything then counts
        from the slice's first step.
        """
        begin, length = np.zeros_like(rows), self.lengths(rows)
        if spans is not None:
            begin, length = spans[..., 0], np.where(rows >= 0, spans[..., 1] - spans[..., 0], 0)
        wanted = list(self.spec.observation if channels is None else channels)
        numbers = [name for name in wanted if name not in self.spec.images]
        cameras = [name for name in wanted if name in self.spec.images]
        shown = frames if cameras else None
        if cameras and shown is None:
            shown = spread_frames(torch.from_numpy(length), spread).numpy()
        step = np.arange(self.spec.horizon)
        places = self._places(rows, begin[..., None] + step, step < length[..., None])
        found = self._take(places, [*numbers, ACTION, REWARD])
        final = self._take(self._places(rows, (begin + length)[..., None], (rows >= 0)[..., None]), numbers)
        return EpisodeBatch(
            observation={name: found[name] for name in numbers},
            action=found[ACTION],
            reward=found[REWARD],
            success=torch.from_numpy(_where_present(rows, self._success)),
            length=torch.from_numpy(length),
            terminated=torch.from_numpy(self.terminated(rows)),
            images={} if shown is None else self.frames(rows, begin[..., None] + shown, cameras),
            image_frames=None if shown is None else torch.from_numpy(shown),
            final={name: value.squeeze(-2) for name, value in final.items()},
        )

    def numbers(self) -> EpisodeBatch:
        """All episodes, whole, without images: what a learner takes its scaling from."""
        return self.take(np.arange(len(self)), channels=self.spec.numbers)

    def _places(
        self,
        rows: Int[np.ndarray, "*batch"],
        frames: Int[np.ndarray, "*batch frame"],
        exist: Bool[np.ndarray, "*batch #frame"],
    ) -> Int[np.ndarray, "*batch frame"]:
        places = _where_present(rows, self._begin)[..., None] + frames
        if self.capacity is not None:
            places %= self.capacity
        return np.where(exist, places, NOTHING)

    def _take(
        self, places: Int[np.ndarray, "*batch frame"], channels: Iterable[str] | None
    ) -> dict[str, Shaped[Tensor, "*batch frame ..."]]:
        wanted = list(self._frames if channels is None else channels)
        unknown = [name for name in wanted if name not in self._frames]
        if unknown:
            raise WtlError(f"there is no channel {unknown[0]!r}; there are {', '.join(self._frames)}")
        return {name: torch.from_numpy(self._frames[name].take(places)) for name in wanted}


def _where_present(
    rows: Int[np.ndarray, "*batch"], values: Shaped[np.ndarray, "episode"]
) -> Shaped[np.ndarray, "*batch"]:
    """``values`` at ``rows``; 0 (False) for an absent episode (row -1)."""
    if not len(values):
        return np.zeros(rows.shape, values.dtype)
    found: np.ndarray = np.where(rows >= 0, values[rows], values.dtype.type(0))
    return found
