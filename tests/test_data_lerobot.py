"""Somebody else's LeRobot v3.0 dataset, written differently from ours in every way the format allows."""

import io
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_episodes import SEEN, SPEC, make_episode
from lerobot_arm import NAMES, sentence, write_arm
from watchtrylearn.data import layout, lerobot, parquet
from watchtrylearn.data.hub import find_dataset
from watchtrylearn.data.lerobot import Columns, read_dataset, read_lerobot
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.types import ImageChannel, WtlError

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


def test_a_recording_is_read_at_the_rate_of_the_learner_it_is_shown_to(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    spec, whole = read_lerobot(tmp_path)
    slower = replace(spec, fps=10, horizon=2, entities=0)
    fitted, episodes = read_lerobot(tmp_path, like=slower)
    assert (fitted.fps, fitted.horizon) == (10, 2)
    for mine, theirs in zip(episodes, whole, strict=True):
        assert np.array_equal(mine.action, theirs.action[::3])
        assert np.array_equal(mine.observation["force"], theirs.observation["force"][::3])
        assert mine.problems(slower) == []
    for fps in (20, 60):
        with pytest.raises(WtlError, match=f"30 steps a second, which is no whole multiple of the {fps} wanted"):
            read_lerobot(tmp_path, like=replace(spec, fps=fps))
    other = replace(spec, action=replace(spec.action, names=("gripper",)))
    with pytest.raises(WtlError, match=r"action has the numbers \[.*\], not \['gripper'\]"):
        read_lerobot(tmp_path, like=other)
    more = replace(spec, observation={**spec.observation, "touch": spec.action})
    with pytest.raises(WtlError, match=r"observation.touch has the numbers \[\], not"):
        read_lerobot(tmp_path, like=more)


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
    monkeypatch.setattr(parquet, "FREE", 2**20)
    with pytest.raises(WtlError, match=rf"refusing to read .* claim to hold {2**22}"):
        read_lerobot(tmp_path)


# ------------------------------------------------------------------------------------ an arm's own recordings


def edit_table(path: Path, **columns: Any) -> None:
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.drop_columns([name]) if name in table.column_names else table
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)


def test_a_dataset_as_lerobot_writes_it(tmp_path: Path) -> None:
    found = read_dataset(write_arm(tmp_path / "arm"))
    assert len(found.episodes) == 16
    assert found.spec.commands_state  # the leader's joints have the follower's names
    assert found.spec.action.names == found.spec.observation["state"].names == tuple(NAMES)
    assert [e.task.sentence for e in found.episodes[:5]] == [sentence(i % 4) for i in range(5)]
    assert [e.seed for e in found.episodes] == list(range(16))
    assert found.notes == ("left out observation.images.front: video of shape [480, 640, 3] is not a vector",)


def test_an_episode_of_several_tasks_is_split_where_the_task_changes(tmp_path: Path) -> None:
    root = write_arm(tmp_path / "arm", success=[0, *[1] * 15])
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    task, owner, frame = (table.column(n).to_numpy().copy() for n in ("task_index", "episode_index", "frame_index"))
    task[np.isin(owner, [0, 1]) & (frame >= 10)] = 3
    task[(owner == 1) & (frame >= 20)] = 2
    edit_table(path, task_index=task)
    whole, found = read_dataset(write_arm(tmp_path / "whole")), read_dataset(root)
    parts = found.episodes[:5]
    assert [(e.task.sentence, e.seed, e.success) for e in parts] == [
        (sentence(0), 0, False),
        (sentence(3), 0, False),
        (sentence(1), 1, True),
        (sentence(3), 1, True),
        (sentence(2), 1, True),
    ]
    assert [len(e) for e in parts[:4]] == [10, len(whole.episodes[0]) - 10, 10, 10]
    assert np.array_equal(np.concatenate([e.action for e in parts[:2]]), whole.episodes[0].action)
    assert "several tasks in episode 0, 1: split where the task changes" in found.notes[-1]


