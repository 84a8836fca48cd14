"""The maths by hand numbers, and two routes to one number."""

import math

import numpy as np
import torch

from watchtrylearn.nn.blocks import take_frames
from watchtrylearn.nn.views import _target_first
from watchtrylearn.ops.frames import spread_frames
from watchtrylearn.ops.interaction import acted_on, nearest_approach
from watchtrylearn.ops.mixture import chunk_log_likelihood, pick_component
from watchtrylearn.ops.random import generator


def test_one_standard_gaussian_step_has_the_textbook_density():
    value = chunk_log_likelihood(
        torch.zeros(1, 1),
        torch.zeros(1, 1, 1, 1),
        torch.zeros(1, 1),
        torch.full((1, 1, 1), 2.0),
        torch.ones(1, 1, dtype=torch.bool),
    )
    assert math.isclose(value.item(), -0.5 * math.log(2 * math.pi) - 2.0, rel_tol=1e-6)


def test_the_mixture_density_agrees_with_torch_distributions():
    torch.manual_seed(0)
    logits, mean, log_std = torch.randn(4, 3), torch.randn(4, 3, 5, 2), 0.3 * torch.randn(5, 2)
    action = torch.randn(4, 5, 2)
    ours = chunk_log_likelihood(logits, mean, log_std, action, torch.ones(4, 5, dtype=torch.bool))
    normal = torch.distributions.Normal(mean, log_std.exp())
    parts = torch.distributions.Independent(normal, 2)
    theirs = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=logits), parts)
    torch.testing.assert_close(ours, theirs.log_prob(action))


def test_masked_steps_do_not_count():
    torch.manual_seed(0)
    logits, mean, log_std = torch.randn(4, 3), torch.randn(4, 3, 5, 2), torch.zeros(1, 2)
    action = torch.randn(4, 5, 2)
    mask = torch.tensor([True, True, True, False, False]).expand(4, 5)
    short = chunk_log_likelihood(logits, mean[:, :, :3], log_std, action[:, :3], mask[:, :3])
    torch.testing.assert_close(chunk_log_likelihood(logits, mean, log_std, action, mask), short)


def test_components_are_picked_by_their_weights():
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).expand(4, 3)
    picked = pick_component(logits, torch.tensor([0.1, 0.25, 0.69, 0.71]))
    assert picked.tolist() == [0, 1, 1, 2]
    assert pick_component(logits, None).tolist() == [1, 1, 1, 1]
    assert pick_component(logits, torch.tensor([0.9999999] * 4)).tolist() == [2, 2, 2, 2]


def test_the_nearest_entity_is_the_one_acted_on_and_padding_is_nowhere_near():
    effector = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]]])
    entity = torch.tensor([[[0.0, 1.0], [1.0, 0.5]], [[0.0, 1.0], [1.0, 0.5]], [[5.0, 5.0], [9.0, 9.0]]])[None]
    mask = torch.tensor([[True, True, False]])
    torch.testing.assert_close(nearest_approach(effector, entity, mask), torch.tensor([[1.0, 0.5]]))
    assert acted_on(effector, entity, mask).tolist() == [1]


def test_spread_frames_hold_both_ends_of_every_episode():
    index = spread_frames(torch.tensor([1, 5, 50, 0]), 4)
    assert index.tolist() == [[0, 0, 0, 0], [0, 1, 3, 4], [0, 16, 33, 49], [0, 0, 0, 0]]
    values = torch.arange(50.0)[None, :, None]
    assert take_frames(values, torch.tensor([[0, 49]])).flatten().tolist() == [0.0, 49.0]


def test_the_target_comes_first_and_the_others_keep_their_order():
    assert _target_first(torch.tensor([0, 2, 3]), 4).tolist() == [[0, 1, 2, 3], [2, 0, 1, 3], [3, 0, 1, 2]]


def test_a_generator_is_a_function_of_its_keys():
    def draw(*keys: str | int) -> float:
        return float(generator(*keys).random())

    assert draw("scene", 1) == draw("scene", 1)
    keys = [("scene", 1), ("scene", "1"), ("scene1",), (1, "scene"), ("scene", 2)]
    assert len({draw(*k) for k in keys}) == len(keys)
    assert np.isclose(generator("a").random(20_000).mean(), 0.5, atol=0.02)
