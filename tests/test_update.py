"""The update: groups of parameters and target copies, each against the same training written out by hand."""

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from watchtrylearn.system.progress import Display
from watchtrylearn.training.checkpoint import load_latest
from watchtrylearn.training.config import TrainConfig, learning_rate
from watchtrylearn.training.fit import fit
from watchtrylearn.training.sources import FixedSource
from watchtrylearn.training.update import GradientDescent, Group, TargetCopy
from watchtrylearn.types import Channel, Spec, WtlError

SPEC = Spec(
    fps=10,
    horizon=5,
    observation={"state": Channel(("x", "y"), (-9.0, -9.0), (9.0, 9.0))},
    action=Channel(("u",), (-9.0,), (9.0,)),
)
PLAN = TrainConfig(steps=30, learning_rate=1e-2, warmup=5, average=0.0, weight_decay=0.1, log_every=10, threads=1)


@dataclasses.dataclass(frozen=True)
class PairConfig:
    tau: float = 0.25
    every: int = 1


class Pair(nn.Module):
    """An actor, a critic with a copy that follows it, and a temperature."""

    name = "pair"
    spec = SPEC

    def __init__(self, config: PairConfig | None = None) -> None:
        super().__init__()
        self.config = config or PairConfig()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.actor = nn.Linear(2, 2)
            self.critic = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.target = copy.deepcopy(self.critic).requires_grad_(False)

    def parameter_groups(self) -> list[Group]:
        return [Group("critic", rate=3.0, weight_decay=0.0, clip_norm=0.5), Group("log_alpha", rate=0.1)]

    def target_copies(self) -> list[TargetCopy]:
        return [TargetCopy("critic", "target", tau=self.config.tau, every=self.config.every)]

    def prepare(self, episodes: object) -> None: ...

    def adapt(self, contexts: object) -> None: ...

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        value = self.critic(self.actor(batch))
        loss = ((value - batch.sum(-1, keepdim=True)) ** 2).mean() + self.log_alpha.exp() * self.actor(batch).norm()
        return loss, {}


def sample(rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.normal(size=(8, 2)).astype(np.float32))


def train(
    directory: Path, learner: nn.Module, plan: TrainConfig = PLAN, draw: object = sample, **options: object
) -> None:
    fit(learner, FixedSource(draw), plan, directory, {}, Display(quiet=True), **options)


def by_hand(learner: Pair, plan: TrainConfig = PLAN) -> Pair:
    """Three optimizers, each with its own rate and decay; two norms; a copy that is moved after every step."""
    from watchtrylearn.ops.random import generator

    rest, critic = list(learner.actor.parameters()), list(learner.critic.parameters())
    matrices = [p for p in critic if p.ndim > 1]
    optimizers = [
        (torch.optim.AdamW([learner.actor.weight], weight_decay=0.1, fused=True), 1.0),
        (torch.optim.AdamW([learner.actor.bias], weight_decay=0.0, fused=True), 1.0),
        (torch.optim.AdamW(matrices + [p for p in critic if p.ndim < 2], weight_decay=0.0, fused=True), 3.0),
        (torch.optim.AdamW([learner.log_alpha], weight_decay=0.0, fused=True), 0.1),
    ]
    for step in range(plan.steps):
        learner.zero_grad()
        learner.loss(sample(generator("train", plan.seed, step)))[0].backward()
        nn.utils.clip_grad_norm_([*rest, learner.log_alpha], plan.clip_norm)
        nn.utils.clip_grad_norm_(critic, 0.5)
        for optimizer, factor in optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(step, plan) * factor
            optimizer.step()
        if (step + 1) % learner.config.every == 0:
            for mine, theirs in zip(learner.target.parameters(), learner.critic.parameters(), strict=True):
                mine.lerp_(theirs.detach(), learner.config.tau)
            for mine, theirs in zip(learner.target.buffers(), learner.critic.buffers(), strict=True):
                mine.copy_(torch.lerp(mine, theirs, learner.config.tau) if mine.is_floating_point() else theirs)
    return learner


def equal(a: nn.Module, b: nn.Module) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_groups_and_copies_are_the_loop_by_hand(tmp_path: Path) -> None:
    learner = Pair()
    train(tmp_path, learner)
    assert equal(learner, by_hand(Pair()))


def test_a_copy_every_so_many_steps_is_the_weights_of_then(tmp_path: Path) -> None:
    learner = Pair(PairConfig(tau=1.0, every=12))
    train(tmp_path / "30", learner)
    then = Pair(PairConfig(tau=1.0, every=12))
    half = {"draw": stopping_after(24)}
    with pytest.raises(StopHere):
        train(tmp_path / "24", then, **half)
    assert equal(learner.target, then.critic)
    assert not torch.equal(learner.target[0].weight, learner.critic[0].weight)


class StopHere(Exception): ...


def stopping_after(steps: int):
    drawn = 0

    def draw(rng: np.random.Generator) -> Tensor:
        nonlocal drawn
        drawn += 1
        if drawn > steps:
            raise StopHere
        return sample(rng)

    return draw


