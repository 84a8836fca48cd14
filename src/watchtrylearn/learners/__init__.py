"""The methods, one file each, and the table that names them (docs/adding-a-method.md).

The order of the table is that of tables and figures, and of their colours: a new row comes last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from watchtrylearn.errors import suggestion
from watchtrylearn.learners.bc import BC, BCConfig
from watchtrylearn.learners.contextual import Contextual, ContextualConfig
from watchtrylearn.learners.lstm import LSTM, LSTMConfig
from watchtrylearn.learners.lstm_attention import LSTMAttention, LSTMAttentionConfig
from watchtrylearn.learners.mil import MIL, MILConfig
from watchtrylearn.learners.one_shot import OneShot, OneShotConfig
from watchtrylearn.learners.random import Random, RandomConfig
from watchtrylearn.learners.trials_only import TrialsOnly, TrialsOnlyConfig
from watchtrylearn.learners.watch_try_learn import WatchTryLearn, WatchTryLearnConfig
from watchtrylearn.system.config import from_json
from watchtrylearn.training import checkpoint
from watchtrylearn.types import Learner, Spec, WtlError

if TYPE_CHECKING:
    LearnerClass = type[Learner]
else:  # no class can be held against a protocol that has attributes; a test holds what each builds against it
    LearnerClass = type

MOST_NUMBERS = 2**27  # in a learner: half a GiB, of which training needs four


@dataclass(frozen=True)
class LearnerEntry:
    """A row of the table of methods: all that the rest of the library knows about one.

    Attributes:
        name: as commands and folders have it; the ``name`` of the class too.
        learner: its class, built from a config and a spec.
        config: the class of its config, whose defaults are complete.
        label: what tables and figures call it.
        summary: what is being learned, for the line that the command line prints while it trains.
        uses_demos, uses_trials: what it looks at in a context. One that uses trials is evaluated after each of them.
    """

    name: str
    learner: LearnerClass
    config: type[Any]
    label: str
    summary: str
    uses_demos: bool = True
    uses_trials: bool = False

    # What its class and its config say by what they have. (``issubclass`` cannot ask a protocol that has attributes.)

    @property
    def starts_from(self) -> str | None:
        """The learner from whose weights it begins, if it is a ``Successor``."""
        found: str | None = getattr(self.learner, "starts_from", None)
        return found

    @property
    def has_source(self) -> bool:
        """Does it say itself what it is trained on (``training.material.Sourced``)?"""
        return hasattr(self.learner, "source")

    @property
    def fixed(self) -> tuple[str, ...]:
        """Options of its config that make it what it is, and are not set for all methods at once (``FIXED``)."""
        found: tuple[str, ...] = getattr(self.config, "FIXED", ())
        return found

    def sampling(self, config: Any) -> object:
        """How examples for it are drawn: the field ``sampling`` of a config of its class; None without one."""
        return getattr(config, "sampling", None)

    def image_frames(self, config: Any) -> int | None:
        """How many images it is shown of every episode in a context (the field ``image_frames``); None: it is shown
        none at all."""
        return getattr(config, "image_frames", None)


LEARNERS = (
    LearnerEntry(
        name="bc",
        learner=BC,
        config=BCConfig,
        label="behaviour cloning",
        summary="behaviour cloning (it sees no demonstration)",
        uses_demos=False,
    ),
    LearnerEntry(
        name="contextual",
        learner=Contextual,
        config=ContextualConfig,
        label="contextual policy",
        summary="the contextual policy, from the last frame of a demonstration",
    ),
    LearnerEntry(
        name="one_shot",
        learner=OneShot,
        config=OneShotConfig,
        label="one-shot imitation",
        summary="the trial policy, by one-shot imitation",
    ),
    LearnerEntry(
        name="trials_only",
        learner=TrialsOnly,
        config=TrialsOnlyConfig,
        label="trials only",
        summary="a policy from own trials alone",
        uses_demos=False,
        uses_trials=True,
    ),
    LearnerEntry(
        name="watch_try_learn",
        learner=WatchTryLearn,
        config=WatchTryLearnConfig,
        label="Watch-Try-Learn",
        summary="the retrial policy, from demonstration + trials + outcomes",
        uses_trials=True,
    ),
    LearnerEntry(
        name="mil",
        learner=MIL,
        config=MILConfig,
        label="MIL",
        summary="meta-imitation: weights that a gradient step on a demonstration adapts",
    ),
    LearnerEntry(
        name="random",
        learner=Random,
        config=RandomConfig,
        label="random actions",
        summary="random actions (there is nothing to train)",
        uses_demos=False,
    ),
    LearnerEntry(
        name="lstm",
        learner=LSTM,
        config=LSTMConfig,
        label="LSTM",
        summary="the recurrent policy, which reads a demonstration",
    ),
    LearnerEntry(
        name="lstm_attention",
        learner=LSTMAttention,
        config=LSTMAttentionConfig,
        label="LSTM + attention",
        summary="the recurrent policy that attends to the thing a demonstration is about",
    ),
)


def learner_names() -> list[str]:
    """Every method, in the order of the table."""
    return [entry.name for entry in LEARNERS]


def learner_entry(name: str) -> LearnerEntry:
    """The row of the method ``name``; an unknown name is refused with the nearest right one."""
    for entry in LEARNERS:
        if entry.name == name:
            return entry
    raise WtlError(f"unknown learner {name[:60]!r}; {suggestion(name, learner_names())}")


def make_learner(name: str, spec: Spec, config: Any = None, seed: int = 0) -> Learner:
    """A fresh learner for episodes of ``spec``, its weights drawn from ``seed``.

    Raises ``WtlError`` for an unknown name, and for sizes that together are more than ``MOST_NUMBERS``.
    """
    entry = learner_entry(name)
    chosen = config if config is not None else entry.config()
    outline(name, spec, chosen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return entry.learner(chosen, spec)


def outline(name: str, spec: Spec, config: Any) -> dict[str, torch.Size]:
    """The shape of every tensor of a learner, of which nothing is built."""
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in learner_entry(name).learner(config, spec).state_dict().items()}
    numbers = sum(shape.numel() for shape in shapes.values())
    if numbers > MOST_NUMBERS:
        raise WtlError(
            f"{name} would have {numbers:,} numbers, more than {MOST_NUMBERS:,}; choose smaller sizes of net"
        )
    return shapes


def load(path: str | Path) -> Learner:
    """The trained learner in the folder ``path`` (``model.safetensors`` and ``model.json``), ready to ``adapt``."""
    meta, tensors = checkpoint.load_model(path)
    name, where = meta.learner, f"{path}/model.json"
    try:
        config = from_json(learner_entry(name).config, meta.config, name)
        spec = Spec.from_json(meta.spec)
        expected = outline(name, spec, config)
    except WtlError as error:
        raise WtlError(f"{where}: {error}") from error
    found = {key: tensor.shape for key, tensor in tensors.items()}
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            here, there = (list(shapes[key]) if key in shapes else "missing" for shapes in (found, expected))
            raise WtlError(f"{path}/model.safetensors does not fit {name}: {key[:60]} is {here}, not {there}")
    learner = make_learner(name, spec, config)
    learner.load_state_dict(tensors)
    learner.train(False)
    return learner


def load_named(name: str, path: Path) -> Learner:
    """The trained learner in the folder ``path``, which must hold the learner ``name`` and no other."""
    learner = load(path)
    if learner.name != name:
        raise WtlError(f"{path} holds a trained {learner.name}, not {name}; remove it")
    return learner
