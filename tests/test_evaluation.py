"""What an evaluation belongs to: attempts to the weights that made them, comparisons to the scenes of both runs."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from watchtrylearn import cli
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.experiments import main_job
from watchtrylearn.experiments.run import open_run
from watchtrylearn.experiments.steps import MADE_BY
from watchtrylearn.reporting import results
from watchtrylearn.system.progress import Display

TINY = [
    "demos_per_task=2",
    "tasks=16",
    "one_shot.tries=1",
    "scenes=4",
    "eval_tasks=4",
    "bc.train.steps=40",
    "one_shot.train.steps=150",
    "trials_only.train.steps=40",
    "watch_try_learn.train.steps=100",
    "net.hidden=[32]",
    "net.width=32",
]


def make(folder: Path, *settings: str) -> Path:
    """A finished run."""
    assert cli.main(["demo", "--preset", "debug", "--out", str(folder), "--set", *TINY, *settings]) == 0
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """Two training seeds."""
    folder = tmp_path_factory.mktemp("runs")
    return make(folder / "zero"), make(folder / "one", "seed=1")


@pytest.fixture
def run(runs, tmp_path) -> Path:
    """A copy of the first, to be meddled with."""
    return Path(shutil.copytree(runs[0], tmp_path / "copy"))


def retrain(run: Path, learner: str) -> None:
    """Train a learner anew from another number of steps, in the same folder."""
    path = run / "experiment.json"
    stored = json.loads(path.read_text())
    stored["experiment"]["methods"][learner]["train"]["steps"] += 1
    path.write_text(json.dumps(stored))
    shutil.rmtree(run / learner)
    assert cli.main(["train", learner, "--out", str(run)]) == 0


# -------------------------------------------------------------------------------------- attempts and weights


@pytest.mark.parametrize(("learner", "verb", "dataset", "again"), [
    ("bc", ["evaluate"], "evaluation/bc", ["evaluate"]),
    ("watch_try_learn", ["report"], "evaluation/watch_try_learn", ["evaluate"]),
    ("one_shot", ["try"], "trials/one_shot", ["try"]),
])  # fmt: skip
def test_attempts_of_other_weights_are_refused_until_they_are_removed(learner, verb, dataset, again, run, capsys):
    retrain(run, learner)
    capsys.readouterr()
    assert cli.main([*verb, "--out", str(run)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"wtl: {run / dataset} was made by other weights than those in {run / learner}; remove it"
    shutil.rmtree(run / dataset)
    assert cli.main([*again, "--out", str(run)]) == 0
    assert cli.main([*verb, "--out", str(run)]) == 0


def test_the_same_weights_trained_again_keep_their_attempts(run):
    before = {p: p.stat().st_mtime_ns for p in (run / "evaluation").rglob("*.parquet")}
    shutil.rmtree(run / "bc")
    assert cli.main(["train", "bc", "--out", str(run)]) == 0
    assert cli.main(["evaluate", "--out", str(run)]) == 0
    assert {p: p.stat().st_mtime_ns for p in (run / "evaluation").rglob("*.parquet")} == before


def test_what_was_trained_from_trials_of_other_weights_is_refused_until_it_is_removed(run, capsys):
    retrain(run, "one_shot")
    train = ["train", "watch_try_learn", "--out", str(run)]
    assert cli.main(train) == 2
    assert "trials/one_shot was made by other weights" in capsys.readouterr().err
    shutil.rmtree(run / "trials" / "one_shot")
    assert cli.main(["try", "--out", str(run)]) == 0
    assert cli.main(train) == 2
    error = capsys.readouterr().err
    assert "watch_try_learn was begun on other data: trials/one_shot, weights of one_shot changed since" in error
    shutil.rmtree(run / "watch_try_learn")
    assert cli.main(train) == 0


def test_weights_of_another_learner_are_not_evaluated_under_this_name(run, capsys):
    shutil.rmtree(run / "evaluation" / "one_shot")
    for name in ("model.json", "model.safetensors"):
        shutil.copy(run / "bc" / name, run / "one_shot" / name)
    assert cli.main(["evaluate", "--out", str(run)]) == 2
    assert capsys.readouterr().err.endswith("one_shot holds a trained bc, not one_shot; remove it\n")


def test_weights_of_other_settings_are_not_evaluated_in_this_run(run, tmp_path, capsys):
    other = make_only(tmp_path / "other", "net.width=16")
    shutil.rmtree(run / "evaluation" / "bc")
    for name in ("model.json", "model.safetensors"):
        shutil.copy(other / "bc" / name, run / "bc" / name)
    capsys.readouterr()
    assert cli.main(["evaluate", "--out", str(run)]) == 2
    assert "bc holds a run with other settings: net.width is 16, not 32" in capsys.readouterr().err


def make_only(folder: Path, *settings: str) -> Path:
    """A run with nothing but behaviour cloning."""
    assert cli.main(["record", "--preset", "debug", "--out", str(folder), "--set", *TINY, *settings]) == 0
    assert cli.main(["train", "bc", "--out", str(folder)]) == 0
    return folder


def test_demonstrations_of_another_split_are_not_shown_in_the_test(run, capsys):
    with open_run(run, None, Display(quiet=True)) as opened:
        shown = opened.stored("evaluation", "demos").read()
        tasks = opened.suite.tasks("train")[: len(shown)]
        others = opened.suite.demonstrations(tasks, [episode.seed for episode in shown])
        assert all(episode.success for episode in others)
        shutil.rmtree(run / "evaluation" / "demos")
        with opened.store("evaluation", "demos") as store:
            store.append(others)
    capsys.readouterr()
    assert cli.main(["evaluate", "--out", str(run)]) == 2
    assert re.search(
        r"evaluation/demos: episode 0 is not a demonstration of task \S+ \(test\) .*, but of \S+ \(train\)",
        capsys.readouterr().err,
    )


def test_attempts_that_do_not_say_whose_they_are_are_refused(run, capsys):
    (run / "evaluation" / "bc" / MADE_BY).unlink()
    assert cli.main(["evaluate", "--out", str(run)]) == 2
    assert "evaluation/bc does not say which weights made it" in capsys.readouterr().err


def test_a_note_without_attempts_binds_nobody(run):
    """What a run leaves that was killed after the note and before the first attempt."""
    shutil.rmtree(run / "evaluation" / "bc")
    with open_run(run, None, Display(quiet=True)) as opened:
        EpisodeStore.create(run / "evaluation" / "bc", opened.suite.spec, "toy")
    (run / "evaluation" / "bc" / MADE_BY).write_text('{"learner": "bc", "model_sha256": "of weights before"}')
    assert cli.main(["evaluate", "--out", str(run)]) == 0


# ------------------------------------------------------------------------------------------------ two runs


def test_two_runs_are_compared_in_the_same_scenes(runs, capsys):
    assert cli.main(["evaluate", "--out", str(runs[0]), "--against", str(runs[1])]) == 0
    printed = capsys.readouterr().err  # as everything that is shown while a run is open
    assert "after 2 trials" in printed
    assert "conflict" in printed
    with open_run(runs[0], None, Display(quiet=True)) as one, open_run(runs[1], None, Display(quiet=True)) as two:
        ours, theirs = (main_job.attempts_of(each, main_job.trained(each)) for each in (one, two))
        rows = results.across(ours, theirs, results.lines_of(ours), one.suite, ("one", "two"))
    assert [(r["first"]["method"], r["first"]["trials"], r["subset"]) for r in rows] == [
        (method, trials, subset) for method, trials in results.lines_of(ours) for subset in ("all", "conflict")
    ]
    for row in rows:
        entry, subset = (row["first"]["method"], row["first"]["trials"]), row["subset"]
        rates = [rate(run, *entry, subset) for run in runs]
        assert [row["ours"], row["theirs"]] == rates
        assert row["difference"] == pytest.approx(rates[0] - rates[1])
        assert row["ci"][0] <= row["difference"] <= row["ci"][1]


def rate(run: Path, method: str, trials: int, subset: str) -> float:
    """The second route: what the run's own table says."""
    wanted = {"method": method, "trials": trials, "subset": subset, "family": "all"}
    (row,) = [r for r in json.loads((run / "results.json").read_text())["rows"] if wanted.items() <= r.items()]
    return row["value"]


