"""Somebody else's LeRobot v3.0 dataset, written differently from ours in every way the format allows."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_episodes import SPEC, make_episode
from watchtrylearn.data import layout, parquet
from watchtrylearn.data.lerobot import read_lerobot
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.types import WtlError

FPS, LENGTHS = 30, (4, 3, 5)
FIRST_OF_FILE = {0: (0, 0), 1: (0, 0), 2: (0, 1)}  # episodes 0 and 1 share a file


def numbers(size: int, rows: int) -> np.ndarray:
    return np.arange(rows * size, dtype=np.float64).reshape(rows, size) / 7


def write_foreign(root: Path, **more: Any) -> None:
    """Lists of any length, doubles, scalars for shape (1,), several episodes a file, no optional columns."""
    total = sum(LENGTHS)
    episode = np.repeat(np.arange(3), LENGTHS)
    rows = {
        "observation.state": pa.array(numbers(2, total).tolist(), pa.list_(pa.float64())),
        "observation.force": parquet.vectors(numbers(3, total)),
        "action": pa.array(numbers(1, total)[:, 0], pa.float32()),
        "observation.images.top": pa.array([b"not an image"] * total),
        "timestamp": pa.array(np.concatenate([np.arange(n) / FPS for n in LENGTHS]), pa.float32()),
        "frame_index": np.concatenate([np.arange(n) for n in LENGTHS]),
        "episode_index": episode,
        "index": np.arange(total),
        "task_index": np.array([1, 0, 1])[episode],
        **more,
    }
    table = pa.table({name: value for name, value in rows.items() if value is not None})
    for file, members in [(0, (0, 1)), (1, (2,))]:
        path = root / f"data/chunk-000/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.filter(pa.array(np.isin(episode, members))), path, row_group_size=2)
    write_meta(root)


def write_meta(root: Path) -> None:
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    ends = np.cumsum(LENGTHS)
    rows = {
        "episode_index": [0, 1, 2],
        "tasks": [["stack it"], ["open it"], ["stack it"]],
        "length": LENGTHS,
        "data/chunk_index": [0, 0, 0],
        "data/file_index": [0, 0, 1],
        "dataset_from_index": ends - LENGTHS,
        "dataset_to_index": ends,
    }
    pq.write_table(pa.table(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    tasks = pa.table({"task_index": [0, 1], "__index_level_0__": ["open it", "stack it"]})
    pq.write_table(tasks, root / layout.TASKS)
    features = {
        "observation.state": {"dtype": "float64", "shape": [2], "names": {"motors": ["shoulder", "elbow"]}},
        "observation.force": {"dtype": "float64", "shape": [3], "names": None},
        "observation.images.top": {"dtype": "image", "shape": [3, 8, 8], "names": ["c", "h", "w"]},
        "action": {"dtype": "float32", "shape": [1], "names": {"delta": 0}},
    }
    edit_info(root, codebase_version="v3.0", fps=FPS, features=features, data_path=layout.DATA_PATH)


def edit_info(root: Path, **change: Any) -> None:
    path = root / layout.INFO
    info = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**info, **change}))


def add_feature(root: Path, name: str, dtype: str) -> None:
    features = json.loads((root / layout.INFO).read_text())["features"]
    edit_info(root, features={**features, name: {"dtype": dtype, "shape": [1], "names": None}})


def test_a_foreign_dataset(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_foreign(tmp_path)
    with caplog.at_level(logging.WARNING):
        spec, episodes = read_lerobot(tmp_path, suite="arm")
    assert "left out observation.images.top: image" in caplog.text
    assert (spec.fps, spec.horizon) == (30, 5)
    assert {name: c.names for name, c in spec.observation.items()} == {
        "state": ("shoulder", "elbow"),
        "force": ("force_0", "force_1", "force_2"),
    }
    assert spec.action.names == ("delta",)
    assert [len(episode) for episode in episodes] == list(LENGTHS)
    assert [episode.task.sentence for episode in episodes] == ["stack it", "open it", "stack it"]
    assert episodes[0].task == episodes[2].task != episodes[1].task
    assert len({episode.seed for episode in episodes}) == 3
    state = np.concatenate([episode.observation["state"] for episode in episodes])
    assert np.array_equal(state, numbers(2, 12).astype(np.float32))
    assert np.array_equal(episodes[1].action, numbers(1, 12)[4:7].astype(np.float32))
    assert all(e.success and e.kind == "demo" and not e.reward.any() for e in episodes)
    assert all(episode.problems(spec) == [] for episode in episodes)


def test_recorded_success_and_reward_are_used(tmp_path: Path) -> None:
    success = np.zeros(12, bool)
    success[[2, 11]] = True
    write_foreign(tmp_path, **{"next.success": success, "next.reward": np.arange(12, dtype=np.float32)})
    add_feature(tmp_path, "next.success", "bool")
    episodes = read_lerobot(tmp_path)[1]
    assert [episode.success for episode in episodes] == [True, False, True]
    assert episodes[1].reward.tolist() == [4, 5, 6]


def test_rows_in_another_order_are_sorted(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    path = tmp_path / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).take(pa.array([6, 1, 5, 0, 3, 2, 4])), path)
    episodes = read_lerobot(tmp_path)[1]
    assert np.array_equal(episodes[1].action, numbers(1, 12)[4:7].astype(np.float32))


def test_our_own_datasets_are_lerobot_datasets(tmp_path: Path) -> None:
    written = [make_episode(i, kind="demo") for i in range(5)]
    with EpisodeStore.create(tmp_path, SPEC) as store:
        store.append(written[:2])
        store.append(written[2:])
    spec, episodes = read_lerobot(tmp_path)
    assert {name: c.names for name, c in spec.observation.items()} == {
        name: c.names for name, c in SPEC.observation.items()
    }
    for mine, theirs in zip(written, episodes, strict=True):
        assert np.array_equal(mine.action, theirs.action)
        assert np.array_equal(mine.observation["environment_state"], theirs.observation["environment_state"])
        assert (mine.success, mine.task.sentence) == (theirs.success, theirs.task.sentence)


def test_tasks_carry_the_index_pandas_needs(tmp_path: Path) -> None:
    with EpisodeStore.create(tmp_path, SPEC) as store:
        store.append([make_episode(0)])
    schema = pq.read_schema(tmp_path / layout.TASKS)
    pandas = json.loads(schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]
    assert {entry["name"] for entry in pandas["columns"]} == set(schema.names)


ONE_TASK = pa.table({"task": ["x"], "task_index": [7]})
Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: edit_info(root, data_path="../../secret-{file_index}.parquet"), "leads outside"),
        (lambda root: edit_info(root, data_path="/etc/{file_index}"), "leads outside"),
        (lambda root: edit_info(root, data_path="{file_index:999999999d}"), "path template"),
        (lambda root: edit_info(root, data_path="{file_index.__class__}"), "path template"),
        (lambda root: edit_info(root, codebase_version="v2.1"), "codebase_version is 'v2.1'"),
        (lambda root: edit_info(root, fps=0), "fps is 0"),
        (lambda root: edit_info(root, features={}), r"no vector observation\.state"),
        (lambda root: (root / layout.INFO).write_text("{"), "not valid JSON"),
        (lambda root: (root / layout.INFO).unlink(), "there is no file"),
        (lambda root: (root / "data/chunk-000/file-001.parquet").unlink(), r"no file .*file-001\.parquet"),
        (lambda root: (root / "data/chunk-000/file-001.parquet").write_bytes(b"PAR1"), "not a readable"),
        (lambda root: pq.write_table(ONE_TASK, root / layout.TASKS), "task_index 1 is not in meta/tasks"),
    ],
)
def test_crafted_and_broken_datasets_are_refused(tmp_path: Path, damage: Damage, message: str) -> None:
    write_foreign(tmp_path)
    damage(tmp_path)
    with pytest.raises(WtlError, match=message):
        read_lerobot(tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("action", pa.array([1.0, None] * 6, pa.float32()), "action has .* missing numbers"),
        ("action", pa.array(["x"] * 12), "action holds string"),
        ("action", pa.array([[1.0], [1.0, 2.0]] * 6), "rows of 1 and of 2 numbers"),
        ("action", pa.array([[1.0, 2.0]] * 12), "2 numbers, info.json says 1"),
        ("action", None, "no column 'action'"),
        ("action", pa.array([np.nan] * 12), "episode 0: action: delta is nan at step 0"),
        ("episode_index", pa.array([0] * 12), "episode 0 has 12 rows|has 0 rows|has 7 rows"),
    ],
)
def test_bad_columns_are_named(tmp_path: Path, column: str, value: pa.Array, message: str) -> None:
    if column == "episode_index":
        write_foreign(tmp_path)
        path = tmp_path / "data/chunk-000/file-000.parquet"
        table = pq.read_table(path).drop_columns([column])
        pq.write_table(table.append_column(column, pa.array([0] * table.num_rows)), path)
    else:
        write_foreign(tmp_path, **{column: value})
    with pytest.raises(WtlError, match=message):
        read_lerobot(tmp_path)


def test_a_small_file_that_claims_to_be_huge_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_foreign(tmp_path)
    path = tmp_path / "data/chunk-000/file-000.parquet"
    pq.write_table(pa.table({"action": np.zeros(2**22)}), path)
    assert path.stat().st_size < 2**15
    monkeypatch.setattr(parquet, "VALUE_LIMIT", 2**20)
    with pytest.raises(WtlError, match=r"refusing to read .* it claims 4194304 values"):
        read_lerobot(tmp_path)
