"""Recordings from elsewhere: read, divided, learned from, and predicted open-loop."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import lerobot_arm
from data_episodes import SPEC, make_episode, make_task
from lerobot_arm import NAMES, sentence, write_arm
from watchtrylearn import cli
from watchtrylearn.data.lerobot import read_dataset
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.experiments import open_loop, own_data
from watchtrylearn.experiments.open_loop import KNOWN, NEW, Case, Constant, Method, Replay, Stay
from watchtrylearn.experiments.recordings import OwnData, combine, digest, divide
from watchtrylearn.types import Episode, WtlError

PAGE = (Path(__file__).parents[1] / "docs" / "your-data.md").read_text()
SMALL = ["train.steps=2", "train.threads=1", "train.batch_size=8", "net.hidden=[32]", "net.code=16"]


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Run in an empty folder, with empty caches."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "lerobot"))


def wtl(*arguments: str) -> int:
    return cli.main(list(arguments))


def document(run: str) -> dict:
    return json.loads(Path(run, "results.json").read_text())


# ------------------------------------------------------------------------------------------------- the command


def test_one_command_from_recordings_to_errors_on_held_out_tasks(tmp_path, capsys):
    write_arm(tmp_path / "lerobot/me/my-arm")
    assert wtl("train", "one_shot", "--data", "me/my-arm", "--set", *SMALL) == 0
    told = capsys.readouterr().err
    assert "left out observation.images.front: video" in told
    assert "the action is the desired state" in told
    assert "embedding 'flat'" in told
    found = document("runs/my-arm")
    assert len(found["data"]["held_out_tasks"]) == 1
    assert repr(found["data"]["held_out_tasks"][0]) in told
    rows = {(r["method"], r["watched"], r["group"]): r for r in found["rows"]}
    assert {row["n"] for key, row in rows.items() if key[2] == NEW} == {4}
    assert {row["n"] for key, row in rows.items() if key[2] == KNOWN} == {3}
    assert [number["name"] for number in rows["mean action", "", NEW]["numbers"]] == NAMES
    assert rows["mean action", "", NEW]["ci"] is None  # of one task
    assert rows["mean action", "", KNOWN]["ci"][0] <= rows["mean action", "", KNOWN]["value"]
    assert {c["second"]["watched"] for c in found["comparisons"]} >= {"another task"}

    assert wtl("train", "bc", "--out", "runs/my-arm") == 0  # goes on with the run's own settings
    assert wtl("evaluate", "--out", "runs/my-arm") == 0
    methods = [(row["method"], row["watched"]) for row in document("runs/my-arm")["rows"] if row["group"] == NEW]
    assert methods[:3] == [("bc", ""), ("one_shot", "its task"), ("one_shot", "another task")]


def refusal(capsys, *arguments: str) -> str:
    assert wtl(*arguments) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_what_cannot_be_done_is_said_in_one_sentence(tmp_path, capsys):
    write_arm(tmp_path / "arm")
    write_arm(tmp_path / "two", tasks=2)
    assert wtl("train", "bc", "--data", "arm", "--set", *SMALL) == 0
    for arguments, message in [
        (["train", "bc", "--data", "you/arm"], "nor cached in"),
        (["train", "bc", "--data", "two"], "2 of 2 tasks have two successful demonstrations"),
        (["train", "bcc", "--data", "arm", "--out", "new"], "did you mean 'bc'"),
        (["train", "bc", "--data", "arm", "--out", "new", "--set", "every=7"], "does not divide the 30 steps"),
        (["train", "bc", "--data", "arm", "--out", "new", "--set", "columns.scene=room"], "no column 'room'"),
        (["train", "bc", "--data", "arm", "--out", "new", "--set", "trian.steps=1"], "did you mean 'train'"),
        (["train", "bc", "--data", "arm", "--set", "seed=4"], "seed is 0, not 4"),
        (["train", "trials_only", "--out", "runs/arm"], "trials_only learns from trials"),
        (["train", "watch_try_learn", "--out", "runs/arm"], "watch_try_learn learns from trials"),
        (["report", "--out", "runs/arm"], "it knows train and evaluate"),
        (["train", "bc", "--set", "seed=4"], "--set needs --data"),
    ]:
        assert message in refusal(capsys, *arguments), arguments
    write_arm(tmp_path / "arm", seed=1)
    assert "what is in arm has changed since runs/arm was begun" in refusal(capsys, "train", "bc", "--data", "arm")


def test_files_of_a_run_that_hold_something_else_are_refused(tmp_path, capsys):
    write_arm(tmp_path / "arm")
    assert wtl("train", "bc", "--data", "arm", "--set", *SMALL) == 0
    shutil.copytree("runs/arm/bc", "runs/arm/one_shot")
    assert "one_shot holds a trained bc, not one_shot; remove it" in refusal(capsys, "evaluate", "--out", "runs/arm")
    shutil.rmtree("runs/arm/one_shot")
    Path("runs/arm/seconds.json").write_text('{"train bc": NaN}')
    assert "runs/arm/seconds.json" in refusal(capsys, "evaluate", "--out", "runs/arm")
    Path("runs/arm/seconds.json").write_text('{"train bc": true}')
    assert "seconds.json: [...]: expected float, got bool" in refusal(capsys, "evaluate", "--out", "runs/arm")


def test_episodes_too_long_to_lie_side_by_side_are_refused(tmp_path, monkeypatch, capsys):
    write_arm(tmp_path / "arm")
    monkeypatch.setattr(own_data, "PADDED_LIMIT", 10_000)
    told = refusal(capsys, "train", "bc", "--data", "arm", "--set", *SMALL)
    assert "9 episodes of up to" in told
    assert "`--set every=3` keeps every third step" in told


def test_the_command_line_knows_a_run_on_own_data_by_its_file():
    assert cli.OWN == own_data.FILE


def test_inspect_says_what_a_lerobot_dataset_holds(tmp_path, capsys):
    write_arm(tmp_path / "lerobot/me/my-arm", success=["yes", "no"] * 8)
    assert wtl("data", "inspect", "me/my-arm") == 0
    told = capsys.readouterr().out
    assert "16 episodes" in told
    assert f"action: {', '.join(NAMES)}" in told
    assert "left out observation.images.front" in told
    assert re.search(r"pot number 1\.", re.sub(r"\W*\n\W*", " ", told)) or "number 1." in told
    assert "100.0 %" in told
    assert "0.0 %" in told


def test_the_page_is_true(tmp_path, monkeypatch):
    who, outcome = ["demo", "demo", "demo", "trial"] * 5, ["success"] * 15 + ["failure"] * 5
    write_arm(tmp_path / "lerobot/me/my-arm", tasks=5, who=who[:20], outcome=outcome[:20])
    write_arm(tmp_path / "lerobot/me/my-new-task", tasks=1, episodes=3)
    commands = re.findall(r"^    (wtl .+)$", PAGE, flags=re.MULTILINE)
    assert len(commands) == 8
    for command in commands:
        arguments = shlex.split(command)[1:]
        if "--data" in arguments:
            arguments += [*([] if "--set" in arguments else ["--set"]), *SMALL]
        assert wtl(*arguments) == 0, command
    moved = []
    arm = SimpleNamespace(state=lambda: np.zeros(6, np.float32), move=moved.append)
    snippet = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[1]
    for run, fps in (("runs/my-arm", 30), ("runs/slower", 10)):
        found = {"arm": arm}
        exec(snippet.replace("runs/my-arm", run), found)
        assert found["learner"].spec.fps == fps
    assert np.isfinite(moved).all()
    for option in re.findall(r"^\| `([a-z_]+)[.=]", PAGE, flags=re.MULTILINE):
        assert hasattr(OwnData(), option), option


# ------------------------------------------------------------------------------------------------- it learns


def test_what_the_demonstration_tells_is_measured(tmp_path):
    """Where nothing but the demonstration tells the task, it helps in new tasks, and another task's misleads."""
    write_arm(tmp_path / "arm", tasks=40, episodes=3, steps=20)
    small = ["train.steps=250", "train.batch_size=32", "frames=8", "net.hidden=[96,96]", "train.threads=1"]
    more = ["train.learning_rate=0.004", "net.chunk=8", "net.execute=8"]
    assert wtl("train", "one_shot", "--data", "arm", "--set", *small, *more) == 0
    found = document("runs/arm")
    lines = {(r["method"], r["watched"]): r["value"] for r in found["rows"] if r["group"] == NEW}
    assert lines["one_shot", "its task"] < 0.75 * lines["one_shot", "another task"]
    told = next(c for c in found["comparisons"] if c["group"] == NEW and c["second"]["watched"] == "another task")
    assert told["ci"][1] < 0


