"""What cameras saw, and what was seen last, come back exactly; a file that is not what it says harms nobody."""

import hashlib
import io
import json
import os
import shutil
import struct
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_episodes import SEEN, SPEC, channel, make_episode, same
from watchtrylearn import cli
from watchtrylearn.data import bounds, images, layout, parquet
from watchtrylearn.data.layout import DATA_PATH, EPISODES_PATH, FINAL_PATH, Checksums, numbered
from watchtrylearn.data.store import EpisodeStore, Refused
from watchtrylearn.data.verify import inspect, rebuild_index, verify
from watchtrylearn.ops.random import generator
from watchtrylearn.system.files import read_typed, write_json
from watchtrylearn.types import Episode, ImageChannel, Spec, WtlError

FRONT = "observation.images.front"
CAMERA = ImageChannel(5, 6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dataset"


def fill(path: Path, spec: Spec = SEEN, count: int = 6) -> list[Episode]:
    episodes = [make_episode(i, spec=spec, executed=i % 2 == 0, final=i != 3) for i in range(count)]
    with EpisodeStore.create(path, spec, suite="test", executed=True) as store:
        store.append(episodes[: count // 2])
        store.append(episodes[count // 2 :])
    return episodes


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def rewrite(path: Path, change: Callable[[list[dict]], None], template: str = DATA_PATH, vouched: bool = True) -> None:
    """Changes the image files of the second part, with checksums that say all is well."""
    file = path / numbered(template, 1)
    table = pq.read_table(file)
    values = table.column(FRONT).to_pylist()
    change(values)
    place = table.column_names.index(FRONT)
    pq.write_table(table.set_column(place, FRONT, pa.array(values, table.schema.field(FRONT).type)), file)
    if vouched:
        there = [t for t in (DATA_PATH, EPISODES_PATH, FINAL_PATH) if (path / numbered(t, 1)).exists()]
        content = {t: (path / numbered(t, 1)).read_bytes() for t in there}
        write_json(path / numbered(layout.CHECKSUM_PATH, 1), Checksums.of(content).to_json())


# ---------------------------------------------------------------------------------------------- round trip


@settings(max_examples=8)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=0, max_size=2),
    known=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=4),
)
def test_round_trip_is_exact(sizes: list[tuple[int, int]], known: list[tuple[bool, bool, bool]]) -> None:
    """Numbers, images, the observation after the last action, and actions that were cut before they were executed."""
    cameras = {f"images.{number}": ImageChannel(*size) for number, size in enumerate(sizes)}
    spec = replace(SPEC, observation={**cameras, **SPEC.observation})
    episodes = []
    for number, (executed, final, flat) in enumerate(known):
        episode = make_episode(number, spec=spec, executed=executed, final=final)
        if executed:  # what was intended may lie outside of the bounds
            episode = replace(episode, action=episode.action * 100)
        if flat:
            plain = {name: np.full_like(values, 7) for name, values in episode.observation.items() if name in cameras}
            episode = replace(episode, observation={**episode.observation, **plain})
        episodes.append(episode)
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        for path in (one, two):
            with EpisodeStore.create(path, spec, executed=True) as store:
                store.append(episodes)
        store = EpisodeStore.open(one, spec)
        assert store.spec == spec
        assert all(same(a, b) for a, b in zip(store.read(), episodes, strict=True))
        assert store.digest() == EpisodeStore.open(two).digest()
        assert verify(one) == []
        schema = json.loads((one / layout.HEADER).read_text())["schema"]
        assert schema == (2 if cameras else 1)  # what has no images is read by version 0.1, too


def test_images_are_unpacked_only_for_who_asks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(SEEN, observation={**SEEN.observation, "images.wrist": ImageChannel(3, 4)})
    episodes = fill(path, spec)
    store = EpisodeStore.open(path)
    for number, seen in store.images("images.front"):
        assert np.array_equal(seen, episodes[number].observation["images.front"])
    for number, seen in store.images("images.wrist", final=True):
        last = [e["images.wrist"][None] for e in [episodes[number].final] if e]
        assert np.array_equal(seen, np.concatenate([episodes[number].observation["images.wrist"], *last]))
    assert list(store.read([2], images=["images.wrist"])[0].observation) == [
        "state",
        "environment_state",
        "images.wrist",
    ]
    with pytest.raises(WtlError, match=r"has no camera 'front'; it has images.front, images.wrist"):
        next(store.images("front"))

    def never(*_: object) -> None:
        raise AssertionError("an image was unpacked")

    monkeypatch.setattr(images, "decode", never)
    found = store.read(images=False)
    assert list(found[0].observation) == list(found[0].final) == list(SPEC.observation)
    assert all(
        np.array_equal(a.observation["state"], b.observation["state"]) for a, b in zip(found, episodes, strict=True)
    )
    assert all(
        np.array_equal(a.final["state"], b.final["state"]) for a, b in zip(found, episodes, strict=True) if b.final
    )
    EpisodeStore.open(path).rebuild()
    assert inspect(path).header.spec == spec


def test_one_episode_is_unpacked_at_a_time(path: Path) -> None:
    spec = replace(SEEN, observation={**SEEN.observation, "images.front": ImageChannel(200, 200)})
    flat = [make_episode(i, spec=spec) for i in range(40)]
    for episode in flat:
        episode.observation["images.front"][:] = 9
    with EpisodeStore.create(path, spec) as store:
        store.append(flat)
    whole = sum(episode.observation["images.front"].nbytes for episode in flat)
    tracemalloc.start()
    assert all((seen == 9).all() for _, seen in store.images("images.front"))
    assert tracemalloc.get_traced_memory()[1] < whole / 4
    tracemalloc.stop()


def test_a_reading_that_takes_too_much_memory_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = fill(path)
    store = EpisodeStore.open(path)
    monkeypatch.setattr(bounds, "MEMORY_LIMIT", 1000)
    with pytest.raises(
        WtlError, match=r"the images of 6 episodes would take 0.0 GB of memory, more than .*; read fewer"
    ):
        store.read()
    assert len(store.read(images=False)) == len(list(store)) == len(episodes)
    monkeypatch.setattr(images, "EPISODE_LIMIT", 100)
    with pytest.raises(Refused, match=r"observation.images.front: \d+ 5 x 6 images would take .* in one episode"):
        store.append([episodes[0]])


# ------------------------------------------------------------------------------------------------ statistics


def test_statistics_are_those_of_the_pixels(path: Path) -> None:
    episodes = [replace(episode, diverged=i == 2, kind="trial") for i, episode in enumerate(fill(path / "..", count=4))]
    episodes[2] = replace(episodes[2], success=False)
    with EpisodeStore.create(path / "dataset", SEEN, executed=True) as store:
        store.append(episodes)

    def plain(seen: list[np.ndarray]) -> dict[str, np.ndarray]:
        pixels = np.concatenate([each.reshape(-1, 3) for each in seen]) / 255
        shares = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
        found = {name: getattr(pixels, name)(axis=0) for name in ("min", "max", "mean", "std")}
        return found | {name: np.quantile(pixels, share, axis=0) for name, share in shares.items()}

    seen = [episode.observation["images.front"] for episode in episodes]
    stats = read_typed(path / "dataset" / layout.STATS, dict)[FRONT]
    wanted = plain([each for i, each in enumerate(seen) if i != 2])
    assert stats.keys() == wanted.keys() | {"count"}
    assert stats["count"] == [sum(len(each) for i, each in enumerate(seen) if i != 2)]
    table = pq.read_table(path / "dataset" / numbered(EPISODES_PATH, 0))
    for name, values in wanted.items():
        assert np.shape(stats[name]) == (3, 1, 1)  # as LeRobot has it
        assert np.allclose(np.ravel(stats[name]), values, atol=1e-12)
        of_episodes = table.column(f"stats/{FRONT}/{name}").to_pylist()
        assert np.shape(of_episodes) == (4, 3, 1, 1)
        assert np.allclose(np.reshape(of_episodes, (4, 3)), [plain([each])[name] for each in seen], atol=1e-12)
    assert verify(path / "dataset") == []


def test_large_images_and_long_episodes_are_sampled_as_lerobot_does() -> None:
    assert images.sampled(7).tolist() == list(range(7))
    assert len(images.sampled(1000)) == 177
    assert images.sampled(1000)[[0, -1]].tolist() == [0, 999]
    seen = generator("large").integers(256, size=(2, 400, 601, 3), dtype=np.uint8)
    thin = seen[:, ::4, ::4]
    assert np.allclose(images.statistics(images.histogram(seen))["mean"], (thin / 255).mean(axis=(0, 1, 2)))


def test_statistics_need_no_copy_in_wider_numbers() -> None:
    seen = np.zeros((90, 200, 200, 3), np.uint8)
    tracemalloc.start()
    images.histogram(seen)
    assert tracemalloc.get_traced_memory()[1] < seen.nbytes / 4
    tracemalloc.stop()


# ------------------------------------------------------------------------------------------------ refusals


def with_images(change: Callable[[np.ndarray], np.ndarray]) -> Episode:
    episode = make_episode(4, spec=SEEN, final=True)
    return replace(
        episode, observation={**episode.observation, "images.front": change(episode.observation["images.front"])}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda seen: seen.astype(np.float32) / 255, "images.front: float32 instead of uint8"),
        (lambda seen: seen.astype(np.int64), "images.front: int64 instead of uint8"),
        (
            lambda seen: seen.transpose(0, 3, 1, 2).copy(),
            r"images.front: shape \(\d+, 3, 5, 6\), expected .*height, width, RGB",
        ),
        (lambda seen: seen[:, :, :5], r"images.front: shape \(\d+, 5, 5, 3\)"),
        (lambda seen: seen[:-1], r"images.front: shape"),
        (lambda seen: seen.astype(str), "images.front: <U3 instead of an array of numbers"),
    ],
)
def test_images_that_do_not_fit_are_refused_by_name(path: Path, change: Callable, message: str) -> None:
    store = EpisodeStore.create(path, SEEN)
    with pytest.raises(Refused, match=rf"episode 1 of the batch .* is refused: observation.{message}"):
        store.append([make_episode(0, spec=SEEN), with_images(change), make_episode(2, spec=SEEN)])
    assert len(EpisodeStore.open(path).read()) == 2


