"""What was acknowledged is there, exactly, whatever happened; what is unsound never gets in."""

import copy
import json
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_episodes import SPEC, channel, make_episode, make_task, same
from processes import fork, wait
from watchtrylearn.data import adopt, bounds, layout, parquet, parts
from watchtrylearn.data import store as store_module
from watchtrylearn.data.store import EpisodeStore, Refused
from watchtrylearn.data.verify import inspect, rebuild_index, verify
from watchtrylearn.ops.random import generator
from watchtrylearn.system import files
from watchtrylearn.system.files import read_typed, write_json
from watchtrylearn.types import Episode, Spec, WtlError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dataset"


def fill(path: Path, batches: int = 3, size: int = 4) -> list[Episode]:
    episodes = [make_episode(i) for i in range(batches * size)]
    with EpisodeStore.create(path, SPEC, suite="test") as store:
        for begin in range(0, len(episodes), size):
            store.append(episodes[begin : begin + size])
    return episodes


# --------------------------------------------------------------------------------------------- round trip


def test_round_trip_is_exact(path: Path) -> None:
    episodes = fill(path)
    store = EpisodeStore.open(path, SPEC)
    assert len(store) == 12
    assert store.header.suite == "test"
    assert store.spec == SPEC
    assert all(same(a, b) for a, b in zip(store, episodes, strict=True))
    assert all(same(a, episodes[i]) for a, i in zip(store.read([7, 0, 7, 11]), [7, 0, 7, 11], strict=True))
    assert [record.task for record in store.records] == [episode.task for episode in episodes]
    assert verify(path) == []


def test_iteration_holds_one_file_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path)
    store = EpisodeStore.open(path)
    opened: list[int] = []
    read = store_module.read_part
    monkeypatch.setattr(store_module, "read_part", lambda *args: opened.append(args[2]) or read(*args))
    iterator = iter(store)
    next(iterator)
    assert opened == [0]
    assert len(list(iterator)) == 11
    assert opened == [0, 1, 2]


def test_executed_actions_are_kept_where_they_differ(path: Path) -> None:
    episodes = [make_episode(i, executed=i % 2 == 0) for i in range(4)]
    with EpisodeStore.create(path, SPEC, executed=True) as store:
        store.append(episodes)
    assert all(same(a, b) for a, b in zip(EpisodeStore.open(path).read(), episodes, strict=True))
    features = read_typed(path / layout.INFO, dict)["features"]
    assert "executed_action" in features
    assert [name for name in features if name.startswith("action")] == ["action"]  # LeRobot's rule for actions
    with (
        EpisodeStore.create(path / "plain", SPEC, executed=False) as store,
        pytest.raises(WtlError, match="executed=True"),
    ):
        store.append(episodes)


def test_a_dataset_of_version_0_1_keeps_the_name_of_its_executed_actions(path: Path) -> None:
    EpisodeStore.create(path, SPEC, executed=True)
    header = read_typed(path / layout.HEADER, dict)
    del header["executed_column"]
    write_json(path / layout.HEADER, header)
    episodes = [make_episode(i, executed=True) for i in range(3)]
    with EpisodeStore.open(path) as store:
        store.append(episodes)
    assert "action.executed" in read_typed(path / layout.INFO, dict)["features"]
    assert verify(path) == []
    assert all(same(a, b) for a, b in zip(EpisodeStore.open(path), episodes, strict=True))
    write_json(path / layout.HEADER, {**header, "executed_column": "index"})
    with pytest.raises(WtlError, match="executed_column: invalid enum value 'index'"):
        EpisodeStore.open(path)


def test_a_spec_without_environment_and_with_other_channels(path: Path) -> None:
    spec = Spec(5, 12, {"state": channel("x"), "touch": channel("l", "r", "m")}, channel("u"))
    unbounded = replace(spec, action=replace(spec.action, low=(-np.inf,), high=(np.inf,)))
    episodes = [make_episode(i, spec=unbounded) for i in range(3)]
    with EpisodeStore.create(path, unbounded) as store:
        store.append(episodes)
    store = EpisodeStore.open(path, unbounded)
    assert store.spec == unbounded
    assert all(same(a, b) for a, b in zip(store, episodes, strict=True))


def test_diverged_trials_are_kept_and_count_for_nothing(path: Path) -> None:
    broken = make_episode(0)
    broken = replace(broken, diverged=True, action=np.full_like(broken.action, np.nan), success=False)
    with EpisodeStore.create(path, SPEC) as store:
        store.append([broken, make_episode(1)])
    assert same(EpisodeStore.open(path).read([0])[0], broken)
    assert np.isfinite(read_typed(path / layout.STATS, dict)["action"]["mean"]).all()
    assert verify(path) == []


