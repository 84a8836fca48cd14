"""Two small learners that gather their own data: an off-policy actor-critic, and a policy gradient on-policy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from watchtrylearn.data.indices import TransitionIndex
from watchtrylearn.training.material import Material
from watchtrylearn.training.sources import ReplaySource
from watchtrylearn.training.update import Group, TargetCopy
from watchtrylearn.types import STATE, Context, Episode, EpisodeBatch, Observation, Spec, Transitions


def mlp(inputs: int, outputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


class Acting:
    """A policy that does what ``choose`` says, with noise from each world's own generator, cut at ``most``."""

    def __init__(self, choose: Callable[[Tensor], Tensor], noise: np.ndarray | float, most: float = np.inf) -> None:
        self.choose, self.noise, self.most = choose, noise, most

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.rngs = rngs

    def act(self, observation: Observation) -> np.ndarray:
        with torch.no_grad():
            action = self.choose(torch.from_numpy(observation[STATE])).cpu().numpy()
        noisy = action + self.noise * np.stack([rng.normal(size=action.shape[1]) for rng in self.rngs])
        return noisy.clip(-self.most, self.most)


@dataclass(frozen=True)
class ActorCriticConfig:
    width: int = 64
    noise: float = 0.1  # of the actions in its own attempts, and, cut, of those that targets are computed with
    tau: float = 0.1


class ActorCritic(nn.Module):
    """TD3 (Fujimoto et al. 2018) without the delay: twin critics, n-step targets, target copies of all.

    Two losses, one sum: the critics' error has no gradient in the targets, the actor's none in the critic.
    """

    name = "actor_critic"

    def __init__(self, config: ActorCriticConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.size = float(spec.action.high[0])
        inputs = 2  # the place; the time left means nothing to a task that goes on
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.actor = mlp(inputs, spec.action.size, config.width)
            self.critic = nn.ModuleList(mlp(inputs + spec.action.size, 1, config.width) for _ in range(2))
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)

    def parameter_groups(self) -> list[Group]:
        return [Group("actor", rate=0.2, clip_norm=1.0), Group("critic", weight_decay=0.0, clip_norm=10.0)]

    def target_copies(self) -> list[TargetCopy]:
        return [
            TargetCopy("actor", "target_actor", tau=self.config.tau),
            TargetCopy("critic", "target_critic", tau=self.config.tau),
        ]

    def prepare(self, episodes: EpisodeBatch) -> None:
        pass

    def loss(self, batch: Transitions) -> tuple[Tensor, dict[str, Tensor]]:
        state, following = batch.observation[STATE][:, :2], batch.next_observation[STATE][:, :2]
        with torch.no_grad():
            noise = (self.config.noise * torch.randn_like(batch.action)).clamp(-0.2, 0.2)
            action = (torch.tanh(self.target_actor(following)) + noise).clamp(-1, 1)
            target = batch.reward + batch.discount * self._values(self.target_critic, following, action).amin(0)
        error = self._values(self.critic, state, batch.action / self.size) - target
        self.critic.requires_grad_(False)
        gained = self._values(self.critic, state, torch.tanh(self.actor(state)))[0].mean()
        self.critic.requires_grad_(True)
        critic = (error**2).mean()
        return critic - gained, {"critic": critic, "value": gained}

    def source(self, material: Material) -> ReplaySource:
        """What a plan trains it on: its own attempts at the training tasks, without demonstrations."""

        def collect(learner: ActorCritic, seed: int, number: int) -> list[Episode]:
            tasks = list(material.tasks) * 8
            scenes = range(number * len(tasks), (number + 1) * len(tasks))
            policy = learner.explore([Context()] * len(tasks))
            return material.attempts(policy, tasks, scenes, run_seed=seed, attempt=number)

        index = partial(TransitionIndex, steps=3, gamma=0.8)
        return ReplaySource(collect, material.spec, index, material.batch_size, every=10, capacity=4000)

    def _values(self, critics: nn.ModuleList, state: Tensor, action: Tensor) -> Tensor:
        inputs = torch.cat([state, action], -1)
        return torch.stack([critic(inputs).squeeze(-1) for critic in critics])

    def _act(self, state: Tensor) -> Tensor:
        return self.size * torch.tanh(self.actor(state[:, :2].to(self.actor[0].weight.device)))

    def adapt(self, contexts: Sequence[Context]) -> Acting:
        return Acting(self._act, 0.0)

    def explore(self, contexts: Sequence[Context]) -> Acting:
        return Acting(self._act, 2 * self.config.noise * self.size, self.size)


