"""The shapes and types in signatures, checked at every call, at a price that a whole test run can pay.

jaxtyping's import hook decorates every function of a package with ``jaxtyping.jaxtyped``, which binds the arguments
anew at every call and checks them twice: tests of small networks then spend most of their time there. ``checked`` takes
its place. It lets beartype make the same checks once, and keeps axis names apart from those of other calls only where
a signature has arrays.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

ALL_CHECKS = jaxtyping.jaxtyped  # the original: generators keep it, which are few
AXES = ALL_CHECKS("context")  # within it, an axis name has one size
CONF = BeartypeConf(violation_type=jaxtyping.TypeCheckError)


def check_signatures(package: str) -> None:
    """From here on, modules of ``package`` are imported with every function and dataclass ``checked``."""
    jaxtyping.jaxtyped = checked  # by this name the hook's decorators find it
    jaxtyping.install_import_hook(package, "beartype.beartype")


def checked(target: Any = None, *, typechecker: Any) -> Any:
    """A function, or a dataclass's ``__init__``, that raises ``jaxtyping.TypeCheckError`` where its signature is
    broken."""
    if target is None:
        return functools.partial(checked, typechecker=typechecker)
    if inspect.isclass(target):
        if dataclasses.is_dataclass(target) and not hasattr(target.__init__, "__wrapped__"):
            target.__init__ = checked(target.__init__, typechecker=typechecker)
        return target
    if not inspect.isfunction(target) or inspect.isgeneratorfunction(target):
        return ALL_CHECKS(target, typechecker=typechecker)
    target.__annotations__ = {name: resolved(a, target) for name, a in target.__annotations__.items()}
    function = beartype(target, conf=CONF)
    if not any(map(has_axes, target.__annotations__.values())):
        return function

    @functools.wraps(target)
    def with_axes(*args: Any, **kwargs: Any) -> Any:
        with AXES:
            return function(*args, **kwargs)

    return with_axes


def resolved(annotation: Any, function: Callable) -> Any:
    """An annotation that may be text as the type that it names; anything, where its name is known to mypy alone."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, function.__globals__, include_extras=True)["it"]
    except Exception:
        return Any


def has_axes(hint: Any) -> bool:
    """May a type have an array with named axes in it?"""
    if isinstance(hint, list | tuple):
        return any(map(has_axes, hint))
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return isinstance(hint, typing.TypeVar) or has_axes(typing.get_args(hint))