def test_several_stores_may_append_to_one_dataset(path: Path) -> None:
    EpisodeStore.create(path, SPEC)
    one, two = EpisodeStore.open(path), EpisodeStore.open(path)
    assert one.append([make_episode(0)]) == [0]
    assert two.append([make_episode(1), make_episode(2)]) == [1, 2]
    assert one.append([make_episode(3)]) == [3]
    assert all(same(a, make_episode(i)) for i, a in enumerate(EpisodeStore.open(path)))


# ----------------------------------------------------------------------------------------------- refusals


def broken_at(field: str, value: float) -> Episode:
    episode = make_episode(4)
    values = {**episode.observation, "action": episode.action, "reward": episode.reward}
    values[field] = values[field].copy()
    values[field].flat[-1] = value
    observation = {name: values[name] for name in episode.observation}
    return replace(episode, observation=observation, action=values["action"], reward=values["reward"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e9, 1e30])
@pytest.mark.parametrize("field", ["state", "environment_state", "action"])
def test_bad_numbers_are_refused_by_task_scene_field_and_step_and_the_others_kept(
    path: Path, field: str, value: float
) -> None:
    store = EpisodeStore.create(path, SPEC)
    bad, step = broken_at(field, value), len(make_episode(4)) - 1
    place = (
        rf"episode 1 of the batch \({bad.task.name}, scene {bad.seed}\) is refused: .*{field}: \w+ is .* at step {step}"
    )
    with pytest.raises(Refused, match=place) as refused:
        store.append([make_episode(0), bad, make_episode(2)])
    assert refused.value.stored == [0, 1]
    assert len(refused.value.reasons) == 1
    assert all(same(a, make_episode(i)) for a, i in zip(EpisodeStore.open(path).read(), [0, 2], strict=True))
    assert store.append([make_episode(3)]) == [2]


def test_a_batch_of_nothing_sound_writes_nothing(path: Path) -> None:
    store = EpisodeStore.create(path, SPEC)
    with pytest.raises(Refused, match=r"and 2 more$") as refused:
        store.append([broken_at("action", np.nan)] * 5)
    assert refused.value.stored == []
    assert not list(path.glob("data/*/*"))
    assert store.append([]) == []


def test_the_numbers_of_a_diverged_attempt_may_be_anything(path: Path) -> None:
    wild = [np.nan, np.inf, -np.inf, 1e30, 3e38, -1e300]
    attempts = []
    for number, value in enumerate(wild):
        episode = make_episode(4)
        state = {**episode.observation, "state": np.full_like(episode.observation["state"], value, float)}
        reward = np.full(len(episode), value)
        terms, start = {"distance": value}, np.full(3, value)
        attempts.append(
            replace(
                episode, kind="trial", diverged=True, success=False, seed=number, observation=state, reward=reward,
                action=np.full(episode.action.shape, value), terms=terms, initial_state=start,
            )
        )  # fmt: skip
    with EpisodeStore.create(path, SPEC) as store, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.append([*attempts, make_episode(1)]) == list(range(7))
    found = EpisodeStore.open(path).read()
    with np.errstate(over="ignore"):
        assert all(
            np.array_equal(a.action, np.float32(b.action), equal_nan=True)
            for a, b in zip(found, attempts, strict=False)
        )
    assert np.isfinite(read_typed(path / layout.STATS, dict)["action"]["max"]).all()
    assert verify(path) == []


def of_length(steps: int) -> dict:
    observation = {name: np.zeros((steps, c.size), np.float32) for name, c in SPEC.observation.items()}
    action = np.zeros((steps, SPEC.action.size), np.float32)
    return {"observation": observation, "action": action, "reward": np.zeros(steps, np.float32)}


