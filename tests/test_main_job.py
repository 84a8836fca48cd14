"""The main job on the toy suite, as the command line runs it: what it learns, leaves behind and survives."""

import hashlib
import itertools
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from processes import fork, wait
from watchtrylearn import cli
from watchtrylearn.data.verify import verify
from watchtrylearn.experiments import experiment
from watchtrylearn.experiments.run import chosen_tasks, open_run
from watchtrylearn.learners import load
from watchtrylearn.protocol import Scene, evaluate
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import make_suite
from watchtrylearn.suites.toy import optimum
from watchtrylearn.system.files import directory_lock
from watchtrylearn.system.progress import Display
from watchtrylearn.types import Context, WtlError

TINY = [
    "demos_per_task=2",
    "tasks=16",
    "one_shot.tries=1",
    "scenes=4",
    "eval_tasks=4",
    "bc.train.steps=8",
    "one_shot.train.steps=12",
    "trials_only.train.steps=8",
    "watch_try_learn.train.steps=12",
    "net.hidden=[16]",
    "net.width=16",
]
ONE = ["--processes", "1"]  # where two would add nothing but the start of the second


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run of the debug preset."""
    out = tmp_path_factory.mktemp("runs") / "debug"
    assert cli.main(["demo", "--preset", "debug", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, float]:
    """A tiny run that nobody interrupted, and the seconds it took."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    begin = time.monotonic()
    command = ["demo", "--preset", "debug", "--out", str(out), *ONE, "--set", *TINY]
    assert wait(fork(lambda: os._exit(cli.main(command)))) == 0
    return out, time.monotonic() - begin


