"""The words of a command line, checked before anything reads them: one sentence names the nearest right one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

from watchtrylearn.errors import WtlError, suggestion

Verbs = Mapping[str, Callable[..., None]]


def option_names(verb: Callable[..., None]) -> list[str]:
    """The options of a verb, as they are written: its parameters, with ``--set`` for ``settings``."""
    parameters = inspect.signature(verb).parameters
    return [f"--{name.replace('settings', 'set').replace('_', '-')}" for name in parameters]


def refuse_unknown(arguments: Sequence[str], verbs: Verbs, program: str, needed: Mapping[str, str]) -> None:
    """Names the nearest right verb or option for one that does not exist; ``needed``: what must follow an option."""
    if not arguments or arguments[0].startswith("-"):
        return
    verb = arguments[0]
    if verb not in verbs:
        known = [*verbs, *(["--version"] if program == "wtl" else [])]
        raise WtlError(f"{program} has no verb {verb!r}; {suggestion(verb, known)} (see {program} --help)")
    parameters = inspect.signature(verbs[verb]).parameters
    places = [name.upper() for name, p in parameters.items() if p.default is inspect.Parameter.empty]
    if places and not arguments[1:]:
        raise WtlError(f"{program} {verb} needs {places[0]} (see {program} {verb} --help)")
    names = option_names(verbs[verb])
    negated = [name.replace("--", "--no-", 1) for name in names]  # of switches; never suggested, as most do not exist
    known = ["--help", *names]
    for argument, following in zip(arguments[1:], [*arguments[2:], "--"], strict=False):
        if argument in needed and following.startswith("--"):
            raise WtlError(f"{argument} needs {needed[argument]}")
        option = argument.partition("=")[0].replace("_", "-")
        if option.startswith("--") and option not in [*known, *negated]:
            raise WtlError(f"{program} {verb} has no option {option!r}; {suggestion(option, known)}")


def with_default(arguments: Sequence[str], verb: str, option: str, default: str) -> list[str]:
    """The arguments, with ``default`` after a bare ``option`` of ``verb``."""
    found = list(arguments)
    if found[:1] == [verb] and option in found:
        after = found.index(option) + 1
        if after == len(found) or found[after].startswith("-"):
            found.insert(after, default)
    return found