def unchecked(value: Any, **change: object) -> Any:
    """As a caller makes it whose types nobody checks."""
    changed = copy.copy(value)
    for name, value in change.items():
        object.__setattr__(changed, name, value)
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_length(0), "no steps"),
        (of_length(13), "horizon of 12"),
        ({"observation": {"state": make_episode(1).observation["state"]}}, "environment_state: missing"),
        ({"diverged": True}, "cannot be a demonstration"),
        ({"seed": 2**63}, "64 bits"),
        ({"initial_state": np.array([np.nan])}, "initial_state: not finite"),
        ({"kind": "evil"}, "kind: 'evil' is neither demo nor trial"),
        ({"success": "no"}, "success: 'no' is neither True nor False"),
        ({"diverged": 0.5}, "diverged: 0.5 is neither True nor False"),
        ({"seed": 1.5}, "seed: 1.5 is not a whole number"),
        ({"seed": True}, "seed: True is not a whole number"),
        ({"terms": {"distance": "near"}}, "terms: 'distance' is 'near', not a number"),
        ({"task": unchecked(make_task(1), split="exam")}, "task: Invalid enum value 'exam'"),
        ({"task": unchecked(make_task(1), parameters=(("a", None),))}, "task: .*parameters"),
        ({"task": unchecked(make_task(1), parameters=(("a", [1]),))}, "task: a parameter is neither text nor number"),
        ({"task": unchecked(make_task(1), sentence="\ud800")}, "task: .*surrogates"),
        ({"initial_state": np.array(["x"])}, "initial_state: <U1 instead of an array of numbers"),
        ({"action": np.array([[None, None]])}, "action: object instead of an array of numbers"),
    ],
)
def test_unsound_episodes_are_refused(path: Path, change: dict, message: str) -> None:
    store = EpisodeStore.create(path, SPEC)
    with pytest.raises(WtlError, match=message):
        store.append([unchecked(make_episode(1), **change)])
    assert verify(path) == []
    assert store.append([make_episode(1)]) == [0]


def test_every_difference_of_spec_is_listed(path: Path) -> None:
    fill(path)
    other = Spec(20, 12, {"state": channel("x")}, channel("a", "b", "c"))
    with pytest.raises(WtlError, match=r"does not fit: fps: 10, not 20; .*environment_state.*state.*action"):
        EpisodeStore.open(path, other)
    with pytest.raises(WtlError, match="does not fit"):
        EpisodeStore.open_or_create(path, other)
    assert len(EpisodeStore.open_or_create(path, SPEC)) == 12


def test_other_schema_other_directory_and_second_creation_are_refused(path: Path, tmp_path: Path) -> None:
    fill(path)
    with pytest.raises(WtlError, match="already a dataset"):
        EpisodeStore.create(path, SPEC)
    with pytest.raises(WtlError, match="is not a watchtrylearn dataset"):
        EpisodeStore.open(tmp_path / "nothing")
    with pytest.raises(WtlError, match="has no episode 12"):
        EpisodeStore.open(path).read([12])
    header = read_typed(path / layout.HEADER, dict)
    (path / layout.HEADER).write_text(json.dumps({**header, "schema": 99}))
    with pytest.raises(WtlError, match="has schema version 99; this version of watchtrylearn reads 1"):
        EpisodeStore.open(path)


def test_names_bounds_and_suite_are_compared_too(path: Path) -> None:
    EpisodeStore.create(path, SPEC, suite="test")
    EpisodeStore.open_or_create(path, SPEC, suite="test")
    swapped = replace(SPEC, action=replace(SPEC.action, names=("dy", "dx")))
    wider = replace(
        SPEC, observation={**SPEC.observation, "state": replace(SPEC.observation["state"], high=(10.0, 11.0))}
    )
    for spec, suite, message in [
        (swapped, "test", "does not fit: action: number 0 is dx, not dy"),
        (wider, "test", r"does not fit: state: y is within \[-10, 10\], not \[-10, 11\]"),
        (SPEC, "other", "does not fit: suite: 'test', not 'other'"),
    ]:
        with pytest.raises(WtlError, match=message):
            EpisodeStore.open_or_create(path, spec, suite=suite)
    with pytest.raises(WtlError, match="without executed actions"):
        EpisodeStore.open_or_create(path, SPEC, suite="test", executed=True)


def test_an_interrupted_creation_is_completed_and_another_programs_dataset_left_alone(path: Path) -> None:
    (path / "meta").mkdir(parents=True)
    assert not EpisodeStore.exists(path)
    half = path / "meta" / f".watchtrylearn.json.{files._host()}~{2**22 + 1}~0.tmp"
    half.touch()  # of a process that cannot exist
    EpisodeStore.open_or_create(path, SPEC)
    assert not half.exists()
    assert verify(path) == []
    (path / layout.HEADER).unlink()
    with pytest.raises(WtlError, match=r"holds meta/info\.json but no meta/watchtrylearn\.json"):
        EpisodeStore.create(path, SPEC)


def test_a_header_that_could_not_be_read_back_is_not_written(path: Path) -> None:
    with pytest.raises(WtlError, match="fps"):
        EpisodeStore.create(path, replace(SPEC, fps=0))
    assert not EpisodeStore.exists(path)
    EpisodeStore.create(path, SPEC)


