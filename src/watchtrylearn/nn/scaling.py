"""Between the units of a suite and the unit scale of a network, with statistics that live in the checkpoint."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from watchtrylearn.types import ENVIRONMENT, STATE, EpisodeBatch, Spec

SMALLEST_STD = 1e-3  # a number that hardly moves in the data is not blown up


class Scaling(nn.Module):
    """Observation and action scaling; ``chunk_in`` and ``chunk_out`` are each other's inverse.

    Positions share ONE scale, so that differences between effector and entities keep their geometry. Where the
    action is a desired state (``spec.commands_state``), a chunk is expressed relative to the present state; since
    later actions of a chunk are farther from it, every step of the chunk has a scale of its own.
    """

    state_mean: torch.Tensor
    state_std: torch.Tensor
    environment_mean: torch.Tensor
    environment_std: torch.Tensor
    action_mean: torch.Tensor
    action_std: torch.Tensor

    def __init__(self, spec: Spec, chunk: int) -> None:
        super().__init__()
        self.spec = spec
        for name, size in (
            ("state", (spec.state_size,)),
            ("environment", (spec.environment_size,)),
            ("action", (chunk, spec.action.size)),
        ):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    def fit(self, episodes: EpisodeBatch) -> None:
        """Sets the statistics from a store (episode, time, ...)."""
        mask, state = episodes.mask, episodes.observation[STATE]
        self._set("state", state[mask])
        if self.spec.environment_size:
            self._set("environment", episodes.observation[ENVIRONMENT][mask])
        for k in range(min(len(self.action_mean), state.shape[1])):
            ahead = self._relative(episodes.action[:, k:], state[:, : state.shape[1] - k])
            self._set("action", ahead[mask[:, k:]], k)
        if self.spec.position:
            self._share_position_scale()

    def state(self, state: Float[torch.Tensor, "*batch size"]) -> Float[torch.Tensor, "*batch size"]:
        return (state - self.state_mean) / self.state_std

    def environment(self, environment: Float[torch.Tensor, "*batch size"]) -> Float[torch.Tensor, "*batch size"]:
        return (environment - self.environment_mean) / self.environment_std

    def chunk_in(
        self, actions: Float[torch.Tensor, "*#batch step act"], state: Float[torch.Tensor, "*#batch size"]
    ) -> Float[torch.Tensor, "*#batch step act"]:
        """Suite units -> network units: the actions of the steps that follow ``state``, the next one first."""
        steps = actions.shape[-2]
        relative = self._relative(actions, state.unsqueeze(-2))
        return (relative - self.action_mean[:steps]) / self.action_std[:steps]

    def chunk_out(
        self, actions: Float[torch.Tensor, "*#batch step act"], state: Float[torch.Tensor, "*#batch size"]
    ) -> Float[torch.Tensor, "*#batch step act"]:
        """Network units -> suite units: the inverse of ``chunk_in``."""
        steps = actions.shape[-2]
        actions = actions * self.action_std[:steps] + self.action_mean[:steps]
        return actions + state[..., None, : actions.shape[-1]] if self.spec.commands_state else actions

    def action(
        self, action: Float[torch.Tensor, "*#batch act"], state: Float[torch.Tensor, "*#batch size"]
    ) -> Float[torch.Tensor, "*#batch act"]:
        """Suite units -> network units, for the one action that follows each ``state``."""
        return self.chunk_in(action.unsqueeze(-2), state).squeeze(-2)

    def command(self, action: Float[torch.Tensor, "world act"], state: Float[torch.Tensor, "world size"]) -> np.ndarray:
        """Network units -> what is sent to the worlds, within its bounds: the inverse of ``action``."""
        found = self.chunk_out(action[:, None], state)[:, 0].cpu().numpy().astype(np.float64)
        return np.clip(found, self.spec.action.low, self.spec.action.high)

    def _relative(self, actions: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return actions - state[..., : actions.shape[-1]] if self.spec.commands_state else actions

    def _set(self, name: str, values: Float[torch.Tensor, "sample size"], row: int | slice = slice(None)) -> None:
        if len(values) > 1:
            getattr(self, f"{name}_mean")[row] = values.mean(0)
            getattr(self, f"{name}_std")[row] = values.std(0).clamp_min(SMALLEST_STD)

    def _share_position_scale(self) -> None:
        """One centre and one scale for every position, the effector's."""
        dims = self.spec.position
        scale = self.state_std[:dims].mean()
        self.state_std[:dims] = scale
        if self.spec.entities:
            shape = (self.spec.entities, self.spec.entity_size)
            self.environment_mean.view(shape)[:, :dims] = self.state_mean[:dims]
            self.environment_std.view(shape)[:, :dims] = scale
