"""A retrial network that is told which trials were made here, and one that is not built as the trial network is."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
import torch

from toy_learners import Random
from watchtrylearn.data.batches import collate, gather, stack
from watchtrylearn.data.sampling import PairIndex, Sampling
from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.experiments import experiment
from watchtrylearn.experiments.plan import as_json
from watchtrylearn.experiments.presets import AUTHORS, read_experiment
from watchtrylearn.learners import load, make_learner
from watchtrylearn.learners.one_shot import OneShot, OneShotConfig
from watchtrylearn.learners.watch_try_learn import WatchTryLearn, WatchTryLearnConfig
from watchtrylearn.nn.encoders import closeness
from watchtrylearn.nn.target_net import NetConfig, TargetNet, make_encoder
from watchtrylearn.ops.random import generator
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import make_suite
from watchtrylearn.system.config import from_json
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.training.fit import fit
from watchtrylearn.training.sources import FixedSource
from watchtrylearn.types import ENVIRONMENT, STATE, Batch, Context, Episode, WtlError

SUITE = make_suite("toy")
SMALL = NetConfig(embedding="object", width=16, hidden=(16,), code=8, chunk=3, execute=2, mixtures=1)
OWN = NetConfig(embedding="flat", hidden=(8,), code=8, chunk=3, execute=1, mixtures=1, squared_error=True)


@cache
def episodes() -> tuple[list[Episode], list[Episode]]:
    demos = [SUITE.demonstrate(task, seed) for task in SUITE.tasks("train")[:4] for seed in range(4)]
    worlds = SUITE.worlds([d.task for d in demos], [d.seed for d in demos])
    return demos, rollout(Random().adapt([Context()] * len(demos)), worlds)


def network(config: NetConfig) -> TargetNet:
    torch.manual_seed(0)
    net = TargetNet(config, SUITE.spec, make_encoder(config, SUITE.spec))
    net.scaling.fit(stack(episodes()[0], SUITE.spec))
    return net


def examples(sampling: Sampling) -> Batch:
    demos, trials = episodes()
    pairs = PairIndex(EpisodeTable.of(demos + trials), sampling)
    return gather(stack(demos + trials, SUITE.spec), pairs.sample(generator("batch"), 16))


# ------------------------------------------------------------------------------------- which trials were made here


def test_things_that_lie_where_they_lay_are_told_from_things_that_do_not() -> None:
    now = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(closeness(now, now), torch.ones(5, 3))
    nudged = closeness(now + torch.tensor([0.02, 0.0]), now)  # a fifth of the scale
    assert torch.allclose(nudged, torch.exp(torch.tensor(-0.04)).expand(5, 3))
    assert (closeness(now + 1.0, now) < 1e-6).all()


def test_what_a_network_is_told_of_the_scene_counts_in_the_trials_scene_and_nowhere_else() -> None:
    net, told = network(SMALL), network(replace(SMALL, compare_scenes=True))
    told.load_state_dict(net.state_dict(), strict=False)  # but for what it makes of being told
    demos, trials = episodes()
    context = collate([Context(demos[:1], trials[1:2])], SUITE.spec)
    here = {name: torch.from_numpy(value[:1]) for name, value in trials[1].observation.items()}
    far = here | {ENVIRONMENT: here[ENVIRONMENT] + 10 * net.scaling.environment_std}

    def differs(scene: dict[str, torch.Tensor], shown: object = context) -> bool:
        found, plain = (one.infer(shown, scene) for one in (told, net))
        return not torch.equal(found.target_logits, plain.target_logits)

    assert differs(here)
    assert not differs(far)
    assert not differs(here, collate([Context(demos[:1])], SUITE.spec))  # there is no trial to be told of


# ------------------------------------------------------------------------------------------------ the squared error


def test_the_squared_error_is_the_mean_over_every_number_that_was_commanded() -> None:
    net, batch = network(OWN), examples(Sampling(demos=(0, 1), trials=(0, 1), frames=4))
    belief, target = net.infer(batch.context, batch.scene), net.target_of(batch.query)
    _, mean = net.actions(belief, target, batch.seen, batch.frames / SUITE.spec.horizon)
    errors = []
    for row in range(len(batch.frames)):
        for column, frame in enumerate(batch.frames[row].tolist()):
            ahead = batch.query.action[row, frame : min(frame + OWN.chunk, int(batch.query.length[row]))]
            wanted = net.scaling.chunk_in(ahead, batch.seen[STATE][row, column])
            errors.append((mean[row, column, 0, : len(ahead)] - wanted).square().flatten())
    torch.testing.assert_close(net.action_nll(belief, target, batch), torch.cat(errors).mean())
    assert net.log_std is None
    with pytest.raises(WtlError, match=r"net\.mixtures must be 1, got 5"):
        NetConfig(squared_error=True)


# --------------------------------------------------------------------------------------- another network for retrials


def test_a_retrial_network_of_its_own_begins_fresh_learns_and_is_read_back(tmp_path: Path) -> None:
    config = WatchTryLearnConfig(SMALL, warm_start=False, retrial=OWN)
    one_shot = make_learner("one_shot", SUITE.spec, OneShotConfig(SMALL))
    learner = make_learner("watch_try_learn", SUITE.spec, config)
    assert isinstance(one_shot, OneShot)
    assert isinstance(learner, WatchTryLearn)
    demos, trials = episodes()
    one_shot.prepare(stack(demos, SUITE.spec))
    learner.start_from(one_shot)
    assert (learner.trial.encoder.name, learner.retrial.encoder.name) == ("object", "flat")
    batch = examples(replace(config.sampling, frames=4))
    before = learner.loss(batch)[0].item()
    fit(learner, FixedSource(lambda rng: batch), TrainConfig(steps=30, warmup=1, average=0.0), tmp_path / "w", data={})
    read = load(tmp_path / "w")
    assert read.loss(batch)[0].item() < before
    assert read.config == config
    contexts = [Context(demos[:1]), Context(demos[:1], trials[:1])]
    for context in contexts:
        policy = read.adapt([context])
        assert policy.net.config is (read.config.retrial if context.trials else read.config.net)
        rollout(policy, SUITE.worlds([demos[0].task], [99]))


def test_a_retrial_network_of_its_own_cannot_be_a_copy_or_have_other_chunks() -> None:
    with pytest.raises(WtlError, match="warm_start must be false"):
        WatchTryLearnConfig(SMALL, retrial=OWN)
    with pytest.raises(WtlError, match="chunk must be that of net, 3, got 1"):
        WatchTryLearnConfig(SMALL, warm_start=False, retrial=replace(OWN, chunk=1, execute=1))


def test_a_config_of_before_is_read_as_what_it_was() -> None:
    stored = asdict(WatchTryLearnConfig(SMALL))
    del stored["retrial"], stored["net"]["compare_scenes"], stored["net"]["squared_error"]
    assert from_json(WatchTryLearnConfig, stored, "model.json") == WatchTryLearnConfig(SMALL)
    assert "encoder.same" not in network(SMALL).state_dict()


def test_the_authors_network_is_in_the_full_table_and_can_be_set() -> None:
    plan = experiment("wtl-state", ["authors_retrial.retrial.hidden=[10]"])
    assert read_experiment(as_json(plan), "x") == plan
    trial, retrial = (plan.methods[name] for name in AUTHORS)
    assert retrial.needs == (AUTHORS[0], AUTHORS[0])
    assert not set(AUTHORS) & set(plan.main)
    assert retrial.config.net == trial.config.net
    assert retrial.config.retrial == replace(trial.config.net, mixtures=1, squared_error=True, hidden=(10,))
    with pytest.raises(WtlError, match=r"authors_retrial: retrial must be a group of options or null, got 3"):
        experiment("wtl-state", ["authors_retrial.retrial=3"])
