"""Between the units of a suite and the unit scale of a network, with statistics that live in the checkpoint."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import nn

from watchtrylearn.types import ENVIRONMENT, STATE, EpisodeBatch, Spec

SMALLEST_STD = 1e-3  # a number that hardly moves in the data is not blown up


class Scaling(nn.Module):
    """Observation and action scaling; ``actions_in`` and ``actions_out`` are each other's inverse.

    Positions share ONE scale, so that differences between effector and entities keep their geometry. Where the
    action is a desired state (``spec.commands_state``), a chunk is expressed relative to the present state.
    """

    state_mean: torch.Tensor
    state_std: torch.Tensor
    environment_mean: torch.Tensor
    environment_std: torch.Tensor
    action_mean: torch.Tensor
    action_std: torch.Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        for name, size in (
            ("state", spec.state_size),
            ("environment", spec.environment_size),
            ("action", spec.action.size),
        ):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    def fit(self, episodes: EpisodeBatch, chunk: int) -> None:
        """Sets the statistics from a store (episode, time, ...); ``chunk`` is how far ahead actions reach."""
        mask = episodes.mask
        state = episodes.observation[STATE]
        self._set("state", state[mask])
        if self.spec.environment_size:
            self._set("environment", episodes.observation[ENVIRONMENT][mask])
        ahead = [self._relative(episodes.action[:, k:], state[:, : state.shape[1] - k]) for k in range(chunk)]
        self._set("action", torch.cat([a[mask[:, k:]] for k, a in enumerate(ahead) if a.shape[1]]))
        if self.spec.position:
            self._share_position_scale()

    def state(self, state: Float[torch.Tensor, "*batch size"]) -> Float[torch.Tensor, "*batch size"]:
        return (state - self.state_mean) / self.state_std

    def environment(self, environment: Float[torch.Tensor, "*batch size"]) -> Float[torch.Tensor, "*batch size"]:
        return (environment - self.environment_mean) / self.environment_std

    def actions_in(
        self, actions: Float[torch.Tensor, "*#batch act"], state: Float[torch.Tensor, "*#batch size"]
    ) -> Float[torch.Tensor, "*#batch act"]:
        """Suite units -> network units, given the state at which the chunk begins."""
        return (self._relative(actions, state) - self.action_mean) / self.action_std

    def actions_out(
        self, actions: Float[torch.Tensor, "*#batch act"], state: Float[torch.Tensor, "*#batch size"]
    ) -> Float[torch.Tensor, "*#batch act"]:
        """Network units -> suite units: the inverse of ``actions_in``."""
        actions = actions * self.action_std + self.action_mean
        return actions + state[..., : actions.shape[-1]] if self.spec.commands_state else actions

    def _relative(self, actions: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return actions - state[..., : actions.shape[-1]] if self.spec.commands_state else actions

    def _set(self, name: str, values: Float[torch.Tensor, "sample size"]) -> None:
        getattr(self, f"{name}_mean").copy_(values.mean(0))
        getattr(self, f"{name}_std").copy_(values.std(0).clamp_min(SMALLEST_STD))

    def _share_position_scale(self) -> None:
        """One centre and one scale for every position, the effector's."""
        dims = self.spec.position
        scale = self.state_std[:dims].mean()
        self.state_std[:dims] = scale
        if self.spec.entities:
            shape = (self.spec.entities, self.spec.entity_size)
            self.environment_mean.view(shape)[:, :dims] = self.state_mean[:dims]
            self.environment_std.view(shape)[:, :dims] = scale