# --------------------------------------------------------------------------------------------------- open loop


def episode(task: int, seed: int, state: list[float], action: list[float]) -> Episode:
    e = make_episode(1)
    vectors = [np.array(values, np.float32)[:, None] * np.ones(2, np.float32) for values in (state, action)]
    observation = {"state": vectors[0], "environment_state": np.zeros((len(state), 3), np.float32)}
    reward = np.zeros(len(state), np.float32)
    return replace(e, task=make_task(task), seed=seed, observation=observation, action=vectors[1], reward=reward)


def test_the_baselines_errors_are_those_computed_by_hand():
    long = episode(0, 1, [0, 1, 2, 3], [1, 2, 3, 5])
    short = episode(0, 2, [0, 1], [0, 4])
    error = open_loop.errors(Constant(np.array([1.0, 2.0])), [long, short])
    np.testing.assert_allclose(error, [[(0 + 1 + 2 + 4) / 4, (1 + 0 + 1 + 3) / 4], [(1 + 3) / 2, (2 + 2) / 2]])
    stay = open_loop.errors(Stay(2, execute=2), [long, short])
    np.testing.assert_allclose(stay[:, 0], [(1 + 2 + 1 + 3) / 4, (0 + 4) / 2])
    np.testing.assert_allclose(open_loop.errors(Replay([long]), [long]), 0)
    np.testing.assert_allclose(open_loop.errors(Replay([short]), [long])[0, 0], (1 + 2 + 1 + 1) / 4)