def value_targets(
    batch: EpisodeBatch, after: Float[Tensor, "*batch"], gamma: float = 1.0
) -> Float[Tensor, "*batch time"]:
    """The discounted rewards from every step on and, where the episode was cut off, the value ``after`` its last."""
    following = torch.where(batch.terminated, 0.0, after)
    found = []
    for step in reversed(range(batch.reward.shape[-1])):
        following = torch.where(step < batch.length, batch.reward[..., step] + gamma * following, following)
        found.append(following)
    return torch.stack(found[::-1], -1)


@dataclass(frozen=True)
class PolicyGradientConfig:
    width: int = 32
    clip: float = 0.2
    round: int = 8  # steps per round of gathering: epochs x minibatches


class PolicyGradient(nn.Module):
    """PPO (Schulman et al. 2017) with Monte-Carlo returns and a learned baseline. ``behaviour`` gathered the round."""

    name = "policy_gradient"

    def __init__(self, config: PolicyGradientConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        inputs = spec.observation[STATE].size
        self.size = float(spec.action.high[0])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.policy = nn.ModuleDict({"mean": mlp(inputs, spec.action.size, config.width)})
            self.policy.log_std = nn.Parameter(torch.full((spec.action.size,), -0.5))
            self.baseline = mlp(inputs, 1, config.width)
        self.behaviour = copy.deepcopy(self.policy).requires_grad_(False)

    def parameter_groups(self) -> list[Group]:
        return [Group("baseline", rate=3.0)]

    def target_copies(self) -> list[TargetCopy]:
        return [TargetCopy("policy", "behaviour", every=self.config.round)]

    def prepare(self, episodes: EpisodeBatch) -> None:
        pass

    def loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        state, mask = batch.observation[STATE], batch.mask
        returns = value_targets(batch, torch.zeros_like(batch.success))  # of a task that ends, and shows the time left
        value = self.baseline(state).squeeze(-1)
        advantage = (returns - value).detach()
        advantage = (advantage - advantage[mask].mean()) / (advantage[mask].std() + 1e-6)
        ratio = (self._log_prob(self.policy, batch) - self._log_prob(self.behaviour, batch)).exp()
        cut = ratio.clamp(1 - self.config.clip, 1 + self.config.clip)
        surrogate = torch.minimum(ratio * advantage, cut * advantage)[mask].mean()
        baseline = ((value - returns) ** 2)[mask].mean()
        return baseline - surrogate, {"baseline": baseline, "ratio": ratio[mask].mean()}

    def _log_prob(self, policy: nn.Module, batch: EpisodeBatch) -> Tensor:
        """Of the actions as they were intended: those cut to their bounds have another density."""
        mean = self.size * policy["mean"](batch.observation[STATE])
        normal = torch.distributions.Normal(mean, self.size * policy.log_std.exp())
        return normal.log_prob(batch.action).sum(-1)

    def _act(self, state: Tensor) -> Tensor:
        return self.size * self.policy["mean"](state.to(self.policy.log_std.device))

    def adapt(self, contexts: Sequence[Context]) -> Acting:
        return Acting(self._act, 0.0)

    def explore(self, contexts: Sequence[Context]) -> Acting:
        return Acting(self._act, self.size * self.policy.log_std.detach().exp().cpu().numpy())