def test_columns_tell_kind_scene_and_outcome(tmp_path: Path) -> None:
    who, table = ["demo", "trial"] * 8, ["left"] * 8 + ["right"] * 8
    won = ["success", "failure", "yes", "no"] * 4
    root = write_arm(tmp_path / "arm", who=who, table=table, won=won)
    found = read_dataset(root, Columns(success="won", kind="who", scene="table"))
    assert [e.kind for e in found.episodes] == who
    assert [e.success for e in found.episodes] == [True, False] * 8
    assert [e.seed == found.episodes[0].seed for e in found.episodes] == [True] * 8 + [False] * 8
    assert found.scenes
    plain = read_dataset(root)
    assert all(e.success and e.kind == "demo" for e in plain.episodes)
    assert not plain.scenes
    named = write_arm(tmp_path / "named", success=[True, False] * 8, kind=who, scene_seed=[7] * 16)
    episodes = read_dataset(named).episodes
    assert [(e.kind, e.success, e.seed) for e in episodes[:2]] == [("demo", True, 7), ("trial", False, 7)]
    assert all(e.success for e in read_dataset(named, Columns(success="none")).episodes)
    with pytest.raises(WtlError, match=r"columns\.kind; did you mean 'won'"):
        read_dataset(root, Columns(kind="wom", success="won"))
    with pytest.raises(WtlError, match=r"episode 0: its kind is 'left', neither a yes nor a no"):
        read_dataset(root, Columns(kind="table"))


