"""A suite and a learner from outside go through every verb of the main job; nothing of the library is touched."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import watchtrylearn.learners as table
from pretend_device import AT, pretending
from watchtrylearn import cli
from watchtrylearn.experiments import run
from watchtrylearn.experiments.run import open_run
from watchtrylearn.learners import LEARNERS, LearnerEntry, load
from watchtrylearn.suites import Suite, make_suite
from watchtrylearn.system.progress import Display
from watchtrylearn.training.update import GradientDescent
from watchtrylearn.types import WtlError

ROBOT = Path(__file__).parents[1] / "examples" / "own_robot.py"
SMALL = [
    "demos_per_task=2", "tasks=4", "eval_tasks=4", "scenes=2", "one_shot.tries=1", "train.steps=4", "net.width=16",
    "net.hidden=[16]", "gallery=2",
]  # fmt: skip

SUITE = '''
"""Points on a line that go to a mark: a throw-away suite, which knows one neighbour."""

from functools import partial

import gymnasium
import numpy as np

import watchtrylearn as wtl
from marks import mark

SPEC = wtl.Spec(
    fps=10,
    horizon=5,
    observation={
        "state": wtl.Channel(("x",), (-9.0,), (9.0,)),
        "environment_state": wtl.Channel(("mark", "other"), (-9.0, -9.0), (9.0, 9.0)),
    },
    action=wtl.Channel(("dx",), (-1.0,), (1.0,)),
    entities=2,
    position=1,
)


class Line(gymnasium.Env):
    def __init__(self, task, scene):
        self.goal = mark(int(task["value"]), scene)
        self.observation_space = gymnasium.spaces.Dict({n: c.space() for n, c in SPEC.observation.items()})
        self.action_space = SPEC.action.space()

    def reset(self, *, seed=None, options=None):
        self.x = 0.0
        return self.see(), {}

    def step(self, action):
        self.x += float(action[0])
        there = abs(self.x - self.goal) < 0.2
        return self.see(), float(there), there, False, {"success": there}

    def see(self):
        seen = {"state": [self.x], "environment_state": [self.goal, -self.goal]}
        return {name: np.array(values, np.float32) for name, values in seen.items()}


class Lines:
    name, spec = "line", SPEC

    def tasks(self, split):
        return [wtl.Task("line", "line", f"{split}-{i}", split, f"go to {i}", (("value", i),)) for i in range(4)]

    def worlds(self, tasks, seeds):
        made = gymnasium.vector.SyncVectorEnv([partial(Line, t, s) for t, s in zip(tasks, seeds, strict=True)])
        made.tasks, made.seeds, made.episode_spec = list(tasks), list(seeds), SPEC
        return made

    def demonstrations(self, tasks, seeds):
        return wtl.rollout(Guide(), self.worlds(tasks, seeds), kind="demo")

    def demonstrate(self, task, seed):
        return self.demonstrations([task], [seed])[0]


class Guide:
    def reset(self, rngs):
        pass

    def act(self, observation):
        return np.clip(observation["environment_state"][:, :1] - observation["state"], -1.0, 1.0)


def make():
    return Lines()


def mute():
    """A suite that cannot demonstrate."""
    made = Lines()
    mute = type("Mute", (), {"name": "mute", "spec": SPEC, "tasks": made.tasks, "worlds": made.worlds})
    return mute()


def half():
    return type("Half", (), {"name": "half", "spec": SPEC, "tasks": made.tasks})() if (made := Lines()) else None


def nameless():
    return type("Nameless", (), {"name": 3, "spec": SPEC})()


def broken():
    raise RuntimeError("no such robot")
'''
MARKS = """
def mark(value, scene):
    return (1.0 + value / 2) * (1 if scene % 2 else -1)
"""
LEARNER = '''
"""One command for ever, drawn towards those of the demonstrations: a throw-away learner with batches of its own."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from watchtrylearn.training.sources import FixedSource


@dataclass(frozen=True)
class Config:
    begin: float = 0.25


@dataclass
class Actions:
    values: torch.Tensor

    def to(self, device):
        return Actions(self.values.to(device))