@pytest.fixture(scope="module")
def tiny(whole) -> Path:
    return whole[0]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    suite = make_suite("toy")
    return [
        Scene(task, (suite.demonstrate(task, 5_000 + j // 2),), 6_000 + j)
        for task in suite.tasks("val")
        for j in range(12)
    ]


def rows(run: Path) -> dict[tuple[str, str, int, str], dict[str, float]]:
    document = json.loads((run / "results.json").read_text())
    return {(r["method"], r["family"], r["trials"], r["subset"]): r for r in document["rows"]}


# ------------------------------------------------------------------------------------------- what it learns


@pytest.mark.parametrize("family", ["reference", "mirror"])
@pytest.mark.parametrize("trials", [1, 2])
def test_watch_try_learn_reaches_the_optimum(run, family, trials):
    reached = rows(run)["watch_try_learn", family, trials, "all"]
    assert reached["value"] >= 0.95 * optimum(family, trials) - 1 / np.sqrt(reached["n"]) * 0.5


def test_watch_try_learn_reaches_95_percent_of_the_optimum_over_all(run):
    for trials in (1, 2):
        best = np.mean([optimum(family, trials) for family in ("reference", "mirror")])
        assert rows(run)["watch_try_learn", "all", trials, "all"]["value"] >= 0.95 * best


def test_adapting_beats_not_adapting(run):
    table = rows(run)
    first = table["watch_try_learn", "all", 1, "all"]["value"]
    assert table["bc", "all", 0, "all"]["value"] < table["one_shot", "all", 0, "all"]["value"] < first - 0.2


def success(run: Path, scenes: list[Scene], trials: int) -> list[float]:
    attempts = evaluate(load(run / "watch_try_learn"), make_suite("toy"), scenes, trials=trials)
    return [float(np.mean([a.episode.success for a in attempts if a.trials == k])) for k in range(trials + 1)]


def test_more_trials_never_hurt(run, scenes):
    rates = success(run, scenes, trials=5)
    assert all(later >= earlier - 0.03 for earlier, later in itertools.pairwise(rates)), rates


def test_a_wrong_yes_or_no_hurts(run, scenes):
    suite, learner = make_suite("toy"), load(run / "watch_try_learn")
    contexts = [Context(demos=s.demos) for s in scenes]
    worlds = suite.worlds([s.task for s in scenes], [s.seed for s in scenes])
    trials = rollout(learner.adapt(contexts), worlds)
    rates = {}
    for name, told in (("true", lambda e: e.success), ("flipped", lambda e: not e.success)):
        lied = [c.with_trial(replace(t, success=told(t))) for c, t in zip(contexts, trials, strict=True)]
        rates[name] = np.mean([e.success for e in rollout(learner.adapt(lied), worlds, attempt=1)])
    assert rates["flipped"] < rates["true"] - 0.2


# ---------------------------------------------------------------------------------------- what it leaves behind


def test_a_run_holds_everything_that_made_its_numbers(run):
    for learner in ("bc", "one_shot", "trials_only", "watch_try_learn"):
        for name in ("config.json", "metrics.jsonl", "tensorboard", "checkpoints", "model.safetensors"):
            assert (run / learner / name).exists(), f"{learner}/{name}"
    for dataset in ("demos", "trials/one_shot", "trials/bc", "evaluation/watch_try_learn"):
        assert verify(run / dataset) == []
    stored = json.loads((run / "experiment.json").read_text())
    assert stored["experiment"]["name"] == "debug"
    assert "torch" in stored["versions"]
    assert {"experiment", "command", "commit", "seeds", "wall_s", "machine", "versions", "rows"} <= set(
        json.loads((run / "results.json").read_text())
    )


def test_the_report_needs_nothing_but_itself(run):
    page = (run / "report.html").read_text()
    assert "Watch-Try-Learn" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)


def test_doing_it_again_does_nothing_twice(tiny):
    before = {p: p.stat().st_mtime_ns for p in tiny.rglob("*.parquet")}
    table = rows(tiny)
    assert cli.main(["demo", "--preset", "debug", "--out", str(tiny), *ONE, "--set", *TINY]) == 0
    assert {p: p.stat().st_mtime_ns for p in tiny.rglob("*.parquet")} == before
    assert rows(tiny) == table


def test_fewer_tasks_are_the_same_mix_of_families():
    tasks = make_suite("toy").tasks("train")
    for count in (2, 6, 16):
        some = chosen_tasks(make_suite("toy"), "train", count, "tasks")
        assert [t for t in tasks if t in some] == some
        assert set(Counter(t.family for t in some).values()) == {count // 2}


# ---------------------------------------------------------------------------------------------- what it survives


def test_the_verbs_one_by_one_make_the_same_run_as_demo(tiny, tmp_path):
    out = str(tmp_path / "run")
    assert cli.main(["record", "--preset", "debug", "--out", out, "--set", *TINY]) == 0
    for verb in (
        ["train", "one_shot"], ["try"], ["train", "watch_try_learn"],
        ["train", "bc"], ["try", "--policy", "bc"], ["train", "trials_only"], ["evaluate"], ["report"],
    ):  # fmt: skip
        assert cli.main([*verb, "--out", out]) == 0
    assert rows(tiny) == rows(Path(out))


def test_a_run_killed_at_random_moments_ends_with_the_same_numbers(whole, tmp_path):
    (uncut, seconds), cut = whole, tmp_path / "cut"
    command = ["demo", "--preset", "debug", *ONE, "--set", *TINY]
    rng = random.Random(0)
    for _ in range(5):
        pid = fork(lambda: os._exit(cli.main([*command, "--out", str(cut)])))
        time.sleep(rng.uniform(0.05, 0.6) * seconds)
        os.kill(pid, signal.SIGKILL)
        wait(pid)
    assert wait(fork(lambda: os._exit(cli.main([*command, "--out", str(cut)])))) == 0
    assert rows(cut) == rows(uncut)


@pytest.mark.parametrize(("number", "reached"), [
    (signal.SIGINT, "demos/meta/info.json"),
    (signal.SIGTERM, "evaluation/bc/meta/info.json"),
    (signal.SIGTERM, "results.json"),
])  # fmt: skip
def test_a_signal_stops_every_phase_and_the_same_command_continues(number, reached, tmp_path, capfd):
    command = ["demo", "--preset", "debug", "--out", str(tmp_path / "run"), *ONE, "--set", *TINY]
    pid = fork(lambda: os._exit(cli.main(command)))
    while not (tmp_path / "run" / reached).exists():
        time.sleep(0.002)
    os.kill(pid, number)
    status = wait(pid)
    if status:  # the last phase may have been faster than the signal
        assert status == 128 + number
        assert "the same command continues" in capfd.readouterr().err
        assert wait(fork(lambda: os._exit(cli.main(command)))) == 0
    assert (tmp_path / "run" / "report.html").exists()


def test_sigterm_saves_and_says_how_to_continue(tmp_path, capfd):
    command = [
        "demo",
        "--preset",
        "debug",
        "--out",
        str(tmp_path / "run"),
        *ONE,
        "--set",
        *TINY,
        "one_shot.train.steps=100000",
    ]
    pid = fork(lambda: os._exit(cli.main(command)))
    while not (tmp_path / "run" / "one_shot" / "checkpoints").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(pid, signal.SIGTERM)
    assert wait(pid) == 143
    assert "the same command continues" in capfd.readouterr().err


# ----------------------------------------------------------------------------------------- what it was trained on


def test_a_method_that_learns_from_trials_is_not_trained_without_and_other_trials_are_noticed(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert cli.main(["record", "--preset", "debug", "--out", out, "--set", *TINY]) == 0
    for verb in (["train", "one_shot"], ["evaluate"]):
        assert cli.main([*verb, "--out", out]) == 0
    train = ["train", "watch_try_learn", "--out", out]
    assert cli.main(train) == 2
    assert "trials/one_shot holds no episodes yet; make them with `wtl try --policy one_shot" in capsys.readouterr().err
    assert cli.main(["try", "--out", out]) == 0
    assert cli.main(train) == 0
    held = json.loads((tmp_path / "run/watch_try_learn/config.json").read_text())["data"]
    assert set(held) == {"demos", "trials/one_shot", "weights of one_shot"}
    meddle(tmp_path / "run", extra_trials=1)
    capsys.readouterr()
    assert cli.main(train) == 2
    assert "watch_try_learn was begun on other data: trials/one_shot changed since" in capsys.readouterr().err


def meddle(run: Path, extra_trials: int) -> None:
    with open_run(run, None, Display(quiet=True)) as opened, opened.store("trials", "one_shot") as store:
        store.append(store.read()[:extra_trials])


def test_a_training_that_did_not_note_its_data_is_not_continued(tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["record", "--preset", "debug", "--out", str(out), "--set", *TINY]) == 0
    assert cli.main(["train", "bc", "--out", str(out)]) == 0
    begun = json.loads((out / "bc" / "config.json").read_text())
    del begun["data"]
    (out / "bc" / "config.json").write_text(json.dumps(begun))
    capsys.readouterr()
    assert cli.main(["train", "bc", "--out", str(out)]) == 2
    assert "bc was begun by a version that did not note the data it trained on; remove" in capsys.readouterr().err


def test_a_model_says_what_it_was_trained_with(run):
    chosen = experiment("debug")
    for learner in ("bc", "one_shot", "trials_only", "watch_try_learn"):
        stored = json.loads((run / learner / "model.json").read_text())["config"]
        assert stored == json.loads(json.dumps(asdict(chosen.methods[learner].config)))
        assert stored["sampling"]["frames"] == 4
        trained_with = load(run / learner).config.sampling
        assert trained_with == chosen.methods[learner].config.sampling


# ------------------------------------------------------------------------------------------------ two processes

SLOW = [*TINY, "bc.train.steps=100000", "bc.train.checkpoint_every=0.1"]


def two(folder: Path, settings: list[str]) -> list[str]:
    return ["demo", "--preset", "debug", "--out", str(folder), "--processes", "2", "--set", *settings]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_free(folder: Path) -> bool:
    """Has the process that worked in ``folder`` ended?"""
    try:
        with directory_lock(folder):
            return True
    except WtlError:
        return False


def test_two_processes_make_the_same_bits_as_one(tiny, tmp_path, monkeypatch, capfd):
    both = tmp_path / "two"
    (tmp_path / "statistics.py").write_text("raise SystemExit('imported from the working directory')")
    monkeypatch.chdir(tmp_path)
    assert cli.main(two(both, TINY)) == 0
    shown = capfd.readouterr().err
    for name in ("bc", "one_shot", "trials_only", "watch_try_learn"):
        assert f"training {name}: " in shown  # the progress of both
        weights = [(run / name / "model.safetensors").read_bytes() for run in (tiny, both)]
        assert weights[0] == weights[1]
    assert rows(tiny) == rows(both)
    document = json.loads((both / "results.json").read_text())
    assert "train bc (beside)" in document["phases_s"]
    assert document["wall_s"] < sum(document["phases_s"].values())


def test_the_second_process_ends_with_a_killed_first_and_the_same_command_continues(tmp_path):
    pid = fork(lambda: os._exit(cli.main(two(tmp_path / "run", SLOW))))
    checkpoints = tmp_path / "run" / "bc" / "checkpoints"
    until(lambda: checkpoints.exists() and any(checkpoints.glob("step-*[1-9]")))
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    until(lambda: is_free(tmp_path / "run" / "beside"))
    reached = max(checkpoints.iterdir())
    pid = fork(lambda: os._exit(cli.main(two(tmp_path / "run", SLOW))))
    until(lambda: max(checkpoints.iterdir()) > reached)
    os.kill(pid, signal.SIGTERM)
    assert wait(pid) == 143
    assert is_free(tmp_path / "run" / "beside")


def test_the_branch_of_a_killed_second_process_goes_on_in_the_first(tmp_path, capfd):
    def kill_the_second() -> None:
        lock = tmp_path / "run" / "beside" / ".lock"
        until(lambda: (tmp_path / "run" / "bc" / "checkpoints").exists())
        os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill_the_second)
    killer.start()
    assert cli.main(two(tmp_path / "run", TINY)) == 0
    killer.join()
    assert "was killed by signal 9; its branch goes on here" in capfd.readouterr().err
    assert rows(tmp_path / "run").keys() >= {("trials_only", "all", 1, "all"), ("watch_try_learn", "all", 1, "all")}


def test_what_fails_in_the_second_process_is_said(tmp_path, capfd):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bc").write_text("in the way")
    assert cli.main(two(tmp_path / "run", TINY)) == 2
    error = capfd.readouterr().err
    assert f"cannot lock {tmp_path / 'run' / 'bc'}" in error
    assert "Traceback" not in error
    (tmp_path / "run" / "bc").unlink()
    assert cli.main(two(tmp_path / "run", TINY)) == 0


@pytest.mark.parametrize("place", ["one_shot", "beside", "bc/checkpoints", "clips"])
def test_a_link_in_a_run_is_not_followed(place, tmp_path, capsys):
    inside, outside = tmp_path / "run" / place, tmp_path / "outside"
    inside.parent.mkdir(parents=True)
    outside.mkdir()
    (outside / "holiday.jpg").write_text("mine")
    inside.symlink_to(outside)
    assert cli.main(two(tmp_path / "run", TINY)) == 2
    assert f"{inside} is a symbolic link" in capsys.readouterr().err
    assert [path.name for path in outside.iterdir()] == ["holiday.jpg"]


def test_other_numbers_of_processes_are_refused(tmp_path, capsys):
    assert cli.main(["demo", "--preset", "debug", "--out", str(tmp_path), "--processes", "3"]) == 2
    assert "--processes must be 1 or 2, got 3" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(("command", "sentence"), [
    (["demo", "--preset", "debgu"], "unknown experiment 'debgu'; did you mean 'debug'?"),
    (["demo", "--preset", "debug", "--set", "demos_per_tsk=3"], "did you mean 'demos_per_task'?"),
    (["demo", "--preset", "debug", "--set", "bc.train.stesp=3"], "did you mean 'steps'?"),
    (["demo", "--preset", "debug", "--set", "scenes=many"], 'scenes must be int, got "many"'),
    (["demo", "--preset", "debug", "--set", "net.hidden=64"], "must be a list of int, such as [1, 2], got 64"),
    (["demo", "--preset", "debug", "--set", "suite=tyo"], "unknown suite 'tyo'; did you mean 'toy'?"),
    (["demo", "--preset", "debug", "--set", "net.embedding=falt"], "did you mean 'flat'?"),
    (["train", "one_shto"], "holds no run yet"),
    (["tran", "one_shot"], "wtl has no verb 'tran'; did you mean 'train'?"),
    (["demo", "--prest", "debug"], "wtl demo has no option '--prest'; did you mean '--preset'?"),
    (["data", "verfy", "x"], "did you mean 'verify'?"),
    (["data"], "say what to do"),
    (["train"], "wtl train needs LEARNER"),
    (["data", "verify"], "wtl data verify needs PATH"),
    (["data", "verify", "nowhere"], "nowhere"),
    (["data", "inspect", "nowhere"], "nowhere"),
])  # fmt: skip
def test_a_mistake_gets_one_sentence_and_status_2(command, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_all_mistakes_in_the_settings_are_said_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = ["demos_per_tsk=3", "scenes=many", "bc.train.steps=-1", "bc.train.batch_size=0", "net.width=0"]
    assert cli.main(["demo", "--preset", "debug", "--set", *settings]) == 2
    error = capsys.readouterr().err
    for name in ("demos_per_task", "scenes must be int", "train.steps", "train.batch_size", "net.width"):
        assert name in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("setting", [
    "suite=tyo", "tasks=1000", "eval_tasks=100", "scenes=3", "split=tset", "bc.train.learning_rate=-1.0",
    "name=other", "demos=[-1,2]", "demos=[]", "frames=0", "bc.train.log_every=0", "net.width=100000000",
    "seed=-1", "attempts=100000000", "net.layers=10000000", "bc.train.steps=10000000000", "elsewhere=2",
    "net.width=10", "net.frames=0", "net.mixtures=0", "net.code=7",
])  # fmt: skip
def test_a_refused_option_leaves_nothing_behind(setting, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["record", "--preset", "debug", "--out", str(out), "--set", *TINY, setting]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (out / "experiment.json").exists()
    assert cli.main(["record", "--preset", "debug", "--out", str(out), "--set", *TINY]) == 0


def test_bad_numbers_on_the_disk_are_never_trained_on(tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["record", "--preset", "debug", "--out", str(out), "--set", *TINY]) == 0
    damage(out / "demos", episode=3, step=2)
    capsys.readouterr()
    assert cli.main(["train", "bc", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "episode 3 " in error
    assert "action: dx is nan at step 2" in error
    assert cli.main(["train", "bc", "--out", str(out), "--skip-bad"]) == 0


def damage(dataset: Path, episode: int, step: int) -> None:
    """Put a NaN into an action, with a checksum that agrees: as if it had been recorded so."""
    data = dataset / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(data)
    rows = np.flatnonzero(table.column("episode_index").to_numpy() == episode)
    actions = table.column("action").to_pylist()
    actions[rows[step]][0] = float("nan")
    column = pa.array(actions, table.schema.field("action").type)
    pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", column), data)
    (sums,) = (dataset / "meta" / "checksums").rglob("*000.json")
    known = json.loads(sums.read_text())
    content = data.read_bytes()
    known["data"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    sums.write_text(json.dumps(known))


def test_the_seed_of_an_experiment_is_the_seed_of_its_batches(tmp_path):
    for seed in (0, 7):
        out = tmp_path / str(seed)
        assert cli.main(["record", "--preset", "debug", "--out", str(out), "--set", *TINY, f"seed={seed}"]) == 0
        assert cli.main(["train", "bc", "--out", str(out)]) == 0
        assert json.loads((out / "bc" / "config.json").read_text())["train"]["seed"] == seed


def test_a_run_with_other_settings_is_not_continued(run, capsys):
    assert cli.main(["demo", "--preset", "debug", "--out", str(run), "--set", "seed=1"]) == 2
    assert "seed is 0, not 1" in capsys.readouterr().err


def test_an_unknown_learner_is_named_with_the_nearest(run, capsys):
    assert cli.main(["train", "one_shto", "--out", str(run)]) == 2
    assert "did you mean 'one_shot'?" in capsys.readouterr().err
