"""A run directory: looking at it changes nothing, and what was begun and left is taken up again."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from watchtrylearn import cli
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.data.verify import verify
from watchtrylearn.experiments import evaluation, experiment, steps
from watchtrylearn.experiments.run import open_run
from watchtrylearn.suites.toy import Toy
from watchtrylearn.system.progress import Display
from watchtrylearn.types import Episode, WtlError

TINY = ["demos_per_task=2", "tasks=4", "scenes=4", "eval_tasks=2"]


def record(out: Path) -> tuple[int, str]:
    """Exit status of `wtl record`, and what it said on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = cli.main(["record", "--preset", "debug", "--out", str(out), "--set", *TINY])
    return status, said.getvalue()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    assert record(tmp_path / "run")[0] == 0
    return tmp_path / "run"


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*") if path.name != ".lock"}


def test_looking_creates_nothing(out: Path) -> None:
    before = everything(out)
    with open_run(out, None, Display()) as run:
        found = steps.counts(run)
        assert (found["recorded"], found["trials_one_shot"], found["trials_bc"]) == (8, 0, 0)
        assert evaluation.evaluated(run) == []
        assert run.stored("trials", "one_shot") is None
        with pytest.raises(WtlError, match="wtl try"):
            steps.train(run, "watch_try_learn")
    assert everything(out) == before


@pytest.mark.parametrize("left", ["meta", "meta/episodes", "."])
@pytest.mark.parametrize("parts", [("demos",), ("trials", "one_shot"), ("evaluation", "demos")])
def test_an_interrupted_creation_is_completed(tmp_path: Path, out: Path, parts: tuple[str, ...], left: str) -> None:
    if parts == ("demos",):
        out = tmp_path / "other"
    folder = out.joinpath(*parts)
    (folder / left).mkdir(parents=True)
    if left == "meta/episodes":
        (folder / left / "chunk-000").mkdir()
    assert record(out)[0] == 0
    with open_run(out, None, Display()) as run:
        assert steps.counts(run)["recorded"] == 8
        assert len(run.store(*parts)) == (8 if parts == ("demos",) else 0)
    assert verify(folder) == []


def test_advice_is_given_where_it_helps(out: Path) -> None:
    (header,) = (out / "demos").glob("meta/watchtrylearn.json")
    (data,) = (out / "demos").glob("data/*/*")
    content = data.read_bytes()
    right = header.read_text()
    header.write_text(right.replace('"schema": 1', '"schema": 99'))
    status, said = record(out)
    assert status == 2
    assert "schema version 99" in said
    assert "--skip-bad" not in said
    header.write_text(right)
    (rows,) = (out / "demos").glob("meta/episodes/*/*")
    rows.write_bytes(rows.read_bytes()[:-1])
    assert "--skip-bad leaves it out" in record(out)[1]
    assert data.read_bytes() == content


OLD = {
    "batch_size": 64, "learning_rate": 0.003, "final_rate": 0.0, "warmup": 100, "weight_decay": 0.0001,
    "clip_norm": 1.0, "average": 0.999, "checkpoint_every": 30.0, "log_every": 20, "seed": 0, "threads": 1,
}  # fmt: skip
FIVE = ("bc", "contextual", "one_shot", "trials_only", "watch_try_learn")


def test_a_run_of_before_experiments_were_plans_goes_on(out: Path) -> None:
    """Its settings are those of the plan; what another method made then than makes it now is named as what it is."""
    stored = {
        "name": "debug", "summary": "the same steps on physics-free point tasks in under a minute", "suite": "toy",
        "tasks": 4, "demos_per_task": 2, "trials_per_demo": 2, "blind_trials_per_demo": 1, "demos": [0.0, 1.0],
        "frames": 4, "warm_start": True, "elsewhere": 0.0, "split": "test", "eval_tasks": 2, "scenes": 4, "attempts": 2,
        "gallery": 0, "seed": 0,
        "net": {"embedding": "object", "code": 64, "width": 64, "layers": 2, "frames": 12, "hidden": [128, 128],
                "mixtures": 5, "chunk": 5, "execute": 5, "target_weight": 1.0},
        "train": {name: {"steps": 2, **OLD} for name in FIVE},
    }  # fmt: skip
    new = json.loads((out / "experiment.json").read_text())
    (out / "experiment.json").write_text(json.dumps({**new, "experiment": stored}))
    same = experiment("debug", [*TINY, "train.steps=2"])
    with open_run(out, same, Display(quiet=True)) as run:
        steps.train(run, "one_shot")
        scenes = evaluation.evaluation_scenes(run)
        told = [0] * len(scenes)
        evaluation.evaluate_otherwise(run, "one_shot-told", "one_shot", scenes, 0, targets=told)
        path = out / "evaluation" / "one_shot-told" / "made_by.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"learner": "watch_try_learn"}))  # as version 0.1 did
        with pytest.raises(
            WtlError, match=r"one_shot-told was made by 'watch_try_learn', not by 'one_shot'; remove it"
        ):
            evaluation.evaluate_otherwise(run, "one_shot-told", "one_shot", scenes, 0, targets=told)


def test_a_dataset_that_is_a_link_is_refused_and_a_run_that_is_one_is_not(tmp_path: Path, out: Path) -> None:
    (tmp_path / "chosen").symlink_to(out)
    assert record(tmp_path / "chosen")[0] == 0
    (out / "demos").rename(tmp_path / "elsewhere")
    (out / "demos").symlink_to(tmp_path / "elsewhere")
    before = everything(tmp_path / "elsewhere")
    status, said = record(out)
    assert status == 2
    assert "demos is a symbolic link" in said
    assert everything(tmp_path / "elsewhere") == before


def test_an_unsound_demonstration_is_a_failed_one_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demonstrations = Toy.demonstrations

    def wild(suite: Toy, *jobs: object) -> list[Episode]:
        made = demonstrations(suite, *jobs)
        made[3].action[-1, 0] = 1e30
        return made

    monkeypatch.setattr(Toy, "demonstrations", wild)
    status, said = record(tmp_path / "run")
    said = " ".join(said.split())
    assert status == 0
    assert "scene 1) is refused: action:" in said
    assert "the other 7 are stored" in said
    store = EpisodeStore.open(tmp_path / "run/demos")
    assert len(store) == 7
    assert all(np.abs(episode.action).max() < 1e3 for episode in store)
