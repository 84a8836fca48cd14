"""MIL: what its loss and its steps are, against the paper's formulas; that it learns; and what it refuses."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from pixel_toy import CAMERA, PixelToy
from pixel_toy import SPEC as PIXELS
from watchtrylearn.data.batches import gather
from watchtrylearn.data.memory import EpisodeMemory
from watchtrylearn.data.sampling import PairIndex, Sampling
from watchtrylearn.learners import make_learner
from watchtrylearn.learners.mil import MIL, MILConfig, MILPolicy
from watchtrylearn.nn.policy_net import Eye, EyeConfig, PolicyNetConfig, spatial_soft_argmax
from watchtrylearn.ops.random import generator
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import make_suite
from watchtrylearn.system.config import from_json
from watchtrylearn.types import STATE, Batch, Channel, Context, ContextBatch, Episode, ImageChannel, Spec, WtlError

EYE = EyeConfig(filters=(4, 4), kernel=3, strides=(2, 2), image_bias=True)
SMALL = PolicyNetConfig(EYE, hidden=(12,), bias_transformation=3)
CONFIG = MILConfig(net=SMALL, learn_rates=False, clip="none", image_frames=3, sampling=Sampling(demos=(0, 1), frames=4))
TOY, PIXEL_TOY = make_suite("toy"), PixelToy()
ONE_HEAD = replace(SMALL, heads=1)


@pytest.fixture(scope="module")
def demos() -> list[Episode]:
    tasks = PIXEL_TOY.tasks("train")[:4]
    return PIXEL_TOY.demonstrations(tasks * 3, [seed for seed in range(3) for _ in tasks])


def built(config: MILConfig, demos: list[Episode], spec: Spec = PIXELS, double: bool = True) -> tuple[MIL, Batch]:
    """A learner, and a batch of four tasks for it."""
    learner = make_learner("mil", spec, config)
    memory = EpisodeMemory(spec, demos)
    learner.prepare(memory.numbers())
    batch = gather(memory, PairIndex(memory.table, config.sampling).sample(generator("b"), 4), config.image_frames)
    if not double:
        return learner, batch
    context = ContextBatch(batch.context.demos.map(_double), batch.context.trials.map(_double))
    return learner.double(), Batch(context, batch.query.map(_double), batch.frames)


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


# ------------------------------------------------------------------------------------------------- its formulas


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"net": ONE_HEAD, "inner_steps": 2, "learn_rates": True},
        {"modality": "video", "target_weight": 0.5},
        {"l1": 1.0, "l2": 0.01, "target_weight": 0.5, "clip": "element", "clip_at": 0.05},
    ],
    ids=["two heads", "one head, two steps, learned rates", "video", "l1, target, clipped"],
)
def test_the_gradient_of_the_loss_is_that_of_finite_differences(changed: dict, demos: list[Episode]) -> None:
    """Images, convolutions, normalisation and all, in 64 bits. (The spec's positions are made up.) Differences are
    small, since the gradient of the inner step jumps wherever a ReLU turns."""
    learner, batch = built(replace(CONFIG, **changed), demos, replace(PIXELS, position=2))
    parameters = [p for p in learner.parameters() if p.requires_grad]
    with torch.no_grad():  # away from the zeros that biases begin with
        for seed, parameter in enumerate(parameters):
            parameter += 0.05 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(seed), dtype=parameter.dtype
            )
    slopes = torch.autograd.grad(learner.loss(batch)[0], parameters)
    for seed in range(3):
        rng = torch.Generator().manual_seed(seed)
        direction = [torch.randn(p.shape, generator=rng, dtype=torch.float64) for p in parameters]
        ends = []
        for size in (1e-8, -2e-8, 1e-8):
            with torch.no_grad():
                for parameter, way in zip(parameters, direction, strict=True):
                    parameter += size * way
            ends.append(float(learner.loss(batch)[0].detach()))
        found = float(sum((s * way).sum() for s, way in zip(slopes, direction, strict=True)))
        assert found == pytest.approx((ends[0] - ends[1]) / 2e-8, rel=1e-5, abs=1e-6)


def test_the_updated_bias_is_the_papers_formula() -> None:
    """b~' = (W2 - alpha dL/dy z^T) (z - alpha W2^T dL/dy) + b - alpha dL/dy  (section 5), for y = W1 x + W2 z + b."""
    spec = Spec(
        10, 5, {STATE: Channel(("x",) * 3, (-9.0,) * 3, (9.0,) * 3)}, Channel(("a",) * 2, (-1.0,) * 2, (1.0,) * 2)
    )
    net = PolicyNetConfig(hidden=(4,), bias_transformation=2, heads=1)
    learner = make_learner("mil", spec, replace(CONFIG, net=net)).double()
    rng = torch.Generator().manual_seed(0)
    state, action = (torch.randn(1, size, generator=rng, dtype=torch.float64) for size in (3, 2))  # one frame
    weights = {n: torch.randn(p.shape, generator=rng, dtype=torch.float64) for n, p in learner.net.named_parameters()}
    demos = {"numbers": state[None], "action": action[None], "weight": torch.ones(1, dtype=torch.float64)}
    adapted, _ = learner.adapted({**weights, "log_rates": learner.log_rates.detach()}, demos)

    w, b, z, alpha = weights["hidden.0.weight"], weights["hidden.0.bias"], weights["bias"], 0.1
    w1, w2 = w[:, :3], w[:, 3:]
    y = (w1 @ state[0] + w2 @ z + b).requires_grad_()
    out = weights["head.weight"] @ y.relu() + weights["head.bias"]
    dy = torch.autograd.grad((out - action[0]).square().mean(), y)[0]
    wanted = (w2 - alpha * torch.outer(dy, z)) @ (z - alpha * w2.T @ dy) + b - alpha * dy
    found = adapted["hidden.0.weight"][:, 3:] @ adapted["bias"] + adapted["hidden.0.bias"]
    torch.testing.assert_close(found, wanted)
    assert (found - (w2 @ z + b)).abs().max() > 0.01


def test_one_head_is_two_tied_ones(demos: list[Episode]) -> None:
    """The head that acts is not moved by a step when there are two; one head that does not move is the same, and its
    gradient the sum of theirs."""
    body = ("eyes.0.conv", "eyes.0.image", "hidden", "bias")
    (one, batch), (two, _) = (built(replace(CONFIG, net=net, adaptable=body), demos) for net in (ONE_HEAD, SMALL))
    weights = one.net.state_dict()
    two.net.load_state_dict(weights | {f"head_before.{n}": weights[f"head.{n}"] for n in ("weight", "bias")})
    for learner in (one, two):
        loss, _ = learner.loss(batch)
        loss.backward()
        learner.found = loss.detach()
    torch.testing.assert_close(one.found, two.found)
    for name, parameter in one.net.named_parameters():
        wanted = two.net.get_parameter(name).grad
        if name.startswith("head."):
            wanted = wanted + two.net.get_parameter(name.replace("head", "head_before")).grad
        torch.testing.assert_close(parameter.grad, wanted)


def test_the_image_sized_bias_is_three_more_channels() -> None:
    """Computed once and added, it is the convolution of both together."""
    eye = Eye(replace(EYE, filters=(4,), strides=(2,), points=False), ImageChannel(9, 12)).double()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 9, 12, 3), dtype=np.uint8))
    with torch.no_grad():
        eye.image_bias += torch.randn(3, 9, 12, generator=torch.Generator().manual_seed(0))
        pictures = images.permute(0, 3, 1, 2) / 255.0
        both = torch.cat([pictures.double(), eye.image_bias.expand(2, -1, -1, -1)], 1)
        x = eye.convolutions[0](both)
        x = (x - x.mean((1, 2, 3), keepdim=True)) / (x.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        torch.testing.assert_close(eye(images), x.relu().flatten(1))


def test_a_soft_argmax_is_where_it_is_bright() -> None:
    activity = torch.zeros(1, 2, 3, 5)
    activity[0, 0, 0, 4] = activity[0, 1, 2, 0] = 50.0
    eye = Eye(replace(EYE, strides=(1, 1)), ImageChannel(3, 5))
    torch.testing.assert_close(spatial_soft_argmax(activity, eye.grid), torch.tensor([[1.0, -1.0, -1.0, 1.0]]))


@pytest.mark.parametrize("modality", ["full", "video+state", "video"])
def test_the_step_looks_at_what_the_modality_names_and_at_nothing_else(modality: str, demos: list[Episode]) -> None:
    """Whether the adapted weights change with the demonstration's actions, state and images."""
    learner, batch = built(replace(CONFIG, modality=modality), demos)
    shown = batch.context.demos

    def body(changed: object) -> Tensor:
        demos = {name: each[0] for name, each in learner.demonstrations(changed).items()}
        return learner.adapted(learner.parameters_by_name(), demos)[0]["hidden.0.weight"]

    as_shown, observation = body(shown), shown.observation
    changed = {
        "actions": replace(shown, action=shown.action + 0.1),
        "state": replace(shown, observation={STATE: observation[STATE] + 0.1}, action=shown.action),
        "images": replace(shown, images={CAMERA: 255 - shown.images[CAMERA]}),
    }
    told = [what for what, other in changed.items() if not torch.allclose(body(other), as_shown)]
    assert told == {"full": [*changed], "video+state": ["state", "images"], "video": ["images"]}[modality]


# ---------------------------------------------------------------------------------------------------- adapting


def test_adapting_averages_the_gradients_of_the_demonstrations(demos: list[Episode]) -> None:
    """theta' of two demonstrations is the mean of theirs; without any, theta; each context by itself."""
    learner, _ = built(CONFIG, demos)
    contexts = [Context([demos[0]]), Context([demos[4]]), Context([demos[0], demos[4]]), Context()]
    moved = learner.adapt(contexts).moved
    for name, each in moved.items():
        torch.testing.assert_close(each[2], (each[0] + each[1]) / 2)
        torch.testing.assert_close(each[3], learner.net.get_parameter(name).detach())
    assert not torch.allclose(moved["hidden.0.weight"][0], moved["hidden.0.weight"][1])


@pytest.mark.parametrize("target_weight", [0.0, 1.0])
def test_every_world_acts_with_its_own_weights(target_weight: float, demos: list[Episode]) -> None:
    """Against the network called by itself for each; a predicted target is the first frame's."""
    learner, _ = built(replace(CONFIG, target_weight=target_weight), demos, replace(PIXELS, position=2), double=False)
    policy = learner.adapt([Context([demos[0]]), Context([demos[5]])])
    policy.reset([])
    moments = [
        {name: np.stack([demos[1].observation[name][t], demos[2].observation[name][t]]) for name in PIXELS.observation}
        for t in (0, 3)
    ]
    found = [policy.act(moment) for moment in moments]
    for row in range(2):
        weights = dict(learner.net.named_parameters()) | {name: each[row] for name, each in policy.moved.items()}
        frames = [0, 3]
        episode = demos[1 + row]
        seen = torch.from_numpy(episode.observation[STATE][frames])
        inputs = (torch.from_numpy(episode.observation[CAMERA][frames]),), learner.scaling.state(seen)
        action = functional_call(learner.net, weights, inputs).action
        wanted = learner.scaling.chunk_out(action[:, None], seen)[:, 0].detach().numpy()
        bounds = PIXELS.action
        np.testing.assert_allclose(np.stack(found)[:, row], wanted.clip(bounds.low, bounds.high), atol=1e-5)


def test_a_step_that_explodes_is_left_out_in_training_and_adapting(demos: list[Episode], caplog) -> None:
    learner, batch = built(replace(CONFIG, loss_scale=1e9, inner_rate=1e9, inner_steps=3), demos, double=False)
    with caplog.at_level(logging.WARNING):
        policy = learner.adapt([Context([demos[0]])])
    assert "not finite" in caplog.text
    assert all(each.isfinite().all() for each in policy.moved.values())
    _, parts = learner.loss(batch)
    assert parts["skipped"] == 4


def test_a_policy_acts_in_worlds_without_cameras() -> None:
    tasks = TOY.tasks("test")[:3]
    learner = make_learner("mil", TOY.spec, replace(CONFIG, net=ONE_HEAD))
    shown = TOY.demonstrations(tasks, [0] * 3)
    policy = learner.adapt([Context([demo]) for demo in shown])
    assert isinstance(policy, MILPolicy)
    assert [len(e) > 0 and not e.diverged for e in rollout(policy, TOY.worlds(tasks, [1] * 3))] == [True] * 3


# ------------------------------------------------------------------------------------------------- what is refused


def test_without_actions_a_loss_must_be_learned() -> None:
    with pytest.raises(WtlError, match=r"modality 'video' has no actions.*net.heads=2"):
        MILConfig(net=ONE_HEAD, modality="video")


def test_a_demonstration_without_actions_is_refused_by_who_needs_them_and_no_other(demos: list[Episode]) -> None:
    silent = replace(demos[0], action=np.zeros((len(demos[0]), 0), np.float32))
    with pytest.raises(WtlError, match=r"the demonstration of \S+ in context 0 has no actions, and this mil looks"):
        built(CONFIG, demos)[0].adapt([Context([silent])])
    learner, _ = built(replace(CONFIG, modality="video+state"), demos)
    found, wanted = (learner.adapt([Context([demo])]).moved for demo in (silent, demos[0]))
    for name, each in found.items():
        torch.testing.assert_close(each, wanted[name])


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"net": {"eye": {"strides": [2]}}}, "eye.strides has one number for each of eye.filters, got 1 for 4"),
        ({"net": {"eye": {"kernel": 4}}}, "eye.kernel must be odd"),
        ({"modality": "sound"}, 'mil.modality must be full or video\\+state or video, got "sound"'),
        ({"inner_steps": 0}, "inner_steps must be between 1 and"),
    ],
)
def test_a_config_that_makes_no_sense_is_one_sentence(config: dict, sentence: str) -> None:
    with pytest.raises(WtlError, match=sentence):
        from_json(MILConfig, config, "mil")


def test_names_that_adapt_nothing_and_targets_that_nobody_knows_are_refused() -> None:
    with pytest.raises(WtlError, match="adaptable names no parameter of the network: hiden"):
        make_learner("mil", PIXELS, replace(CONFIG, adaptable=("hiden",)))
    with pytest.raises(WtlError, match="this suite's spec names no positions"):
        make_learner("mil", PIXELS, replace(CONFIG, target_weight=1.0))


@pytest.mark.parametrize("precision", ["bfloat16", "auto"])
def test_convolutions_of_lower_precision_find_nearly_the_same_gradient(precision: str, demos: list[Episode]) -> None:
    slopes = []
    for kind in ("float32", precision):
        net = replace(SMALL, eye=replace(EYE, precision=kind))
        learner, batch = built(replace(CONFIG, net=net), demos, double=False)
        loss, _ = learner.loss(batch)
        slopes.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(learner.net.parameters()))]))
    assert torch.cosine_similarity(slopes[0], slopes[1], dim=0) > 0.99