@pytest.mark.parametrize(
    ("final", "message"),
    [
        ({"state": np.zeros(2, np.float32)}, "final.environment_state: missing"),
        ({**make_episode(1, spec=SEEN, final=True).final, "state": np.full(2, 99.0)}, r"final.state: x is 99, outside"),
        ({**make_episode(1, spec=SEEN, final=True).final, "state": np.full(2, np.nan)}, r"final.state: x is nan"),
        (
            {**make_episode(1, spec=SEEN, final=True).final, "images.front": np.zeros((5, 6, 3))},
            "float64 instead of uint8",
        ),
        ({**make_episode(1, spec=SEEN, final=True).final, "state": ["x"]}, "final.state: list instead of an array"),
    ],
)
def test_a_last_observation_that_does_not_fit_is_refused_and_an_attempt_kept_without(
    path: Path, final: dict, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    episode = make_episode(4, spec=SEEN)
    object.__setattr__(episode, "final", final)
    store = EpisodeStore.create(path, SEEN)
    with pytest.raises(Refused, match=message):
        store.append([episode])
    assert store.append_attempts([episode]) == [0]
    assert same(EpisodeStore.open(path).read()[0], replace(episode, final={}))
    assert "left out: final." in caplog.text


def test_a_camera_is_not_called_state() -> None:
    with pytest.raises(WtlError, match="'state' holds numbers; call a camera something else"):
        Spec(10, 12, {"state": CAMERA}, channel("dx"))


def test_cameras_of_another_size_are_another_dataset(path: Path) -> None:
    fill(path)
    with pytest.raises(WtlError, match=r"observation.images.front: 5 x 6 images, not 9 x 6 images"):
        EpisodeStore.open(path, replace(SEEN, observation={**SEEN.observation, "images.front": ImageChannel(9, 6)}))
    with pytest.raises(WtlError, match=r"observation.images.front: 5 x 6 images, not missing"):
        EpisodeStore.open(path, SPEC)


# ------------------------------------------------------------------------------------------- executed actions


def test_attempts_go_on_in_a_dataset_of_version_0_1(path: Path) -> None:
    """It has no place for what was intended: as that version did, it keeps what reached the robot."""
    store = EpisodeStore.create(path, SPEC)
    cut = make_episode(2, executed=True)
    cut = replace(cut, action=cut.action * 100)
    with pytest.raises(Refused, match=r"executed: this dataset was created without executed actions; .*executed=True"):
        store.append([cut])
    assert store.append_attempts([make_episode(4), cut]) == [0, 1]
    found = EpisodeStore.open(path).read()
    assert same(found[0], make_episode(4))
    assert same(found[1], replace(cut, action=cut.executed, executed=None))


def test_commands_beyond_their_bounds_are_stored_as_they_were_cut_where_there_is_one_action(path: Path) -> None:
    """What ``rollout`` makes of a policy that goes beyond its bounds, of a demonstrator's too. Nothing else is cut."""
    low, high = (np.array(bound, np.float32) for bound in (SPEC.action.low, SPEC.action.high))
    meant = make_episode(2).action * 100
    executed = np.clip(meant, low, high)
    assert (executed != meant).any()
    far = replace(make_episode(2), action=meant, executed=executed)
    disturbed = replace(far, executed=np.clip(executed + np.float32(1e-3), low, high))
    store = EpisodeStore.create(path, SPEC)
    assert store.append([far, replace(far, kind="demo", success=True)]) == [0, 1]
    for found in EpisodeStore.open(path).read():
        np.testing.assert_array_equal(found.action, executed)
        assert found.executed is None
    for wrong in (disturbed, replace(far, executed=executed * np.nan)):
        with pytest.raises(Refused):
            store.append([wrong])


def test_of_intended_and_executed_actions_one_is_within_the_bounds(path: Path) -> None:
    inside = make_episode(2, executed=True)
    outside = inside.action * 100
    store = EpisodeStore.create(path, SPEC, executed=True)
    store.append(
        [replace(inside, action=outside), replace(inside, executed=outside)]
    )  # the second, as version 0.1 could
    assert len(EpisodeStore.open(path).read()) == 2
    for wrong in (replace(inside, action=outside, executed=outside), replace(inside, executed=outside * np.nan)):
        with pytest.raises(Refused, match=r"executed: dx is"):
            store.append([wrong])
    with pytest.raises(Refused, match=r"action: dx is nan"):
        store.append([replace(inside, action=outside * np.nan)])
    broken = replace(inside, kind="trial", success=False, diverged=True, executed=outside * np.nan)
    assert store.append([broken]) == [2]


# ------------------------------------------------------------------------------------------------- damage


def test_a_damaged_image_is_named_and_the_rest_usable(path: Path) -> None:
    episodes = fill(path)
    first = pq.read_table(path / numbered(DATA_PATH, 1)).column("episode_index").to_pylist()
    row = first.index(4)

    def spoil(values: list[dict]) -> None:
        values[row]["bytes"] = values[row]["bytes"][:-30] + bytes(30)

    rewrite(path, spoil)
    message = rf"file-001\.parquet: episode 4: {FRONT} at step 0: a damaged image"
    with pytest.raises(WtlError, match=message):
        EpisodeStore.open(path).read()
    store = EpisodeStore.open(path)
    store.skip_bad = True
    assert all(same(a, b) for a, b in zip(store.read(), episodes[:4] + episodes[5:], strict=True))
    assert len(store.skipped) == 1
    assert [(problem.episode, FRONT in problem.text) for problem in verify(path)] == [(4, True)]
    assert len(EpisodeStore.open(path).read(images=False)) == 6


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"bytes": b"no image"}, "neither a PNG nor a JPEG file, but 8 bytes of something else"),
        ({"bytes": b""}, "neither a PNG nor a JPEG file"),
        ({"bytes": b"\x89PNG\r\n\x1a\n"}, "a damaged image"),
        ({"bytes": b"\xff\xd8\xff"}, "a damaged image"),
        ({"bytes": png(np.zeros((4, 6, 3), np.uint8))}, "an image of 4 x 6 pixels, expected 5 x 6"),
        ({"bytes": png(np.zeros((5, 6, 4), np.uint8))}, "an image in PNG of kind 6, 8 bits, expected RGB with 8 bits"),
        ({"bytes": png(np.zeros((5, 6), np.uint8))}, "an image in PNG of kind 0, 8 bits"),
        ({"bytes": png(np.zeros((5, 6), np.uint16))}, "an image in PNG of kind 0, 16 bits"),
        ({"bytes": None}, "has no image in 1 rows"),
        (None, "has no image in 1 rows"),
    ],
)
@pytest.mark.parametrize("template", [DATA_PATH, FINAL_PATH])
def test_image_files_that_are_not_what_they_should_be(path: Path, value: dict, message: str, template: str) -> None:
    fill(path)
    rewrite(path, lambda values: values.__setitem__(-1, value and {"path": "x.png", **value}), template)
    with pytest.raises(WtlError, match=message):
        EpisodeStore.open(path).read()
    assert any(message in str(problem) for problem in verify(path))