def test_a_dataset_is_found_by_its_hub_name_in_every_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "HF_LEROBOT_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recorded = write_arm(tmp_path / "huggingface/lerobot/me/arm")
    assert find_dataset("me/arm") == recorded
    monkeypatch.setenv("HF_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(WtlError, match=r"there is no dataset 'me/arm'.*hf download --repo-type dataset me/arm"):
        find_dataset("me/arm")
    for cache in ("elsewhere/lerobot/hub", "elsewhere/hub"):
        snapshot = as_snapshot(recorded, tmp_path / cache / "datasets--me--arm")
        assert find_dataset("me/arm") == snapshot
        assert len(read_dataset("me/arm").episodes) == 16
        (snapshot.parents[1] / "refs/v3.0").unlink()
        assert find_dataset("me/arm") == snapshot  # the only one
        (snapshot.parent / ("b" * 40)).mkdir()
        with pytest.raises(WtlError, match="2 snapshots"):
            find_dataset("me/arm")
        shutil.rmtree(snapshot.parents[1])


def as_snapshot(dataset: Path, repository: Path) -> Path:
    """The dataset as the Hub's client stores it: a tree of links to blobs."""
    snapshot = repository / "snapshots" / ("a" * 40)
    for number, path in enumerate(sorted(p for p in dataset.rglob("*") if p.is_file())):
        link = snapshot / path.relative_to(dataset)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = repository / "blobs" / f"{number:040x}"
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(path.read_bytes())
        link.symlink_to(os.path.relpath(blob, link.parent))
    (repository / "refs").mkdir()
    (repository / "refs/v3.0").write_text("a" * 40)
    return snapshot


def test_links_of_a_snapshot_lead_to_its_blobs_or_nowhere(tmp_path: Path) -> None:
    snapshot = as_snapshot(write_arm(tmp_path / "arm"), tmp_path / "datasets--me--arm")
    info = snapshot / layout.INFO
    secret = tmp_path / "secret.json"
    secret.write_bytes(info.read_bytes())
    for target in (secret, "../../../../secret.json", "../../../blobs/../../secret.json"):
        info.unlink()
        info.symlink_to(target)
        with pytest.raises(WtlError, match="leads outside"):
            read_dataset(snapshot)


def test_more_than_fits_is_refused_before_it_is_read(tmp_path: Path) -> None:
    root = write_arm(tmp_path / "arm")
    edit_table(root / "meta/episodes/chunk-000/file-000.parquet", length=[10**9] * 16)
    with pytest.raises(WtlError, match=r"16000000000 steps would take 832\.0 GB of memory, more than 4\.3 GB"):
        read_dataset(root)


@pytest.mark.parametrize(
    ("file", "columns", "message"),
    [
        ("meta/episodes/chunk-000/file-000.parquet", {"episode_index": [0] * 16}, "lists episode 0 twice"),
        ("meta/episodes/chunk-000/file-000.parquet", {"length": ["x"] * 16}, "length holds string"),
        ("meta/episodes/chunk-000/file-000.parquet", {"length": [1.5] * 16}, "not whole numbers"),
        ("meta/episodes/chunk-000/file-000.parquet", {"data/file_index": [-1] * 16}, "no file"),
        ("meta/tasks.parquet", {"__index_level_0__": [None, "a", "b", "c"]}, "must hold a text"),
        ("meta/tasks.parquet", {"task_index": [9, 8, 7, 6]}, "task_index 0 is not in"),
    ],
)
def test_hostile_tables_are_refused_in_a_sentence(
    tmp_path: Path, file: str, columns: dict[str, Any], message: str
) -> None:
    root = write_arm(tmp_path / "arm")
    edit_table(root / file, **columns)
    with pytest.raises(WtlError, match=message):
        read_dataset(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": "30"}, "fps: expected int"),
        ({"fps": 1e300}, "fps is 1e"),
        ({"features": [1]}, "features: expected object, got array"),
        ({"features": {"action": {"dtype": "float32", "shape": "6"}}}, "shape: expected array"),
        ({"features": {"action": {"dtype": "float32", "shape": [10**12]}}}, "no vector observation.state"),
        ({"data_path": 3}, "data_path: expected str"),
        ({"storage_format": "lance"}, "only Parquet can be read"),
    ],
)
def test_a_hostile_description_is_refused_in_a_sentence(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    root = write_arm(tmp_path / "arm")
    edit_info(root, **change)
    with pytest.raises(WtlError, match=message):
        read_dataset(root)


def test_broken_files_are_left_out_on_request(tmp_path: Path) -> None:
    root = write_arm(tmp_path / "arm")
    (root / "data/chunk-000/file-001.parquet").write_bytes(b"PAR1")
    found = read_dataset(root, skip_bad=True)
    assert len(found.episodes) == 11
    assert "file-001.parquet is not a readable Parquet file" in found.notes[-1]


@pytest.mark.parametrize("seed", [0, 1, 26, 35])  # 26 and 35: pyarrow would end the process
def test_damage_to_any_byte_ends_in_episodes_or_one_sentence(tmp_path: Path, seed: int) -> None:
    root = write_arm(tmp_path / "arm", tasks=3, episodes=2, steps=8, success=["yes"] * 6)
    rng = np.random.default_rng(seed)
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "stats.json"]
    for _ in range(40):
        path = files[rng.integers(len(files))]
        sound = path.read_bytes()
        damaged = bytearray(sound)
        for place in rng.integers(len(sound), size=rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(sound))] if rng.random() < 0.1 else damaged)
        try:
            assert all(len(e) == len(e.observation["state"]) for e in read_dataset(root).episodes)
        except WtlError as error:
            assert "\n" not in str(error)
        path.write_bytes(sound)


# ----------------------------------------------------------------------------------------------------- cameras

TOP = "observation.images.top"


def pictures(kind: str = "png", height: int = 8, width: int = 6) -> tuple[np.ndarray, pa.Array]:
    """Twelve smooth pictures, and the files LeRobot keeps of them."""
    grid = np.stack(np.meshgrid(*(np.linspace(0, 200, n) for n in (height, width)), indexing="ij"), axis=-1)
    seen = np.stack([np.dstack([grid, np.full((height, width), 20 * i)]) for i in range(12)]).astype(np.uint8)
    content = []
    for image in seen:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind, **({"quality": 98, "subsampling": 0} if kind == "jpeg" else {}))
        content.append({"bytes": buffer.getvalue(), "path": "frame.png"})
    return seen, pa.array(content)


