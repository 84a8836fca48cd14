"""What every episode of a suite looks like: its channels, and what each number in them means.

An observation has two kinds of channel, vectors of numbers (``Channel``) and camera images (``ImageChannel``). Both
know their shape and dtype, what is wrong with a recording of theirs, and their Gymnasium space; nothing outside this
file asks by ``isinstance`` which kind it has before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import gymnasium
import msgspec
import numpy as np
from jaxtyping import Float

from watchtrylearn.errors import WtlError

STATE = "state"  # the robot itself (LeRobot: observation.state)
ENVIRONMENT = "environment_state"  # everything around it (LeRobot: observation.environment_state)
ACTION = "action"  # what the policy commands

MOST_SIZES, MOST_CHANNELS, MOST_STEPS = 10_000, 100, 1_000_000  # of a spec: numbers in a channel, channels, steps
MOST_PIXELS = 4096  # of an image, along one side


@dataclass(frozen=True)
class Channel:
    """A vector: what each number is, and the range outside which a recording is refused.

    ``low`` and ``high`` are per number, in the unit of the number (metres, radians, 0..1).
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    is_image = False
    dtype = np.dtype(np.float32)  # as it is stored, batched, and handed to a network
    feature = "float32"  # LeRobot's name for it

    def __post_init__(self) -> None:
        if len(self.names) > MOST_SIZES:
            raise WtlError(f"a channel has at most {MOST_SIZES:,} numbers, got {len(self.names):,}")
        if not len(self.names) == len(self.low) == len(self.high):
            raise WtlError(
                f"a channel needs one low and one high per name, got {len(self.names)} names, "
                f"{len(self.low)} lows and {len(self.high)} highs"
            )

    def __str__(self) -> str:
        return f"{self.size} numbers"

    @property
    def size(self) -> int:
        """Numbers in one observation."""
        return len(self.names)

    @property
    def shape(self) -> tuple[int]:
        """Of one observation."""
        return (self.size,)

    @cached_property
    def bounds(self) -> tuple[Float[np.ndarray, "size"], Float[np.ndarray, "size"]]:
        """Lowest and highest finite values that pass: ``low`` and ``high`` with room for rounding."""
        slack = 1e-5 * (1.0 + np.abs(np.asarray(self.high)))
        largest = np.finfo(float).max
        return np.maximum(np.asarray(self.low) - slack, -largest), np.minimum(np.asarray(self.high) + slack, largest)

    def unbounded(self) -> Channel:
        """The same numbers, each anything finite."""
        return Channel(self.names, (-math.inf,) * self.size, (math.inf,) * self.size)

    def problems(self, name: str, values: Any, steps: int) -> list[str]:
        """What is wrong with a recording (step, size), naming number and step; at most one sentence."""
        if values is None:
            return [f"{name}: missing"]
        if values.shape != (steps, self.size):
            return [f"{name}: shape {values.shape}, expected ({steps}, {self.size})"]
        low, high = self.bounds
        sound = (values >= low) & (values <= high)  # False for what is not finite, too
        if sound.all():
            return []
        bad = ~np.isfinite(values)
        if bad.any():
            step, column = np.argwhere(bad)[0]
            return [f"{name}: {self.names[column]} is {values[step, column]} at step {step}"]
        step, column = np.argwhere(~sound)[0]
        return [
            f"{name}: {self.names[column]} is {values[step, column]:.4g} at step {step}, "
            f"outside [{self.low[column]:.4g}, {self.high[column]:.4g}]"
        ]

    def space(self) -> gymnasium.spaces.Box:
        """The Gymnasium space of one observation."""
        return gymnasium.spaces.Box(np.array(self.low, np.float32), np.array(self.high, np.float32))

    def to_json(self) -> dict[str, Any]:
        """JSON values; an infinite bound becomes the text ``"inf"`` or ``"-inf"`` (JSON has no infinity)."""
        bounds = {name: [x if math.isfinite(x) else str(x) for x in getattr(self, name)] for name in ("low", "high")}
        return {"names": list(self.names), **bounds}


@dataclass(frozen=True)
class ImageChannel:
    """A camera: RGB, ``height`` x ``width`` pixels, 0 to 255 (uint8). It becomes float once, in the network."""

    height: int
    width: int

    is_image = True
    dtype = np.dtype(np.uint8)
    feature = "image"  # LeRobot's name for it
    names = ("height", "width", "channels")  # of its dimensions, as LeRobot calls them

    def __post_init__(self) -> None:
        if not (1 <= self.height <= MOST_PIXELS and 1 <= self.width <= MOST_PIXELS):
            raise WtlError(f"an image has 1 to {MOST_PIXELS:,} pixels a side, got {self.height} x {self.width}")

    def __str__(self) -> str:
        return f"{self.height} x {self.width} images"

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, 3)

    @property
    def size(self) -> int:
        return 3 * self.height * self.width

    def unbounded(self) -> ImageChannel:
        """Itself: there is no image out of bounds."""
        return self

    def problems(self, name: str, values: Any, steps: int) -> list[str]:
        """What is wrong with a recording (step, height, width, RGB); at most one sentence."""
        if values is None:
            return [f"{name}: missing"]
        if values.shape != (steps, *self.shape):
            return [f"{name}: shape {values.shape}, expected {(steps, *self.shape)}: steps, height, width, RGB"]
        if values.dtype != self.dtype:
            return [f"{name}: {values.dtype} instead of uint8 (0 to 255)"]
        return []

    def space(self) -> gymnasium.spaces.Box:
        """The Gymnasium space of one observation."""
        return gymnasium.spaces.Box(0, 255, self.shape, np.uint8)

    def to_json(self) -> dict[str, Any]:
        return {"height": self.height, "width": self.width}


