"""From a context and the present scene to a belief about the task: four ways to embed what was seen.

``ObjectEncoder`` looks at every episode once per entity and attends from the present scene to those tracks; it
also says *which entity to act on*, as a distribution. ``FlatEncoder`` is the WTL authors' temporal-convolution
embedding and ``TransitionEncoder`` the one of their toy problem, both extended from exactly one demonstration and one
trial to any number of each. ``LastFrameEncoder`` is the contextual policy's. All return a ``Belief``, and each brings
the ``View`` that the action head has of the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import nn

from watchtrylearn.nn.blocks import mean_present, mlp, signed_success, take_frames
from watchtrylearn.nn.policy_net import EyeConfig
from watchtrylearn.nn.scaling import Scaling
from watchtrylearn.nn.views import SeeingView, TargetView, View, WholeView, last_observation, whole
from watchtrylearn.ops.frames import spread_frames
from watchtrylearn.ops.interaction import nearest_approach
from watchtrylearn.types import ENVIRONMENT, STATE, ContextBatch, EpisodeBatch, Spec, WtlError

HEADS = 4  # of the object encoder's attention
SAME_PLACE = 0.1  # network units of position: at this distance closeness is 1/e


@dataclass(frozen=True)
class Belief:
    """What the context and the scene say about the task.

    ``target_logits`` (task, candidate) is a distribution over what to act on (one candidate when the encoder
    has no such notion); ``embedding`` (task, code) is everything else.
    """

    target_logits: Float[torch.Tensor, "task candidate"]
    embedding: Float[torch.Tensor, "task code"]


@runtime_checkable
class Encoder(Protocol):
    """From a context and the scene at the start of an episode to a belief about the task; a torch module.

    ``name`` is what ``NetConfig.embedding`` calls it; ``view`` is what the action head sees, given the belief. Where an
    encoder says ``cameras = False``, it and its view are given numbers alone; others are given images too.
    """

    name: str
    view: View

    def __call__(
        self, context: ContextBatch, scene: Mapping[str, Shaped[torch.Tensor, "task ..."]], scaling: Scaling
    ) -> Belief: ...


class ObjectEncoder(nn.Module):
    """One token per (episode, entity), one per entity of the scene; self-attention; read-outs on the scene.

    A token holds the entity's track in the coordinates that matter for "what was done to this": the effector
    relative to it, its pose, how far it has moved; at ``frames`` steps spread over the episode. A spec without entities
    that have positions is refused.

    With ``compare_scenes`` a trial's token also holds whether the entity lay where it lies now (``closeness``), by
    itself and times the outcome: here a "no" says "not this thing", elsewhere "not what this thing was taken for".
    """

    name = "object"
    cameras = False

    def __init__(
        self, spec: Spec, code: int, width: int, layers: int, frames: int, compare_scenes: bool = False
    ) -> None:
        super().__init__()
        if not self.fits(spec):
            others = f"use {FlatEncoder.name!r} or {TransitionEncoder.name!r}"
            raise WtlError(f"embedding {self.name!r} needs a suite whose environment_state lists entities; {others}")
        self.spec, self.frames = spec, frames
        self.view: View = TargetView(spec)
        per_frame = 2 * spec.position + spec.entity_size + spec.state_size - spec.position + spec.action.size
        self.frame = nn.Sequential(nn.Linear(per_frame, 48), nn.ReLU())
        self.track = nn.Linear(48 * frames + 2, width)
        self.scene = nn.Linear(spec.entity_size + spec.position, width)
        self.slot = nn.Parameter(0.5 * torch.randn(spec.entities, width))
        self.role = nn.Parameter(0.5 * torch.randn(3, width))  # demonstration, trial, scene
        self.outcome = nn.Parameter(0.5 * torch.randn(width))
        self.summary = nn.Parameter(0.5 * torch.randn(1, 1, width))
        layer = nn.TransformerEncoderLayer(width, HEADS, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.attention = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.target = mlp((width, width, 1))
        self.code = mlp((width, width, code))
        self.same = nn.Parameter(0.5 * torch.randn(2, width)) if compare_scenes else None

    @staticmethod
    def fits(spec: Spec) -> bool:
        """Does the spec list entities and say what their positions are?"""
        return bool(spec.entities and spec.position)

    def forward(
        self, context: ContextBatch, scene: Mapping[str, Shaped[torch.Tensor, "task ..."]], scaling: Scaling
    ) -> Belief:
        demos, demo_mask = self._episode_tokens(context.demos, scene, scaling, role=0)
        trials, trial_mask = self._episode_tokens(context.trials, scene, scaling, role=1)
        here = self._scene_tokens(scene, scaling)
        summary = self.summary.expand(len(here), 1, -1)
        tokens = torch.cat([summary, here, demos, trials], 1)
        present = torch.ones(here.shape[:2], dtype=torch.bool, device=here.device)
        mask = torch.cat([present[:, :1], present, demo_mask, trial_mask], 1)
        tokens = self.attention(tokens, src_key_padding_mask=~mask)
        entities = self.spec.entities
        return Belief(self.target(tokens[:, 1 : 1 + entities]).squeeze(-1), self.code(tokens[:, 0]))

    def _episode_tokens(
        self,
        episodes: EpisodeBatch,
        scene: Mapping[str, Shaped[torch.Tensor, "task ..."]],
        scaling: Scaling,
        role: int,
    ) -> tuple[Float[torch.Tensor, "task token width"], Bool[torch.Tensor, "task token"]]:
        tasks, shots = episodes.length.shape
        if not episodes.length.any():  # all absent, as trials are in one-shot imitation: tokens would only be masked
            nothing = self.role.new_zeros((tasks, 0, self.role.shape[-1]))
            return nothing, nothing[..., 0].bool()
        flat = _flatten(episodes)
        tracks = self._tracks(flat, scaling, own_actions=role == 1)
        near = self._nearest(flat, scaling)
        closest = (near == near.amin(-1, keepdim=True)).to(near.dtype)
        tokens = self.track(torch.cat([tracks, near[..., None].clamp(max=5.0), closest[..., None]], -1))
        tokens = tokens.view(tasks, shots, self.spec.entities, -1) + self.slot + self.role[role]
        if role == 1:
            outcome = signed_success(episodes)[..., None, None]
            tokens = tokens + outcome * self.outcome
            if self.same is not None:
                same = closeness(self._start(episodes, scaling), self._places(scene[ENVIRONMENT], scaling)[:, None])
                tokens = tokens + same[..., None] * (self.same[0] + outcome * self.same[1])
        mask = (episodes.length > 0)[..., None].expand(-1, -1, self.spec.entities)
        return tokens.flatten(1, 2), mask.flatten(1, 2)

    def _tracks(
        self, episodes: EpisodeBatch, scaling: Scaling, own_actions: bool
    ) -> Float[torch.Tensor, "episode entity feature"]:
        dims, entities = self.spec.position, self.spec.entities
        index = spread_frames(episodes.length, self.frames)
        raw_state = take_frames(episodes.observation[STATE], index)
        state = scaling.state(raw_state)
        things = scaling.environment(take_frames(episodes.observation[ENVIRONMENT], index))
        things = things.unflatten(-1, (entities, self.spec.entity_size))
        place = things[..., :dims]
        action = scaling.action(take_frames(episodes.action, index), raw_state) * own_actions
        shared = torch.cat([state[..., dims:], action], -1)[..., None, :].expand(-1, -1, entities, -1)
        relative = state[..., None, :dims] - place
        features = torch.cat([relative, place - place[:, :1], things, shared], -1)
        per_frame: torch.Tensor = self.frame(features)
        return per_frame.transpose(1, 2).flatten(2)

    def _nearest(self, episodes: EpisodeBatch, scaling: Scaling) -> Float[torch.Tensor, "episode entity"]:
        things = self._places(episodes.observation[ENVIRONMENT], scaling)
        effector = scaling.state(episodes.observation[STATE])[..., : self.spec.position]
        return nearest_approach(effector, things, episodes.mask)

    def _start(self, episodes: EpisodeBatch, scaling: Scaling) -> Float[torch.Tensor, "task shot entity position"]:
        return self._places(episodes.observation[ENVIRONMENT][..., 0, :], scaling)

    def _places(
        self, environment: Float[torch.Tensor, "*batch size"], scaling: Scaling
    ) -> Float[torch.Tensor, "*batch entity position"]:
        """Where the entities are, in network units."""
        things = scaling.environment(environment).unflatten(-1, (self.spec.entities, self.spec.entity_size))
        found: torch.Tensor = things[..., : self.spec.position]
        return found

    def _scene_tokens(
        self, scene: Mapping[str, Shaped[torch.Tensor, "task ..."]], scaling: Scaling
    ) -> Float[torch.Tensor, "task entity width"]:
        spec = self.spec
        things = scaling.environment(scene[ENVIRONMENT]).unflatten(-1, (spec.entities, spec.entity_size))
        effector = scaling.state(scene[STATE])[:, None, : spec.position]
        relative = things[..., : spec.position] - effector
        token: torch.Tensor = self.scene(torch.cat([things, relative], -1))
        return token + self.slot + self.role[2]


class FlatEncoder(nn.Module):
    """The authors' embedding: temporal convolutions over 40 steps, flattened (T2R vrgripper_env_wtl_models).

    A demonstration becomes e_d; a trial is embedded per step together with its outcome (+-1) and e_d, giving
    e_t. Several demonstrations or trials are averaged. Departures: docs/learners/watch_try_learn.md.
    """

    name = "flat"
    cameras = False
    STEPS = 40  # the authors' episode_length
    KERNEL = 10

    def __init__(self, spec: Spec, code: int) -> None:
        super().__init__()
        size = spec.state_size + spec.environment_size
        self.view: View = WholeView(spec)
        self.size = code // 2
        self.demo = self._reducer(size)
        self.trial = self._reducer(size + spec.action.size + 1 + self.size)

    def forward(
        self, context: ContextBatch, scene: Mapping[str, Shaped[torch.Tensor, "task ..."]], scaling: Scaling
    ) -> Belief:
        demos = self.demo(self._steps(context.demos, scaling))
        demo = mean_present(demos, context.demos)
        trials = mean_present(self.trial(self._trial_steps(context.trials, demo, scaling)), context.trials)
        return Belief(demo.new_zeros(len(demo), 1), torch.cat([demo, trials], -1))

    def _steps(self, episodes: EpisodeBatch, scaling: Scaling) -> Float[torch.Tensor, "task shot steps size"]:
        return take_frames(whole(episodes.observation, scaling), spread_frames(episodes.length, self.STEPS))

    def _trial_steps(
        self, trials: EpisodeBatch, demo: Float[torch.Tensor, "task code"], scaling: Scaling
    ) -> Float[torch.Tensor, "task shot steps feature"]:
        steps, index = self._steps(trials, scaling), spread_frames(trials.length, self.STEPS)
        action = take_frames(scaling.action(trials.action, trials.observation[STATE]), index)
        outcome = signed_success(trials)[..., None, None].expand(*steps.shape[:-1], 1)
        told = demo[:, None, None].expand(*steps.shape[:-1], -1)
        return torch.cat([steps, action, outcome, told], -1)

    def _reducer(self, size: int) -> nn.Module:
        return _TemporalReducer(size, self.size, self.STEPS, self.KERNEL)


class LastFrameEncoder(nn.Module):
    """The contextual policy's embedding (MIL, section 6): nothing but the last observation of the demonstration.

    ``eye``: cameras are looked at too, of the demonstration and of the present moment; None: numbers alone.
    """

    name = "last_frame"

    def __init__(self, spec: Spec, code: int, eye: EyeConfig | None = None) -> None:
        super().__init__()
        self.cameras = eye is not None
        self.view: View = WholeView(spec) if eye is None else SeeingView(spec, eye)
        self.embed = mlp((self.view.size, 100, code))

    def forward(
        self, context: ContextBatch, scene: Mapping[str, Shaped[torch.Tensor, "task ..."]], scaling: Scaling
    ) -> Belief:
        last = last_observation(context.demos, scaling)
        if isinstance(self.view, SeeingView):
            last = self.view.joined({name: each[..., -1, :, :, :] for name, each in context.demos.images.items()}, last)
        code = mean_present(self.embed(last), context.demos)
        return Belief(code.new_zeros(len(code), 1), code)


class TransitionEncoder(nn.Module):
    """The authors' embedding in their toy problem: every transition of a trial by itself, then the mean over time.

    A demonstration is its last observation. A transition is what was seen, how it changed until the next step, and
    what was commanded, together with the trial's outcome (+-1). Change and command are told relative to their root
    mean squares over the trial: in one step little changes, and how a change answers a command is a product of the two.
    A trial of a single step has no transition and says nothing, not even its outcome.
    """

    name = "transitions"
    cameras = False

    def __init__(self, spec: Spec, code: int) -> None:
        super().__init__()
        self.view: View = WholeView(spec)
        size, half = spec.state_size + spec.environment_size, code // 2
        self.demo = mlp((size, 100, half))
        self.transition = mlp((2 * size + spec.action.size + 1, 100, 100, half))

    def forward(
        self, context: ContextBatch, scene: Mapping[str, Shaped[torch.Tensor, "task ..."]], scaling: Scaling
    ) -> Belief:
        demo = mean_present(self.demo(last_observation(context.demos, scaling)), context.demos)
        trial = mean_present(self._mean_transition(context.trials, scaling), context.trials)
        return Belief(demo.new_zeros(len(demo), 1), torch.cat([demo, trial], -1))

    def _mean_transition(self, trials: EpisodeBatch, scaling: Scaling) -> Float[torch.Tensor, "task shot size"]:
        seen = whole(trials.observation, scaling)
        action = scaling.action(trials.action, trials.observation[STATE])[..., :-1, :]
        exists = trials.mask[..., 1:, None].to(seen.dtype)
        change, action = _levelled(seen.diff(dim=-2), exists), _levelled(action, exists)
        outcome = signed_success(trials)[..., None, None].expand(*exists.shape)
        steps = self.transition(torch.cat([seen[..., :-1, :], change, action, outcome], -1))
        mean: torch.Tensor = (steps * exists).sum(-2) / exists.sum(-2).clamp_min(1.0)
        return mean


class _TemporalReducer(nn.Module):
    """conv(64) -> conv(32) -> flatten -> FC 100 -> linear, as in the authors' ``tec.reduce_temporal_embeddings``."""

    def __init__(self, size: int, out: int, steps: int, kernel: int) -> None:
        super().__init__()
        left = steps - 2 * (kernel - 1)
        self.convolutions = nn.Sequential(
            nn.Conv1d(size, 64, kernel, bias=False),
            nn.ReLU(),
            nn.Conv1d(64, 32, kernel, bias=False),
            nn.ReLU(),
        )
        self.out = mlp((32 * left, 100, out))

    def forward(self, steps: Float[torch.Tensor, "task shot time size"]) -> Float[torch.Tensor, "task shot out"]:
        tasks, shots = steps.shape[:2]
        hidden = self.convolutions(steps.flatten(0, 1).transpose(1, 2))
        out: torch.Tensor = self.out(hidden.flatten(1))
        return out.view(tasks, shots, -1)


def closeness(
    then: Float[torch.Tensor, "*#batch entity position"], now: Float[torch.Tensor, "*#batch entity position"]
) -> Float[torch.Tensor, "*batch entity"]:
    """Whether each entity lies where it lay (network units): 1 at the very place, less if it was nudged, 0 far off."""
    return torch.exp(-((then - now) / SAME_PLACE).square().sum(-1))


def _levelled(
    values: Float[torch.Tensor, "*batch time size"], exists: Float[torch.Tensor, "*batch time 1"]
) -> Float[torch.Tensor, "*batch time size"]:
    """Every number relative to its root mean square over the steps that exist; what stays 0 stays 0."""
    values = values * exists
    square = values.square().sum(-2, keepdim=True) / exists.sum(-2, keepdim=True).clamp_min(1.0)
    return values / square.clamp_min(1e-8).sqrt()


def _flatten(episodes: EpisodeBatch) -> EpisodeBatch:
    """(task, shot, ...) -> (episode, ...)."""
    return episodes.map(lambda value: value.flatten(0, 1))
