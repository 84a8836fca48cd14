"""Every learner: what its loss sees, what its policies do, and that saving loses nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from watchtrylearn.data.batches import collate, gather, stack
from watchtrylearn.data.sampling import PairIndex
from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.learners import learner_entry, load, make_learner
from watchtrylearn.learners.contextual import ContextualConfig
from watchtrylearn.learners.one_shot import OneShot, OneShotConfig
from watchtrylearn.learners.watch_try_learn import WatchTryLearn, WatchTryLearnConfig
from watchtrylearn.nn.blocks import signed_success
from watchtrylearn.nn.encoders import _levelled
from watchtrylearn.nn.target_net import NetConfig, TargetNet, make_encoder
from watchtrylearn.ops.random import generator
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import make_suite
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.training.fit import fit
from watchtrylearn.training.sources import FixedSource
from watchtrylearn.types import STATE, Context, Episode, Spec, WtlError

SMALL = NetConfig(width=16, hidden=(16,), code=8, chunk=3, execute=2, mixtures=2)
SUITE = make_suite("toy")
EMBEDDINGS = ("object", "flat", "transitions")
FAMILY = ("bc", "one_shot", "trials_only", "watch_try_learn")  # what shares the network with a choice of encoders
COMBINATIONS = [(name, embedding) for name in FAMILY for embedding in EMBEDDINGS] + [("contextual", "last_frame")]


@pytest.fixture(scope="module")
def demos() -> list[Episode]:
    return [SUITE.demonstrate(task, seed) for task in SUITE.tasks("train")[:16] for seed in range(4)]


@pytest.fixture(scope="module")
def trials(demos) -> list[Episode]:
    learner = make_learner("bc", SUITE.spec, learner_entry("bc").config(net=SMALL))
    worlds = SUITE.worlds([d.task for d in demos], [d.seed for d in demos])
    return rollout(learner.explore([Context()] * len(demos)), worlds)


def build(name: str, embedding: str = ""):
    embedding = embedding or ("last_frame" if name == "contextual" else "object")
    return make_learner(name, SUITE.spec, learner_entry(name).config(net=replace(SMALL, embedding=embedding)))


def small_net(embedding: str, spec: Spec = SUITE.spec) -> TargetNet:
    config = replace(SMALL, embedding=embedding)
    return TargetNet(config, spec, make_encoder(config, spec))


def batch_for(learner, episodes: list[Episode], size: int = 8):
    pairs = PairIndex(EpisodeTable.of(episodes), replace(learner.config.sampling, frames=3))
    return gather(stack(episodes, SUITE.spec), pairs.sample(generator("batch"), size))


@pytest.mark.parametrize(("name", "embedding"), COMBINATIONS)
def test_the_loss_is_finite_reaches_every_trained_weight_and_falls(name, embedding, demos, trials):
    learner = build(name, embedding)
    learner.prepare(stack(demos, SUITE.spec))
    batch = batch_for(learner, demos + trials)
    trained = [p for p in learner.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, 1e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss, parts = learner.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert all(torch.isfinite(p) for p in parts.values())
    assert losses[-1] < losses[0]
    head = learner.retrial.head if isinstance(learner, WatchTryLearn) else learner.net.head
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


@pytest.mark.parametrize(("name", "embedding"), COMBINATIONS)
def test_a_saved_and_loaded_learner_acts_the_same(name, embedding, demos, trials, tmp_path):
    learner = build(name, embedding)
    learner.prepare(stack(demos, SUITE.spec))
    pairs = PairIndex(EpisodeTable.of(demos + trials), replace(learner.config.sampling, frames=3))
    store = stack(demos + trials, SUITE.spec)
    plan = TrainConfig(steps=3, batch_size=4, threads=1)
    source = FixedSource(lambda rng: gather(store, pairs.sample(rng, 4)))
    fit(learner, source, plan, tmp_path / name, data={})
    contexts = [Context(demos=(demos[0],)), Context(demos=demos[4:6], trials=trials[4:7])]
    assert torch.equal(*(acts(one, contexts) for one in (learner, load(tmp_path / name))))


def acts(learner, contexts) -> torch.Tensor:
    return acts_of(learner.explore(contexts))


def acts_of(policy) -> torch.Tensor:
    policy.reset([generator("world", i) for i in range(policy.worlds)])
    worlds = SUITE.worlds([SUITE.tasks("test")[0]] * policy.worlds, range(policy.worlds))
    observation, _ = worlds.reset()
    return torch.from_numpy(np.stack([policy.act(observation) for _ in range(4)]))


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_absent_episodes_change_nothing(embedding, demos, trials):
    net = small_net(embedding)
    alone = Context(demos=(demos[0],), trials=(trials[0],))
    crowd = Context(demos=demos[:3], trials=trials[:4])
    scene = {name: torch.from_numpy(value[:1]) for name, value in demos[1].observation.items()}
    one = net.infer(collate([alone], SUITE.spec), scene)
    both = net.infer(collate([alone, crowd], SUITE.spec), {name: value.expand(2, -1) for name, value in scene.items()})
    torch.testing.assert_close(both.target_logits[:1], one.target_logits)
    torch.testing.assert_close(both.embedding[:1], one.embedding)


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_trials_are_a_set_and_their_outcomes_matter(embedding, demos, trials):
    net = small_net(embedding)
    scene = {name: torch.from_numpy(value[:1]) for name, value in demos[1].observation.items()}

    def embed(*shown: Episode) -> torch.Tensor:
        return net.infer(collate([Context(demos[:1], shown)], SUITE.spec), scene).embedding

    torch.testing.assert_close(embed(trials[0], trials[1]), embed(trials[1], trials[0]))
    flipped = replace(trials[0], success=not trials[0].success)
    assert not torch.allclose(embed(trials[0]), embed(flipped))


def test_outcomes_are_plus_and_minus_one_and_zero_where_hidden_or_absent(trials):
    yes, no = (replace(trials[0], success=success) for success in (True, False))
    contexts = [Context(trials=(yes, no)), Context(trials=(yes, no), hidden=True), Context()]
    found = signed_success(collate(contexts, SUITE.spec).trials)
    assert torch.equal(found, torch.tensor([[1.0, -1.0], [0.0, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_a_hidden_outcome_makes_no_difference(embedding, demos, trials):
    net = small_net(embedding)
    scene = {name: torch.from_numpy(value[:1]) for name, value in demos[1].observation.items()}

    def embed(success: bool, hidden: bool) -> torch.Tensor:
        context = Context(demos[:1], (replace(trials[0], success=success),), hidden)
        return net.infer(collate([context], SUITE.spec), scene).embedding

    assert torch.equal(embed(True, hidden=True), embed(False, hidden=True))
    for told in (True, False):
        assert not torch.allclose(embed(told, hidden=False), embed(told, hidden=True))


def test_a_policy_that_is_told_the_target_looks_for_no_other(demos, trials):
    learner = build("watch_try_learn")
    for shown in (Context(demos[:1]), Context(demos[:1], trials[:1])):
        made = [acts_of(learner.adapt_told([shown] * 2, [target, 1])) for target in (0, 1)]
        assert not torch.equal(made[0][:, 0], made[1][:, 0])
        assert torch.equal(made[0][:, 1], made[1][:, 1])
        assert any(torch.equal(acts_of(learner.adapt([shown] * 2))[:, 0], told[:, 0]) for told in made)
    with pytest.raises(WtlError, match="one target per context is told, got 1 for 2 contexts"):
        learner.adapt_told([Context(demos[:1])] * 2, [0])


def test_transitions_are_told_relative_to_their_sizes_and_padding_is_no_step():
    values, exists = torch.randn(3, 7, 2), torch.ones(3, 7, 1)
    exists[0, 4:], exists[1, 1:], exists[2] = 0, 0, 0
    found = _levelled(values, exists)
    torch.testing.assert_close(_levelled(0.01 * values, exists), found)
    torch.testing.assert_close(found[0, :4].square().mean(0), torch.ones(2))
    torch.testing.assert_close(_levelled(values[:1, :4], exists[:1, :4]), found[:1, :4])
    assert not found[0, 4:].any()
    assert not found[2].any()


def test_a_trial_of_one_step_has_no_transition(demos, trials):
    net = small_net("transitions")
    scene = {name: torch.from_numpy(value[:1]) for name, value in demos[1].observation.items()}
    short = replace(
        trials[0],
        observation={name: values[:1] for name, values in trials[0].observation.items()},
        action=trials[0].action[:1],
        reward=trials[0].reward[:1],
    )
    none, one, two = (
        net.infer(collate([Context(demos[:1], shown)], SUITE.spec), scene).embedding
        for shown in ((), (short,), trials[:1])
    )
    torch.testing.assert_close(one, none)
    assert not torch.allclose(two, none)


@pytest.mark.parametrize(("name", "demo_matters", "trial_matters"), [
    ("bc", False, False), ("contextual", True, False),
    ("one_shot", True, False), ("trials_only", False, True), ("watch_try_learn", True, True),
])  # fmt: skip
def test_each_method_sees_its_own_part_of_the_context(name, demo_matters, trial_matters, demos, trials):
    learner = build(name)
    base = Context(demos=(demos[0],), trials=(trials[0],))
    other_demo = Context(demos=(demos[5],), trials=(trials[0],))
    other_trial = Context(demos=(demos[0],), trials=(trials[5],))
    assert torch.equal(acts(learner, [base]), acts(learner, [base]))
    assert torch.equal(acts(learner, [base]), acts(learner, [other_demo])) != demo_matters
    assert torch.equal(acts(learner, [base]), acts(learner, [other_trial])) != trial_matters


def test_the_demonstrators_actions_are_not_part_of_the_context(demos, trials):
    learner = build("watch_try_learn")
    secret = replace(demos[0], action=-demos[0].action)
    one, two = (acts(learner, [Context(demos=(d,), trials=(trials[0],))]) for d in (demos[0], secret))
    assert torch.equal(one, two)


def test_the_retrial_network_begins_as_the_trial_network_and_leaves_it_alone(demos, trials):
    one_shot, learner = build("one_shot"), build("watch_try_learn")
    assert isinstance(one_shot, OneShot)
    assert isinstance(learner, WatchTryLearn)
    one_shot.prepare(stack(demos, SUITE.spec))
    learner.start_from(one_shot)
    learner.loss(batch_for(learner, demos + trials))[0].backward()
    assert all(p.grad is None for p in learner.trial.parameters())
    for mine, theirs in zip(learner.trial.parameters(), one_shot.net.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    context = [Context(demos=(demos[0],))]
    assert torch.equal(acts(learner, context), acts(one_shot, context))


def test_without_a_warm_start_only_the_scaling_is_taken_over(demos):
    one_shot = make_learner("one_shot", SUITE.spec, OneShotConfig(net=SMALL), seed=0)
    config = WatchTryLearnConfig(net=SMALL, warm_start=False)
    learner, fresh = (make_learner("watch_try_learn", SUITE.spec, config, seed=1) for _ in range(2))
    one_shot.prepare(stack(demos, SUITE.spec))
    learner.start_from(one_shot)
    for name, value in learner.state_dict().items():
        part, _, rest = name.partition(".")
        taken = part == "trial" or rest.startswith("scaling")
        expected = one_shot.state_dict()[f"net.{rest}"] if taken else fresh.state_dict()[name]
        assert torch.equal(value, expected), name


def test_actions_survive_scaling_and_its_inverse(demos):
    for commands_state in (False, True):
        spec = replace(SUITE.spec, commands_state=commands_state)
        net = small_net("object", spec)
        store = stack(demos, spec)
        net.scaling.fit(store)
        state = store.observation[STATE]
        chunk = store.action[:, :3]
        there = net.scaling.chunk_in(chunk, state[:, 0])
        torch.testing.assert_close(net.scaling.chunk_out(there, state[:, 0]), chunk)
        ahead = net.scaling.action(store.action, state)[store.mask]
        torch.testing.assert_close(ahead.std(0), torch.ones(2), atol=0.05, rtol=0.0)


def test_mistakes_in_a_configuration_name_the_right_word():
    with pytest.raises(WtlError, match="did you mean 'object'"):
        NetConfig(embedding="objects")
    with pytest.raises(WtlError, match="did you mean 'one_shot'"):
        make_learner("oneshot", SUITE.spec)
    with pytest.raises(WtlError, match="between 1 and chunk"):
        NetConfig(chunk=2, execute=3)
    with pytest.raises(WtlError, match="use 'flat'"):
        small_net("object", replace(SUITE.spec, entities=0))
    with pytest.raises(WtlError, match=r"contextual embeds by 'last_frame' alone; net.embedding is 'flat'"):
        ContextualConfig(net=replace(SMALL, embedding="flat"))


@pytest.mark.parametrize("wrong", [
    {"code": 10**8}, {"width": 10**8}, {"layers": 10**7}, {"frames": 10**7}, {"hidden": (10**8,)},
    {"hidden": (8,) * 10**4}, {"mixtures": 10**8}, {"chunk": 10**8}, {"target_weight": math.nan}, {"code": -2},
])  # fmt: skip
def test_sizes_are_checked_before_anything_is_built(wrong):
    (name,) = wrong
    with pytest.raises(WtlError, match=f"net.{name} must"):
        NetConfig(**wrong)


def test_sizes_that_are_too_much_together_are_refused_before_anything_is_built():
    wide = NetConfig(hidden=(16384,) * 100)
    with pytest.raises(WtlError, match=r"one_shot would have 26,\d{3},\d{3},\d{3} numbers, more than"):
        make_learner("one_shot", SUITE.spec, OneShotConfig(wide))


def test_a_method_that_learns_from_trials_refuses_to_train_without_any(demos, trials):
    for name in ("trials_only", "watch_try_learn"):
        with pytest.raises(WtlError, match="nothing can be learned from trials"):
            PairIndex(EpisodeTable.of(demos), learner_entry(name).config().sampling)
        PairIndex(EpisodeTable.of(demos + trials), learner_entry(name).config().sampling)


def test_the_embedding_is_chosen_by_what_the_data_have():
    assert make_encoder(SMALL, SUITE.spec).name == "object"
    assert make_encoder(SMALL, replace(SUITE.spec, entities=0)).name == "flat"
    robot_alone = replace(SUITE.spec, observation={STATE: SUITE.spec.observation[STATE]}, entities=0, position=0)
    assert make_encoder(SMALL, robot_alone).name == "flat"


def test_a_policy_refuses_other_worlds_than_it_was_made_for(demos):
    policy = build("bc").adapt([Context(), Context()])
    with pytest.raises(WtlError, match="2 contexts but runs in 1"):
        policy.reset([generator("x")])


def test_specs_say_how_they_differ():
    other = replace(SUITE.spec, fps=20, entities=0)
    assert SUITE.spec.differences(other) == ["fps: 10, not 20", "entities: 2, not 0"]
    assert Spec.from_json(SUITE.spec.to_json()) == SUITE.spec