def describe_camera(root: Path, shape: list[int], names: list[str] | None, dtype: str = "image") -> None:
    features = json.loads((root / layout.INFO).read_text())["features"]
    edit_info(root, features={**features, TOP: {"dtype": dtype, "shape": shape, "names": names}})


@pytest.mark.parametrize(
    ("shape", "names"),
    [([8, 6, 3], ["height", "width", "channels"]), ([3, 8, 6], ["channels", "height", "width"]), ([8, 6, 3], None)],
)
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_images_are_read_where_they_are_asked_for(
    tmp_path: Path, kind: str, shape: list[int], names: list[str] | None
) -> None:
    seen, files = pictures(kind)
    write_foreign(tmp_path, **{TOP: files})
    describe_camera(tmp_path, shape, names)
    spec, episodes = read_lerobot(tmp_path, images=[TOP])
    assert spec.images == {"images.top": ImageChannel(8, 6)}
    found = np.concatenate([episode.observation["images.top"] for episode in episodes])
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - seen).max() <= (0 if kind == "png" else 12)
    assert read_lerobot(tmp_path)[0].images == {}
    spec, episodes = read_lerobot(tmp_path, images=[TOP], like=replace(spec, fps=15))
    assert np.array_equal(episodes[2].observation["images.top"], found[7::2])
    with EpisodeStore.create(tmp_path / "ours", spec) as store:  # and stored as ours
        store.append(episodes)
    again = read_dataset(tmp_path / "ours", images=[TOP])
    assert np.array_equal(again.episodes[2].observation["images.top"], found[7::2])
    assert read_dataset(tmp_path / "ours").notes == (f"left out {TOP}: images",)


@pytest.mark.parametrize(
    ("shape", "names", "images", "message"),
    [
        (
            [6, 8, 3],
            None,
            [TOP],
            rf"file-000\.parquet: episode 0: {TOP} at step 0: an image of 8 x 6 pixels, expected 6 x 8",
        ),
        ([3, 6, 8], None, [TOP], r"an image of 8 x 6 pixels, expected 6 x 8"),
        ([8, 6, 1], None, [TOP], r"has shape \[8, 6, 1\]; only RGB images can be read"),
        ([8, 6], None, [TOP], r"only RGB images can be read"),
        ([8, 6, 3], None, ["observation.images.tip"], r"has no camera 'observation.images.tip'; did you mean .*top"),
        ([8, 6, 3], None, ["observation.state"], r"has no camera 'observation.state'"),
        ([5000, 6, 3], None, [TOP], "an image has 1 to 4,096 pixels a side"),
    ],
)
def test_cameras_that_are_not_as_described_are_refused(
    tmp_path: Path, shape: list[int], names: list[str] | None, images: list[str], message: str
) -> None:
    write_foreign(tmp_path, **{TOP: pictures()[1]})
    describe_camera(tmp_path, shape, names)
    with pytest.raises(WtlError, match=message):
        read_lerobot(tmp_path, images=images)


def test_images_count_for_the_memory_that_reading_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_foreign(tmp_path, **{TOP: pictures()[1]})
    describe_camera(tmp_path, [8, 6, 3], None)
    monkeypatch.setattr(lerobot, "MEMORY_LIMIT", 1000)
    read_lerobot(tmp_path)
    with pytest.raises(WtlError, match=r"12 steps would take .* of memory"):
        read_lerobot(tmp_path, images=[TOP])


def test_what_this_library_wrote_is_a_lerobot_dataset_with_images(tmp_path: Path) -> None:
    episodes = [make_episode(i, kind="demo", spec=SEEN, final=True) for i in range(4)]
    with EpisodeStore.create(tmp_path, SEEN, suite="test") as store:
        store.append(episodes[:2])
        store.append(episodes[2:])
    (tmp_path / layout.HEADER).unlink()
    spec, found = read_lerobot(tmp_path, images=["observation.images.front"])
    assert spec.images == SEEN.images
    for one, two in zip(found, episodes, strict=True):
        assert all(np.array_equal(one.observation[name], two.observation[name]) for name in SEEN.observation)
    entry = json.loads((tmp_path / layout.INFO).read_text())["features"]["observation.images.front"]
    assert entry == {"dtype": "image", "shape": [5, 6, 3], "names": ["height", "width", "channels"]}
    table = pq.read_table(tmp_path / layout.numbered(layout.DATA_PATH, 0))
    assert set(table.column_names) == set(json.loads((tmp_path / layout.INFO).read_text())["features"])
    assert table.schema.field("observation.images.front").type == pa.struct(
        [("bytes", pa.binary()), ("path", pa.string())]
    )