def test_rows_are_scaled_by_what_moves_and_their_intervals_are_over_tasks():
    cases = [Case(NEW, e, e, e) for e in (episode(t, t, [0], [0]) for t in (0, 0, 1, 1))]
    found = {Method("x"): np.array([[2.0, 9.0], [2.0, 9.0], [4.0, 9.0], [4.0, 9.0]])}
    row = open_loop.rows(found, cases, SPEC, np.array([2.0, 0.0]))[0]
    assert row["value"] == 1.5  # the second number does not move in training
    assert [number["value"] for number in row["numbers"]] == [3.0, 9.0]
    assert (row["n"], row["tasks"]) == (4, 2)
    assert row["ci"][0] <= 1.0
    assert row["ci"][1] >= 2.0
    one = open_loop.rows({Method("x"): np.ones((2, 2))}, cases[:2], SPEC, np.ones(2))[0]
    assert one["ci"] is None


# ----------------------------------------------------------------------------------------------- what is held out


def recordings(tmp_path: Path, **options: int) -> tuple:
    return combine([read_dataset(write_arm(tmp_path / "arm", **options))], OwnData())


def test_training_sees_nothing_of_what_is_predicted(tmp_path):
    _, episodes = recordings(tmp_path, tasks=10, episodes=4)
    split = divide(episodes, OwnData())
    queries = {id(case.query) for case in split.cases}
    assert not queries & {id(e) for e in split.train}
    assert len(split.train) + len(queries) == len(episodes)
    assert len(split.held_out) == 2
    assert not set(split.held_out) & {e.task.sentence for e in split.train}
    for case in split.cases:
        assert case.shown.task == case.query.task != case.other.task
        assert case.shown.seed != case.query.seed
        assert (case.query.task.sentence in split.held_out) == (case.group == NEW)
    assert divide(episodes, OwnData()).held_out == split.held_out != divide(episodes, OwnData(seed=1)).held_out


