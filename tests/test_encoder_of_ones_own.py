"""The network takes whatever encoder it is given: here one that looks at cameras, of which it knows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from pixel_toy import CAMERA, SPEC, PixelToy
from watchtrylearn.data.batches import gather
from watchtrylearn.data.memory import EpisodeMemory
from watchtrylearn.data.sampling import PairIndex, Sampling
from watchtrylearn.learners.plan_policy import PlanPolicy
from watchtrylearn.nn.blocks import mean_present
from watchtrylearn.nn.encoders import Belief, Encoder
from watchtrylearn.nn.scaling import Scaling
from watchtrylearn.nn.target_net import NetConfig, TargetNet, make_encoder
from watchtrylearn.nn.views import View
from watchtrylearn.ops.random import generator
from watchtrylearn.rollouts import rollout
from watchtrylearn.types import STATE, Context, ContextBatch, EpisodeBatch

SUITE = PixelToy()
CONFIG = NetConfig(hidden=(32,), code=8, chunk=2, execute=1, mixtures=1)


class Eyes(nn.Module):
    """A demonstration is its last picture; the head sees the present picture and where the robot is."""

    name = "eyes"
    size = 8 + SPEC.state_size

    def __init__(self, code: int) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Flatten(-3), nn.Linear(SPEC.observation[CAMERA].size, 8), nn.ReLU())
        self.code = nn.Linear(8, code)

    @property
    def view(self) -> View:
        return self

    def forward(self, context: ContextBatch, scene: Mapping[str, Tensor], scaling: Scaling) -> Belief:
        assert scene[CAMERA].dtype == torch.uint8
        code = mean_present(self.code(self.look(context.demos.images[CAMERA][:, :, -1] / 255)), context.demos)
        return Belief(code.new_zeros(len(code), 1), code)

    def target_of(self, query: EpisodeBatch) -> Tensor:
        return torch.zeros_like(query.length)

    def features(self, observation: Mapping[str, Tensor], target: Tensor, scaling: Scaling) -> Tensor:
        return torch.cat([self.look(observation[CAMERA] / 255), scaling.state(observation[STATE])], -1)


def test_an_encoder_that_looks_at_cameras_is_trained_and_acts() -> None:
    tasks = SUITE.tasks("train")[:8]
    demos = SUITE.demonstrations(tasks * 4, [seed for seed in range(4) for _ in tasks])
    memory = EpisodeMemory(SPEC, demos)
    net = TargetNet(CONFIG, SPEC, Eyes(CONFIG.code))
    assert isinstance(net.encoder, Encoder)
    net.scaling.fit(memory.numbers())
    index = PairIndex(memory.table, Sampling(frames=3))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for step in range(30):
        batch = gather(memory, index.sample(generator("own", step), 16))
        belief = net.infer(batch.context, batch.scene)
        loss = net.action_nll(belief, net.target_of(batch.query), batch)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in net.encoder.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    policy = PlanPolicy(net, [Context(demos=[demo]) for demo in demos[:3]])
    episodes = rollout(policy, SUITE.worlds(tasks[:3], [9, 9, 9]))
    assert [len(e) > 0 and not e.diverged for e in episodes] == [True] * 3


def test_a_network_that_looks_at_numbers_alone_needs_no_pictures() -> None:
    """Neither of what it was shown nor of what there is to see: it is given none, and asks for none."""
    tasks = SUITE.tasks("train")[:3]
    demos = SUITE.demonstrations(tasks, [0, 1, 2])
    unseen = [replace(d, observation={STATE: d.observation[STATE]}, final={STATE: d.final[STATE]}) for d in demos]
    net = TargetNet(CONFIG, SPEC, make_encoder(CONFIG, SPEC))
    worlds = SUITE.worlds(tasks, [9, 9, 9])
    policies = [PlanPolicy(net, [Context([d], [d]) for d in shown]) for shown in (demos, unseen)]
    assert [policy.context.demos.images for policy in policies] == [{}, {}]
    one, two = (rollout(policy, worlds) for policy in policies)
    assert all((a.action == b.action).all() for a, b in zip(one, two, strict=True))
    policies[0].reset([generator(i) for i in range(3)])
    assert policies[0].act({STATE: np.zeros((3, 2), np.float32)}).shape == (3, SPEC.action.size)
