"""MIL: a policy that one gradient step on a demonstration turns into the policy of a new task.

Paper: *One-Shot Visual Imitation Learning via Meta-Learning* (Finn et al. 2017, arXiv 1709.04905). Weights theta are
trained so that after a step down the imitation loss of one demonstration, theta' = theta - alpha grad L(theta; demo),
they imitate another demonstration of the same task well. With two heads the loss of that step is itself learned, and
then the demonstration needs neither actions nor the robot's state: a video is enough.

What is different here, and what the authors' code does that the paper does not say: docs/learners/mil.md.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from watchtrylearn.data.batches import collate
from watchtrylearn.data.sampling import Sampling
from watchtrylearn.nn.policy_net import PolicyNet, PolicyNetConfig
from watchtrylearn.nn.scaling import Scaling
from watchtrylearn.nn.shown import Modality, cameras, demonstrations, moment, queries, without_actions
from watchtrylearn.ops.inner_loop import Clip, descend, mean_over_tasks
from watchtrylearn.system.config import require_within
from watchtrylearn.types import (
    Batch,
    Context,
    EpisodeBatch,
    Loss,
    Observation,
    Spec,
    WtlError,
    require_contexts,
)

logger = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]  # an example, or a part of it; the parameters of the network
DEMO, QUERY = "demo/", "query/"  # how names in an example begin
RATES = "log_rates"


@dataclass(frozen=True)
class MILConfig:
    """How a demonstration is adapted to, and how training examples look.

    The paper's settings are in docs/learners/mil.md; the defaults have its network for pushing, and learned step sizes.

    Attributes:
        net: sizes, bias transformations, one or two heads.
        modality: what a demonstration tells: "full" (images, the robot's state and actions), "video+state" or "video".
            Without actions the loss of the inner step is a learned one, so that there must be two heads.
        inner_steps, inner_rate: gradient steps on the demonstrations, and their size.
        learn_rates: sizes of the steps are learned, one for each tensor of parameters, beginning at ``inner_rate``.
        clip, clip_at: of inner gradients: "element", "norm", "none".
        loss_scale: errors of the inner loss are multiplied by it before they are squared, so that inner gradients are
            ``loss_scale ** 2`` times as large before they are clipped. The paper does not mention it, and its step
            sizes mean nothing without it (its code: 50 for pushing, 100 for reaching).
        first_order: inner gradients count as constants in training.
        adaptable: which parameters of the network the inner steps move, by how their names begin; empty: all but the
            offsets of the normalisation.
        l1, l2: weights of the absolute and the squared error of actions (the paper's placing: 1 and 0.01).
        target_weight: weight of predicting, from the first frame, where the robot ends up (positions of the spec);
            the prediction then joins the input of the hidden layers. 0: there is none.
        image_frames: steps of each demonstration that the inner loss looks at, spread evenly, first and last included.
        sampling: ``frames``: steps of the query that the outer loss looks at.
    """

    net: PolicyNetConfig = field(default_factory=PolicyNetConfig)
    modality: Modality = "full"
    inner_steps: int = 1
    inner_rate: float = 0.1
    learn_rates: bool = True
    clip: Clip = "norm"
    clip_at: float = 10.0
    loss_scale: float = 1.0
    first_order: bool = False
    adaptable: tuple[str, ...] = ()
    l1: float = 0.0
    l2: float = 1.0
    target_weight: float = 0.0
    image_frames: int = 25
    sampling: Sampling = field(default_factory=lambda: Sampling(demos=(0, 1), trials=(1,), frames=25))

    def __post_init__(self) -> None:
        require_within(
            "",
            self,
            inner_steps=(1, 1000),
            inner_rate=(0, 1e9),
            clip_at=(0, 1e9),
            loss_scale=(0, 1e9),
            l1=(0, 1e9),
            l2=(0, 1e9),
            target_weight=(0, 1e9),
            image_frames=(1, 10_000),
        )
        if self.modality != "full" and self.net.heads == 1:
            raise WtlError(
                f"modality {self.modality!r} has no actions to imitate, so its inner loss must be learned: net.heads=2"
            )


class MIL(nn.Module):
    """Adapts by gradient steps on demonstrations; trials are ignored."""

    name = "mil"

    def __init__(self, config: MILConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        if config.target_weight and not spec.position:
            raise WtlError("target_weight asks for where the robot ends up, but this suite's spec names no positions")
        self.scaling = Scaling(spec, chunk=1)
        self.net = PolicyNet(config.net, spec, spec.position if config.target_weight else 0)
        self.moving = [name for name, _ in self.net.named_parameters() if _adapts(name, config.adaptable)]
        if not self.moving:
            raise WtlError(f"adaptable names no parameter of the network: {', '.join(config.adaptable)}")
        self.log_rates = nn.Parameter(torch.zeros(len(self.moving)), requires_grad=config.learn_rates)

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Takes the scaling from the training episodes."""
        self.scaling.fit(episodes)

    # ------------------------------------------------------------------------------------------------------ loss

    def loss(self, batch: Batch) -> Loss:
        """min over theta of  sum_i  L(theta'_i; query_i),   theta'_i = theta - alpha grad L*(theta; demos_i)

        L is the imitation loss of the policy. L* is the same with the head that is used before the step, and without
        what a demonstration does not tell. A task whose step explodes is left out (``mean_over_tasks``).
        """

        def of_task(parameters: Tensors, example: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
            adapted, finite = self.adapted(parameters, _under(DEMO, example))
            error, parts = self.imitation(adapted, _under(QUERY, example))
            return error, {**parts, "finite": finite}

        demos = self.demonstrations(batch.context.demos)
        query = queries(batch, self.scaling, with_first=self.net.target is not None)
        examples = {DEMO + name: each for name, each in demos.items()} | {
            QUERY + name: each for name, each in query.items()
        }
        loss, parts, skipped = mean_over_tasks(
            of_task, self.parameters_by_name(), examples, self.at_once(len(batch.frames))
        )
        return loss, {**parts, "skipped": skipped.to(loss.dtype)}

    def adapted(self, parameters: Tensors, demos: Tensors) -> tuple[dict[str, Tensor], Bool[Tensor, ""]]:
        """theta' = theta - alpha grad L*(theta; demos) for the demonstrations (shot, ...) of one task, and whether all
        of it was finite. L* is the mean over demonstrations, so that their gradients are averaged."""
        config = self.config
        sizes = config.inner_rate * parameters[RATES].exp()

        def before(some: Tensors) -> Tensor:
            weight = demos["weight"]
            errors = [
                self.imitation(some, {name: each[shot] for name, each in demos.items()}, before=True)[0]
                for shot in range(len(weight))
            ]
            return (torch.stack(errors) * weight).sum()

        weights = {name: each for name, each in parameters.items() if name != RATES}
        rates = dict(zip(self.moving, sizes, strict=True))
        return descend(before, weights, rates, config.inner_steps, config.clip, config.clip_at, config.first_order)

    def imitation(self, weights: Tensors, episode: Tensors, before: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """L = mean |f(o_t) - a_t|^2, over frames and numbers of the action; or what ``l1`` and ``l2`` make of it.

        With ``before`` it is L*, multiplied inside by ``loss_scale``; where a demonstration has no actions they are
        zeros, so that what is descended is |W y + b|^2.
        """
        config, wanted = self.config, episode["action"]
        inputs = (cameras(episode), episode["numbers"])
        action, target = functional_call(self.net, dict(weights), inputs, {"before": before})
        error = action[len(action) - len(wanted) :] - wanted  # a first frame may be there for the target alone
        parts = {"squared_error": error.square().mean()}
        scaled = error * config.loss_scale if before else error
        loss = config.l1 * scaled.abs().mean() + config.l2 * scaled.square().mean()
        if target is not None and not (before and config.modality == "video"):  # which does not tell where the robot is
            parts["target_error"] = (target - episode["end"]).square().mean()
            loss = loss + config.target_weight * parts["target_error"]
        return loss, parts

    def demonstrations(self, demos: EpisodeBatch) -> dict[str, Tensor]:
        """What the inner loss looks at, (task, shot, frame, ...); see ``nn/shown.py``."""
        return demonstrations(demos, self.scaling, self.config.image_frames, self.config.modality)

    def parameters_by_name(self) -> dict[str, Tensor]:
        """The weights of the network, and the sizes of its steps."""
        return {**dict(self.net.named_parameters()), RATES: self.log_rates}

    def at_once(self, tasks: int) -> int:
        """How many tasks are computed side by side, measured with the paper's networks, one thread, second order.

        With cameras one after another: side by side (``vmap``) convolutions with weights of their own become grouped
        ones, which took 1.4 (reaching) to 2.4 times (pushing) as long on a CPU, and as much more memory as there are
        tasks. Without cameras all: their layers become batched matrix products, in a third of the time.
        """
        return 1 if self.spec.images else max(1, tasks)

    # ----------------------------------------------------------------------------------------------------- adapt

    @torch.no_grad()
    def adapt(self, contexts: Sequence[Context]) -> MILPolicy:
        """One gradient step (or more) on the demonstrations of each context, the gradients of several averaged.

        Where there is no demonstration, or a step that is not finite, weights stay what they were.
        """
        watched = without_actions(require_contexts(contexts), self.spec, self.config.modality, self.name)
        shown = collate(watched, self.spec, self.config.image_frames).demos.to(self.log_rates.device)
        demos = self.demonstrations(shown)
        parameters = self.parameters_by_name()
        rows = [self.adapted(parameters, {n: each[row] for n, each in demos.items()}) for row in range(len(contexts))]
        unsound = [number for number, (_, finite) in enumerate(rows) if not finite]
        if unsound:
            logger.warning("%s: the step on the demonstrations of context %d was not finite", self.name, unsound[0])
        weights = dict(self.net.named_parameters())
        chosen = [adapted if finite else weights for adapted, finite in rows]
        return MILPolicy(self, {name: torch.stack([each[name].detach() for each in chosen]) for name in self.moving})


class MILPolicy:
    """The network with weights of its own in every world: ``moved`` (world, ...) by name; the others are shared."""

    def __init__(self, learner: MIL, moved: Tensors) -> None:
        self.learner, self.moved, self.spec = learner, moved, learner.spec
        self.target: Float[Tensor, "world dim"] | None = None

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        """It draws nothing at random, and remembers only the target that the first frame told."""
        self.target = None

    @torch.no_grad()
    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        scaling = self.learner.scaling
        now, state = moment(observation, scaling)
        if self.target is not None:
            now["target"] = self.target
        action, *target = self._everywhere(now)
        if self.target is None and target:
            self.target = target[0]
        return scaling.command(action, state)

    def _everywhere(self, now: Tensors) -> tuple[Tensor, ...]:
        """The network in every world: side by side in one call where it is small, see ``MIL.at_once``."""
        net = self.learner.net
        shared = {name: each for name, each in net.named_parameters() if name not in self.moved}

        def one(moved: Tensors, here: Tensors) -> tuple[Tensor, ...]:
            images = tuple(each[None] for each in cameras(here))
            found = functional_call(net, {**shared, **moved}, (images, here["numbers"][None], here.get("target")))
            return (found.action[0],) if found.target is None else (found.action[0], found.target)

        result: tuple[Tensor, ...] = vmap(one, chunk_size=self.learner.at_once(len(now["numbers"])))(self.moved, now)
        return result


def _adapts(name: str, adaptable: tuple[str, ...]) -> bool:
    """Does the inner step move this parameter of the network? What it does not depend on has a gradient of zero."""
    return name.startswith(adaptable) if adaptable else ".offsets." not in name


def _under(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
