"""One-shot imitation from images, all the way: recorded, stored, unpacked into a file, gathered, trained, evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixel_toy import CAMERA, SPEC, PixelToy
from watchtrylearn import learners
from watchtrylearn.data.batches import collate
from watchtrylearn.data.frames import load_memory
from watchtrylearn.data.sampling import Sampling
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.experiments.fitting import fit_method, looked_at
from watchtrylearn.experiments.plan import Method
from watchtrylearn.ops.mixture import chunk_log_likelihood
from watchtrylearn.protocol import Scene, evaluate
from watchtrylearn.suites.toy import STEP
from watchtrylearn.system.progress import Display
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.training.material import Material
from watchtrylearn.types import Batch, Context, ContextBatch, EpisodeBatch, Learner, Observation, Spec

SUITE = PixelToy()
PLAN = TrainConfig(steps=400, batch_size=32, learning_rate=2e-3, warmup=20, average=0.99)
MODES = 2  # ways to go on: the demonstration may leave two


@dataclass(frozen=True)
class PixelConfig:
    """``image_frames``: of a demonstration the first and the last. Now and then there is none to see."""

    width: int = 64
    image_frames: int = 2
    sampling: Sampling = field(default_factory=lambda: Sampling(demos=(1, 9), frames=5))


class PixelOneShot(nn.Module):
    """What the demonstration led to and what the camera shows now -> a mixture of moves."""

    name = "pixel_one_shot"

    def __init__(self, config: PixelConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        height, width, _ = spec.observation[CAMERA].shape
        area = ((height - 4) // 2 // 2) * ((width - 4) // 2 // 2)
        self.look = nn.Sequential(
            nn.Conv2d(3, 16, 4, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU(), nn.Flatten(),
            nn.Linear(16 * area, config.width),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.ReLU(), nn.Linear(2 * config.width, 128), nn.ReLU(), nn.Linear(128, MODES * (1 + spec.action.size))
        )

    def prepare(self, episodes: EpisodeBatch) -> None:
        assert not episodes.images

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(action of demo' | image, demo)."""
        logits, mean = self.moves(self.shown(batch.context), batch.seen[CAMERA])
        task = torch.arange(len(batch.frames), device=batch.frames.device)[:, None]
        action = batch.query.action[task, batch.frames][:, :, None] / STEP
        spread = mean.new_full((1, self.spec.action.size), -2.0)
        mask = torch.ones(action.shape[:-1], dtype=torch.bool, device=action.device)
        nll = -chunk_log_likelihood(logits, mean[..., None, :], spread, action, mask).mean()
        return nll, {"nll": nll}

    def adapt(self, contexts: Sequence[Context]) -> PixelPolicy:
        with torch.no_grad():
            return PixelPolicy(self, self.shown(collate(contexts, self.spec, self.config.image_frames)))

    def shown(self, context: ContextBatch) -> Tensor:
        """(task, feature): how the demonstration ends; zeros where there is none."""
        last = self.features(context.demos.images[CAMERA][:, 0, -1])
        return last * (context.demos.length[:, :1] > 0)

    def moves(self, shown: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mixture logits (task, frame, mode) and moves (task, frame, mode, act), in steps."""
        seen = self.features(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        out = self.head(torch.cat([shown[:, None].expand(-1, seen.shape[1], -1), seen], -1))
        return out[..., :MODES], out[..., MODES:].unflatten(-1, (MODES, -1))

    def features(self, images: Tensor) -> Tensor:
        """(image, height, width, RGB), uint8: here, and nowhere before, images become float."""
        found: Tensor = self.look(images.permute(0, 3, 1, 2).float() / 255)
        return found


class PixelPolicy:
    """The most likely move, again at every step."""

    def __init__(self, learner: PixelOneShot, shown: Tensor) -> None:
        self.learner, self.shown = learner, shown

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        """It draws nothing."""

    @torch.no_grad()
    def act(self, observation: Observation) -> np.ndarray:
        logits, moves = self.learner.moves(self.shown, torch.from_numpy(observation[CAMERA])[:, None])
        best = moves[torch.arange(len(moves)), 0, logits[:, 0].argmax(-1)]
        return STEP * best.numpy().clip(-1, 1)


class Blind:
    """The same network, and nothing to see before it acts."""

    name, spec = "blind", SPEC

    def __init__(self, learner: PixelOneShot) -> None:
        self.learner = learner

    def adapt(self, contexts: Sequence[Context]) -> PixelPolicy:
        return self.learner.adapt([Context() for _ in contexts])


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learner]:
    """As one more row of the table of learners, trained from a dataset whose images are read from the file of frames,
    and loaded again."""
    folder = tmp_path_factory.mktemp("pixels")
    jobs = [(task, seed) for task in SUITE.tasks("train") for seed in range(8)]
    with EpisodeStore.create(folder / "demos", SPEC, SUITE.name) as store:
        store.append(SUITE.demonstrations([task for task, _ in jobs], [seed for _, seed in jobs]))
    entry = learners.LearnerEntry(PixelOneShot.name, PixelOneShot, PixelConfig, "one-shot from images", "from images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learners, "LEARNERS", (*learners.LEARNERS, entry))
        method = Method(PixelOneShot.name, train=PLAN)
        memory = load_memory([store], looked_at(method, SPEC), images_in_memory=0)
        assert list((folder / "demos" / "cache").glob("camera-*.frames"))
        material = Material(SPEC, memory, (), None, method.train.batch_size, seed=0)
        fit_method(method, material, folder / "trained", {"demos": store.digest()}, Display(quiet=True))
        yield learners.load(folder / "trained")


def rates(method: PixelOneShot | Blind) -> Mapping[str, float]:
    """Success in held-out tasks: over all scenes, and apart where the readings of the demonstration agree or not."""
    scenes = [
        Scene(task, tuple(SUITE.demonstrations([task], [1000 + j // 2])), 2000 + j)
        for task in SUITE.tasks("test")
        for j in range(24)
    ]
    attempts = evaluate(method, SUITE, scenes, trials=0)
    success = np.array([a.episode.success for a in attempts])
    conflict = np.array([SUITE.toy.conflict(s.task, s.demos[0].seed, s.seed) for s in scenes])
    assert conflict.mean() == 0.5
    return {"all": success.mean(), "agree": success[~conflict].mean(), "conflict": success[conflict].mean()}


def test_one_demonstration_in_images_is_worth_what_it_says(learner: Learner) -> None:
    """The best possible is 3/4: everything where both readings agree, half where they do not. Blind it is 1/2."""
    assert isinstance(learner, PixelOneShot)
    seen, blind = rates(learner), rates(Blind(learner))
    assert seen["agree"] > 0.9
    assert 0.35 < seen["conflict"] < 0.65
    assert blind["all"] < 0.6
    assert seen["all"] > blind["all"] + 0.15
