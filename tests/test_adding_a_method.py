"""What docs/adding-a-method.md adds is a method: three files touched, and the main job runs with it.

The page's files and its diff are applied to a copy of the package; the suite is one of a file outside of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import watchtrylearn

ROOT = Path(__file__).parents[1]
PACKAGE = Path(watchtrylearn.__file__).parent
PAGE = (ROOT / "docs" / "adding-a-method.md").read_text()
PARTS = re.findall(r"^\*\*(\S+)\*\*\n\n(`{3,})(\w+)\n(.*?)\n\2$", PAGE, flags=re.MULTILINE | re.DOTALL)

SUITE = """
from watchtrylearn.suites.toy import Toy


class Mirrors(Toy):
    name = "mirrors"

    def tasks(self, split):
        return [task for task in super().tasks(split) if task.family == "mirror"]
"""

LEARN = """
import watchtrylearn as wtl
from watchtrylearn.learners import learner_entry
from watchtrylearn.types import Explorer

suite = wtl.make_suite("toy")
tasks = [task for task in suite.tasks("train") if task.family == "reference"]
demos = suite.demonstrations(tasks * 8, [seed for seed in range(8) for _ in tasks])
learner = wtl.make_learner("goal", suite.spec)
learner.prepare(wtl.stack(demos, suite.spec))
pairs, store = wtl.PairIndex(wtl.EpisodeTable.of(demos), learner.config.sampling), wtl.stack(demos, suite.spec)
source = wtl.FixedSource(lambda rng: wtl.gather(store, pairs.sample(rng, 64)))
wtl.fit(learner, source, wtl.TrainConfig(steps=300, batch_size=64, learning_rate=3e-3), "alone", data={})

learner = wtl.load("alone")
shown = suite.demonstrations(tasks, [99] * len(tasks))
tried = wtl.rollout(learner.adapt([wtl.Context(demos=[d]) for d in shown]), suite.worlds(tasks, [99] * len(tasks)))
print(learner.name, isinstance(learner, Explorer), learner_entry("goal").label)
print(sum(e.success for e in tried) / len(tried))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and of its pages, with the method of the page in it."""
    root = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("pretrained", "__pycache__")
    shutil.copytree(PACKAGE, root / "src" / "watchtrylearn", ignore=ignored)
    shutil.copytree(ROOT / "docs" / "learners", root / "docs" / "learners")
    for path, _, language, text in PARTS:
        if language == "diff":
            (root / path).write_text(patched((root / path).read_text(), text))
        else:
            assert not (root / path).exists()
            (root / path).write_text(text + "\n")
    return root


def patched(text: str, diff: str) -> str:
    """The text after a diff whose hunks have no line numbers: each must fit in one place."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE)[1:]:
        lines = hunk.rstrip("\n").split("\n")
        old, new = ("\n".join(line[1:] for line in lines if line[:1] in keep) for keep in (" -", " +"))
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def run(copy: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_touches_three_files() -> None:
    assert [path for path, *_ in PARTS] == [
        "src/watchtrylearn/learners/goal.py",
        "src/watchtrylearn/learners/__init__.py",
        "docs/learners/goal.md",
    ]


def test_the_command_lists_it(copy: Path) -> None:
    assert re.search(r"^learners: .*\bgoal\b", run(copy, "-m", "watchtrylearn.cli", "list"), flags=re.MULTILINE)


def test_the_main_job_runs_with_it_in_a_suite_of_ones_own(copy: Path) -> None:
    (copy / "mirrors.py").write_text(SUITE)
    small = ["goal.main=true", "goal.hidden=[16]", "net.width=8", "net.hidden=[16]", "train.steps=8"]
    few = ["tasks=8", "demos_per_task=3", "scenes=2", "eval_tasks=4", "attempts=1"]
    run(
        copy, "-m", "watchtrylearn.cli", "demo", "--suite", "mirrors.py:Mirrors", "--preset", "debug", "--out", "run",
        "--set", *small, *few,
    )  # fmt: skip
    document = json.loads((copy / "run" / "results.json").read_text())
    (row,) = (r for r in document["rows"] if r["method"] == "goal" and r["family"] == r["subset"] == "all")
    assert (row["n"], row["demos"], row["trials"]) == (8, 1, 0)
    assert "goal-conditioned cloning" in (copy / "run" / "report.html").read_text()


def test_it_learns_and_is_loaded_again(copy: Path) -> None:
    """In the scene of the demonstration itself it goes where it was shown, nearly always."""
    *_, said, success = run(copy, "-c", LEARN).splitlines()
    assert said == "goal False goal-conditioned cloning"
    assert float(success) > 0.9
