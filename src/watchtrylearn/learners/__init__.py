"""The methods, one file each, and the table that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from watchtrylearn.errors import suggestion
from watchtrylearn.learners.bc import BC, BCConfig
from watchtrylearn.learners.contextual import Contextual, ContextualConfig
from watchtrylearn.learners.one_shot import OneShot, OneShotConfig
from watchtrylearn.learners.trials_only import TrialsOnly, TrialsOnlyConfig
from watchtrylearn.learners.watch_try_learn import WatchTryLearn, WatchTryLearnConfig
from watchtrylearn.system.config import from_json
from watchtrylearn.training import checkpoint
from watchtrylearn.types import Spec, WtlError

AnyLearner = BC | Contextual | OneShot | TrialsOnly | WatchTryLearn
AnyConfig = BCConfig | ContextualConfig | OneShotConfig | TrialsOnlyConfig | WatchTryLearnConfig

MOST_NUMBERS = 2**27  # in a learner: half a GiB, of which training needs four
_LEARNERS: dict[str, tuple[Any, Any]] = {  # name -> (learner, its config)
    "bc": (BC, BCConfig),
    "contextual": (Contextual, ContextualConfig),
    "one_shot": (OneShot, OneShotConfig),
    "trials_only": (TrialsOnly, TrialsOnlyConfig),
    "watch_try_learn": (WatchTryLearn, WatchTryLearnConfig),
}


def learner_names() -> list[str]:
    return list(_LEARNERS)


def config_class(name: str) -> Any:
    """The config dataclass of the learner ``name``; an unknown name is refused with the nearest right one."""
    return _entry(name)[1]


def make_learner(name: str, spec: Spec, config: AnyConfig | None = None, seed: int = 0) -> AnyLearner:
    """A fresh learner for episodes of ``spec``, its weights drawn from ``seed``.

    Raises ``WtlError`` for an unknown name, and for sizes that together are more than ``MOST_NUMBERS``.
    """
    learner, config_type = _entry(name)
    chosen = config if config is not None else config_type()
    outline(name, spec, chosen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: AnyLearner = learner(chosen, spec)
    return made


def outline(name: str, spec: Spec, config: AnyConfig) -> dict[str, torch.Size]:
    """The shape of every tensor of a learner, of which nothing is built."""
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in _entry(name)[0](config, spec).state_dict().items()}
    numbers = sum(shape.numel() for shape in shapes.values())
    if numbers > MOST_NUMBERS:
        raise WtlError(
            f"{name} would have {numbers:,} numbers, more than {MOST_NUMBERS:,}; choose smaller sizes of net"
        )
    return shapes


def load(path: str | Path) -> AnyLearner:
    """The trained learner in the folder ``path`` (``model.safetensors`` and ``model.json``), ready to ``adapt``."""
    meta, tensors = checkpoint.load_model(path)
    name, where = meta.learner, f"{path}/model.json"
    try:
        config = from_json(config_class(name), meta.config, name)
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


def load_named(name: str, path: Path) -> AnyLearner:
    """The trained learner in the folder ``path``, which must hold the learner ``name`` and no other."""
    learner = load(path)
    if learner.name != name:
        raise WtlError(f"{path} holds a trained {learner.name}, not {name}; remove it")
    return learner


def _entry(name: str) -> tuple[Any, Any]:
    if name not in _LEARNERS:
        raise WtlError(f"unknown learner {name[:60]!r}; {suggestion(name, _LEARNERS)}")
    return _LEARNERS[name]
