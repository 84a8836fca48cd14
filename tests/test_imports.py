"""Imports point one way, and the core needs no simulator."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import watchtrylearn

PACKAGE = Path(watchtrylearn.__file__).parent

# A part may import the parts to its right, itself, and BASE.
NOUNS = {"types", "spec", "batch", "errors"}
BASE = NOUNS | {"system", "ops"}
ALLOWED = {
    "errors": set(),
    "spec": {"errors"},
    "batch": set(),
    "types": {"spec", "batch", "errors"},
    "ops": NOUNS,
    "system": NOUNS,
    "data": BASE,
    "worlds": BASE,
    "recorder": BASE,
    "rollouts": BASE | {"worlds", "recorder"},
    "suites": BASE | {"worlds", "rollouts"},
    "nn": BASE,
    "training": BASE | {"data"},
    "learners": BASE | {"nn", "data", "training"},
    "protocol": BASE | {"suites", "rollouts"},
    "reporting": BASE | {"suites", "learners", "protocol"},
}
TOP = {"cli", "experiments", "__init__", "__main__"}  # these may import anything but cli
CORE = ["types", "ops.random", "nn", "data", "learners", "protocol", "rollouts", "training.fit", "reporting.statistics"]
SIMULATOR = ("mujoco", "mujoco_warp", "warp", "av")


def part(module: str) -> str:
    """``watchtrylearn.learners.bc`` -> ``learners``; the package itself -> ``__init__``."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


def imported(path: Path) -> set[str]:
    """The parts of the package that a file imports, at any depth of the code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {part(a.name) for a in node.names if a.name.split(".")[0] == "watchtrylearn"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "watchtrylearn":
                found |= {a.name for a in node.names}
            elif (node.module or "").startswith("watchtrylearn."):
                found.add(part(node.module or ""))
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    others = imported(path) - {here}
    assert "cli" not in others or here == "__main__"
    if here in ALLOWED:
        assert others <= ALLOWED[here], f"{here} must not import {sorted(others - ALLOWED[here])}"


def test_the_table_has_no_circle() -> None:
    for name, below in ALLOWED.items():
        for other in below & ALLOWED.keys():
            assert name == other or name not in ALLOWED[other], f"{name} and {other} import each other"


def test_the_core_imports_without_a_simulator() -> None:
    """In a fresh process in which importing a simulator fails, as where it is not installed."""
    modules = ["watchtrylearn", *(f"watchtrylearn.{name}" for name in CORE), "watchtrylearn.suites.toy"]
    script = f"""
import importlib, sys
for name in {SIMULATOR!r}:
    sys.modules[name] = None
for name in {modules!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