class Constant(nn.Module):
    name = "constant"

    def __init__(self, config, spec):
        super().__init__()
        self.config, self.spec = config, spec
        self.command = nn.Parameter(torch.full((spec.action.size,), config.begin))

    def source(self, material):
        episodes = material.memory.numbers()
        seen = episodes.action[episodes.mask]
        return FixedSource(lambda rng: Actions(seen[rng.integers(len(seen), size=material.batch_size)]))

    def prepare(self, episodes):
        pass

    def loss(self, batch):
        loss = (self.command - batch.values).square().mean()
        return loss, {"error": loss}

    def adapt(self, contexts):
        return Held(self.command.detach().cpu().numpy(), len(contexts))


class Held:
    def __init__(self, command, worlds):
        self.command, self.worlds = command, worlds

    def reset(self, rngs):
        pass

    def act(self, observation):
        return np.tile(self.command, (self.worlds, 1))
'''


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """The throw-away suite, in a folder with its neighbour."""
    folder = tmp_path / "robots"
    folder.mkdir()
    (folder / "line.py").write_text(SUITE)
    (folder / "marks.py").write_text(MARKS)
    return folder / "line.py"


def imported(name: str, code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that a file with this code is."""
    path = folder / f"{name}.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def constant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LearnerEntry:
    """The throw-away learner, as one more row of the table."""
    module = imported("constant", LEARNER, tmp_path, monkeypatch)
    entry = LearnerEntry(
        "constant", module.Constant, module.Config, "one command", "one command for ever", uses_demos=False
    )
    monkeypatch.setattr(table, "LEARNERS", (*LEARNERS, entry))
    return entry


def demo(out: Path, suite: object, *settings: str, processes: int = 1) -> list[str]:
    chosen = ["--suite", f"{suite}:make", "--processes", str(processes), "--set", *SMALL, *settings]
    return ["demo", "--preset", "debug", "--out", str(out), *chosen]


def document(out: Path) -> dict:
    return json.loads((out / "results.json").read_text())


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    assert cli.main(list(command)) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.splitlines()[-1]


# -------------------------------------------------------------------------------------------------- the main job


def test_a_throw_away_learner_and_suite_go_through_the_main_job(tmp_path: Path, line: Path, constant) -> None:
    out = tmp_path / "run"
    settings = [
        "constant.main=true",
        "constant.begin=0.5",
        "constant.train.steps=60",
        "constant.train.learning_rate=0.1",
    ]
    assert cli.main(demo(out, line, *settings)) == 0
    rows = {(r["method"], r["family"]): r for r in document(out)["rows"]}
    assert {name for name, _ in rows} == {"bc", "one_shot", "trials_only", "watch_try_learn", "constant"}
    assert {row["suite"] for row in rows.values()} == {"line"}
    assert rows["constant", "all"]["demos"] == 0
    learner = load(out / "constant")
    assert learner.config == constant.config(0.5)
    with open_run(out, None, Display(quiet=True), suite=f"{line}:make") as opened:
        demos = opened.stored("demos").read()
    mean = sum(float(e.action.sum()) for e in demos) / sum(map(len, demos))
    assert float(learner.command.detach()) == pytest.approx(mean, abs=0.15)  # it was trained on its own batches
    assert "one command" in (out / "report.html").read_text()
    assert document(out)["command"].startswith(f"wtl demo --preset debug --suite {line}:make --set demos_per_task=2 ")
    assert "constant.main=true" in document(out)["command"]
    assert cli.main(demo(out, line, *settings)) == 0  # and goes on there


def test_a_learner_of_the_table_is_trained_by_name_in_any_run(tmp_path: Path, constant, capsys) -> None:
    out = str(tmp_path / "run")
    assert cli.main(["record", "--preset", "debug", "--out", out, "--set", *SMALL]) == 0
    assert cli.main(["train", "constant", "--out", out]) == 0
    assert cli.main(["evaluate", "--out", out]) == 0
    assert {row["method"] for row in document(tmp_path / "run")["rows"]} == {"constant"}
    assert "constant makes no trials" in refused(capsys, "try", "--policy", "constant", "--out", out)


def test_the_example_robot_goes_through_the_main_job_in_two_processes(tmp_path: Path) -> None:
    both, one = tmp_path / "two", tmp_path / "one"
    assert cli.main(demo(both, ROBOT, processes=2)) == 0
    assert cli.main(demo(one, ROBOT)) == 0
    assert document(both)["rows"] == document(one)["rows"]
    assert {row["family"] for row in document(both)["rows"]} == {"colour", "place", "all"}
    assert "<video" not in (both / "report.html").read_text()  # it cannot be filmed
    assert any(phase.endswith("(beside)") for phase in document(both)["phases_s"])


def test_the_verbs_one_by_one_take_the_suite_from_anywhere(tmp_path: Path, line: Path, monkeypatch, capsys) -> None:
    out = str(tmp_path / "run")
    monkeypatch.chdir(line.parent)
    begin = ["record", "--preset", "debug", "--out", out, "--suite", "line.py:make", "--set", *SMALL]
    assert cli.main(begin) == 0
    stored = json.loads((tmp_path / "run" / "experiment.json").read_text())["experiment"]["suite"]
    assert stored == "line.py:make"
    monkeypatch.chdir(tmp_path)
    suite = ["--suite", "robots/line.py:make", "--out", out]
    for verb in (["train", "one_shot"], ["try"], ["train", "watch_try_learn"], ["evaluate"], ["report"]):
        assert cli.main([*verb, *suite]) == 0
    assert {row["method"] for row in document(tmp_path / "run")["rows"]} == {"one_shot", "watch_try_learn"}
    error = refused(capsys, "evaluate", "--out", out)  # no code is run because a directory says so
    assert "was begun with the suite line.py:make, which is code from outside" in error
    assert "--suite PATH/line.py:make" in error
    error = refused(capsys, "evaluate", "--out", out, "--suite", f"{line}:mute")
    assert f"was begun with the suite line.py:make, not {line}:mute" in error


def test_a_run_is_found_again_wherever_its_suite_lies_now_and_refused_if_that_has_changed(
    tmp_path: Path, line: Path, monkeypatch, capsys
) -> None:
    """A checkout that was moved, a file that was renamed, and one that was edited between two sessions."""
    out, folder = tmp_path / "run", tmp_path / "moved"
    record = ["record", "--preset", "debug", "--out", str(out), "--set", *SMALL, "--suite"]
    assert cli.main([*record, f"{line}:make"]) == 0
    assert cli.main(["train", "one_shot", "--out", str(out), "--suite", f"{line}:make"]) == 0
    line.parent.rename(folder)
    moved = folder / "line.py"
    assert cli.main(["evaluate", "--out", str(out), "--suite", f"{moved}:make"]) == 0
    renamed = moved.rename(folder / "points.py")
    assert cli.main(["report", "--out", str(out), "--suite", f"{renamed}:make"]) == 0
    assert cli.main([*record, f"{renamed}:make"]) == 0
    assert str(tmp_path) not in (out / "experiment.json").read_text()

    monkeypatch.chdir(folder)
    renamed.rename(moved)
    moved.write_text(SUITE.replace("self.goal) < 0.2", "self.goal) < 0.1"))
    for command in (["report", "--out", str(out), "--suite"], record):
        error = refused(capsys, *command, "line.py:make")
        assert "run was begun when line.py:make was another file, so what it holds may be of other tasks" in error
    says = json.loads("{" + error[error.index('"suite_sha256"') : error.index(" into ")] + "}")
    stored = json.loads((out / "experiment.json").read_text())
    (out / "experiment.json").write_text(json.dumps(stored | says))
    assert cli.main(["report", "--out", str(out), "--suite", "line.py:make"]) == 0


def test_a_file_that_has_changed_is_run_anew(line: Path) -> None:
    first = make_suite(f"{line}:make")
    line.write_text(SUITE.replace('name, spec = "line"', 'name, spec = "edge"'))
    assert (first.name, make_suite(f"{line}:make").name) == ("line", "edge")


def test_a_module_is_found_by_the_second_process_too(tmp_path: Path, line: Path, monkeypatch) -> None:
    package = tmp_path / "packages" / "arms"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "flat.py").write_text(SUITE.replace("from marks", "from arms.marks"))
    shutil.copy(line.parent / "marks.py", package)
    monkeypatch.syspath_prepend(package.parent)
    assert isinstance(make_suite("arms.flat:make"), Suite)
    assert cli.main(demo(tmp_path / "run", "arms.flat", processes=2)) == 0
    assert json.loads((tmp_path / "run" / "experiment.json").read_text())["experiment"]["suite"] == "arms.flat:make"


# -------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(("name", "sentence"), [
    ("{folder}/line.py:mkae", "has no function 'mkae'; it has partial, mark, "),
    ("{folder}/nothing.py:make", "there is no file {folder}/nothing.py"),
    ("{folder}:make", "a suite from outside is MODULE:FUNCTION or PATH.py:FUNCTION, not"),
    ("no_such_module:make", "Python finds no module 'no_such_module'; a file is PATH.py:FUNCTION"),
    ("{folder}/line.py:half", "what half() returns has no method 'worlds'; see docs/suites.md"),
    ("{folder}/line.py:nameless", "what nameless() returns has a name that is no str"),
    ("{folder}/line.py:broken", "broken() raised RuntimeError: no such robot ({folder}/line.py, line "),
    ("{folder}/raises.py:make", "importing it raised ZeroDivisionError: division by zero ({folder}/raises.py, line 2)"),
    ("{folder}/lacks.py:make", "importing it raised ModuleNotFoundError: No module named 'numpyy' ({folder}/lacks.py"),
    ("{folder}/syntax.py:make", "SyntaxError: "),
])  # fmt: skip
def test_what_is_wrong_with_a_suite_is_said_in_one_sentence(name, sentence, line, tmp_path, capsys) -> None:
    folder = line.parent
    (folder / "raises.py").write_text("\n1 / 0\n")
    (folder / "lacks.py").write_text("import numpyy\n")
    (folder / "syntax.py").write_text("def make(:\n")
    out = tmp_path / "run"
    name, sentence = name.format(folder=folder), sentence.format(folder=folder)
    assert sentence in refused(capsys, "demo", "--preset", "debug", "--suite", name, "--out", str(out))
    assert not (out / "experiment.json").exists()
    with pytest.raises(WtlError, match="suite"):
        make_suite(name)


def test_a_suite_that_cannot_demonstrate_says_what_to_do(tmp_path: Path, line: Path, capsys) -> None:
    command = [
        "record",
        "--preset",
        "debug",
        "--out",
        str(tmp_path / "run"),
        "--suite",
        f"{line}:mute",
        "--set",
        *SMALL,
    ]
    assert "suite 'mute' cannot demonstrate its tasks; record demonstrations yourself" in refused(capsys, *command)


# ------------------------------------------------------------------------------------------------------ devices


def test_a_device_that_is_not_there_is_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command = ["demo", "--preset", "debug", "--out", str(tmp_path / "run"), "--set", *SMALL]
    assert "--device cuda: torch finds no CUDA device here" in refused(capsys, *command, "--device", "cuda")
    assert "--device is cpu or cuda, not 'gpu'" in refused(capsys, *command, "--device", "gpu")
    assert not (tmp_path / "run").exists()


def test_the_device_is_where_a_run_is_trained_and_no_setting_of_it(tmp_path: Path, monkeypatch) -> None:
    out = str(tmp_path / "run")
    assert cli.main(["record", "--preset", "debug", "--out", out, "--set", *SMALL]) == 0
    monkeypatch.setattr(run, "DEVICES", (*run.DEVICES, str(AT)))
    trained_at = []
    update = GradientDescent.__init__

    def seen(self, learner, *arguments) -> None:
        trained_at.append({parameter.device for _, parameter in learner.named_parameters()})
        update(self, learner, *arguments)

    monkeypatch.setattr(GradientDescent, "__init__", seen)
    with pretending():
        assert cli.main(["train", "bc", "--out", out, "--device", str(AT)]) == 0
    assert trained_at == [{AT}]
    assert "device" not in (tmp_path / "run" / "experiment.json").read_text()
    assert cli.main(["train", "bc", "--out", out]) == 0  # it is finished, wherever that was
    assert cli.main(["evaluate", "--out", out, "--device", "cpu"]) == 0
