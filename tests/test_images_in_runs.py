"""A run whose images do not fit in memory together: it does every step, with a batch of episodes at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pixel_toy import CAMERA, SPEC, PixelToy
from test_pixels import PixelConfig, PixelOneShot, PixelPolicy
from watchtrylearn import cli, learners
from watchtrylearn.data import bounds
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.data.verify import verify
from watchtrylearn.experiments import evaluation, main_job, steps
from watchtrylearn.experiments.run import Run, open_run
from watchtrylearn.protocol import Attempt, Scene, evaluate
from watchtrylearn.suites import toy
from watchtrylearn.system.progress import Display
from watchtrylearn.types import Context, Episode, WtlError

SUITE = ["--suite", "pixel_toy:PixelToy"]
BATCH = 4
SETTINGS = [
    "seeing.main=true", "seeing.tries=1", "seeing.width=8", "net.embedding=flat", "net.hidden=[16]", "net.chunk=2",
    "net.execute=1", "train.steps=2", "train.batch_size=8", "one_shot.tries=1", "trials_only.main=false",
    "watch_try_learn.main=false", "bc.main=false", "tasks=4", "demos_per_task=3", "eval_tasks=2", "scenes=6",
    "attempts=1",
]  # fmt: skip


class Seeing(PixelOneShot):
    """It looks at images, tries, and is asked again after its trial."""

    name = "seeing"

    def explore(self, contexts: Sequence[Context]) -> PixelPolicy:
        return self.adapt(contexts)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of a camera suite, with memory for the images of one batch of episodes."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    entry = learners.LearnerEntry("seeing", Seeing, PixelConfig, "seeing", "from images", uses_trials=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learners, "LEARNERS", (*learners.LEARNERS, entry))
        patch.setattr(bounds, "MEMORY_LIMIT", BATCH * toy.STEPS * SPEC.observation[CAMERA].size)
        patch.setattr(steps, "BATCH", BATCH)
        patch.setattr(evaluation, "BATCH", BATCH)
        demo = ["demo", *SUITE, "--preset", "debug", "--out", str(folder), "--processes", "1"]
        assert cli.main([*demo, "--set", *SETTINGS]) == 0
        for explorer in ("seeing", "one_shot"):  # with images, and without
            assert cli.main(["try", "--policy", explorer, *SUITE, "--out", str(folder)]) == 0
        yield folder


@pytest.fixture
def run(out: Path) -> Iterator[Run]:
    with open_run(out, None, Display(quiet=True), suite=SUITE[1]) as opened:
        yield opened


def test_every_step_is_done_and_all_images_are_kept(out: Path, run: Run) -> None:
    sizes = {"demos": 12, "trials/seeing": 12, "trials/one_shot": 12, "evaluation/demos": 6, "evaluation/seeing": 24}
    for name, count in sizes.items():
        assert verify(out / name) == []
        store = EpisodeStore.open(out / name)
        assert len(store) == count
        with pytest.raises(WtlError, match="read fewer"):
            store.read()
        for episode in store:
            assert episode.observation[CAMERA].any()
    document = json.loads((out / "results.json").read_text())
    rows = {(r["method"], r["trials"]): r["n"] for r in document["rows"] if r["family"] == r["subset"] == "all"}
    assert rows == {("one_shot", 0): 12, ("seeing", 1): 12}
    assert (out / "report.html").exists()
    assert all(set(a.episode.observation) == {"state"} for a in main_job.attempts_of(run, ["seeing"]))


def test_what_is_evaluated_part_by_part_is_what_is_evaluated_at_once(run: Run) -> None:
    """The second route: every scene at once, after demonstrations that were never stored."""
    suite, scenes = PixelToy(), evaluation.evaluation_scenes(run)
    shown = [Scene(s.task, (suite.demonstrate(s.task, s.demos[0].seed),), s.seed) for s in scenes]
    expected = evaluate(learners.load(run.directory / "seeing"), suite, shown, trials=1)
    found = evaluation.evaluate_method(run, "seeing", scenes)
    assert [(a.scene.task, a.scene.seed, a.trials) for a in found] == [
        (a.scene.task, a.scene.seed, a.trials) for a in expected
    ]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.episode.action, theirs.episode.action, atol=1e-5)
    for some in (found[:3], found[-3:]):  # first attempts, retrials
        for ours in evaluation.unpacked_attempts(run, some):
            (theirs,) = (a for a in expected if (a.scene.seed, a.scene.task, a.trials) == key(ours))
            np.testing.assert_array_equal(ours.episode.observation[CAMERA][0], theirs.episode.observation[CAMERA][0])
            np.testing.assert_allclose(ours.episode.action, theirs.episode.action, atol=1e-5)


def key(attempt: Attempt) -> tuple[object, ...]:
    return attempt.scene.seed, attempt.scene.task, attempt.trials


def test_an_evaluation_that_was_cut_off_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = evaluation.evaluation_scenes(run)
    asked: list[int] = []

    def until(limit: int):
        def counted(*args, **options):
            if len(asked) == limit:
                raise KeyboardInterrupt
            asked.append(len(args[2]))
            return evaluate(*args, **options)

        return counted

    before = main_job.attempts_of(run, ["seeing"])
    first = [a for a in before if a.trials == 0]
    monkeypatch.setattr(evaluation, "evaluate", until(2))
    again = {"made": first, "outcome": "hidden"}
    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate_otherwise(run, "seeing-hidden", "seeing", scenes, 1, **again)
    store = run.stored("evaluation", "seeing-hidden")
    assert store is not None
    assert len(store) == sum(asked) < len(scenes)
    monkeypatch.setattr(evaluation, "evaluate", until(1000))
    found = evaluation.evaluate_otherwise(run, "seeing-hidden", "seeing", scenes, 1, **again)
    assert sum(asked) == len(scenes) == len(found)
    assert [a.scene.seed for a in found] == [s.seed for s in scenes]


def test_runs_that_were_shown_other_images_are_not_compared(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(out, tmp_path / "other")
    against = ["evaluate", *SUITE, "--out", str(out), "--against", str(other)]
    assert cli.main(against) == 0
    store = EpisodeStore.open(other / "evaluation" / "demos")
    episodes = list(store)
    episodes[3].observation[CAMERA][2, 0, 0] ^= 1
    shutil.rmtree(store.path)
    with EpisodeStore.create(store.path, SPEC, store.header.suite, executed=True) as changed:
        changed.append(episodes)
    capsys.readouterr()
    assert cli.main(against) == 2
    assert "the images of camera 'camera' in demonstration 3 of evaluation/demos differ" in capsys.readouterr().err


@pytest.mark.sim
def test_clips_are_of_episodes_with_their_images(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite may film what its own camera saw."""
    from watchtrylearn.experiments.clips import cards

    filmed: list[Sequence[Episode]] = []

    def film(self: PixelToy, episodes: Sequence[Episode], on_clip=None) -> list[np.ndarray]:
        filmed.append(episodes)
        return [np.repeat(np.repeat(e.observation[CAMERA], 2, 1), 2, 2) for e in episodes]

    monkeypatch.setattr(PixelToy, "film", film, raising=False)
    opened = replace(run, experiment=replace(run.experiment, gallery=1))
    (card,) = cards(opened, main_job.attempts_of(run, ["seeing"]))
    assert [clip.label for clip in card.clips] == ["demonstration", "trial", "retrial"]
    assert len(filmed) == 1