def bomb(width: int, height: int) -> bytes:
    """A small PNG file that says it has so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(2**22)))
        + chunk(b"IEND", b"")
    )


def test_a_small_file_that_unpacks_to_a_lot_is_refused_before_it_is_unpacked(path: Path) -> None:
    fill(path)
    for size in [(2**31 - 1, 2**31 - 1), (30_000, 30_000), (5, 6)]:  # width, height
        rewrite(path, lambda values, size=size: values.__setitem__(0, {"bytes": bomb(*size), "path": None}))
        store = EpisodeStore.open(path)
        tracemalloc.start()
        with pytest.raises(WtlError, match=rf"step 0: an image of {size[1]} x {size[0]} pixels, expected 5 x 6"):
            store.read()
        assert tracemalloc.get_traced_memory()[1] < 2**22
        tracemalloc.stop()


def test_a_lost_or_damaged_file_of_last_observations_is_named(path: Path) -> None:
    episodes = fill(path)
    file = path / numbered(FINAL_PATH, 1)
    right = file.read_bytes()
    for damage in (
        lambda: file.write_bytes(right[:-9]),
        lambda: file.write_bytes(right[:99] + b"x" + right[100:]),
        file.unlink,
    ):
        damage()
        with pytest.raises(WtlError, match=r"meta/final/chunk-000/file-001\.parquet"):
            EpisodeStore.open(path).read()
        assert "meta/final/chunk-000/file-001.parquet" in " ".join(map(str, verify(path)))
        assert len(EpisodeStore.open(path, skip_bad=True).read()) == 3
        file.write_bytes(right)
    (path / numbered(layout.CHECKSUM_PATH, 1)).unlink()
    assert rebuild_index(path) == 6
    assert verify(path) == []
    assert all(same(a, b) for a, b in zip(EpisodeStore.open(path), episodes, strict=True))


def test_last_observations_of_a_batch_that_was_not_committed_are_put_aside(path: Path) -> None:
    episodes = fill(path)
    shutil.copy(path / numbered(FINAL_PATH, 1), path / numbered(FINAL_PATH, 2))
    assert [problem.file for problem in verify(path)] == [numbered(FINAL_PATH, 2)]
    assert all(same(a, b) for a, b in zip(EpisodeStore.open(path), episodes, strict=True))
    assert verify(path) == []
    assert len(list((path / layout.QUARANTINE).iterdir())) == 1


def test_last_observations_do_not_vanish_with_their_checksum(path: Path) -> None:
    episodes = fill(path)
    sums = path / numbered(layout.CHECKSUM_PATH, 1)
    sums.write_text(sums.read_text().replace('"final"', '"fimal"'))
    with pytest.raises(WtlError, match=r"meta/final/.*file-001\.parquet has no checksum, .*--rebuild"):
        EpisodeStore.open(path)
    assert [problem.file for problem in verify(path)] == [numbered(FINAL_PATH, 1)]
    assert len(EpisodeStore.open(path, skip_bad=True)) == 3
    right = (path / numbered(FINAL_PATH, 1)).read_bytes()
    (path / numbered(FINAL_PATH, 1)).write_bytes(b"no longer")
    with pytest.raises(WtlError, match=r"meta/final/.*is not a readable Parquet file"):
        rebuild_index(path)
    (path / numbered(FINAL_PATH, 1)).write_bytes(right)
    assert rebuild_index(path) == 6
    assert all(same(a, b) for a, b in zip(EpisodeStore.open(path), episodes, strict=True))


@pytest.mark.parametrize("allowed", range(4))
def test_a_full_disk_at_each_file_of_an_append(path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    episodes, left, move = fill(path), [allowed], os.replace

    def full(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(WtlError, match="No space left"):
            EpisodeStore.open(path).append([make_episode(6, spec=SEEN, final=True)])
    store = EpisodeStore.open(path)
    assert all(same(a, b) for a, b in zip(store, episodes, strict=True))
    assert verify(path) == []
    assert store.append([make_episode(6, spec=SEEN, final=True)]) == [6]


def test_images_too_large_for_one_file_are_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "FILE_LIMIT", 500)
    with pytest.raises(WtlError, match=r"bytes of images, more than 500 in one batch; store fewer episodes at once"):
        fill(path)
    assert not list(path.glob("data/*/*"))


# ------------------------------------------------------------------------------------- what others have added


def append_as_lerobot(path: Path, tmp_path: Path, added: list[Episode]) -> None:
    """A third part as LeRobot leaves it: its own columns, image files of its own making, no checksums."""
    known = EpisodeStore.open(path).records[-1]
    first, row = known.index + 1, known.begin + known.length
    with EpisodeStore.create(tmp_path / "theirs", SEEN, executed=True) as store:
        store.append(added)
    data = pq.read_table(tmp_path / "theirs" / numbered(DATA_PATH, 0))
    for name, shift in [("episode_index", first), ("index", row)]:
        moved = pa.array(np.array(data.column(name)) + shift)
        data = data.set_column(data.column_names.index(name), name, moved)
    files = [{"bytes": png(image), "path": "x.png"} for e in added for image in e.observation["images.front"]]
    data = data.set_column(data.column_names.index(FRONT), FRONT, pa.array(files))
    lengths = np.array([len(episode) for episode in added])
    rows = {
        "episode_index": first + np.arange(len(added)), "length": lengths, "tasks": [["fold"]] * len(added),
        "data/chunk_index": [0] * len(added), "data/file_index": [2] * len(added),
    }  # fmt: skip
    pq.write_table(data, path / numbered(DATA_PATH, 2))
    pq.write_table(pa.table(rows), path / numbered(EPISODES_PATH, 2))


def test_what_lerobot_appended_is_adopted_with_its_images(path: Path, tmp_path: Path) -> None:
    episodes, added = fill(path), [make_episode(i, kind="demo", spec=SEEN, executed=True) for i in (20, 21)]
    append_as_lerobot(path, tmp_path, added)
    with pytest.raises(WtlError, match="has no checksum"):
        EpisodeStore.open(path)
    assert rebuild_index(path) == 8
    assert verify(path) == []
    found = EpisodeStore.open(path).read()
    assert all(same(a, b) for a, b in zip(found, episodes, strict=False))
    for one, two in zip(found[6:], added, strict=True):
        assert all(np.array_equal(one.observation[name], two.observation[name]) for name in SEEN.observation)
        assert (one.final, one.kind) == ({}, "demo")


def test_the_command_line_names_cameras(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(path)
    assert cli.main(["data", "inspect", str(path)]) in (0, None)
    assert "images.front: 5 x 6 images" in capsys.readouterr().out
    assert cli.main(["data", "verify", str(path)]) in (0, None)
    assert "no problems found" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------- older versions


def test_what_version_0_1_wrote_reads_with_the_digest_it_had(path: Path) -> None:
    """Its files, spelled out: two Parquet files and a checksum file of two entries a batch, schema 1."""
    episodes = [make_episode(i) for i in range(4)]
    with EpisodeStore.create(path, SPEC, suite="test") as store:
        store.append(episodes[:2])
        store.append(episodes[2:])
    header = json.loads((path / layout.HEADER).read_text())
    assert header["schema"] == 1
    assert not (path / "meta/final").exists()
    sums = [json.loads((path / numbered(layout.CHECKSUM_PATH, n)).read_text()) for n in (0, 1)]
    assert [list(each) for each in sums] == [["data", "episodes"]] * 2
    content = [header, [[n, sums[n]["data"], sums[n]["episodes"]] for n in (0, 1)]]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert store.digest() == hashlib.sha256(text.encode()).hexdigest()
    columns = pq.read_schema(path / numbered(DATA_PATH, 0)).names
    assert columns == [
        "observation.state", "observation.environment_state", "action", "next.reward", "next.done", "next.success",
        "timestamp", "frame_index", "episode_index", "index", "task_index",
    ]  # fmt: skip
    with EpisodeStore.open(path) as store:  # and goes on, with what is new
        store.append([make_episode(4, final=True)])
    assert all(
        same(a, b) for a, b in zip(EpisodeStore.open(path), [*episodes, make_episode(4, final=True)], strict=True)
    )
    assert pq.read_schema(path / numbered(EPISODES_PATH, 0)) == pq.read_schema(path / numbered(EPISODES_PATH, 2))
