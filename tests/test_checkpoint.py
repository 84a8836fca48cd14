"""Checkpoints: the same comes back, and whatever happens to the writer or the files, never garbage."""

import json
import os
import resource
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from processes import fork, wait
from watchtrylearn.ops.random import generator
from watchtrylearn.training import checkpoint
from watchtrylearn.training.checkpoint import load_latest, load_model, save, save_model
from watchtrylearn.types import WtlError


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((64, 3), float(step)), "count": torch.tensor(step)}


def load(directory: Path) -> checkpoint.Checkpoint[dict[str, Any]]:
    found = load_latest(directory, dict)
    assert found is not None
    return found


def is_sound(found: checkpoint.Checkpoint) -> bool:
    return bool((found.tensors["weight"] == found.step).all()) and found.state == {
        "step": found.step,
        "note": found.step,
    }


def save_step(directory: Path, step: int) -> None:
    save(directory, step, tensors(step), {"note": step})


# ------------------------------------------------------------------------------------------------ round trip


def test_every_kind_of_tensor_comes_back_bit_for_bit(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=draw)
    saved = {
        "plain": base,
        "transposed": base.T,
        "view": base[:, 1:3],
        "tied": base,
        "double": torch.tensor([0.1, float("inf"), float("nan")], dtype=torch.float64),
        "bfloat16": base.bfloat16(),
        "scalar": torch.tensor(3),
        "bool": base > 0,
        "empty": torch.zeros(0, 5),
    }
    save(tmp_path, 7, saved, {"seed": 1})
    found = load(tmp_path)
    assert (found.step, found.state) == (7, {"step": 7, "seed": 1})
    assert found.tensors.keys() == saved.keys()
    for name, tensor in saved.items():
        torch.testing.assert_close(found.tensors[name], tensor, rtol=0, atol=0, equal_nan=True)


def test_state_floats_come_back_exactly(tmp_path: Path) -> None:
    numbers = [float(x) for x in generator("floats").normal(size=50)]
    save(tmp_path, 1, {}, {"numbers": numbers})
    assert load(tmp_path).state["numbers"] == numbers


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path, dict) is None
    assert load_latest(tmp_path / "absent", dict) is None


def test_the_last_two_are_kept_and_foreign_files_too(tmp_path: Path) -> None:
    (tmp_path / "step-notes").mkdir()
    (tmp_path / "readme.txt").write_text("mine")
    save_step(tmp_path, 10)
    (tmp_path / "step-00000010" / "note.txt").write_text("mine")
    for step in (20, 30, 40):
        save_step(tmp_path, step)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["readme.txt", "step-00000010", "step-00000030", "step-00000040", "step-notes"]
    assert [path.name for path in (tmp_path / "step-00000010").iterdir()] == ["note.txt"]
    assert load(tmp_path).step == 40


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 5, {}, {"note": "old"})
    save_step(tmp_path, 5)
    assert is_sound(load(tmp_path))


# ------------------------------------------------------------------------------------------------- bad files


