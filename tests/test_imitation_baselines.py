"""What MIL is compared with: random actions, the contextual policy from pixels, recurrent policies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pixel_toy import CAMERA, PixelToy
from pixel_toy import SPEC as PIXELS
from watchtrylearn.data.batches import gather, stack
from watchtrylearn.data.memory import EpisodeMemory
from watchtrylearn.data.sampling import PairIndex, Sampling
from watchtrylearn.experiments.fitting import fit_method
from watchtrylearn.experiments.plan import Method
from watchtrylearn.learners import load, make_learner
from watchtrylearn.learners.contextual import ContextualConfig
from watchtrylearn.learners.lstm import LSTMConfig
from watchtrylearn.learners.lstm_attention import LSTMAttentionConfig
from watchtrylearn.nn.policy_net import EyeConfig
from watchtrylearn.nn.target_net import NetConfig
from watchtrylearn.ops.random import generator
from watchtrylearn.protocol import Scene, evaluate
from watchtrylearn.suites import make_suite
from watchtrylearn.system.progress import Display
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.training.material import Material
from watchtrylearn.types import STATE, Context, Episode, WtlError

TOY, PIXEL_TOY = make_suite("toy"), PixelToy()
EYE = EyeConfig(filters=(4, 4), kernel=3, strides=(2, 2))
FEW = Sampling(demos=(0, 1), trials=(1,), frames=4)
NET = NetConfig(embedding="last_frame", hidden=(16,), code=8, chunk=2, execute=1, mixtures=1)
FROM_PIXELS = {
    "contextual": ContextualConfig(net=NET, sampling=FEW, image_frames=2, eye=EYE),
    "lstm": LSTMConfig(eye=EYE, hidden=(16,), units=8, image_frames=3, sampling=FEW),
}
FROM_STATE = {
    "contextual": ContextualConfig(net=NET, sampling=FEW),
    "lstm": LSTMConfig(hidden=(32, 32), units=32, image_frames=4, sampling=FEW),
    "lstm_attention": LSTMAttentionConfig(hidden=(32, 32), units=32, frames=4, sampling=FEW),
}


@pytest.fixture(scope="module")
def demos() -> list[Episode]:
    tasks = PIXEL_TOY.tasks("train")[:4]
    return PIXEL_TOY.demonstrations(tasks * 3, [seed for seed in range(3) for _ in tasks])


@pytest.mark.parametrize("name", FROM_PIXELS)
def test_the_loss_from_pixels_reaches_every_weight_and_falls(name: str, demos: list[Episode]) -> None:
    config = FROM_PIXELS[name]
    learner, memory = make_learner(name, PIXELS, config), EpisodeMemory(PIXELS, demos)
    learner.prepare(memory.numbers())
    batch = gather(memory, PairIndex(memory.table, FEW).sample(generator("b"), 8), config.image_frames)
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss, _ = learner.loss(batch)
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in learner.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", FROM_PIXELS)
def test_the_images_of_the_demonstration_and_of_the_present_count(name: str, demos: list[Episode]) -> None:
    learner = make_learner(name, PIXELS, FROM_PIXELS[name])
    other = replace(demos[0], observation={**demos[0].observation, CAMERA: 255 - demos[0].observation[CAMERA]})
    now = {name: each[:1] for name, each in demos[1].observation.items()}
    then = {**now, CAMERA: 255 - now[CAMERA]}
    found = []
    for demo, seen in ((demos[0], now), (other, now), (demos[0], then)):
        policy = learner.adapt([Context([demo])])
        policy.reset([generator("w")])
        found.append(policy.act(seen))
    assert not np.allclose(found[0], found[1])
    assert not np.allclose(found[0], found[2])


@pytest.mark.parametrize("name", FROM_STATE)
def test_after_several_demonstrations_actions_are_averaged(name: str) -> None:
    """World by world, also where one world has more of them than another."""
    tasks = TOY.tasks("train")[:3]
    shown = TOY.demonstrations(tasks * 2, [0, 0, 0, 1, 1, 1])
    learner = make_learner(name, TOY.spec, FROM_STATE[name])
    learner.prepare(stack(shown, TOY.spec))
    now = {name: np.stack([each.observation[name][0] for each in shown[:2]]) for name in TOY.spec.observation}

    def acts(contexts: list[Context]) -> np.ndarray:
        policy = learner.adapt(contexts)
        policy.reset([generator("w", i) for i in range(2)])
        return policy.act(now)

    found = acts([Context(shown[:3]), Context([shown[4]])])
    alone = np.stack([acts([Context([demo])] * 2)[0] for demo in shown[:3]])
    np.testing.assert_allclose(found[0], alone.mean(0), atol=1e-6)
    np.testing.assert_allclose(found[1], acts([Context([shown[4]])] * 2)[1], atol=1e-6)
    assert np.ptp(alone, 0).max() > 1e-4


@pytest.mark.parametrize("name", ["lstm", "lstm_attention"])
def test_a_recurrent_policy_goes_where_the_demonstration_went(name: str, tmp_path: Path) -> None:
    """On the toy's marks, meant by what they are: wherever they lie. Blind it is half."""
    tasks, test = (
        [task for task in TOY.tasks(split) if task.family == "reference" and task["reading"] == "identity"]
        for split in ("train", "test")
    )
    jobs = [(task, seed) for task in tasks for seed in range(8)]
    memory = EpisodeMemory(TOY.spec, TOY.demonstrations([task for task, _ in jobs], [seed for _, seed in jobs]))
    train = TrainConfig(steps=200, learning_rate=1e-2, warmup=20, average=0.95, batch_size=32)
    method = Method(name, config=FROM_STATE[name], train=train)
    fit_method(method, Material(TOY.spec, memory, (), None, 32, seed=0), tmp_path, {}, Display(quiet=True))
    scenes = [Scene(task, (TOY.demonstrate(task, 1000 + j),), 2001 + 3 * j) for task in test for j in range(10)]
    attempts = evaluate(load(tmp_path), TOY, scenes, trials=0)
    assert np.mean([a.episode.success for a in attempts]) > 0.8


def test_random_actions_are_normal_and_cut_to_their_bounds_and_nothing_is_trained(tmp_path: Path) -> None:
    spec = replace(TOY.spec, action=replace(TOY.spec.action, low=(-9.0,) * 2, high=(1.0,) * 2))
    policy = make_learner("random", spec).adapt([Context()] * 2000)
    policy.reset([generator("r", i) for i in range(2000)])
    drawn = policy.act({STATE: np.zeros((2000, 2))})
    assert drawn.max() == 1.0
    assert np.mean(drawn == 1.0) == pytest.approx(0.159, abs=0.02)
    assert np.quantile(drawn, [0.16, 0.5]) == pytest.approx([-0.994, 0.0], abs=0.06)
    demos = TOY.demonstrations(TOY.tasks("train")[:2], [0, 0])
    material = Material(TOY.spec, EpisodeMemory(TOY.spec, demos), (), None, 2, seed=0)
    fit_method(Method("random", train=TrainConfig(steps=2)), material, tmp_path, {}, Display(quiet=True))
    assert load(tmp_path).name == "random"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(WtlError, match="lstm_attention attends to things, and this suite's observations list none"):
        make_learner("lstm_attention", PIXELS)
    with pytest.raises(WtlError, match="image_frames must be at least 2"):
        ContextualConfig(image_frames=1)
    silent = replace(TOY.demonstrate(TOY.tasks("train")[0], 0), action=np.zeros((4, 0), np.float32))
    with pytest.raises(WtlError, match="this lstm looks at them"):
        make_learner("lstm", TOY.spec).adapt([Context([silent])])