def test_a_run_compared_with_its_copy_differs_nowhere(runs, run):
    with open_run(runs[0], None, Display(quiet=True)) as one, open_run(run, None, Display(quiet=True)) as two:
        attempts = [main_job.attempts_of(each, main_job.trained(each)) for each in (one, two)]
        rows = results.across(*attempts, results.lines_of(attempts[0]), one.suite, ("one", "two"))
    assert {row["difference"] for row in rows} == {0.0}
    assert {row["p_tasks"] for row in rows} == {1.0}


def refused(run: Path, other: Path, capsys) -> str:
    capsys.readouterr()
    assert cli.main(["evaluate", "--out", str(run), "--against", str(other)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(("settings", "difference"), [
    (["scenes=6"], "zero' has no attempt at task reference-test-000 in scene 2000004"),
    (["eval_tasks=2"], "other' has no attempt at task reference-test-002 in scene 2000000"),
    (["split=val"], "their split is 'test' and 'val'"),
])  # fmt: skip
def test_runs_in_other_scenes_are_refused_by_the_first_difference(settings, difference, runs, tmp_path, capsys):
    other = make_only(tmp_path / "other", *settings)
    assert cli.main(["evaluate", "--out", str(other)]) == 0
    assert difference in refused(runs[0], other, capsys)


def test_runs_that_were_shown_something_else_are_refused(runs, run, capsys):
    store = EpisodeStore.open(run / "evaluation" / "demos")
    episodes = store.read()
    episodes[1].observation["state"][0, 0] += np.float32(1e-3)
    shutil.rmtree(store.path)
    with EpisodeStore.create(store.path, store.spec, "toy", executed=True) as changed:
        changed.append(episodes)
    error = refused(runs[0], run, capsys)
    assert "task reference-test-000 in scene 2000002 they saw different demonstrations of seeds [1000001]" in error


def test_only_methods_that_both_runs_evaluated_are_compared(runs, run, capsys):
    shutil.rmtree(run / "evaluation" / "trials_only")
    assert cli.main(["evaluate", "--out", str(runs[0]), "--against", str(run)]) == 0
    printed = capsys.readouterr().err
    assert "Watch-Try-Learn" in printed
    assert "trials only" not in printed
    shutil.rmtree(run / "evaluation")
    assert "has no evaluation of a learner that" in refused(runs[0], run, capsys)
    assert cli.main(["evaluate", "--out", str(run), "--against", str(runs[0])]) == 0  # its own is made
    assert refused(run, run, capsys) == f"wtl: --against {run} is the run itself\n"


def test_a_run_with_some_learners_is_evaluated_with_those(run, capsys):
    for learner in ("bc", "trials_only"):
        shutil.rmtree(run / learner)
    assert cli.main(["evaluate", "--out", str(run)]) == 0
    document = json.loads((run / "results.json").read_text())
    assert {row["method"] for row in document["rows"]} == {"one_shot", "watch_try_learn"}
    for learner in ("one_shot", "watch_try_learn"):
        shutil.rmtree(run / learner)
    assert cli.main(["evaluate", "--out", str(run)]) == 2
    assert "holds no trained model yet" in capsys.readouterr().err
