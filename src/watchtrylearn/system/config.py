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
    refuse(mistakes)


class Mistakes(WtlError):
    """All mistakes in one sentence, so that nobody mends them one run at a time; ``each`` has them apart."""

    def __init__(self, each: Sequence[str]) -> None:
        more = f"; and {len(each) - NAMED} more" if len(each) > NAMED else ""
        super().__init__("; ".join(each[:NAMED]) + more)
        self.each = list(each)


def mistakes_of(error: WtlError) -> list[str]:
    return error.each if isinstance(error, Mistakes) else [str(error)]


def refuse(mistakes: Sequence[str]) -> None:
    """Raises ``Mistakes`` if there are any, each said once."""
    if mistakes:
        raise Mistakes(list(dict.fromkeys(mistakes)))


def shortened(value: Any) -> str:
    """The value as JSON, cut where it is too long for a sentence."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists in lists without end
        return "a value too large to show"
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def from_json(cls: type[Config], value: Mapping[str, Any], where: str) -> Config:
    """The inverse of ``dataclasses.asdict`` for nested config dataclasses.

    A dataclass inside with a static method ``from_json(value, where)`` is built by that; one that is built already is
    taken as it is.

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
            mistakes += mistakes_of(error)
    required = [f.name for f in dataclasses.fields(typing.cast(Any, cls)) if f.name not in value and _no_default(f)]
    if required:
        mistakes.append(f"{where} lacks {', '.join(required)}")
    refuse(mistakes)
    return cls(**built)


def _no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def override(config: Config, assignments: Sequence[str], where: str) -> Config:
    """The config with ``"dotted.name=value"`` assignments applied; values are JSON, or text where that fails."""
    changed = dataclasses.asdict(typing.cast(Any, config))
    mistakes = []
    for assignment in assignments:
        try:
            path, value = parsed(assignment)
            assign(changed, path, value, where)
        except WtlError as error:
            mistakes += mistakes_of(error)
    try:
        found = from_json(type(config), changed, where)
    except WtlError as error:
        mistakes += mistakes_of(error)
    refuse(mistakes)
    return found


def parsed(assignment: str) -> tuple[list[str], Any]:
    """``"dotted.name=value"`` as path and value."""
    name, found, text = assignment.partition("=")
    if not found:
        raise WtlError(f"expected NAME=VALUE, got {assignment!r}")
    try:
        return name.strip().split("."), json.loads(text)
    except (ValueError, RecursionError):
        return name.strip().split("."), text


def assign(changed: dict[str, Any], path: Sequence[str], value: Any, where: str, name: str = "") -> None:
    """Puts ``value`` at ``path``, which must be there, into nested dictionaries; ``name`` is what errors call it."""
    node = changed
    for part in path[:-1]:
        node = _enter(node, part, where)
    if not isinstance(node, dict) or path[-1] not in node:
        known = f"; {suggestion(path[-1], node)}" if isinstance(node, dict) else ""
        raise WtlError(f"{where} has no option {name or '.'.join(path)!r}{known}")
    node[path[-1]] = value


def _enter(node: Any, part: str, where: str) -> Any:
    if not isinstance(node, dict) or part not in node:
        known = list(node) if isinstance(node, dict) else []
        raise WtlError(f"{where} has no option {part!r}" + (f"; {suggestion(part, known)}" if known else ""))
    return node[part]


def _field(hint: Any, entry: Any, where: str) -> Any:
    if typing.get_origin(hint) is Mapping and isinstance(entry, Mapping):
        return _each(typing.get_args(hint)[1], entry, where)
    if hint is Any or (dataclasses.is_dataclass(entry) and isinstance(entry, hint)):
        return entry
    if isinstance(entry, Mapping) and isinstance(hint, types.UnionType):  # of a group of options and None
        hint = next(filter(dataclasses.is_dataclass, typing.get_args(hint)), hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(entry, Mapping):
            raise WtlError(f"{where} must be a group of options, got {shortened(entry)}")
        build = getattr(hint, "from_json", None)
        return build(entry, where) if build else from_json(hint, entry, where)
    return _plain(hint, entry, where)


def _each(hint: Any, entries: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A field that is a value of one type for every name."""
    built: dict[str, Any] = {}
    mistakes = []
    for name, entry in entries.items():
        try:
            built[name] = _field(hint, entry, f"{where}.{name}")
        except WtlError as error:
            mistakes += mistakes_of(error)
    refuse(mistakes)
    return built


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
    if origin is types.UnionType and any(map(dataclasses.is_dataclass, arguments)):
        return "a group of options or null"
    if origin is tuple:
        return f"a list of {_wanted(arguments[0])}, such as [1, 2]"
    return " or ".join(map(str, arguments)) if origin is typing.Literal else getattr(hint, "__name__", str(hint))
