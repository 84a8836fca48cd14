"""Damage any JSON file of a run, byte by byte or value by value: the right data or one sentence, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watchtrylearn import cli
from watchtrylearn.reporting import statistics
from watchtrylearn.reporting.documents import read_document

SMALL = [
    "demos_per_task=2", "tasks=4", "one_shot.tries=1", "bc.tries=1", "scenes=2", "eval_tasks=2",
    "attempts=1", "one_shot.train.steps=4", "watch_try_learn.train.steps=4", "net.hidden=[8]", "net.width=8",
    "net.code=8",
]  # fmt: skip
READERS = {  # a file of a run, and the command that reads it
    "experiment.json": ["report"],
    "seconds.json": ["report"],
    "results.json": ["report"],
    "one_shot/model.json": ["train", "watch_try_learn"],
    "trials/one_shot/made_by.json": ["train", "watch_try_learn"],
    "watch_try_learn/config.json": ["train", "watch_try_learn"],
    "watch_try_learn/metrics.jsonl": ["train", "watch_try_learn"],
    "watch_try_learn/tracker.json": ["train", "watch_try_learn"],
    "watch_try_learn/checkpoints/step-00000004/manifest.json": ["train", "watch_try_learn"],
    "watch_try_learn/checkpoints/step-00000004/state.json": ["train", "watch_try_learn"],
    "evaluation/one_shot/made_by.json": ["evaluate"],
}
DEEP = "[" * 100_000 + "]" * 100_000
VALUES = {  # what stands where something else is expected, as JSON text (some of it is none)
    "null": "null", "true": "true", "negative": "-1", "fraction": "0.5", "2**70": str(2**70), "10**400": str(10**400),
    "10**5000": "1" + "0" * 5000, "1e308": "1e308", "1e400": "1e400", "NaN": "NaN", "Infinity": "Infinity",
    "text": '"x"', "long text": f'"{"x" * 10**5}"', "escape": '"../../x"',
    "surrogate": '"\\ud800"', "zero": '"\\u0000"',
    "list": "[]", "group": "{}", "list of lists": "[[[1]]]", "nested": DEEP, "many": f"[{'1,' * 10**5}1]", "empty": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small run with a trial policy, a retrial policy, an evaluation and a report."""
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 99)
        patch.setenv("WTL_TRACKER", "trackio")
        patch.setitem(sys.modules, "trackio", MagicMock())
        assert cli.main(["record", "--preset", "debug", "--out", str(folder), "--set", *SMALL]) == 0
        for verb in (["train", "one_shot"], ["try"], ["train", "watch_try_learn"], ["evaluate"], ["report"]):
            assert cli.main([*verb, "--out", str(folder)]) == 0
        yield folder


def copy(finished: Path, work: Path) -> Path:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(finished, work, ignore=shutil.ignore_patterns("tensorboard", "report.html"))
    return work


def run_and_judge(name: str, finished: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Runs the reader of ``name``; one of two ends: one sentence and status 2, or status 0 and the right data."""
    capsys.readouterr()
    status = cli.main([*READERS[name], "--out", str(work)])
    told = capsys.readouterr().err
    assert status in (0, 2), told
    if status == 2:
        last = told.splitlines()[-1]
        assert last.startswith("wtl: ")
        assert len(last) < 2500
    elif READERS[name][0] == "train":
        model = "watch_try_learn/model.safetensors"
        assert (work / model).read_bytes() == (finished / model).read_bytes()
    elif READERS[name] == ["evaluate"]:
        assert read_document(work / "results.json")["rows"] == read_document(finished / "results.json")["rows"]
    else:
        assert (work / "report.html").exists()
    return status


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_another_kind_is_refused(
    name: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what in ("null", "10**5000", "NaN", "list", "group", "nested", "empty"):
        work = copy(finished, tmp_path / "run")
        (work / name).write_text(VALUES[what])
        status = run_and_judge(name, finished, work, capsys)
        harmless = name.startswith("watch_try_learn/checkpoints") or (what, name) in {
            ("group", "seconds.json"), ("empty", "watch_try_learn/metrics.jsonl")
        }  # fmt: skip
        assert status == 2 or harmless, what
    strange = [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path), lambda path: None]
    work = copy(finished, tmp_path / "run")
    (work / name).unlink()
    strange[list(READERS).index(name) % 4](work / name)
    run_and_judge(name, finished, work, capsys)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a JSON document, the whole of it last."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in below for place in places(inner, (*path, key))] + [path]


def changed(text: str, place: tuple[Any, ...], new: str) -> str:
    """The document with another value (JSON text) in one place."""
    document = json.loads(text)
    node = document
    for key in place[:-1]:
        node = node[key]
    if not place:
        return new
    node[place[-1]] = "@@here@@"
    return json.dumps(document, indent=2).replace('"@@here@@"', new)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_of_any_file_may_be_any_other(
    data: st.DataObject, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = data.draw(st.sampled_from(sorted(set(READERS) - {"watch_try_learn/metrics.jsonl"})))
    text = (finished / name).read_text()
    place = data.draw(st.sampled_from(places(json.loads(text))))
    new = data.draw(st.sampled_from(sorted(VALUES.values())))
    work = copy(finished, tmp_path / "run")
    (work / name).write_text(changed(text, place, new))
    run_and_judge(name, finished, work, capsys)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_byte_of_any_file_may_be_any_other(
    data: st.DataObject, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = data.draw(st.sampled_from(sorted(READERS)))
    content = bytearray((finished / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    how = data.draw(st.sampled_from(["change", "cut", "insert"]))
    byte = data.draw(st.integers(0, 255))
    end = {"change": at + 1, "insert": at, "cut": len(content)}[how]
    content[at:end] = b"" if how == "cut" else bytes([byte])
    work = copy(finished, tmp_path / "run")
    (work / name).write_bytes(content)
    run_and_judge(name, finished, work, capsys)


@pytest.mark.parametrize("out", ["x" * 5000, "/dev/null/x"])
@pytest.mark.parametrize("verb", [["report"], ["evaluate"], ["train", "bc"], ["demo", "--preset", "debug"]])
def test_a_directory_that_cannot_be(
    verb: list[str], out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*verb, "--out", out]) == 2
    assert capsys.readouterr().err.startswith("wtl: ")