def damage(path: Path, how: str, draw: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[draw.integers(len(content))] ^= 1 << int(draw.integers(8))
    elif how == "truncate":
        content = content[: draw.integers(len(content))]
    path.write_bytes(content)
    if how == "remove":
        path.unlink()


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize(("how", "times"), [("flip", 40), ("truncate", 10), ("remove", 1)])
def test_a_damaged_checkpoint_is_never_used(
    tmp_path: Path, name: str, how: str, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    draw = generator("damage", name, how)
    for _ in range(times):
        save_step(tmp_path, 1)
        save_step(tmp_path, 2)
        damage(tmp_path / "step-00000002" / name, how, draw)
        caplog.clear()
        try:
            found = load(tmp_path)
        except WtlError as error:  # the flipped bit was in the schema number: refused, not skipped
            assert name == "manifest.json"
            assert "schema" in str(error)
            continue
        assert is_sound(found)
        if found.step == 1:
            assert "step-00000002" in caplog.text
            assert "step-00000001" in caplog.text
        else:  # a bit of the manifest that says nothing, such as its indentation
            assert name == "manifest.json"


def test_after_a_fallback_the_next_save_wins(tmp_path: Path) -> None:
    for step in (10, 40):
        save_step(tmp_path, step)
    (tmp_path / "step-00000040" / "state.json").write_text("{}")
    assert load(tmp_path).step == 10
    save_step(tmp_path, 20)
    assert load(tmp_path).step == 20
    assert not (tmp_path / "step-00000040").exists()


def test_if_all_are_damaged_it_does_not_start_anew_silently(tmp_path: Path) -> None:
    for step in (1, 2):
        save_step(tmp_path, step)
        (tmp_path / f"step-{step:08d}" / "tensors.safetensors").write_bytes(b"")
    with pytest.raises(WtlError, match=r"step-00000002.*step-00000001"):
        load_latest(tmp_path, dict)


def test_another_schema_is_refused_by_file_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_step(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "SCHEMA", 2)
    save_step(tmp_path, 2)
    monkeypatch.undo()
    with pytest.raises(WtlError, match=r"step-00000002/manifest.json has schema 2.*reads schema 1"):
        load_latest(tmp_path, dict)


# -------------------------------------------------------------------------------------------------- bad luck

CALLS = ("fsync", "replace", "mkdir", "unlink", "rmdir")


def fail_at(monkeypatch: pytest.MonkeyPatch, call: str, number: int, fail: object) -> None:
    """Let the ``number``-th use of a system call fail (with an OSError, or by being killed)."""
    original, count = getattr(os, call), 0

    def failing(*args: object, **kwargs: object) -> object:
        nonlocal count
        count += 1
        if count == number:
            if isinstance(fail, OSError):
                raise fail
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    monkeypatch.setattr(os, call, failing)


def save_first(directory: Path) -> None:
    for step in (1, 2):
        save_step(directory, step)


def calls_in_a_save(directory: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> int:
    count, original = 0, getattr(os, call)

    def counting(*args: object, **kwargs: object) -> object:
        nonlocal count
        count += 1
        return original(*args, **kwargs)

    save_first(directory)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, counting)
        save_step(directory, 3)
    return count


def assert_recovers(directory: Path) -> None:
    """A sound checkpoint, the old or the new, and after the next save no trace of the accident."""
    found = load(directory)
    assert is_sound(found)
    assert found.step in (2, 3)
    save_step(directory, 4)
    assert load(directory).step == 4
    assert sorted(os.listdir(directory)) == [f"step-{found.step:08d}", "step-00000004"]


@pytest.mark.parametrize("call", CALLS)
def test_a_full_disk_is_loud_and_leaves_the_old_one(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, calls_in_a_save(tmp_path / "count", call, monkeypatch) + 1):
        directory = tmp_path / f"{call}-{number}"
        save_first(directory)
        with monkeypatch.context() as patch:
            fail_at(patch, call, number, OSError(28, "No space left on device"))
            try:
                save_step(directory, 3)
            except WtlError as error:
                assert "step-00000003" in str(error)
                assert "No space left" in str(error)
        assert_recovers(directory)


@pytest.mark.parametrize("call", CALLS)
def test_kill_9_at_every_system_call_of_a_save(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, calls_in_a_save(tmp_path / "count", call, monkeypatch) + 1):
        directory = tmp_path / f"{call}-{number}"
        save_first(directory)

        def die(directory: Path = directory, number: int = number) -> None:
            fail_at(monkeypatch, call, number, None)
            save_step(directory, 3)

        assert wait(fork(die)) == -signal.SIGKILL
        assert_recovers(directory)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_real_write_that_fails_half_way(tmp_path: Path) -> None:
    save_step(tmp_path, 1)
    with file_size_limit(500), pytest.raises(WtlError, match=r"step-00000002.*File too large"):
        save_step(tmp_path, 2)
    assert is_sound(load(tmp_path))


# --------------------------------------------------------------------------------------------------- models

META = {"learner": "line", "config": {"width": 8}, "spec": {}}


def test_a_model_comes_back(tmp_path: Path) -> None:
    save_model(tmp_path, tensors(3), META)
    meta, found = load_model(tmp_path)
    assert {name: getattr(meta, name) for name in META} == META
    assert meta.versions["torch"] == torch.__version__
    assert torch.equal(found["weight"], tensors(3)["weight"])


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(WtlError, match=r"no trained model in .*model.json is missing"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_damaged_model_is_refused_by_name(tmp_path: Path, name: str) -> None:
    draw = generator("model", name)
    for how in ["flip"] * 30 + ["truncate"] * 10:
        save_model(tmp_path, tensors(3), META)
        before = load_model(tmp_path)[0]
        damage(tmp_path / name, how, draw)
        try:
            assert load_model(tmp_path)[0] == before  # a bit of the JSON's layout
        except WtlError as error:
            assert str(tmp_path) in str(error)


def test_an_edited_config_is_noticed(tmp_path: Path) -> None:
    save_model(tmp_path, tensors(3), META)
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace('"width": 8', '"width": 9'))
    with pytest.raises(WtlError, match=r"model.json is not what was written"):
        load_model(tmp_path)


def crafted(content: bytes, directory: Path) -> None:
    """A model whose hashes are right and whose tensors are not: made by someone who read this source."""
    save_model(directory, {}, META)
    meta = json.loads((directory / "model.json").read_text())
    meta.pop("sha256")
    meta["tensors_sha256"] = checkpoint._sha(content)
    meta["sha256"] = checkpoint._sha(checkpoint.canonical_json(meta).encode())
    (directory / "model.json").write_text(json.dumps(meta))
    (directory / "model.safetensors").write_bytes(content)


HUGE_SHAPE = json.dumps({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()


MANY = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}
MANY_NAMES = json.dumps(MANY).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95pickle",
        struct.pack("<Q", 2**62),
        struct.pack("<Q", len(MANY_NAMES)) + MANY_NAMES,
        struct.pack("<Q", len(HUGE_SHAPE)) + HUGE_SHAPE,
    ],
    ids=["empty", "pickle", "endless header", "100,000 tensors", "terabytes"],
)
def test_malicious_tensors_are_refused(tmp_path: Path, content: bytes) -> None:
    crafted(content, tmp_path)
    with pytest.raises(WtlError, match=r"model\.safetensors"):
        load_model(tmp_path)