def test_the_copy_and_the_groups_are_resumed_to_the_bit(tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, checkpoint_every=0.0, average=0.9)
    calm, wild = Pair(), Pair()
    train(tmp_path / "calm", calm, plan)
    with pytest.raises(StopHere):
        train(tmp_path / "wild", Pair(), plan, draw=stopping_after(17))
    found = load_latest(tmp_path / "wild" / "checkpoints", dict)
    assert found.step == 17
    assert "model/target.0.weight" in found.tensors
    train(tmp_path / "wild", wild, plan)
    assert equal(calm, wild)


def test_a_copy_that_is_due_after_a_skipped_step_is_made(tmp_path: Path) -> None:
    """Else what gathered a round would be forgotten for a whole round."""
    drawn = 0

    def draw(rng: np.random.Generator) -> Tensor:
        nonlocal drawn
        drawn += 1
        return sample(rng) * (math.nan if drawn == 4 else 1)

    learner = Pair(PairConfig(tau=1.0, every=4))
    learner.critic[1].track_running_stats = learner.target[1].track_running_stats = False
    train(tmp_path, learner, dataclasses.replace(PLAN, steps=4), draw=draw)
    assert equal(learner.critic, learner.target)


@pytest.mark.parametrize(
    ("groups", "targets", "sentence"),
    [
        ([Group("critc")], [], "group critc: the learner has no parameter of that name"),
        ([Group("critic"), Group("critic.0")], [], "critic.0.weight is in two groups, critic and critic.0"),
        ([], [TargetCopy("actor", "target")], "target target: it is not a copy of the learner's actor"),
        ([], [TargetCopy("critic", "nothing")], "target nothing: it is not a copy of the learner's critic"),
        ([], [TargetCopy("critic", "critic")], "target critic: its parameter critic.0.weight asks for a gradient"),
    ],
)
def test_groups_and_copies_that_do_not_fit_are_refused(groups: list, targets: list, sentence: str) -> None:
    learner = Pair()
    learner.parameter_groups, learner.target_copies = (lambda: groups), (lambda: targets)
    with pytest.raises(WtlError, match=sentence):
        GradientDescent(learner, PLAN)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Group("actor", rate=-1.0), "group actor: rate must be between 0"),
        (lambda: Group("actor", clip_norm=math.nan), "group actor: clip_norm must be between 0"),
        (lambda: TargetCopy("critic", "target", tau=1.5), "target target: tau must be between 0 and 1"),
        (lambda: TargetCopy("critic", "target", every=0), "target target: every must be between 1"),
    ],
)
def test_impossible_groups_and_copies_are_refused(make: object, sentence: str) -> None:
    with pytest.raises(WtlError, match=sentence):
        make()


# ------------------------------------------------------------------------------------------ another update


class SignDescent:
    """Another update: a step of fixed size against the sign of the gradient, whose size shrinks when the loss rises."""

    name = "sign descent"

    def __init__(self, learner: Pair, config: TrainConfig) -> None:
        self.learner, self.size, self.last = learner, torch.tensor(0.01), torch.tensor(math.inf)

    def step(self, batch: Tensor, step: int) -> dict[str, float] | None:
        loss, _ = self.learner.loss(batch)
        self.learner.zero_grad()
        loss.backward()
        if not math.isfinite(loss.item()):
            return None
        if loss > self.last:
            self.size *= 0.9
        self.last = loss.detach()
        with torch.no_grad():
            for parameter in self.learner.parameters():
                if parameter.grad is not None:
                    parameter -= self.size * parameter.grad.sign()
        return {"loss": loss.item(), "size": self.size.item()}

    def tensors(self) -> dict[str, Tensor]:
        return {"size": self.size, "last": self.last}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.size, self.last = tensors["size"].clone(), tensors["last"].clone()

    def finish(self) -> None:
        pass


def test_the_loop_does_not_know_which_update_it_runs(tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, checkpoint_every=0.0)
    calm, wild = Pair(), Pair()
    train(tmp_path / "calm", calm, plan, update=SignDescent)
    with pytest.raises(StopHere):
        train(tmp_path / "wild", Pair(), plan, draw=stopping_after(17), update=SignDescent)
    train(tmp_path / "wild", wild, plan, update=SignDescent)
    assert equal(calm, wild)
    with pytest.raises(WtlError, match=r"update is .sign descent., not .gradient descent."):
        train(tmp_path / "wild", Pair(), plan)


# ------------------------------------------------------------------------------------------------- devices


class Moved:
    """A batch that notes where it is moved."""

    def __init__(self, values: Tensor, notes: list[str]) -> None:
        self.values, self.notes = values, notes

    def to(self, device: torch.device | str) -> Tensor:
        self.notes.append(str(device))
        return self.values


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_the_learner_and_every_batch_are_moved_to_the_device(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what is asked of them: nothing here has a GPU, though torch is made to say that there is one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    batches: list[str] = []
    learner, modules = Pair(), []
    monkeypatch.setattr(learner, "to", lambda where: modules.append(str(where)))
    plan = dataclasses.replace(PLAN, steps=3)
    train(tmp_path, learner, plan, draw=lambda rng: Moved(sample(rng), batches), device=device)
    assert modules == [device]
    assert batches == [device] * 3
    plain = Pair()
    train(tmp_path / "plain", plain, plan)
    assert equal(learner, plain)
