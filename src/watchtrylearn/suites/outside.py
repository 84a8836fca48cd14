"""Suites from outside this library: MODULE:FUNCTION or PATH.py:FUNCTION, where the function makes the suite.

The module is one that Python can import, or a file. Naming one is what runs its code.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from watchtrylearn.types import Spec, WtlError

PARTS = {"name": str, "spec": Spec}  # what a suite must have, beside the functions
FUNCTIONS = ("tasks", "worlds")


def is_outside(name: str) -> bool:
    """Does ``name`` lead to code from outside? (Names of this library's suites have no colon.)"""
    return ":" in name


def is_file(name: str) -> bool:
    """Does ``name`` lead to a file, and not to a module that Python can import?"""
    return name.rpartition(":")[0].endswith(".py")


def file_sha256(name: str) -> str | None:
    """The SHA-256 of the file of PATH.py:FUNCTION, by which it is known wherever it is; None for any other suite."""
    return hashlib.sha256(_content(Path(name.rpartition(":")[0]), name)).hexdigest() if is_file(name) else None


def without_folder(name: str) -> str:
    """``name`` without the folder that a file is in."""
    module, _, function = name.rpartition(":")
    return f"{Path(module).name}:{function}" if is_file(name) else name


def located(name: str) -> str:
    """``name`` so that it means the same from anywhere: a file by its absolute path."""
    module, _, function = name.rpartition(":")
    return f"{Path(module).resolve()}:{function}" if is_file(name) else name


def outside_suite(name: str) -> Any:
    """The suite that MODULE:FUNCTION makes. Raises ``WtlError`` saying which part of it is missing or raised."""
    module_name, _, function = name.rpartition(":")
    module = _module(module_name, name)
    make = getattr(module, function, None)
    if not callable(make):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise WtlError(f"suite {name}: {module_name} has no function {function!r}; it has {', '.join(known) or 'none'}")
    try:
        suite = make()
    except Exception as error:
        raise WtlError(f"suite {name}: {function}() raised {_told(error)}") from error
    for part, kind in PARTS.items():
        if not isinstance(getattr(suite, part, None), kind):
            what = f"no {part}" if not hasattr(suite, part) else f"a {part} that is no {kind.__name__}"
            raise WtlError(f"suite {name}: what {function}() returns has {what}; see docs/suites.md")
    for part in FUNCTIONS:
        if not callable(getattr(suite, part, None)):
            raise WtlError(f"suite {name}: what {function}() returns has no method {part!r}; see docs/suites.md")
    return suite


def search_path(name: str) -> list[str]:
    """The folder in which Python found the module of a suite that is not a file, for a second process to look there."""
    module = sys.modules.get(name.rpartition(":")[0])
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return []
    levels = module.__name__.count(".") + (Path(file).name == "__init__.py")
    return [str(Path(file).resolve().parents[levels])]


def _content(path: Path, whole: str) -> bytes:
    if not path.is_file():
        raise WtlError(f"suite {whole}: there is no file {path}")
    return path.read_bytes()


def _module(name: str, whole: str) -> ModuleType:
    if is_file(whole):
        content = _content(Path(name), whole)
    elif not all(part.isidentifier() for part in name.split(".")):
        raise WtlError(f"a suite from outside is MODULE:FUNCTION or PATH.py:FUNCTION, not {whole[:100]!r}")
    try:
        return _from_file(Path(name).resolve(), content) if is_file(whole) else importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in {name, *(name.rpartition(".")[:1])}:
            hint = f"no module {name!r}; a file is PATH.py:FUNCTION"
            raise WtlError(f"suite {whole}: Python finds {hint}") from error
        raise WtlError(f"suite {whole}: importing it raised {_told(error)}") from error
    except Exception as error:
        raise WtlError(f"suite {whole}: importing it raised {_told(error)}") from error


class _Loader(SourceLoader):
    """Loads the very bytes that were hashed, and no bytecode of others."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.content = path, content

    def get_filename(self, fullname: str) -> str:
        return str(self.path)

    def get_data(self, path: str) -> bytes:
        return self.content


def _from_file(path: Path, content: bytes) -> ModuleType:
    """The module in a file, run once (and again when it has changed). It may import its neighbours, which hide nothing
    that is installed."""
    name = f"watchtrylearn_outside:{path}:{hashlib.sha256(content).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(path, content))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _told(error: Exception) -> str:
    """What was raised, and where: the last line of the suite's own code."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(error).__name__}: {error}{where}".replace("\n", " ")
