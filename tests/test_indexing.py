"""A method's config names the idea by which its examples are made: the type of its field ``sampling``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import watchtrylearn as wtl
import watchtrylearn.learners as table
from watchtrylearn.data.indices import SliceIndex, SliceSampling, TableIndex, TransitionIndex, TransitionSampling
from watchtrylearn.data.sampling import Indexing, PairIndex, Sampling, SceneIndex, SceneSampling
from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.experiments.fitting import fit_method
from watchtrylearn.experiments.plan import Method, as_json
from watchtrylearn.learners import LEARNERS, LearnerEntry
from watchtrylearn.system.progress import Display
from watchtrylearn.training.material import Material
from watchtrylearn.types import Batch, Context, EpisodeBatch, Loss, Policy, Spec, Transitions, WtlError

TOY = wtl.make_suite("toy")
SEEN: list[Any] = []


@dataclass(frozen=True)
class Listed:
    """An idea of a method's own: every demonstration is shown for itself."""

    frames: int = 2

    def index(self, table: EpisodeTable) -> TableIndex:
        rows = np.flatnonzero(table.is_demo)
        return TableIndex(table, rows[:, None], rows, self.frames)


@dataclass(frozen=True)
class OfPairs:
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class OfScenes:
    sampling: SceneSampling = field(default_factory=SceneSampling)


@dataclass(frozen=True)
class OfSlices:
    sampling: SliceSampling = field(default_factory=lambda: SliceSampling(query=2))


@dataclass(frozen=True)
class OfTransitions:
    sampling: TransitionSampling = field(default_factory=TransitionSampling)


@dataclass(frozen=True)
class OfAList:
    sampling: Listed = field(default_factory=Listed)


@dataclass(frozen=True)
class OfNothing:
    sampling: int = 3


class Watching(nn.Module):
    """A method that notes its batches."""

    name = "watching"

    def __init__(self, config: Any, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.number = nn.Parameter(torch.zeros(()))

    def prepare(self, episodes: EpisodeBatch) -> None: ...

    def loss(self, batch: Any) -> Loss:
        SEEN.append(batch)
        return self.number.square(), {}

    def adapt(self, contexts: Sequence[Context]) -> Policy:
        raise NotImplementedError


def trained(config: type, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The first batch of a method with this config, on two demonstrations in each of two scenes of a task."""
    entry = LearnerEntry("watching", Watching, config, "watching", "watching")
    monkeypatch.setattr(table, "LEARNERS", (*LEARNERS, entry))
    task = TOY.tasks("train")[0]
    demos = [replace(d, terms={}) for d in TOY.demonstrations([task] * 4, [0, 0, 1, 1])]
    material = Material(TOY.spec, wtl.EpisodeMemory(TOY.spec, demos), (), None, batch_size=16, seed=0)
    SEEN.clear()
    fit_method(Method("watching", train=wtl.TrainConfig(steps=1)), material, folder, {}, Display(quiet=True))
    return SEEN[0]


def test_a_scene_sampling_shows_what_was_done_in_the_same_scene(tmp_path: Path, monkeypatch) -> None:
    for config, same in ((OfPairs, False), (OfScenes, True)):
        batch = trained(config, tmp_path / config.__name__, monkeypatch)
        assert isinstance(batch, Batch)
        shown, asked = (e.observation["environment_state"] for e in (batch.context.demos, batch.query))
        assert bool((shown[:, 0, 0] == asked[:, 0]).all()) == same


def test_slices_transitions_and_an_idea_of_ones_own(tmp_path: Path, monkeypatch) -> None:
    slices = trained(OfSlices, tmp_path / "slices", monkeypatch)
    assert (slices.frames[:, 1] == slices.frames[:, 0] + 1).all()
    assert isinstance(trained(OfTransitions, tmp_path / "transitions", monkeypatch), Transitions)
    listed = trained(OfAList, tmp_path / "list", monkeypatch)
    assert torch.equal(listed.context.demos.action[:, 0], listed.query.action)


def test_a_sampling_that_builds_no_index_is_refused(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(WtlError, match="nothing says what watching is trained on: it has no `source`, and its config"):
        trained(OfNothing, tmp_path, monkeypatch)


@pytest.mark.parametrize(("sampling", "index"), [
    (Sampling(), PairIndex), (SceneSampling(), SceneIndex), (SliceSampling(2), SliceIndex),
    (TransitionSampling(), TransitionIndex), (Listed(), TableIndex),
])  # fmt: skip
def test_the_type_of_a_sampling_chooses_the_index(sampling: Indexing, index: type, monkeypatch) -> None:
    assert isinstance(sampling, Indexing)
    demos = TOY.demonstrations([TOY.tasks("train")[0]] * 4, [0, 0, 1, 1])
    assert type(sampling.index(EpisodeTable.of(demos))) is index


def test_what_had_been_watched_elsewhere_is_not_relabelled_where_demonstrations_are_of_the_scene() -> None:
    with pytest.raises(WtlError, match=r"sampling.relabelled must be 0 where demonstrations come from the query's own"):
        SceneSampling(relabelled=0.5)


def test_the_choice_goes_through_json(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = LearnerEntry("watching", Watching, OfSlices, "watching", "watching")
    monkeypatch.setattr(table, "LEARNERS", (*LEARNERS, entry))
    method = Method("watching", OfSlices(SliceSampling(3, 4)))
    assert Method.from_json(as_json(method), "x") == method
