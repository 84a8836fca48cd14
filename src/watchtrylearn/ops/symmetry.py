"""Symmetries: maps of whole episodes under which the episodes of a task become those of another, equally valid one.

A suite declares them as data, by the names of the numbers in its ``Spec``: which change their sign (a mirror image),
which change places (what was called A is called B). Each acts on a channel as a signed permutation,
``new[i] = sign[i] * old[source[i]]``. Applied to all episodes of a training example alike, context and query, they make
more tasks of few. Success, rewards, lengths and who terminated stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8

from watchtrylearn.errors import suggestion
from watchtrylearn.types import ACTION, Batch, Channel, ContextBatch, EpisodeBatch, Spec, Transitions, WtlError

MOST = 10_000  # maps in a group

Batch_ = TypeVar("Batch_", Batch, EpisodeBatch, Transitions)


@dataclass(frozen=True)
class Symmetry:
    """One symmetry of a suite, by the names of its numbers. Whatever is not named stays as it is.

    Attributes:
        name: what it is called in a message.
        negated: channel, or ``"action"`` -> the numbers that change their sign.
        exchanged: channel, or ``"action"`` -> pairs of numbers that change places (before any changes its sign).
        flipped: the cameras whose images are mirrored, left to right.
    """

    name: str
    negated: Mapping[str, Sequence[str]] = field(default_factory=dict)
    exchanged: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    flipped: Sequence[str] = ()


@dataclass(frozen=True)
class _Member:
    """A map of the group: source and sign of each number, per channel in order; and which cameras are flipped."""

    source: tuple[tuple[int, ...], ...]
    sign: tuple[tuple[int, ...], ...]
    flip: tuple[bool, ...]

    def after(self, first: _Member) -> _Member:
        """The map that applies ``first``, then this one."""
        return _Member(
            tuple(tuple(f[i] for i in mine) for mine, f in zip(self.source, first.source, strict=True)),
            tuple(
                tuple(s * f[i] for s, i in zip(signs, mine, strict=True))
                for signs, mine, f in zip(self.sign, self.source, first.sign, strict=True)
            ),
            tuple(a != b for a, b in zip(self.flip, first.flip, strict=True)),
        )


class SymmetryGroup:
    """All maps that the symmetries of a suite make together; number 0 changes nothing.

    ``which`` (task,) below tells, by the number of a map, how each row of a batch is changed.

    Raises ``WtlError`` for a symmetry that names what the spec does not have, does not leave the spec's bounds as they
    are, or makes more than ``MOST`` maps with the others.
    """

    def __init__(self, symmetries: Sequence[Symmetry], spec: Spec) -> None:
        self._numbers = {**spec.numbers, ACTION: spec.action}
        self._cameras = list(spec.images)
        generators = [self._member(symmetry) for symmetry in symmetries]
        sizes = [channel.size for channel in self._numbers.values()]
        nothing = _Member(
            tuple(tuple(range(n)) for n in sizes), tuple((1,) * n for n in sizes), (False,) * len(self._cameras)
        )
        members = waiting = [nothing]
        while waiting:
            found = dict.fromkeys(g.after(m) for m in waiting for g in generators)
            waiting = [m for m in found if m not in members]
            members = [*members, *waiting]
            if len(members) > MOST:
                raise WtlError(f"the symmetries {', '.join(s.name for s in symmetries)} make more than {MOST:,} maps")
        self._source = {n: torch.tensor([m.source[i] for m in members]) for i, n in enumerate(self._numbers)}
        self._sign = {n: torch.tensor([m.sign[i] for m in members]).float() for i, n in enumerate(self._numbers)}
        self._flip = {n: torch.tensor([m.flip[i] for m in members]) for i, n in enumerate(self._cameras)}
        self._size = len(members)

    def __len__(self) -> int:
        """How many maps there are."""
        return self._size

    def draw(self, rng: np.random.Generator, count: int) -> Int[np.ndarray, "task"]:
        """The numbers of ``count`` maps, each equally likely."""
        return rng.integers(len(self), size=count)

    def apply(self, batch: Batch_, which: Int[np.ndarray, "task"]) -> Batch_:
        """Changes every row of a batch on the CPU by a map of its own, of an example context and query alike."""
        if isinstance(batch, Batch):
            shown = ContextBatch(self.apply(batch.context.demos, which), self.apply(batch.context.trials, which))
            return replace(batch, context=shown, query=self.apply(batch.query, which))
        if isinstance(batch, Transitions):
            return replace(
                batch,
                observation=self._seen(batch.observation, which),
                action=self.numbers(ACTION, batch.action, which),
                next_observation=self._seen(batch.next_observation, which),
            )
        return replace(
            batch,
            observation=self._seen(batch.observation, which),
            action=self.numbers(ACTION, batch.action, which),
            images=self._seen(batch.images, which),
            final=self._seen(batch.final, which),
        )

    def numbers(
        self, channel: str, values: Float[torch.Tensor, "task *batch size"], which: Int[np.ndarray, "task"]
    ) -> Float[torch.Tensor, "task *batch size"]:
        """What becomes of a channel's numbers, or of actions (``"action"``)."""
        shape = (len(values), *(1,) * (values.ndim - 2), values.shape[-1])
        source, sign = self._source[channel][which].view(shape), self._sign[channel][which].view(shape)
        return values.gather(-1, source.expand(values.shape)) * sign

    def _seen(
        self, seen: Mapping[str, Shaped[torch.Tensor, "task ..."]], which: Int[np.ndarray, "task"]
    ) -> dict[str, Shaped[torch.Tensor, "task ..."]]:
        """What becomes of channels of numbers and of images."""
        return {
            name: self._pictures(name, values, which) if name in self._flip else self.numbers(name, values, which)
            for name, values in seen.items()
        }

    def _pictures(
        self, camera: str, values: UInt8[torch.Tensor, "task *batch _ _ 3"], which: Int[np.ndarray, "task"]
    ) -> UInt8[torch.Tensor, "task *batch _ _ 3"]:
        flip = self._flip[camera][which]
        values = values.clone()
        values[flip] = values[flip].flip(-2)
        return values

    def _member(self, symmetry: Symmetry) -> _Member:
        """The map that a symmetry is, found sound."""
        for where, known in (("negated", self._numbers), ("exchanged", self._numbers), ("flipped", self._cameras)):
            for name in getattr(symmetry, where):
                if name not in known:
                    raise WtlError(
                        f"symmetry {symmetry.name!r}: {where}: no channel {name!r}; {suggestion(name, known)}"
                    )
        maps = [self._map(symmetry, *named) for named in self._numbers.items()]
        source, sign = zip(*maps, strict=True)
        return _Member(source, sign, tuple(name in symmetry.flipped for name in self._cameras))

    def _map(self, symmetry: Symmetry, name: str, channel: Channel) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Source and sign of each number of a channel."""

        def place(number: str) -> int:
            if number not in channel.names:
                which = suggestion(number, channel.names)
                raise WtlError(f"symmetry {symmetry.name!r}: {name} has no number {number!r}; {which}")
            return channel.names.index(number)

        source, sign = list(range(channel.size)), [1] * channel.size
        for one, other in symmetry.exchanged.get(name, ()):
            i, j = place(one), place(other)
            source[i], source[j] = source[j], source[i]
        for number in symmetry.negated.get(name, ()):
            sign[place(number)] = -1
        for i, (j, s) in enumerate(zip(source, sign, strict=True)):
            low, high = sorted((s * channel.low[j], s * channel.high[j]))
            if (low, high) != (channel.low[i], channel.high[i]):
                raise WtlError(
                    f"symmetry {symmetry.name!r}: {name} {channel.names[i]!r} would be within [{low:g}, {high:g}], "
                    f"and its bounds are [{channel.low[i]:g}, {channel.high[i]:g}]"
                )
        return tuple(source), tuple(sign)
