"""Losses and policies compute where their parameters are, and give the numbers of the CPU.

There is no GPU here: ``pretend_device`` stands in for one. Nothing has been run on a real one yet.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pretend_device import AT, Elsewhere, pretending
from test_learner_numbers import COMBINATIONS, SMALL, SUITE, episodes
from watchtrylearn.data.batches import gather, stack
from watchtrylearn.data.sampling import PairIndex
from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.learners import learner_entry, load, make_learner
from watchtrylearn.ops.random import generator
from watchtrylearn.system.signals import Interrupted
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.training.fit import fit
from watchtrylearn.training.sources import FixedSource
from watchtrylearn.types import Batch, Context, Explorer, Learner, Policy, Tellable, WtlError


def test_the_pretend_device_refuses_what_a_real_one_refuses() -> None:
    with pretending() as device:
        there, here = torch.arange(3.0).to(device), torch.arange(3.0)
        assert isinstance(torch.zeros(2, device=device), Elsewhere)
        assert torch.equal((there + 1).cpu(), here + 1)
        assert torch.equal(there[torch.tensor([2, 0])].cpu(), torch.tensor([2.0, 0.0]))
        for mixed in (lambda: there + here, lambda: torch.cat([there, here]), lambda: torch.where(there > 1, here, 0)):
            with pytest.raises(RuntimeError, match="mixes tensors"):
                mixed()
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        weight = torch.nn.Linear(3, 1).to(device).weight
        (weight * there).sum().backward()
        assert isinstance(weight.grad, Elsewhere)


@pytest.mark.parametrize(("name", "embedding"), COMBINATIONS)
def test_a_learner_moves_with_all_it_makes(name: str, embedding: str) -> None:
    learner, batch = prepared(name, embedding)
    losses, actions = [], []
    for device in ("cpu", AT):
        with pretending():
            loss, parts = learner.to(device).loss(batch.to(device))
            loss.backward()
            assert all(part.device == loss.device for part in parts.values())
            for _, parameter in learner.named_parameters():
                assert parameter.grad is None or parameter.grad.device == torch.device(device)
            losses.append(loss.item())
            actions.append([acts(policy) for policy in policies(learner)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    np.testing.assert_allclose(*actions, atol=1e-5)  # attention without gradients has a kernel of its own on the CPU


def test_training_elsewhere_ends_with_the_same_weights_and_they_are_read_here(tmp_path: Path) -> None:
    """It is stopped once, and goes on from its checkpoint."""
    plan, found = TrainConfig(steps=6, batch_size=8), []
    for device in ("cpu", AT):
        directory = tmp_path / torch.device(device).type
        for stops in ([False, False, True], [False] * 9):
            learner, batch = prepared("one_shot", "object")
            source = FixedSource(lambda _, batch=batch: batch)
            with pretending(), suppress(Interrupted):
                fit(learner, source, plan, directory, {}, should_stop=iter(stops).__next__, device=device)
        found.append(load(directory).state_dict())
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, rtol=1e-4, atol=1e-5)


def prepared(name: str, embedding: str) -> tuple[Learner, Batch]:
    demos, trials = episodes()
    learner = make_learner(
        name, SUITE.spec, learner_entry(name).config(net=replace(SMALL, embedding=embedding)), seed=3
    )
    store = stack(demos + trials, SUITE.spec)
    learner.prepare(store)
    pairs = PairIndex(EpisodeTable.of(demos + trials), replace(learner.config.sampling, frames=3))
    return learner, gather(store, pairs.sample(generator("device"), 8))


def policies(learner: Learner) -> list[Policy]:
    """Every way to get one, before and after trials."""
    demos, trials = episodes()
    shown = [Context(demos[:1]), Context(demos[8:9])]
    tried = [shown[0].with_trial(trials[0]), shown[1].with_trial(trials[8])]
    assert isinstance(learner, Explorer)
    told = [learner.adapt_told(shown, [1, 0])] if isinstance(learner, Tellable) else []
    return [learner.adapt(shown), learner.adapt(tried), learner.explore(tried), *told]


def acts(policy: Policy) -> np.ndarray:
    """The first actions, each of which must come back as NumPy has it."""
    policy.reset([generator("world", i) for i in range(2)])
    worlds = SUITE.worlds(SUITE.tasks("test")[:2], [40, 41])
    observation, _ = worlds.reset()
    made = [policy.act(observation) for _ in range(3)]
    assert all(type(action) is np.ndarray for action in made)
    return np.stack(made)


def test_fit_refuses_a_device_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    learner, source = make_learner("bc", SUITE.spec), FixedSource(lambda rng: None)
    with pytest.raises(WtlError, match="device cuda: torch finds no CUDA device here"):
        fit(learner, source, TrainConfig(), tmp_path, {}, device="cuda")
    assert not any(tmp_path.iterdir())
