"""A recurrent network reads the demonstration; what it remembers is told to the policy at every step.

Paper: the "LSTM" baseline of MIL (Finn et al. 2017, section 6), after Duan et al. 2017 (One-Shot Imitation Learning,
arXiv 1703.07326, the plain LSTM of their particle reaching): an LSTM of 512 units reads the demonstration, and its last
state beside the current observation goes through hidden layers to the action.

What is different here: docs/learners/lstm.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from watchtrylearn.data.batches import collate
from watchtrylearn.data.sampling import Sampling
from watchtrylearn.learners.each_demo import MeanOfDemos
from watchtrylearn.nn.blocks import mlp
from watchtrylearn.nn.policy_net import MOST_LAYERS, Eye, EyeConfig
from watchtrylearn.nn.scaling import Scaling
from watchtrylearn.nn.shown import Modality, cameras, demonstrations, queries, without_actions
from watchtrylearn.system.config import require_within
from watchtrylearn.types import Batch, Context, EpisodeBatch, Loss, Spec, WtlError, require_contexts


@dataclass(frozen=True)
class LSTMConfig:
    """``eye``: the convolutions; ``hidden``: widths of the layers after them, before and after the ``units`` that read.

    ``modality``: what a demonstration tells beside images ("full": state and actions, "video+state", "video");
    ``image_frames``: steps of it that are read, spread evenly; ``sampling`` asks for one demonstration.
    """

    eye: EyeConfig = field(default_factory=EyeConfig)
    hidden: tuple[int, ...] = (200, 200)
    units: int = 512
    modality: Modality = "full"
    image_frames: int = 25
    sampling: Sampling = field(default_factory=lambda: Sampling(demos=(0, 1), trials=(1,), frames=25))

    def __post_init__(self) -> None:
        require_within("", self, hidden=(1, 16384), units=(1, 16384), image_frames=(1, 10_000))
        if not 1 <= len(self.hidden) <= MOST_LAYERS:
            raise WtlError(f"hidden has 1 to {MOST_LAYERS} layers, got {len(self.hidden)}")


class LSTM(nn.Module):
    """Imitates a task from what a recurrent network keeps of a demonstration; trials are ignored."""

    name = "lstm"

    def __init__(self, config: LSTMConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.scaling = Scaling(spec, chunk=1)
        eyes = [Eye(config.eye, camera) for camera in spec.images.values()]
        self.eyes = nn.ModuleList(eyes)
        seen = sum(eye.size for eye in eyes) + spec.state_size + spec.environment_size
        width = config.hidden[-1]
        self.look = mlp((seen, *config.hidden))
        self.read = nn.LSTM(width + spec.action.size, config.units, batch_first=True)
        self.head = mlp((width + config.units, *config.hidden, spec.action.size))

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Takes the scaling from the training episodes."""
        self.scaling.fit(episodes)

    def loss(self, batch: Batch) -> Loss:
        """L = mean |policy(o_t, LSTM(demo)) - a_t|^2."""
        query = queries(batch, self.scaling)
        remembered = self.remembered(self.demonstrations(batch.context.demos))[:, 0]
        error = (self.actions(remembered, query) - query["action"]).square().mean()
        return error, {"squared_error": error}

    def demonstrations(self, demos: EpisodeBatch) -> dict[str, Tensor]:
        return demonstrations(demos, self.scaling, self.config.image_frames, self.config.modality)

    def remembered(self, demos: Mapping[str, Tensor]) -> Float[Tensor, "task shot unit"]:
        """What is left of each demonstration once it has been read."""
        frames = torch.cat([self._seen(demos), demos["action"]], -1)
        last: Tensor = self.read(frames.flatten(0, 1))[1][0][-1].unflatten(0, frames.shape[:2])
        return last

    def actions(
        self, remembered: Float[Tensor, "task unit"], now: Mapping[str, Tensor]
    ) -> Float[Tensor, "task frame act"]:
        """Network units."""
        seen = self._seen(now)
        found: Tensor = self.head(torch.cat([seen, remembered[:, None].expand(*seen.shape[:2], -1)], -1))
        return found

    def _seen(self, shown: Mapping[str, Tensor]) -> Float[Tensor, "*batch frame feature"]:
        """The features of each frame: convolutions, then hidden layers."""
        batch = shown["numbers"].shape[:-1]
        pictures = [eye(each.flatten(0, len(batch) - 1)) for eye, each in zip(self.eyes, cameras(shown), strict=True)]
        joined = torch.cat([*(each.unflatten(0, batch) for each in pictures), shown["numbers"]], -1)
        features: Tensor = self.look(joined).relu()
        return features

    @torch.no_grad()
    def adapt(self, contexts: Sequence[Context]) -> MeanOfDemos:
        """What was read, carried out; what several demonstrations suggest is averaged action by action."""
        watched = without_actions(require_contexts(contexts), self.spec, self.config.modality, self.name)
        demos = collate(watched, self.spec, self.config.image_frames).demos.to(self.scaling.state_mean.device)
        shown = self.demonstrations(demos)
        return MeanOfDemos(self.scaling, self.actions, self.remembered(shown), shown["weight"])
