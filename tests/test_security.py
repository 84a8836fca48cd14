"""What the package never does, checked in its source: nothing it reads can run code or escape a folder."""

import ast
from pathlib import Path

import pytest

import watchtrylearn

PACKAGE = Path(watchtrylearn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
}  # by bare name: re.compile and policy.eval are fine
FORBIDDEN_METHODS = {
    ("torch", "load"),
    ("torch", "save"),
    ("np", "save"),
    ("np", "load"),
    ("numpy", "load"),
    ("os", "system"),
    ("os", "popen"),
}
FORBIDDEN_ATTRIBUTES = {"extractall", "extract", "unsafe_load"}
FORBIDDEN_TRUE = {"allow_pickle", "shell"}


def sins(source: str) -> list[str]:
    """Every forbidden construct in a source text."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(node.module or "")
        elif isinstance(node, ast.Call):
            found += _calls(node)
    return found


def _calls(node: ast.Call) -> list[str]:
    found = [k.arg for k in node.keywords if k.arg in FORBIDDEN_TRUE and not is_false(k.value)]
    match node.func:
        case ast.Name(id=name) if name in FORBIDDEN_CALLS:
            found.append(name)
        case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in FORBIDDEN_METHODS:
            found.append(f"{module}.{name}")
        case ast.Attribute(attr=name) if name in FORBIDDEN_ATTRIBUTES:
            found.append(name)
    return [name for name in found if name]


def is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_in_the_package_can_run_what_it_reads(path: Path) -> None:
    assert sins(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from yaml import safe_load",
        "torch.load(p)",
        "np.load(p)",
        "f(allow_pickle=True)",
        "run(c, shell=yes)",
        "eval(s)",
        "tar.extractall(d)",
    ],
)
def test_the_test_bites(line: str) -> None:
    assert sins(line)


@pytest.mark.parametrize("line", ["model.eval()", "re.compile('a')", "f(allow_pickle=False)", "json.load(f)"])
def test_the_test_does_not_bark_at_friends(line: str) -> None:
    assert not sins(line)
