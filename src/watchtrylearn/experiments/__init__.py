"""Experiments: every result of this project as a named, frozen config, and the steps that produce it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from watchtrylearn.errors import suggestion
from watchtrylearn.learners import learner_entry, learner_names
from watchtrylearn.learners.contextual import EMBEDDING
from watchtrylearn.learners.watch_try_learn import WatchTryLearnConfig
from watchtrylearn.nn.target_net import NetConfig
from watchtrylearn.system.config import override, require_within
from watchtrylearn.training.fit import TrainConfig
from watchtrylearn.types import Split, WtlError

MOST = 1_000_000  # tasks, or scenes of each
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True)
class Training:
    """How long and how each learner is trained."""

    bc: TrainConfig = field(default_factory=TrainConfig)
    contextual: TrainConfig = field(default_factory=TrainConfig)
    one_shot: TrainConfig = field(default_factory=TrainConfig)
    trials_only: TrainConfig = field(default_factory=TrainConfig)
    watch_try_learn: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class Experiment:
    """Watch, try, learn, evaluate: everything that determines the numbers.

    Attributes:
        name, summary: what it is called, and in one sentence what it shows.
        suite: where it happens.
        tasks: training tasks used (0: all), the first of every family alike.
        demos_per_task: scenes in which each training task is demonstrated.
        trials_per_demo: trials of the trial policy in each demonstrated scene.
        blind_trials_per_demo: trials without any demonstration, for ``trials_only``.
        demos: relative frequency of 0, 1, 2 ... demonstrations in a training context of learners that watch.
        frames: steps imitated of each training example's query.
        net: the network of every learner (the contextual policy's with an embedding of its own).
        warm_start: the retrial network begins as a copy of the trial network.
        elsewhere: share of the retrial network's training examples whose trials were made in any scene of the task.
        train: the training of each.
        split: tasks to evaluate on; ``eval_tasks`` of them (0: all), ``scenes`` scenes each.
        attempts: how often each method may try after its first attempt.
        gallery: clips in the report.
        seed: of weights, batches, trials and evaluation.
    """

    name: str
    summary: str
    suite: str
    tasks: int = 0
    demos_per_task: int = 8
    trials_per_demo: int = 2
    blind_trials_per_demo: int = 1
    demos: tuple[float, ...] = (0.0, 1.0)
    frames: int = 16
    net: NetConfig = field(default_factory=NetConfig)
    warm_start: bool = True
    elsewhere: float = 0.0
    train: Training = field(default_factory=Training)
    split: Split = "test"
    eval_tasks: int = 0
    scenes: int = 12
    attempts: int = 2
    gallery: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise WtlError(f"an experiment's name is up to 100 letters, digits, '-' and '_', not {self.name[:100]!r}")
        require_within(
            "",
            self,
            tasks=(0, MOST),
            demos_per_task=(2, MOST),  # a demonstration comes from another scene
            trials_per_demo=(1, 1000),
            blind_trials_per_demo=(1, 1000),
            eval_tasks=(0, MOST),
            scenes=(2, MOST),
            attempts=(1, 1000),
            gallery=(0, 1000),
            seed=(0, 2**32),
        )
        if self.scenes % 2:
            raise WtlError(f"scenes must be even, so that exactly half of them are in conflict; got {self.scenes}")
        for learner in learner_names():
            self.config(learner)  # refuses what does not fit, before any work

    def config(self, learner: str) -> Any:
        """The config of a learner in this experiment, complete: what it is built and trained with."""
        made = learner_entry(learner).config()
        net = replace(self.net, embedding=EMBEDDING) if learner == "contextual" else self.net
        sampling = replace(made.sampling, frames=self.frames)
        if len(sampling.demos) > 1:  # a learner that watches
            sampling = replace(sampling, demos=self.demos)
        if isinstance(made, WatchTryLearnConfig):
            sampling = replace(sampling, elsewhere=self.elsewhere)
            return replace(made, net=net, warm_start=self.warm_start, sampling=sampling)
        return replace(made, net=net, sampling=sampling)


def _training(
    common: TrainConfig, *, bc: int, contextual: int, one_shot: int, trials_only: int, watch_try_learn: int
) -> Training:
    """The same training for every learner but for its number of steps."""
    return Training(
        bc=replace(common, steps=bc),
        contextual=replace(common, steps=contextual),
        one_shot=replace(common, steps=one_shot),
        trials_only=replace(common, steps=trials_only),
        watch_try_learn=replace(common, steps=watch_try_learn),
    )


EXPERIMENTS = (
    Experiment(
        name="demo",
        summary="the main job at laptop scale: four families of tabletop tasks",
        suite="tabletop",
        tasks=0,
        demos_per_task=8,
        trials_per_demo=3,
        blind_trials_per_demo=2,
        net=NetConfig(embedding="object", mixtures=1),
        train=_training(
            TrainConfig(batch_size=64, learning_rate=2e-3),
            bc=1000,
            contextual=1000,
            one_shot=3500,
            trials_only=1500,
            watch_try_learn=2000,
        ),
        scenes=12,
    ),
    Experiment(
        name="wtl-state",
        summary="what one demonstration leaves open, one trial settles: every method, three seeds, at full scale",
        suite="tabletop",
        demos_per_task=10,
        trials_per_demo=3,
        blind_trials_per_demo=3,
        demos=(0.0, 3.0, 1.0),
        net=NetConfig(embedding="object", mixtures=1),
        train=_training(
            TrainConfig(batch_size=64, learning_rate=2e-3),
            bc=3000,
            contextual=8000,
            one_shot=8000,
            trials_only=4000,
            watch_try_learn=4000,
        ),
        scenes=24,
        attempts=5,
        gallery=0,
    ),
    Experiment(
        name="wtl-curves",
        summary="how much data it takes: success against training tasks and demonstrations of each",
        suite="tabletop",
        trials_per_demo=3,
        net=NetConfig(embedding="object", mixtures=1),
        train=_training(
            TrainConfig(batch_size=64, learning_rate=2e-3),
            bc=1000,
            contextual=1000,
            one_shot=3500,
            trials_only=1500,
            watch_try_learn=2000,
        ),
        scenes=12,
        gallery=0,
    ),
    Experiment(
        name="wtl-reacher",
        summary="the authors' toy arm: a demonstration shows the target, a trial how the joints are wired",
        suite="reacher",
        demos_per_task=500,
        trials_per_demo=2,
        net=NetConfig(embedding="transitions", hidden=(256, 256), mixtures=1, chunk=1, execute=1),
        warm_start=False,
        elsewhere=0.5,
        train=_training(
            TrainConfig(batch_size=64, learning_rate=2e-3),
            bc=5000,
            contextual=5000,
            one_shot=5000,
            trials_only=20000,
            watch_try_learn=20000,
        ),
        scenes=60,
        attempts=1,
        gallery=0,
    ),
    Experiment(
        name="debug",
        summary="the same steps on physics-free point tasks in under a minute",
        suite="toy",
        demos_per_task=8,
        trials_per_demo=2,
        blind_trials_per_demo=1,
        frames=4,
        net=NetConfig(embedding="object", width=64, hidden=(128, 128), chunk=5, execute=5),
        train=_training(
            TrainConfig(batch_size=64, learning_rate=3e-3),
            bc=300,
            contextual=300,
            one_shot=600,
            trials_only=400,
            watch_try_learn=800,
        ),
        scenes=20,
        gallery=0,
    ),
)


def experiment(name: str, settings: Sequence[str] = ()) -> Experiment:
    """The experiment called ``name`` with ``"option=value"`` settings applied.

    An unknown name or option is refused with the nearest right one.
    """
    known = {e.name: e for e in EXPERIMENTS}
    if name not in known:
        raise WtlError(f"unknown experiment {name!r}; {suggestion(name, known)}")
    chosen = override(known[name], settings, f"experiment {name}")
    if chosen.name != name:
        raise WtlError(f"the name of experiment {name} cannot be set: it says which experiment was changed")
    return chosen