def test_the_digest_tells_contents_apart(path: Path, tmp_path: Path) -> None:
    fill(path)
    store = EpisodeStore.open(path)
    assert store.digest() == EpisodeStore.open(path, skip_bad=True).digest()
    shutil.copytree(path, tmp_path / "copy")
    assert EpisodeStore.open(tmp_path / "copy").digest() == store.digest()
    before = store.digest()
    store.append([make_episode(12)])
    assert store.digest() != before
    assert EpisodeStore.open(path).digest() == store.digest()
    flip(middle(tmp_path / "copy", layout.DATA_PATH))
    assert EpisodeStore.open(tmp_path / "copy", skip_bad=True).digest() not in (before, store.digest())


def test_an_attempt_with_a_bad_number_is_kept_as_a_failure(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    attempts = [replace(broken_at("state", value), success=True) for value in (np.nan, 99.0)] + [make_episode(6)]
    with EpisodeStore.create(path, SPEC) as store:
        assert store.append_attempts(attempts) == [0, 1, 2]
        with pytest.raises(Refused, match="state"):  # a demonstration is not an attempt
            store.append_attempts([replace(attempts[0], kind="demo")])
    found = EpisodeStore.open(path).read()
    assert [(e.success, e.diverged) for e in found] == [(False, True), (False, True), (attempts[2].success, False)]
    assert np.array_equal(found[1].observation["state"], attempts[1].observation["state"])
    assert f"an attempt at {attempts[0].task.name}, scene {attempts[0].seed} is a failure: " in caplog.text


# ------------------------------------------------------------------------------------------------- killing


def record_until_killed(path: Path, acknowledged: int) -> None:
    """Append batches for ever, and tell the pipe ``acknowledged`` after each how many episodes are safe."""
    store = EpisodeStore.open_or_create(path, SPEC)
    while True:
        begin = len(store)
        store.append([make_episode(i) for i in range(begin, begin + 1 + begin % 3)])
        os.write(acknowledged, f"{len(store)}\n".encode())
        if begin % 4 == 0:
            store.finalize()


def test_kill_at_any_moment_loses_nothing_acknowledged(path: Path) -> None:
    rng = generator("kill")
    safe = 0
    for attempt in range(14):
        reader, writer = os.pipe()
        pid = fork(lambda: record_until_killed(path, writer))  # noqa: B023
        os.close(writer)
        told = os.read(reader, 1) if attempt % 2 else b""  # every other one gets to store something
        time.sleep(rng.uniform(0.0, 0.1))
        os.kill(pid, signal.SIGKILL)
        assert wait(pid) == -signal.SIGKILL
        with os.fdopen(reader, "rb") as acknowledged:
            safe = max([safe, *map(int, (told + acknowledged.read()).split())])
        if (path / layout.HEADER).exists():
            assert len(EpisodeStore.open(path)) >= safe  # and that without manual work
    store = EpisodeStore.open(path)
    assert verify(path) == []
    assert safe >= 7
    assert [record.index for record in store.records] == list(range(len(store)))
    assert all(same(a, make_episode(i)) for i, a in enumerate(store))


@pytest.mark.parametrize("writes", range(1, 7))
def test_kill_before_each_rename(path: Path, writes: int) -> None:
    """Every window of an append and a finalize once, not by chance: die before the n-th file appears."""
    fill(path, batches=1)

    def die() -> None:
        left = [writes]
        replace_file = os.replace

        def dying(source: Path, target: Path) -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            replace_file(source, target)

        os.replace = dying  # type: ignore[assignment]
        with EpisodeStore.open(path) as store:
            store.append([make_episode(4), make_episode(5)])

    assert wait(fork(die)) == -signal.SIGKILL
    store = EpisodeStore.open(path)
    assert len(store) == (4 if writes <= 3 else 6)  # data, checksums, episodes = committed; then the index
    assert verify(path) == []
    assert not list(path.rglob("*.tmp"))
    store.append([make_episode(len(store))])
    assert all(same(a, make_episode(i)) for i, a in enumerate(EpisodeStore.open(path)))


def test_a_full_disk_while_appending(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, batches=1)
    store = EpisodeStore.open(path)
    for allowed in range(3):
        left = [allowed]
        replace_file = os.replace

        def full(source: Path, target: Path, left: list[int] = left, move: Callable = replace_file) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            move(source, target)

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(WtlError, match="No space left"):
            store.append([make_episode(4)])
        monkeypatch.undo()
    assert len(EpisodeStore.open(path)) == 4
    with store:
        assert store.append([make_episode(4)]) == [4]
    assert verify(path) == []


def test_what_was_appended_can_be_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that are mostly zero take much less on the disk than in memory, and each batch may."""
    monkeypatch.setattr(parquet, "FREE", 2**20)
    monkeypatch.setattr(bounds, "FREE", 2**20)
    monkeypatch.setattr(parquet, "UNFOLDING", 1)
    monkeypatch.setattr(bounds, "UNFOLDING", 1)
    wide = channel(*(f"n{i}" for i in range(1000)))
    spec = Spec(10, 250, {"state": channel("x"), "rest": wide}, channel("dx"))
    zero = {"state": np.zeros((250, 1), np.float32), "rest": np.zeros((250, 1000), np.float32)}
    one = Episode(make_task(0), "demo", 0, zero, zero["state"], zero["state"][:, 0], True)
    store = EpisodeStore.create(path, spec)
    for begin in range(3):
        assert store.append([replace(one, seed=begin)]) == [begin]
    assert len(EpisodeStore.open(path).read()) == 3
    with pytest.raises(WtlError, match=r"refusing to read .*store fewer episodes at once"):
        store.append([one, one])
    assert len(EpisodeStore.open(path).read()) == 3


def test_a_batch_too_large_to_be_read_back_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, batches=1)
    store = EpisodeStore.open(path)
    monkeypatch.setattr(parts, "FILE_LIMIT", 2000)
    with pytest.raises(
        WtlError, match=r"refusing to write .*file-001\.parquet: \d+ bytes, more than 2000; store fewer"
    ):
        store.append([make_episode(4)])
    assert not (path / layout.numbered(layout.DATA_PATH, 1)).exists()


def test_a_repair_knows_what_was_appended_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, batches=1)
    other = EpisodeStore.open(path)
    (path / layout.INFO).unlink()
    needs_repair = EpisodeStore._needs_repair

    def meanwhile(self: EpisodeStore) -> bool:
        other.append([make_episode(4)])
        return needs_repair(self)

    with monkeypatch.context() as patch:
        patch.setattr(EpisodeStore, "_needs_repair", meanwhile)
        assert len(EpisodeStore.open(path)) == 5
    assert verify(path) == []


# ---------------------------------------------------------------------------------------------- corruption


def middle(path: Path, template: str) -> Path:
    return path / layout.numbered(template, 1)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0x10
    file.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "bit flip": flip,
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-40]),
    "empty": lambda file: file.write_bytes(b""),
    "overwritten": lambda file: file.write_bytes(b"PAR1" + bytes(1000) + b"PAR1"),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_corrupt_data_file_is_named_and_the_rest_usable(path: Path, damage: str) -> None:
    episodes = fill(path)
    file = middle(path, layout.DATA_PATH)
    DAMAGE[damage](file)
    assert any(problem.file == str(file.relative_to(path)) for problem in verify(path))
    with pytest.raises(WtlError, match=r"file-001\.parquet"):
        EpisodeStore.open(path).read()
    store = EpisodeStore.open(path, skip_bad=True)
    assert len(store.skipped) == 1
    assert "file-001.parquet" in store.skipped[0]
    assert [record.index for record in store.records] == [0, 1, 2, 3, 8, 9, 10, 11]
    assert all(same(a, episodes[r.index]) for a, r in zip(store, store.records, strict=True))
    assert inspect(path).episodes == 8
    with pytest.raises(WtlError, match="nothing can be added"):
        store.append([make_episode(12)])


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_corrupt_episodes_file_is_named_and_the_rest_usable(path: Path, damage: str) -> None:
    episodes = fill(path)
    file = middle(path, layout.EPISODES_PATH)
    DAMAGE[damage](file)
    assert verify(path)
    with pytest.raises(WtlError, match=r"file-00[12]\.parquet"):
        EpisodeStore.open(path)
    store = EpisodeStore.open(path, skip_bad=True)
    assert all(same(a, episodes[r.index]) for a, r in zip(store, store.records, strict=True))
    assert len(store) == 8
    with pytest.raises(WtlError, match="nothing can be added"):
        store.append([make_episode(12)])
    assert len(list(path.glob("data/*/*.parquet"))) == 3  # nothing was thrown away


@pytest.mark.parametrize("template", [layout.DATA_PATH, layout.EPISODES_PATH])
def test_every_flipped_bit_is_noticed(path: Path, template: str) -> None:
    fill(path, batches=1)
    file = path / layout.numbered(template, 0)
    right = file.read_bytes()
    rng = generator("flips", template)
    for offset in rng.integers(len(right), size=25).tolist():
        wrong = bytearray(right)
        wrong[offset] ^= 1 << int(rng.integers(8))
        file.write_bytes(wrong)
        with pytest.raises(WtlError, match=r"file-000\.parquet is damaged"):
            EpisodeStore.open(path).read()
    file.write_bytes(right)
    assert len(EpisodeStore.open(path).read()) == 4


def test_an_orphan_is_put_aside_not_deleted(path: Path) -> None:
    fill(path)
    orphan = path / layout.numbered(layout.DATA_PATH, 3)
    orphan.write_bytes(b"half a file")
    assert [problem.file for problem in verify(path)] == ["data/chunk-000/file-003.parquet"]
    assert len(EpisodeStore.open(path)) == 12
    assert verify(path) == []
    assert [file.read_bytes() for file in (path / layout.QUARANTINE).iterdir()] == [b"half a file"]


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Edit a data file the way a careless script would."""
    file = middle(path, layout.DATA_PATH)
    pq.write_table(change(pq.read_table(file)), file)


def column(name: str, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table.column(name).to_pylist()
        values[2] = value
        position = table.column_names.index(name)
        return table.set_column(position, name, [pa.array(values, table.schema.field(name).type)])

    return change


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("action", [np.nan, 0.0], "dx is nan"),
        ("observation.state", [0.0, 99.0], "y is 99"),
        ("timestamp", 7.0, "frame_index / 10"),
        ("task_index", 77, "not the task"),
        ("frame_index", 5, "does not count"),
        ("next.reward", np.inf, "not a finite number"),
    ],
)
def test_verify_names_episode_and_field(path: Path, name: str, value: object, says: str) -> None:
    fill(path)
    rewrite(path, column(name, value))
    found = [problem for problem in verify(path) if problem.episode is not None]
    assert [(p.episode, says in p.text) for p in found] == [(row_episode(path), True)]
    assert found[0].field.removeprefix("next.") in name
    assert str(found[0]).startswith("data/chunk-000/file-001.parquet: episode ")


