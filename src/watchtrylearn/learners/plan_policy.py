"""Acting with a ``TargetNet``: decide the target once, then carry out chunks of actions."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from watchtrylearn.data.batches import collate
from watchtrylearn.nn.encoders import Belief
from watchtrylearn.nn.target_net import TargetNet
from watchtrylearn.ops.mixture import pick_component
from watchtrylearn.types import STATE, Context, Observation, WtlError, require_contexts


class PlanPolicy:
    """Acts with a ``TargetNet`` in one world per context: decides the target once, then carries out chunks.

    With ``stochastic`` the target and the mixture component are sampled (diverse trials), else the most likely
    ones are taken. Every world draws from its own generator. ``told`` (world,) names the targets instead, which
    leaves execution alone to be tested. It computes where the network's parameters are. Images are looked at only
    where the network's encoder does, and need not be there otherwise.
    """

    def __init__(
        self,
        net: TargetNet,
        contexts: Sequence[Context],
        stochastic: bool = False,
        told: Sequence[int] | None = None,
    ) -> None:
        self.net, self.stochastic, self.device = net, stochastic, net.device
        self.channels = net.looked_at.observation
        self.context = collate(require_contexts(contexts), net.looked_at).to(self.device)
        self.worlds = len(contexts)
        self.told = None if told is None else torch.tensor(told, device=self.device)
        if told is not None and len(told) != self.worlds:
            raise WtlError(f"one target per context is told, got {len(told)} for {self.worlds} contexts")

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        if len(rngs) != self.worlds:
            raise WtlError(f"the policy was adapted to {self.worlds} contexts but runs in {len(rngs)} worlds")
        self.rngs, self.step = list(rngs), 0
        self.belief: Belief | None = None

    @torch.no_grad()
    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        execute, bounds = self.net.config.execute, self.net.spec.action
        seen = {
            name: torch.as_tensor(np.asarray(observation[name], channel.dtype), device=self.device)
            for name, channel in self.channels.items()
        }
        if self.belief is None:
            self.belief = self.net.infer(self.context, seen)
            inferred = pick_component(self.belief.target_logits, self._uniform())
            self.target = inferred if self.told is None else self.told
        if self.step % execute == 0:
            self.chunk = self._plan(self.belief, seen)
        action = self.chunk[:, self.step % execute]
        self.step += 1
        return np.clip(action.cpu().numpy().astype(np.float64), bounds.low, bounds.high)

    def _plan(self, belief: Belief, seen: dict[str, torch.Tensor]) -> Float[torch.Tensor, "world chunk act"]:
        now = {name: value[:, None] for name, value in seen.items()}
        time = torch.full((self.worlds, 1), self.step / self.net.spec.horizon, device=self.device)
        logits, mean = self.net.actions(belief, self.target, now, time)
        component = pick_component(logits[:, 0], self._uniform())
        chunk = mean[torch.arange(self.worlds, device=self.device), 0, component]
        return self.net.scaling.chunk_out(chunk, seen[STATE])

    def _uniform(self) -> Float[torch.Tensor, "world"] | None:
        """A number in [0, 1) from every world's own generator."""
        if not self.stochastic:
            return None
        return torch.tensor([rng.random() for rng in self.rngs], dtype=torch.float32, device=self.device)


def without_trials(contexts: Sequence[Context]) -> list[Context]:
    """What a method sees that only watches."""
    return [replace(c, trials=()) for c in require_contexts(contexts)]


def without_demos(contexts: Sequence[Context]) -> list[Context]:
    """What a method sees that was shown nothing."""
    return [replace(c, demos=()) for c in require_contexts(contexts)]
