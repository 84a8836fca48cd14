"""Several demonstrations for methods trained with one: the actions they suggest are averaged (MIL, table 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from watchtrylearn.nn.scaling import Scaling
from watchtrylearn.nn.shown import moment
from watchtrylearn.types import Context, Observation, Policy

Actions = Callable[[Float[Tensor, "task size"], Mapping[str, Tensor]], Float[Tensor, "task frame act"]]


class MeanOfDemos:
    """Looks at every step, and does the mean of what each demonstration suggests there.

    Attributes:
        actions: what to do after something was ``shown`` and now is seen, in network units.
        shown: of every demonstration.
        weight: of each in the mean. Where there is none the mean is 0 in network units, the mean action.
    """

    def __init__(
        self,
        scaling: Scaling,
        actions: Actions,
        shown: Float[Tensor, "world shot size"],
        weight: Float[Tensor, "world shot"],
    ) -> None:
        self.scaling, self.actions, self.shown, self.weight = scaling, actions, shown, weight
        self.spec = scaling.spec

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        """It keeps nothing from one step to the next, and draws nothing at random."""

    @torch.no_grad()
    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        now, state = moment(observation, self.scaling)
        now = {name: each[:, None] for name, each in now.items()}
        suggested = [self.actions(each, now)[:, 0] for each in self.shown.unbind(1)]
        return self.scaling.command((torch.stack(suggested, 1) * self.weight[..., None]).sum(1), state)


def after_each_demo(contexts: Sequence[Context], adapt: Callable[[Sequence[Context]], Policy]) -> Policy:
    """A policy that does the mean of what ``adapt`` does after each demonstration alone. (With one: what it does.)"""
    if all(len(context.demos) <= 1 for context in contexts):
        return adapt(contexts)
    return _MeanPolicy(contexts, adapt)


class _MeanPolicy:
    """As ``MeanOfDemos``, of policies that keep something from one step to the next."""

    def __init__(self, contexts: Sequence[Context], adapt: Callable[[Sequence[Context]], Policy]) -> None:
        alone = [[replace(context, demos=(demo,)) for demo in context.demos] or [context] for context in contexts]
        self.count = np.array([len(each) for each in alone])
        self.world = np.repeat(np.arange(len(contexts)), self.count)
        self.policy = adapt([context for each in alone for context in each])

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.policy.reset([rngs[world] for world in self.world.tolist()])

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        actions = self.policy.act({name: values[self.world] for name, values in observation.items()})
        begin = np.cumsum(self.count) - self.count
        mean: np.ndarray = np.add.reduceat(actions, begin, axis=0) / self.count[:, None]
        return mean
