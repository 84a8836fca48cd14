"""What an episode must be to be stored: checked before it is written, and again whenever it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np

from watchtrylearn.data.images import too_large
from watchtrylearn.data.layout import Header
from watchtrylearn.types import Episode, Kind, Scalar, Spec, Split, Task, WtlError


class TaskFile(msgspec.Struct, forbid_unknown_fields=True):
    """A task as JSON has it."""

    suite: str
    family: str
    name: str
    split: Split
    sentence: str
    parameters: dict[str, Scalar]


class Refused(WtlError):
    """Some episodes of a batch are not sound. The others are stored, as the numbers ``stored``.

    ``reasons`` names each refused episode's task, scene, field and step.
    """

    def __init__(self, path: Path, stored: list[int], reasons: list[str]) -> None:
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        kept = f"; the other {len(stored)} are stored in {path}" if stored else ""
        super().__init__("; ".join(reasons[:3]) + more + kept)
        self.stored = stored
        self.reasons = reasons


def problems(episode: Episode, header: Header) -> list[str]:
    """Why an episode cannot be stored, each naming field and step.

    The numbers of a diverged trial mean nothing and may be anything, but their shapes must fit.
    """
    found = [*_label_problems(episode), *_type_problems(episode)]
    if found:  # what follows computes with them
        return found
    stored = _as_stored(episode, header.spec)
    found = _diverged_problems(stored, header.spec) if episode.diverged else stored.problems(header.spec)
    for name, channel in header.spec.images.items():
        text = too_large(len(episode), channel)
        found += [f"observation.{name}: {text}"] if text else []
    if not -(2**63) < episode.seed < 2**63:
        found.append(f"seed: {episode.seed} does not fit 64 bits")
    if episode.initial_state.ndim != 1:
        found.append(f"initial_state: shape {episode.initial_state.shape}, expected one dimension")
    elif not episode.diverged and not np.isfinite(episode.initial_state).all():
        found.append("initial_state: not finite")
    if stored.executed is not None and not header.executed:
        found.append(
            "executed: this dataset was created without executed actions; store the episodes in one that has them "
            "(executed=True)"
        )
    return found


def as_cut(episode: Episode, header: Header) -> Episode:
    """The episode as a dataset without executed actions can have it: where what reached the robot is what was intended,
    cut to its bounds, that is its action. Anything else that was executed is not what was meant, and stays apart."""
    if header.executed or episode.executed is None or any(_type_problems(episode)):
        return episode
    bounds, action, executed = header.spec.action, float32(episode.action), float32(episode.executed)
    if action.shape != executed.shape or action.shape[1:] != bounds.shape:
        return episode
    cut = np.clip(action, float32(np.array(bounds.low)), float32(np.array(bounds.high)))
    return replace(episode, action=executed, executed=None) if np.array_equal(cut, executed) else episode


def _label_problems(episode: Episode) -> Iterator[str]:
    """Labels of another type than declared: silently converted, they would say something else."""
    if episode.kind not in get_args(Kind):
        yield f"kind: {episode.kind!r} is neither demo nor trial"
    for name in ("success", "diverged", "terminated"):
        if not isinstance(getattr(episode, name), bool | np.bool_):
            yield f"{name}: {getattr(episode, name)!r} is neither True nor False"
    if not isinstance(episode.seed, int | np.integer) or isinstance(episode.seed, bool):
        yield f"seed: {episode.seed!r} is not a whole number"
    try:
        text = _task_problem(episode.task)
    except TypeError:  # parameters that cannot be hashed are no scalars
        text = "a parameter is neither text nor number"
    if text:
        yield f"task: {text}"
    for name, value in episode.terms.items():
        if not isinstance(name, str) or not isinstance(value, bool | int | float | np.number | np.bool_):
            yield f"terms: {name!r} is {value!r}, not a number"


@lru_cache(maxsize=4096)  # hundreds of episodes share a task
def _task_problem(task: Task) -> str:
    try:
        value: dict[str, Any] = task.to_json()
        msgspec.convert(value, TaskFile, strict=True)
        "".join([v for v in value.values() if isinstance(v, str)]).encode()
    except (msgspec.ValidationError, TypeError, ValueError, AttributeError) as error:
        return str(error)
    return ""


def _arrays(episode: Episode) -> Mapping[str, Any]:
    found: dict[str, Any] = {f"observation.{name}": values for name, values in episode.observation.items()}
    found |= {f"final.{name}": values for name, values in episode.final.items()}
    found |= {"action": episode.action, "reward": episode.reward, "executed": episode.executed}
    return {**{name: v for name, v in found.items() if v is not None}, "initial_state": episode.initial_state}


def _type_problems(episode: Episode) -> Iterator[str]:
    for name, values in _arrays(episode).items():
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
            yield f"{name}: {getattr(values, 'dtype', type(values).__name__)} instead of an array of numbers"


def _as_stored(episode: Episode, spec: Spec) -> Episode:
    """With numbers of 32 bits, as they are on the disk: what fits before rounding may not fit after it. Images stay."""

    cameras = spec.images

    def rounded(channels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: values if name in cameras else float32(values) for name, values in channels.items()}

    return replace(
        episode,
        observation=rounded(episode.observation),
        final=rounded(episode.final),
        action=float32(episode.action),
        reward=float32(episode.reward),
        executed=None if episode.executed is None else float32(episode.executed),
    )


def float32(values: np.ndarray) -> np.ndarray:
    """Rounded to 32 bits; what is too large for them becomes infinite, without a warning."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _diverged_problems(episode: Episode, spec: Spec) -> list[str]:
    """The problems of shape alone: those that remain with harmless numbers and no bounds."""
    if episode.kind == "demo":
        return ["a diverged episode cannot be a demonstration"]
    unbounded = replace(
        spec,
        observation={name: channel.unbounded() for name, channel in spec.observation.items()},
        action=spec.action.unbounded(),
    )
    harmless = replace(
        episode,
        observation={name: np.zeros_like(values) for name, values in episode.observation.items()},
        final={name: np.zeros_like(values) for name, values in episode.final.items()},
        action=np.zeros_like(episode.action),
        reward=np.zeros_like(episode.reward),
        executed=None if episode.executed is None else np.zeros_like(episode.executed),
    )
    return harmless.problems(unbounded)
