"""The methods, one file each, and the table that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from watchtrylearn import checkpoint
from watchtrylearn.config import from_json
from watchtrylearn.errors import suggestion
from watchtrylearn.learners.bc import BC, BCConfig
from watchtrylearn.learners.contextual import Contextual, ContextualConfig
from watchtrylearn.learners.one_shot import OneShot, OneShotConfig
from watchtrylearn.learners.trials_only import TrialsOnly, TrialsOnlyConfig
from watchtrylearn.learners.watch_try_learn import WatchTryLearn, WatchTryLearnConfig
from watchtrylearn.types import Spec, WtlError

AnyLearner = BC | Contextual | OneShot | TrialsOnly | WatchTryLearn
AnyConfig = BCConfig | ContextualConfig | OneShotConfig | TrialsOnlyConfig | WatchTryLearnConfig

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
    """A fresh learner for episodes of ``spec``, its weights drawn from ``seed``."""
    learner, config_type = _entry(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: AnyLearner = learner(config if config is not None else config_type(), spec)
    return made


def load(path: str | Path) -> AnyLearner:
    """The trained learner in the folder ``path`` (``model.safetensors`` and ``model.json``), ready to ``adapt``."""
    meta, tensors = checkpoint.load_model(path)
    config = from_json(config_class(meta["learner"]), meta["config"], f"{path}/model.json: {meta['learner']}")
    learner = make_learner(meta["learner"], Spec.from_json(meta["spec"]), config)
    try:
        learner.load_state_dict(tensors)
    except RuntimeError as error:
        raise WtlError(f"{path}/model.safetensors does not fit {meta['learner']}: {error}") from error
    learner.train(False)
    return learner


def _entry(name: str) -> tuple[Any, Any]:
    if name not in _LEARNERS:
        raise WtlError(f"unknown learner {name!r}; {suggestion(name, _LEARNERS)}")
    return _LEARNERS[name]