def test_asked_for_tasks_are_held_out_or_none(tmp_path):
    _, episodes = recordings(tmp_path)
    assert divide(episodes, OwnData(test_tasks=(sentence(2),))).held_out == [sentence(2)]
    everything = divide(episodes, OwnData(hold_out=0.0))
    assert (everything.held_out, everything.cases, len(everything.train)) == ([], [], 16)
    with pytest.raises(WtlError, match=r"did you mean 'Put the lid on pot number 3\.'"):
        divide(episodes, OwnData(test_tasks=("lid on pot number 3",)))


def test_tasks_of_one_sentence_are_held_out_together():
    tasks = [replace(make_task(i), name=f"task-{i}", sentence="push" if i < 2 else f"grasp {i}") for i in range(4)]
    episodes = [replace(make_episode(1), task=task, seed=scene) for task in tasks for scene in range(2)]
    split = divide(episodes, OwnData(test_tasks=("push",)))
    assert {e.task.name for e in split.train} == {"task-2", "task-3"}
    assert split.held_out == ["push"]


def test_recordings_of_several_days_become_one(tmp_path):
    one = read_dataset(write_arm(tmp_path / "monday"))
    two = read_dataset(write_arm(tmp_path / "tuesday", seed=1))
    spec, episodes = combine([one, two], OwnData(every=2))
    assert len({e.task.name for e in episodes}) == 4  # the same sentence is the same task
    assert len({(e.task.name, e.seed) for e in episodes}) == 32
    assert spec.fps == 15
    assert all(e.problems(spec) == [] for e in episodes)
    assert np.array_equal(episodes[0].action, one.episodes[0].action[::2])
    assert digest(spec, episodes) != digest(spec, episodes[::-1])
    other = replace(one.spec, action=replace(one.spec.action, names=("a", *one.spec.action.names[1:])))
    with pytest.raises(WtlError, match=r"tuesday does not fit .*monday: action"):
        combine([one, replace(two, spec=other)], OwnData())


# ------------------------------------------------------------------------------------------ datasets of our own


def test_datasets_of_our_own_keep_kind_scene_outcome_and_split(tmp_path, capsys):
    episodes = []
    for task in range(5):
        for scene in range(3):
            for kind in ("demo", "trial", "trial"):
                e = make_episode(len(episodes), kind=kind)
                split = "test" if task == 4 else "train"
                episodes.append(replace(e, task=replace(make_task(task), split=split), seed=scene))
    with EpisodeStore.create("demos", SPEC) as demos, EpisodeStore.create("trials", SPEC) as trials:
        demos.append([e for e in episodes if e.kind == "demo"])
        trials.append([e for e in episodes if e.kind == "trial"])
    assert wtl("train", "one_shot", "--data", "demos", "trials", "--out", "run", "--set", *SMALL) == 0
    assert "15 demos" in capsys.readouterr().err
    assert document("run")["data"]["held_out_tasks"] == [make_task(4).sentence]
    assert wtl("train", "watch_try_learn", "--out", "run") == 0
    assert wtl("train", "trials_only", "--out", "run") == 0
    lines = {(r["method"], r["watched"], r["trials"]) for r in document("run")["rows"]}
    assert {("watch_try_learn", "its task", 1), ("trials_only", "", 1), ("one_shot", "another task", 0)} <= lines


def test_the_arm_is_written_without_this_library():
    source = Path(lerobot_arm.__file__).read_text()
    assert "import watchtrylearn" not in source
    assert "from watchtrylearn" not in source