@dataclass(frozen=True)
class Spec:
    """What every episode of a suite looks like: channels, rate, horizon and what the numbers mean.

    Attributes:
        fps: control steps per second.
        horizon: most control steps in an episode.
        observation: the channels, by name; ``"state"`` is the robot, ``"environment_state"`` the rest.
        action: what the policy commands.
        entities: how many things ``environment_state`` lists, each with the same numbers, one after the
            other (0: it has no such structure). A slot keeps its meaning within a task ("object A").
        position: the first ``position`` numbers of ``state`` and of each entity are positions in one common
            frame (0: they are not).
        commands_state: the action is the desired value of the first ``action.size`` numbers of ``state``
            (position control, as in the papers' gripper).
    """

    fps: int
    horizon: int
    observation: Mapping[str, Channel | ImageChannel]
    action: Channel
    entities: int = 0
    position: int = 0
    commands_state: bool = False

    def __post_init__(self) -> None:
        for name, most in (("fps", MOST_STEPS), ("horizon", MOST_STEPS)):
            if not 1 <= getattr(self, name) <= most:
                raise WtlError(f"a spec's {name} is between 1 and {most:,}, got {getattr(self, name)}")
        if len(self.observation) > MOST_CHANNELS:
            raise WtlError(f"a spec has at most {MOST_CHANNELS} observation channels, got {len(self.observation)}")
        if STATE not in self.observation:
            raise WtlError(f"a spec needs the observation channel {STATE!r}, got {sorted(self.observation)}")
        pictures = {STATE, ENVIRONMENT} & self.images.keys()
        if pictures:
            raise WtlError(
                f"the observation channel {sorted(pictures)[0]!r} holds numbers; call a camera something else"
            )
        if self.entities < 0 or (self.entities and self.environment_size % self.entities):
            raise WtlError(
                f"environment_state has {self.environment_size} numbers, not a multiple of {self.entities} entities"
            )
        positions = min(self.state_size, self.entity_size) if self.entities else self.state_size
        if not 0 <= self.position <= positions:
            raise WtlError(
                f"a spec's position is at most {positions}, the numbers of state or entity; got {self.position}"
            )
        if self.commands_state and self.action.size > self.state_size:
            raise WtlError(f"an action of {self.action.size} numbers cannot command {self.state_size} numbers of state")

    @property
    def state_size(self) -> int:
        return self.observation[STATE].size

    @property
    def numbers(self) -> dict[str, Channel]:
        """The channels of numbers."""
        return {name: channel for name, channel in self.observation.items() if isinstance(channel, Channel)}

    @property
    def images(self) -> dict[str, ImageChannel]:
        """The cameras."""
        return {name: channel for name, channel in self.observation.items() if isinstance(channel, ImageChannel)}

    @property
    def environment_size(self) -> int:
        return self.observation[ENVIRONMENT].size if ENVIRONMENT in self.observation else 0

    @property
    def entity_size(self) -> int:
        return self.environment_size // self.entities if self.entities else 0

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **{name: getattr(self, name) for name in ("fps", "horizon", "entities", "position", "commands_state")},
            "observation": {name: channel.to_json() for name, channel in self.observation.items()},
            "action": self.action.to_json(),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Spec:
        """The inverse of ``to_json``; ``WtlError`` names the field that is of another type or out of bounds."""
        try:
            found = msgspec.convert(value, _SpecJson, strict=True)
        except msgspec.ValidationError as error:
            raise WtlError(f"the spec is not one: {str(error).replace('`', '')}") from error

        try:
            observation = {name: _channel(entry) for name, entry in found.observation.items()}
        except msgspec.ValidationError as error:
            raise WtlError(f"the spec is not one: observation: {str(error).replace('`', '')}") from error
        others = (found.entities, found.position, found.commands_state)
        return Spec(found.fps, found.horizon, observation, found.action.channel(), *others)

    def differences(self, other: Spec) -> list[str]:
        """Every field in which two specs disagree, as ``"field: this, not that"`` (bounds are not compared)."""
        found = [
            f"{name}: {getattr(self, name)}, not {getattr(other, name)}"
            for name in ("fps", "horizon", "entities", "position", "commands_state")
            if getattr(self, name) != getattr(other, name)
        ]
        for name in sorted(set(self.observation) | set(other.observation)):
            mine, theirs = (str(s.observation.get(name, "missing")) for s in (self, other))
            if mine != theirs:
                found.append(f"observation.{name}: {mine}, not {theirs}")
        if self.action.size != other.action.size:
            found.append(f"action: {self.action}, not {other.action}")
        return found


class _ChannelJson(msgspec.Struct):
    """``Channel.to_json``."""

    names: list[str]
    low: list[float | Literal["inf", "-inf"]]
    high: list[float | Literal["inf", "-inf"]]

    def channel(self) -> Channel:
        low, high = (tuple(map(float, bounds)) for bounds in (self.low, self.high))
        return Channel(tuple(self.names), low, high)


class _ImageJson(msgspec.Struct):
    """``ImageChannel.to_json``."""

    height: int
    width: int

    def channel(self) -> ImageChannel:
        return ImageChannel(self.height, self.width)


def _channel(entry: Any) -> Channel | ImageChannel:
    """The inverse of ``to_json`` of either kind."""
    kind: Any = _ImageJson if isinstance(entry, dict) and "height" in entry else _ChannelJson
    channel: Channel | ImageChannel = msgspec.convert(entry, kind, strict=True).channel()
    return channel


class _SpecJson(msgspec.Struct):
    """``Spec.to_json``."""

    fps: int
    horizon: int
    observation: dict[str, Any]
    action: _ChannelJson
    entities: int = 0
    position: int = 0
    commands_state: bool = False