def row_episode(path: Path) -> int:
    return pq.read_table(middle(path, layout.DATA_PATH)).column("episode_index")[2].as_py()


def test_verify_notices_missing_rows_and_columns(path: Path) -> None:
    fill(path)
    rewrite(path, lambda table: table.slice(1))
    assert any("rows, its 4 episodes have" in p.text for p in verify(path))
    rewrite(path, lambda table: table.drop_columns(["action"]))
    assert any("has no column 'action'" in p.text for p in verify(path))


# ------------------------------------------------------------------------------------- what others have added


def append_as_lerobot(path: Path, episodes: list[Episode], sentences: list[str]) -> None:
    """What LeRobot leaves when it continues a dataset: its own columns, lists of any length, no checksums."""
    (first, row), file = (12, sum(len(make_episode(i)) for i in range(12))), 3
    lengths = np.array([len(e) for e in episodes])
    known = pq.read_table(path / layout.TASKS).column("task").to_pylist()
    tasks = list(dict.fromkeys([*known, *sentences]))
    pq.write_table(pa.table({"task_index": range(len(tasks)), "task": tasks}), path / layout.TASKS)
    frame = np.concatenate([np.arange(n) for n in lengths])
    columns = {f"observation.{n}": np.concatenate([e.observation[n] for e in episodes]) for n in SPEC.observation}
    columns["action"] = np.concatenate([e.action for e in episodes])
    flags = np.concatenate([np.arange(len(e)) == len(e) - 1 for e in episodes])
    data = {
        **{name: pa.array(values.tolist(), pa.list_(pa.float32())) for name, values in columns.items()},
        "next.reward": np.concatenate([e.reward for e in episodes]),
        "next.done": flags,
        "next.success": flags & np.repeat([e.success for e in episodes], lengths),
        "timestamp": layout.timestamps(frame, SPEC.fps),
        "frame_index": frame,
        "episode_index": np.repeat(first + np.arange(len(episodes)), lengths),
        "index": row + np.arange(len(frame)),
        "task_index": np.repeat([tasks.index(s) for s in sentences], lengths),
    }
    pq.write_table(pa.table(data), path / layout.numbered(layout.DATA_PATH, file))
    ends = row + np.cumsum(lengths)
    rows = {
        "episode_index": first + np.arange(len(episodes)),
        "tasks": [[s] for s in sentences],
        "length": lengths,
        "data/chunk_index": [0] * len(episodes),
        "data/file_index": [file] * len(episodes),
        "dataset_from_index": ends - lengths,
        "dataset_to_index": ends,
    }
    pq.write_table(pa.table(rows), path / layout.numbered(layout.EPISODES_PATH, file))