def film(root: Path, seen: np.ndarray, fps: int = FPS, before: int = 3) -> None:
    """The pictures as a video that begins with ``before`` others, and where in it each episode is."""
    import av

    path = root / f"videos/{TOP}/chunk-000/file-000.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "0", "g": "5"})
        stream.height, stream.width, stream.pix_fmt = *seen.shape[1:3], "yuv444p"
        for image in [*seen[:before][::-1], *seen]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    file = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    begin = (np.cumsum(LENGTHS) - LENGTHS + before) / FPS
    for name, values in [("chunk_index", [0] * 3), ("file_index", [0] * 3), ("from_timestamp", begin)]:
        if f"videos/{TOP}/{name}" not in table.column_names:
            table = table.append_column(f"videos/{TOP}/{name}", pa.array(values))
    pq.write_table(table, file)
    describe_camera(root, list(seen.shape[1:]), ["height", "width", "channels"], "video")
    edit_info(root, video_path="videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4")


@pytest.mark.sim
def test_videos_are_read_where_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, _ = pictures(height=64, width=48)
    write_foreign(tmp_path, **{TOP: None})
    film(tmp_path, seen)
    spec, episodes = read_lerobot(tmp_path, images=[TOP])
    assert spec.images == {"images.top": ImageChannel(64, 48)}
    found = np.concatenate([episode.observation["images.top"] for episode in episodes]).astype(int)
    assert [len(episode.observation["images.top"]) for episode in episodes] == list(LENGTHS)
    assert np.abs(found - seen).max() < 10  # each at its place: neighbours differ by 20
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(WtlError, match=r"file-000\.mp4: episode 0: videos need PyAV.*watchtrylearn\[sim\]"):
        read_lerobot(tmp_path, images=[TOP])


@pytest.mark.sim
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root, seen: film(root, seen[:-1]), r"episode 2: no frame at 0\.467 s, where step 4 of 5 is"),
        (lambda root, seen: film(root, seen, fps=25), r"episode 0: no frame at 0\.100 s, where step 0 of 4 is"),
        (
            lambda root, seen: describe_camera(root, [48, 64, 3], None, "video"),
            "a video of 64 x 48 pixels, expected 48 x 64",
        ),
        (lambda root, seen: video(root).write_bytes(video(root).read_bytes()[:400]), "episode 0: a damaged video"),
        (lambda root, seen: video(root).write_bytes(b"no video"), "episode 0: a damaged video"),
        (lambda root, seen: video(root).unlink(), "there is no file .*mp4"),
        (lambda root, seen: edit_info(root, video_path="../{video_key}.mp4"), "leads outside"),
        (lambda root, seen: edit_info(root, video_path="{evil}.mp4"), "cannot use the path template"),
        (lambda root, seen: write_meta_again(root), "does not say where the video .* of episode 0 is"),
    ],
)
def test_videos_that_are_not_as_described_are_refused(tmp_path: Path, damage: Callable, message: str) -> None:
    seen, _ = pictures(height=64, width=48)
    write_foreign(tmp_path, **{TOP: None})
    film(tmp_path, seen)
    damage(tmp_path, seen)
    with pytest.raises(WtlError, match=message):
        read_lerobot(tmp_path, images=[TOP])


def video(root: Path) -> Path:
    return root / f"videos/{TOP}/chunk-000/file-000.mp4"


def write_meta_again(root: Path) -> None:
    """Without the columns about videos."""
    file = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.drop_columns([name for name in table.column_names if name.startswith("videos/")]), file)
