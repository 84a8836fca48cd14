"""Images unpacked once into a file: the same frames as in memory, whatever happened to the file before."""

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from image_episodes import SPEC, episode
from watchtrylearn.data import images
from watchtrylearn.data.batches import gather
from watchtrylearn.data.frames import FrameFile, FramesOnDisk, load_memory
from watchtrylearn.data.memory import EpisodeMemory
from watchtrylearn.data.sampling import PairIndex, Sampling
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.ops.random import generator
from watchtrylearn.types import Episode, ImageChannel, WtlError

DEMOS = [episode(i, 1 + i % 6, task=i // 6, seed=i % 3, final=i % 2 == 0, ended=i % 4 == 0) for i in range(12)]
TRIALS = [episode(12 + i, 2 + i % 4, "trial", task=i // 6, seed=i % 3) for i in range(12)]


def make(path: Path, episodes: list[Episode]) -> EpisodeStore:
    """A dataset in two files."""
    with EpisodeStore.create(path, SPEC) as store:
        half = len(episodes) // 2
        store.append(episodes[:half])
        store.append(episodes[half:])
    return store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    make(folder / "demos", DEMOS)
    make(folder / "trials", TRIALS)
    return folder


@pytest.fixture
def stores(made: Path, tmp_path: Path) -> list[EpisodeStore]:
    """Demonstrations and trials, to be meddled with."""
    return [EpisodeStore.open(shutil.copytree(made / name, tmp_path / name)) for name in ("demos", "trials")]


def on_disk(stores: list[EpisodeStore], **options: object) -> EpisodeMemory:
    return load_memory(stores, SPEC, images_in_memory=0, **options)  # type: ignore[arg-type]


def everything(memory: EpisodeMemory) -> list[torch.Tensor]:
    """Every frame of every episode, in both cameras and all numbers."""
    found = []
    for row in range(len(memory)):
        steps = int(memory.lengths(np.array([row]))[0])
        found += memory.frames(np.array([row]), np.arange(steps + 1)[None]).values()
    return found


def same(one: EpisodeMemory, two: EpisodeMemory) -> bool:
    pairs = list(zip(everything(one), everything(two), strict=True))
    return len(one) == len(two) > 0 and all(torch.equal(a, b) for a, b in pairs)


def cached(store: EpisodeStore) -> list[Path]:
    return sorted((store.path / "cache").glob("*.frames"))


def test_frames_from_the_file_are_those_in_memory(stores):
    memory, expected = on_disk(stores), EpisodeMemory(SPEC, [*DEMOS, *TRIALS])
    assert same(memory, expected)
    assert same(load_memory(stores, SPEC), expected)
    assert [path.stat().st_size for path in cached(stores[0])] == [size * (12 + 42) for size in (3 * 4 * 3, 2 * 2 * 3)]
    pairs = PairIndex(memory.table, Sampling(trials=(1, 1, 1), frames=5)).sample(generator("same"), 40)
    one, two = (gather(each, pairs, image_frames=3) for each in (memory, expected))
    for a, b in (
        (one.query, two.query),
        (one.context.demos, two.context.demos),
        (one.context.trials, two.context.trials),
    ):
        assert torch.equal(a.images["camera"], b.images["camera"])
        assert torch.equal(a.images["wrist"], b.images["wrist"])
    assert memory.nbytes < expected.nbytes


def test_images_that_fit_are_kept_in_memory_and_nothing_is_written(stores):
    size = sum(len(e) + 1 for e in [*DEMOS, *TRIALS]) * (36 + 12)
    load_memory(stores, SPEC, images_in_memory=size)
    assert not cached(stores[0])
    load_memory(stores, SPEC, images_in_memory=size - 1)
    assert len(cached(stores[0])) == len(cached(stores[1])) == 2


def test_what_was_unpacked_is_used_again(stores, monkeypatch):
    on_disk(stores)
    monkeypatch.setattr(EpisodeStore, "images", lambda *_, **__: pytest.fail("unpacked again"))
    opened = [EpisodeStore.open(store.path) for store in stores]
    assert same(on_disk(opened), EpisodeMemory(SPEC, [*DEMOS, *TRIALS]))


def test_other_data_are_unpacked_anew_and_the_old_frames_deleted(stores):
    on_disk(stores)
    before = cached(stores[0]), cached(stores[1])
    stores[0].append(TRIALS[:2])
    assert same(on_disk(stores), EpisodeMemory(SPEC, [*DEMOS, *TRIALS[:2], *TRIALS]))
    assert len(cached(stores[0])) == 2
    assert not set(cached(stores[0])) & set(before[0])
    assert cached(stores[1]) == before[1]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "cut off": cut,
    "a bit flipped": flip,
    "gone": Path.unlink,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "the note is gone": lambda path: path.with_suffix(".json").unlink(),
    "the note is no JSON": lambda path: path.with_suffix(".json").write_text("{"),
    "the note is empty": lambda path: path.with_suffix(".json").write_text("{}"),
    "of the other camera": lambda path: shutil.copy(path.with_suffix(".json"), cached_beside(path)),
    "a link": lambda path: (path.rename(path.with_name("moved")), path.symlink_to("moved")),
}


def cached_beside(path: Path) -> Path:
    """The note of the other camera."""
    (other,) = (p for p in path.parent.glob("*.json") if p.stem != path.stem)
    return other


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_frames_are_noticed_and_made_anew(stores, damage):
    on_disk(stores[1:])
    DAMAGE[damage](cached(stores[1])[0])
    if damage == "a link":  # somebody's, who wants to be asked
        with pytest.raises(WtlError, match="symbolic link"):
            on_disk(stores[1:])
        return
    assert same(on_disk(stores[1:]), EpisodeMemory(SPEC, TRIALS))
    assert len(cached(stores[1])) == 2


def test_a_file_that_is_cut_off_while_it_is_read_is_named(stores):
    memory = on_disk(stores)
    path = cached(stores[1])[0]
    os.truncate(path, 0)
    with pytest.raises(WtlError, match=rf"{path} is damaged: it ends before frame \d+; delete it"):
        everything(memory)


def test_a_memory_whose_images_are_in_a_file_does_not_grow(stores):
    with pytest.raises(WtlError, match="images of camera, wrist lie in a file"):
        on_disk(stores).append(TRIALS)


def test_a_folder_of_ones_own_holds_the_frames_of_many_datasets(stores, tmp_path):
    (stores[0].path / "cache").write_text("no folder")
    with pytest.raises(WtlError, match="cache"):
        on_disk(stores)
    for _ in range(2):
        assert same(on_disk(stores, cache=tmp_path / "mine"), EpisodeMemory(SPEC, [*DEMOS, *TRIALS]))
        assert len(list((tmp_path / "mine").glob("*/*.frames"))) == 4


def test_a_link_in_place_of_the_cache_leads_nowhere(stores, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (stores[0].path / "cache").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WtlError, match="symbolic link, which leads outside"):
        on_disk(stores)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_episodes_of_damaged_files_are_left_out_where_that_is_wanted(stores):
    data = sorted((stores[0].path / "data").rglob("*.parquet"))[0]
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(WtlError, match="damaged"):
        on_disk([EpisodeStore.open(stores[0].path)])
    for images_in_memory in (0, 2**30):
        store = EpisodeStore.open(stores[0].path, skip_bad=True)
        assert same(load_memory([store], SPEC, images_in_memory), EpisodeMemory(SPEC, DEMOS[6:]))
    data.write_bytes(whole)  # and there they are again
    assert same(on_disk([EpisodeStore.open(stores[0].path, skip_bad=True)]), EpisodeMemory(SPEC, DEMOS))


SCRIPT = """
import sys, time
from watchtrylearn.data import frames
from watchtrylearn.data.store import EpisodeStore
store = EpisodeStore.open(sys.argv[1])
plain = EpisodeStore.images
def slow(*args, **options):
    for found in plain(*args, **options):
        time.sleep(0.02)
        yield found
    print("unpacked", flush=True)
EpisodeStore.images = slow
print("begun", flush=True)
frames.load_memory([store], store.spec, images_in_memory=0)
"""


def start(store: EpisodeStore) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, store.path], stdout=subprocess.PIPE, text=True)


def test_two_processes_that_need_the_same_frames_unpack_them_once(stores):
    # both wait for the same lock, or find the files
    running = [start(stores[0]) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum(each.count("unpacked") for each in said) == 2  # one for each camera
    assert same(on_disk(stores), EpisodeMemory(SPEC, [*DEMOS, *TRIALS]))


def test_whoever_unpacks_may_be_killed(stores):
    process = start(stores[0])
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    while not list(stores[0].path.glob("cache/.*.tmp")):
        assert process.poll() is None
    process.kill()
    process.wait()
    process.stdout.close()
    assert same(on_disk(stores), EpisodeMemory(SPEC, [*DEMOS, *TRIALS]))
    assert not list(stores[0].path.glob("cache/.*.tmp"))


def test_a_disk_that_is_full_is_named_and_nothing_is_left(stores, monkeypatch):
    def images(*_, **__):
        yield 0, DEMOS[0].observation["camera"]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(EpisodeStore, "images", images)
    with pytest.raises(WtlError, match=r"cannot write .*cache/camera-.*frames: No space left on device"):
        on_disk(stores)
    assert [path.name for path in (stores[0].path / "cache").iterdir()] == [".lock"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells what is resident")
def test_frames_that_were_read_do_not_stay_in_the_process(tmp_path):
    """Nothing of a file of 60 MB is left in memory but the batch that was asked for (a mapped file would be)."""

    def resident() -> int:
        (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) * 1024

    channel, count = ImageChannel(100, 100), 2000
    (tmp_path / "frames").touch()
    os.truncate(tmp_path / "frames", count * channel.size)
    frames = FramesOnDisk([FrameFile(tmp_path / "frames", channel, {0: count})], [[0]])
    frames.take(np.arange(64))
    before = resident()
    for begin in range(0, count, 50):
        assert not frames.take(np.arange(begin, begin + 50)).any()
    assert resident() - before < 10e6
    assert frames.nbytes == 8 * count


def test_images_that_nobody_looks_at_stay_packed(stores, monkeypatch):
    blind = replace(SPEC, observation=SPEC.numbers)
    monkeypatch.setattr(images, "decode", lambda *_: pytest.fail("unpacked"))
    memory = load_memory(stores, blind, images_in_memory=0)
    assert not cached(stores[0])
    assert torch.equal(memory.numbers().action, EpisodeMemory(SPEC, [*DEMOS, *TRIALS]).numbers().action)
    drawn = PairIndex(memory.table, Sampling()).sample(generator("blind"), 4)
    assert gather(memory, drawn).query.images == {}
