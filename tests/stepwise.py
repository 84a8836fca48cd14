"""A policy that adapts at every control step: it refits a model to its own last steps, and plans with it.

As in GrBAL (Nagabandi, Clavera et al. 2019): what is meta-learned are weights that a few recent steps adapt; at every
step they are adapted anew, an action is planned, and the adapted weights are forgotten. The model here is linear, and
what adapts it is ridge regression towards the learned weights instead of a gradient step: closed form, differentiable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from watchtrylearn.types import ENVIRONMENT, STATE, Batch, Context, EpisodeBatch, Observation, Spec

PLACE = 2  # of the state, the first numbers are where the point is


@dataclass(frozen=True)
class StepwiseConfig:
    window: int = 6  # own last steps that the model is adapted to; 0: it never is
    future: int = 6  # steps after them that training predicts


class Stepwise(nn.Module):
    """Predicts how far an action goes, in units of the largest action: ``model @ action``."""

    name = "stepwise"

    def __init__(self, config: StepwiseConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.size = float(spec.action.high[0])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = nn.Parameter(0.1 * torch.randn(PLACE, spec.action.size))
        self.log_ridge = nn.Parameter(torch.zeros(()))

    def prepare(self, episodes: EpisodeBatch) -> None:
        pass

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Slices of episodes: adapt to their first steps, predict those after them. ``frames`` has the first step."""
        length = self.config.window + self.config.future
        index = (batch.frames[:, :1] + torch.arange(length + 1))[..., None]
        place = batch.query.observation[STATE].gather(1, index.expand(-1, -1, 3))[..., :PLACE]
        action = batch.query.action.gather(1, index[:, :-1].expand(-1, -1, self.spec.action.size)) / self.size
        moved = place.diff(dim=1) / self.size
        past, future = slice(0, self.config.window), slice(self.config.window, None)
        model = self.adapted(action[:, past], moved[:, past])
        error = moved[:, future] - action[:, future] @ model.mT
        return (error**2).mean(), {"ridge": self.log_ridge.exp()}

    def adapted(self, action: Tensor, moved: Tensor) -> Tensor:
        """The model after the given steps, (task, time, ...) -> (task, place, act); without any, the learned one."""
        ridge = self.log_ridge.exp() * torch.eye(action.shape[-1])
        surprise = moved - action @ self.model.mT
        return self.model + torch.linalg.solve(action.mT @ action + ridge, action.mT @ surprise).mT

    def adapt(self, contexts: Sequence[Context]) -> Following:
        return Following(self)


class Following:
    """Goes where the mark is, as the model adapted to the last steps of each world says."""

    def __init__(self, learner: Stepwise) -> None:
        self.learner = learner

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.places: list[Tensor] = []
        self.actions: list[Tensor] = []

    @torch.no_grad()
    def act(self, observation: Observation) -> np.ndarray:
        learner, place = self.learner, torch.from_numpy(observation[STATE])[:, :PLACE]
        self.places.append(place)
        window = learner.config.window
        recent = self.actions[len(self.actions) - window :] if window else []
        if recent:
            places = torch.stack(self.places[-len(recent) - 1 :], 1)
            model = learner.adapted(torch.stack(recent, 1), places.diff(dim=1) / learner.size)
        else:
            model = learner.model.expand(len(place), -1, -1)
        way = (torch.from_numpy(observation[ENVIRONMENT]) - place) / learner.size
        action = torch.linalg.lstsq(model, way[..., None]).solution[..., 0]
        action = action / action.abs().amax(-1, keepdim=True).clamp(min=1)  # the direction stays
        self.actions.append(action)
        return (learner.size * action).numpy()