def test_what_lerobot_appended_is_adopted_where_it_is_sound(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    episodes = fill(path)
    added = [replace(make_episode(i), kind="demo", success=i != 21) for i in (20, 21, 22)]
    append_as_lerobot(path, [*added, broken_at("action", 1e30)], [added[0].task.sentence, "fold", "fold", "fold"])
    with pytest.raises(WtlError, match=r"file-003\.parquet has no checksum, .* `wtl data verify --rebuild"):
        EpisodeStore.open(path)
    assert "no checksum" in str(verify(path)[0])
    assert len(EpisodeStore.open(path, skip_bad=True)) == 12
    assert rebuild_index(path) == 15
    assert "not adopted: episode 3 of the batch" in caplog.text
    assert "adopted 3 episodes" in caplog.text
    assert verify(path) == []
    found = EpisodeStore.open(path).read()
    assert all(same(a, b) for a, b in zip(found, episodes, strict=False))
    for episode, wanted in zip(found[12:], added, strict=True):
        assert np.array_equal(episode.action, wanted.action)
        assert np.array_equal(episode.observation["environment_state"], wanted.observation["environment_state"])
        assert (episode.kind, episode.success) == ("demo", wanted.success)
    assert found[12].task == added[0].task  # known by its sentence
    assert {found[13].task, found[14].task} == {found[13].task}
    assert len({e.seed for e in found[12:]} | {e.seed for e in found}) == 15
    (aside,) = (path / layout.QUARANTINE).iterdir()
    assert len(list(aside.rglob("*.parquet"))) == 2
    assert rebuild_index(path) == 15


def test_an_interrupted_adoption_loses_nothing_and_stores_nothing_twice(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)
    added = [replace(make_episode(i), kind="demo") for i in (20, 21, 22)]
    append_as_lerobot(path, added, ["fold", "fold", "stack"])
    monkeypatch.setattr(adopt, "BATCH", 2)
    move = os.replace
    for allowed in (0, 1, 2, 5, 7, 9):  # the journal, their files, two batches of ours, the end
        work, left = tmp_path / str(allowed), [allowed]
        shutil.copytree(path, work)

        def full(source: Path, target: Path, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            move(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(WtlError, match="No space left"):
                rebuild_index(work)
        assert verify(work)
        with pytest.raises(WtlError, match=r"wtl data verify --rebuild|has no checksum"):
            EpisodeStore.open(work)
        assert rebuild_index(work) == 15
        assert verify(work) == []
        found = EpisodeStore.open(work).read()[12:]
        assert all(np.array_equal(a.action, b.action) for a, b in zip(found, added, strict=True))
        assert [e.task.sentence for e in found] == ["fold", "fold", "stack"]


def test_a_lost_checksum_is_made_again(path: Path) -> None:
    episodes = fill(path)
    right = middle(path, layout.CHECKSUM_PATH).read_bytes()
    middle(path, layout.CHECKSUM_PATH).unlink()
    with pytest.raises(WtlError, match="no checksum"):
        EpisodeStore.open(path)
    assert rebuild_index(path) == len(episodes)
    assert middle(path, layout.CHECKSUM_PATH).read_bytes() == right
    assert verify(path) == []


# --------------------------------------------------------------------------------------------- derived files


@pytest.mark.parametrize("file", [layout.INFO, layout.TASKS, layout.STATS])
@pytest.mark.parametrize("damage", ["bit flip", "empty", "gone"])
def test_derived_files_are_never_trusted(path: Path, file: str, damage: str) -> None:
    episodes = fill(path)
    right = {name: (path / name).read_bytes() for name in (layout.INFO, layout.TASKS)}
    DAMAGE[damage](path / file)
    assert len(EpisodeStore.open(path)) == len(episodes)
    assert rebuild_index(path) == len(episodes)
    assert right == {name: (path / name).read_bytes() for name in right}
    assert verify(path) == []


def test_wide_episodes_have_room_in_the_derived_files(path: Path) -> None:
    rng, size = generator("wide"), 9000
    names = [f"number {i}" for i in range(size)]
    spec = Spec(10, 2, {"state": channel(*names), "environment_state": channel(*names)}, channel("dx"))
    state = rng.uniform(-1, 1, (2, size)).astype(np.float32)
    one = np.zeros((2, 1), np.float32)
    with EpisodeStore.create(path, spec) as store:
        wide = {"state": state, "environment_state": state}
        store.append([Episode(make_task(0), "demo", 0, wide, one, one[:, 0], True)])
    assert (path / layout.STATS).stat().st_size > files.JSON_LIMIT
    assert verify(path) == []


def test_a_spec_too_wide_to_be_read_back_is_refused_before_anything_is_written(path: Path) -> None:
    names = [f"number {i} " + "x" * 300 for i in range(9000)]
    with pytest.raises(WtlError, match=r"cannot write .*watchtrylearn\.json: \d+ bytes, more than"):
        EpisodeStore.create(path, Spec(10, 2, {"state": channel(*names), "more": channel(*names)}, channel("dx")))
    assert not EpisodeStore.exists(path)


def test_counters_that_lie_are_reported_and_put_right(path: Path) -> None:
    fill(path)
    info = read_typed(path / layout.INFO, dict)
    (path / layout.INFO).write_text(json.dumps({**info, "total_episodes": 99, "splits": {}}))
    assert "total_episodes is 99, the episode files say 12" in str(verify(path)[0])
    EpisodeStore.open(path)
    assert read_typed(path / layout.INFO, dict) == info


def test_verify_recomputes_the_statistics(path: Path) -> None:
    fill(path)
    text = (path / layout.STATS).read_text()
    (path / layout.STATS).write_text(text.replace('"std": [\n      0.', '"std": [\n      1.', 1))
    assert [str(problem) for problem in verify(path)] == [
        "meta/stats.json: the numbers are not those of the episodes; --rebuild puts them right"
    ]


def test_statistics_two_routes(path: Path) -> None:
    episodes = fill(path)
    stats = read_typed(path / layout.STATS, dict)
    state = np.concatenate([episode.observation["state"] for episode in episodes]).astype(float)
    found = stats["observation.state"]
    assert found["count"] == [len(state)]
    for name in ("min", "max", "mean", "std"):
        assert found[name] == pytest.approx(getattr(state, name)(axis=0).tolist(), rel=1e-6)
    table = pq.read_table(path / layout.numbered(layout.EPISODES_PATH, 0))
    for name, share in [("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)]:
        stored = table.column(f"stats/action/{name}").to_pylist()
        expected = [np.quantile(e.action.astype(float), share, axis=0).tolist() for e in episodes[:4]]
        assert np.allclose(stored, expected, atol=1e-7)


def test_quantiles_are_those_of_all_steps(path: Path) -> None:
    """Normalised as LeRobot does with QUANTILES, about 2 % of the numbers are outside of [-1, 1]."""
    rng = generator("quantiles")
    spec = Spec(10, 50, {"state": channel("x", "y")}, channel("u"))
    task, episodes = make_task(0), []
    for number in range(80):  # in each, the robot is somewhere else
        state = (rng.normal(0, 2, 2) + rng.normal(0, 0.2, (50, 2))).clip(-10, 10).astype(np.float32)
        action, reward = rng.uniform(-1, 1, (50, 1)).astype(np.float32), np.zeros(50, np.float32)
        diverged = number % 10 == 0
        episodes.append(Episode(task, "trial", number, {"state": state}, action, reward, False, diverged))
    with EpisodeStore.create(path, spec) as store:
        for at in range(0, 80, 20):
            store.append(episodes[at : at + 20])
    sound = np.concatenate([e.observation["state"] for e in episodes if not e.diverged]).astype(float)
    for _ in range(2):
        stats = read_typed(path / layout.STATS, dict)["observation.state"]
        low, high = np.array(stats["q01"]), np.array(stats["q99"])
        outside = np.abs(2 * (sound - low) / (high - low) - 1) > 1
        assert 0.015 < outside.mean() < 0.025
        for name, share in [("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)]:
            assert stats[name] == np.quantile(sound, share, axis=0).tolist()
        (path / layout.STATS).unlink()
        rebuild_index(path)
    assert verify(path) == []


def test_summary(path: Path) -> None:
    episodes = fill(path)
    summary = inspect(path)
    assert (summary.episodes, summary.steps) == (12, sum(map(len, episodes)))
    assert {(g.kind, g.family): g.episodes for g in summary.groups} == {
        (kind, family): sum(e.kind == kind and e.task.family == family for e in episodes)
        for kind in ("demo", "trial")
        for family in ("push", "grasp")
    }
    assert all(g.success_rate == 1.0 for g in summary.groups if g.kind == "demo")
    assert summary.size > 1000
