"""A recurrent network reads the demonstration and says which thing it is about; the policy is told where that thing is.

Paper: the "LSTM+attention" baseline of MIL (Finn et al. 2017, section 6), after Duan et al. 2017 (One-Shot Imitation
Learning, arXiv 1703.07326, "LSTM with attention" of their particle reaching): the LSTM puts out a weighting over the
things in a scene, and the same weighting of the things as they are now is told to the policy beside the robot's state.
So it is for suites that list things in numbers, and not for images.

What is different here: docs/learners/lstm_attention.md.
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
from watchtrylearn.nn.policy_net import MOST_LAYERS
from watchtrylearn.nn.scaling import Scaling
from watchtrylearn.nn.shown import Modality, demonstrations, queries, without_actions
from watchtrylearn.system.config import require_within
from watchtrylearn.types import Batch, Context, EpisodeBatch, Loss, Spec, WtlError, require_contexts


@dataclass(frozen=True)
class LSTMAttentionConfig:
    """``units`` read ``frames`` steps of a demonstration, spread evenly; ``hidden``: widths of the policy's layers.

    ``modality``: what a demonstration tells beside the things: "full" (state and actions), "video+state", "video";
    ``sampling`` asks for one demonstration.
    """

    hidden: tuple[int, ...] = (200, 200)
    units: int = 512
    modality: Modality = "full"
    frames: int = 25
    sampling: Sampling = field(default_factory=lambda: Sampling(demos=(0, 1), trials=(1,), frames=25))

    def __post_init__(self) -> None:
        require_within("", self, hidden=(1, 16384), units=(1, 16384), frames=(1, 10_000))
        if len(self.hidden) > MOST_LAYERS:
            raise WtlError(f"hidden has at most {MOST_LAYERS} layers, got {len(self.hidden)}")


class LSTMAttention(nn.Module):
    """Imitates a task by attending to the thing that a demonstration was about; trials and images are ignored."""

    name = "lstm_attention"

    def __init__(self, config: LSTMAttentionConfig, spec: Spec) -> None:
        super().__init__()
        if not spec.entities:
            raise WtlError(f"{self.name} attends to things, and this suite's observations list none (entities)")
        self.config, self.spec = config, spec
        self.scaling = Scaling(spec, chunk=1)
        numbers = spec.state_size + spec.environment_size
        self.read = nn.LSTM(numbers + spec.action.size, config.units, batch_first=True)
        self.weigh = nn.Linear(config.units, spec.entities)
        self.head = mlp((spec.state_size + spec.entity_size, *config.hidden, spec.action.size))

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Takes the scaling from the training episodes."""
        self.scaling.fit(episodes)

    def loss(self, batch: Batch) -> Loss:
        """L = mean |policy(state_t, sum_i w_i thing_it) - a_t|^2,   w = softmax(LSTM(demo))."""
        query = queries(batch, self.scaling)
        weights = self.attention(self.demonstrations(batch.context.demos))[:, 0]
        error = (self.actions(weights, query) - query["action"]).square().mean()
        return error, {"squared_error": error, "certainty": weights.amax(-1).mean()}

    def demonstrations(self, demos: EpisodeBatch) -> dict[str, Tensor]:
        return demonstrations(demos, self.scaling, self.config.frames, self.config.modality)

    def attention(self, demos: Mapping[str, Tensor]) -> Float[Tensor, "task shot entity"]:
        """How much each thing is what a demonstration was about."""
        frames = torch.cat([demos["numbers"], demos["action"]], -1)
        last = self.read(frames.flatten(0, 1))[1][0][-1]
        weights: Tensor = self.weigh(last).softmax(-1).unflatten(0, frames.shape[:2])
        return weights

    def actions(
        self, weights: Float[Tensor, "task entity"], now: Mapping[str, Tensor]
    ) -> Float[Tensor, "task frame act"]:
        """Network units."""
        state, things = now["numbers"].split([self.spec.state_size, self.spec.environment_size], -1)
        things = things.unflatten(-1, (self.spec.entities, self.spec.entity_size))
        meant = (weights[:, None, :, None] * things).sum(-2)
        found: Tensor = self.head(torch.cat([state, meant], -1))
        return found

    @torch.no_grad()
    def adapt(self, contexts: Sequence[Context]) -> MeanOfDemos:
        """What was read, carried out; what several demonstrations suggest is averaged action by action."""
        watched = without_actions(require_contexts(contexts), self.spec, self.config.modality, self.name)
        demos = collate(watched, self.spec, self.config.frames).demos.to(self.scaling.state_mean.device)
        shown = self.demonstrations(demos)
        return MeanOfDemos(self.scaling, self.actions, self.attention(shown), shown["weight"])
