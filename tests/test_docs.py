"""The documentation speaks of what exists, and of all of it."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import watchtrylearn
from standin import script
from watchtrylearn import cli
from watchtrylearn.learners import learner_names

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "watchtrylearn"
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAP = (ROOT / "docs" / "map.md").read_text().split("```")[1]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture(scope="module")
def verbs() -> set[str]:
    """The verbs of ``wtl`` and of ``wtl data``, as their own helps list them."""
    return (_verbs("--help") - {"data"}) | {f"data {verb}" for verb in _verbs("data", "--help")}


def _verbs(*arguments: str) -> set[str]:
    command = [sys.executable, "-m", "watchtrylearn.cli", *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(re.sub(r"\s+", "", re.search(r"\{([^}]*)\}", shown)[1]).split(","))


def test_the_map_lists_every_file_of_the_package_and_no_other():
    listed = re.findall(r"^(\S+) +\S", MAP, flags=re.MULTILINE)
    files = {p.relative_to(PACKAGE) for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    wanted = {str(p) for p in files if p.parts[0] != "pretrained" and _has_content(PACKAGE / p)}
    methods = {f"learners/{name}.py" for name in learner_names()}  # a method has a page of its own instead
    assert sorted(set(listed) | methods) == sorted(wanted)
    assert len(listed) == len(set(listed))


def test_every_verb_has_its_line_in_the_readme(verbs):
    assert set(re.findall(r"^\| `wtl ([^`]+)` \|", README, flags=re.MULTILINE)) == verbs


@every_page
def test_commands_in_the_documentation_exist(page, verbs):
    used = re.findall(r"(?:`| {4})wtl ((?:data )?[a-z]+)", page.read_text())
    assert set(used) <= verbs
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"(?:`| {4})make ([a-z]+)", page.read_text())) <= set(targets)


@every_page
def test_links_and_paths_in_the_documentation_exist(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)|(?:src|href)=\"([^\"]+)\"", text):
        target = link[0] or link[1]
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for path in re.findall(r"`((?:[\w-]+/)*\w+\.py)\b", text):
        assert (PACKAGE / path).exists() or (ROOT / path).exists(), path


@every_page
def test_names_in_the_documentation_exist(page):
    text = page.read_text()
    for name in re.findall(r"\bwtl\.(\w+)", text):
        assert hasattr(watchtrylearn, name), name
    for path, names in re.findall(r"`((?:\w+/)+\w+\.py): ([\w., ]+)`", text):
        source = (PACKAGE / path).read_text()
        for name in re.split(r"[., ]+", names):
            assert re.search(rf"\b{name}\b", source), f"{path}: {name}"


def test_every_learner_has_its_page():
    assert {p.stem for p in (ROOT / "docs" / "learners").glob("*.md")} == set(learner_names())


def test_the_readme_has_a_place_for_the_results():
    assert README.index("<!-- results:begin -->") < README.index("<!-- results:end -->")


def test_the_picture_is_well_formed():
    assert ElementTree.parse(ROOT / "docs" / "loop.svg").getroot().tag.endswith("svg")


def test_every_public_name_is_what_it_says_even_where_a_module_has_the_same_name():
    code = "import watchtrylearn.protocol, watchtrylearn as wtl; assert callable(wtl.rollout); print(wtl.Scene)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sorted(watchtrylearn.__all__) == sorted(watchtrylearn._HOME)
    assert {"ImageChannel", "TransitionIndex", "ReplaySource", "Group", "TargetCopy"} <= {*watchtrylearn.__all__}
    for name in watchtrylearn.__all__:
        assert callable(getattr(watchtrylearn, name)) or name == "Observation", name
    assert callable(cli.main)


def _has_content(path: Path) -> bool:
    """Is there more in it than a docstring?"""
    text = path.read_text().strip()
    return bool(text) and not re.fullmatch(r'"""[^"]*"""', text) and path != PACKAGE / "__init__.py"


def test_the_pages_show_the_published_numbers():
    publish = script("publish")
    documents = publish.published()
    assert publish.block(documents) in README
    assert publish.page(documents) == (ROOT / "docs" / "results.md").read_text()
    if publish.FEW_TASKS in documents:
        assert publish.few_tasks(documents[publish.FEW_TASKS]) in (ROOT / "docs" / "few-tasks.md").read_text()
    for document in documents.values():
        for file, _, svg in publish.figures(document):
            assert svg == (ROOT / "docs" / "figures" / file).read_text()


def test_the_tests_that_the_documentation_names_exist():
    text = (ROOT / "docs" / "reliability.md").read_text()
    named = re.findall(r"`tests/(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 30
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"
    scores = [int(score) for score in re.findall(r"\| (\d) \|$", text, flags=re.MULTILINE)]
    assert f"**{sum(scores)} of {2 * len(scores)}**" in text
