"""Frozen dataclass configs to JSON and back, and changing one field by its dotted name."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from watchtrylearn.errors import WtlError, suggestion

Config = TypeVar("Config")
EXACT = 2**53  # whole numbers up to this are the same in every reader of JSON, and as floats
SHOWN = 60  # characters of a value in a sentence
NAMED = 5  # mistakes in a sentence


def require_within(where: str, config: Any, **bounds: tuple[int | float, int | float]) -> None:
    """Raise ``WtlError`` unless the named fields (numbers, or tuples of them) lie within their (low, high).

    What is not a number lies nowhere. Configs come from files as well as from people, so sizes have an upper end.
    """
    mistakes = []
    for name, (low, high) in bounds.items():
        found = getattr(config, name)
        if not all(low <= value <= high for value in (found if isinstance(found, tuple) else (found,))):
            mistakes.append(f"{where}{name} must be between {low:,} and {high:,}, got {shortened(found)}")
    _refuse(mistakes)


def _refuse(mistakes: Sequence[str]) -> None:
    """All mistakes in one sentence, so that nobody mends them one run at a time."""
    if mistakes:
        more = f"; and {len(mistakes) - NAMED} more" if len(mistakes) > NAMED else ""
        raise WtlError("; ".join(mistakes[:NAMED]) + more)


def shortened(value: Any) -> str:
    """The value as JSON, cut where it is too long for a sentence."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists in lists without end
        return "a value too large to show"
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def from_json(cls: type[Config], value: Mapping[str, Any], where: str) -> Config:
    """The inverse of ``dataclasses.asdict`` for nested config dataclasses.

    Raises ``WtlError`` naming ``where`` and the field for every unknown field (with the nearest right one) and every
    value of another type.
    """
    hints = typing.get_type_hints(cls)
    fields = [f.name for f in dataclasses.fields(typing.cast(Any, cls))]
    built: dict[str, Any] = {}
    mistakes = []
    for key, entry in value.items():
        if key not in fields:
            mistakes.append(f"{where} has no option {shortened(key)}; {suggestion(key, fields)}")
            continue
        try:
            built[key] = _field(hints[key], entry, f"{where}.{key}")
        except WtlError as error:
            mistakes.append(str(error))
    required = [f.name for f in dataclasses.fields(typing.cast(Any, cls)) if f.name not in value and _no_default(f)]
    if required:
        mistakes.append(f"{where} lacks {', '.join(required)}")
    _refuse(mistakes)
    return cls(**built)


def _no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def override(config: Config, assignments: Sequence[str], where: str) -> Config:
    """The config with ``"dotted.name=value"`` assignments applied; values are JSON, or text where that fails."""
    changed = dataclasses.asdict(typing.cast(Any, config))
    mistakes = []
    for assignment in assignments:
        try:
            _assign(changed, assignment, where)
        except WtlError as error:
            mistakes.append(str(error))
    try:
        found = from_json(type(config), changed, where)
    except WtlError as error:
        mistakes.append(str(error))
    _refuse(mistakes)
    return found


def _assign(changed: dict[str, Any], assignment: str, where: str) -> None:
    name, found, text = assignment.partition("=")
    if not found:
        raise WtlError(f"expected NAME=VALUE, got {assignment!r}")
    *path, last = name.strip().split(".")
    node = changed
    for part in path:
        node = _enter(node, part, where)
    if last not in node:
        raise WtlError(f"{where} has no option {name!r}; {suggestion(last, node)}")
    try:
        node[last] = json.loads(text)
    except (ValueError, RecursionError):
        node[last] = text


def _enter(node: Any, part: str, where: str) -> Any:
    if not isinstance(node, dict) or part not in node:
        known = list(node) if isinstance(node, dict) else []
        raise WtlError(f"{where} has no option {part!r}" + (f"; {suggestion(part, known)}" if known else ""))
    return node[part]


def _field(hint: Any, entry: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(entry, Mapping):
            raise WtlError(f"{where} must be a group of options, got {shortened(entry)}")
        return from_json(hint, entry, where)
    return _plain(hint, entry, where)


def _plain(hint: Any, entry: Any, where: str) -> Any:
    """A scalar, a tuple of them, or an optional one; whole numbers pass for floats."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if type(entry) is int and abs(entry) > EXACT:
        raise WtlError(f"{where} must be {_wanted(hint)} of at most 2**53, got {shortened(entry)}")
    if origin is tuple and isinstance(entry, list | tuple):
        item = arguments[0]
        return tuple(_plain(item, each, where) for each in entry)
    if origin is typing.Literal and entry in arguments:
        return entry
    if origin is types.UnionType and (entry is None or type(entry) in arguments):
        return entry
    if hint is float and type(entry) in (int, float):
        return float(entry)
    if hint in (int, str, bool) and type(entry) is hint:
        return entry
    raise WtlError(f"{where} must be {_wanted(hint)}, got {shortened(entry)}")


def _wanted(hint: Any) -> str:
    """The type as a person would say it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return f"a list of {_wanted(arguments[0])}, such as [1, 2]"
    return " or ".join(map(str, arguments)) if origin is typing.Literal else getattr(hint, "__name__", str(hint))
