"""Watch, try, learn: few-shot robot learning from one demonstration, own trials and yes or no.

import watchtrylearn as wtl

suite = wtl.make_suite("tabletop")
task = suite.tasks("test")[1]
demo = suite.demonstrate(task, seed=0)
learner = wtl.load(wtl.pretrained("wtl-state") / "watch_try_learn")
context = wtl.Context(demos=[demo])
trial = wtl.rollout(learner.adapt([context]), suite.worlds([task], seeds=[1]))[0]
retrial = wtl.rollout(learner.adapt([context.with_trial(trial)]), suite.worlds([task], seeds=[1]))[0]
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gymnasium import register, registry

if TYPE_CHECKING:  # what the names below are, for type checkers and editors
    from watchtrylearn.data.batches import collate, gather, stack
    from watchtrylearn.data.frames import load_memory
    from watchtrylearn.data.indices import SliceIndex, TableIndex, TransitionIndex
    from watchtrylearn.data.lerobot import read_lerobot
    from watchtrylearn.data.memory import EpisodeMemory
    from watchtrylearn.data.sampling import PairIndex, Sampling
    from watchtrylearn.data.store import EpisodeStore
    from watchtrylearn.data.table import EpisodeTable
    from watchtrylearn.learners import learner_names, load, make_learner
    from watchtrylearn.learners.bc import BCConfig
    from watchtrylearn.learners.contextual import ContextualConfig
    from watchtrylearn.learners.one_shot import OneShotConfig
    from watchtrylearn.learners.trials_only import TrialsOnlyConfig
    from watchtrylearn.learners.watch_try_learn import WatchTryLearnConfig
    from watchtrylearn.learners.weights import pretrained
    from watchtrylearn.nn.target_net import NetConfig
    from watchtrylearn.ops.noise import SmoothNoise
    from watchtrylearn.ops.symmetry import Symmetry, SymmetryGroup
    from watchtrylearn.protocol import Attempt, Scene, evaluate
    from watchtrylearn.rollouts import rollout, states
    from watchtrylearn.suites import Suite, make_suite, suite_names
    from watchtrylearn.training.config import TrainConfig
    from watchtrylearn.training.fit import fit
    from watchtrylearn.training.sources import FixedSource, OnPolicySource, ReplaySource
    from watchtrylearn.training.update import Group, TargetCopy
    from watchtrylearn.types import (
        Adaptive,
        Channel,
        Context,
        Episode,
        Explorer,
        ImageChannel,
        Learner,
        Observation,
        Policy,
        Spec,
        Successor,
        Task,
        Tellable,
        WtlError,
    )

_HOME = {
    "collate": "data.batches",
    "gather": "data.batches",
    "stack": "data.batches",
    "load_memory": "data.frames",
    "SliceIndex": "data.indices",
    "TableIndex": "data.indices",
    "TransitionIndex": "data.indices",
    "EpisodeMemory": "data.memory",
    "EpisodeTable": "data.table",
    "PairIndex": "data.sampling",
    "Sampling": "data.sampling",
    "read_lerobot": "data.lerobot",
    "EpisodeStore": "data.store",
    "learner_names": "learners",
    "load": "learners",
    "make_learner": "learners",
    "BCConfig": "learners.bc",
    "ContextualConfig": "learners.contextual",
    "OneShotConfig": "learners.one_shot",
    "TrialsOnlyConfig": "learners.trials_only",
    "WatchTryLearnConfig": "learners.watch_try_learn",
    "NetConfig": "nn.target_net",
    "SmoothNoise": "ops.noise",
    "Symmetry": "ops.symmetry",
    "SymmetryGroup": "ops.symmetry",
    "Attempt": "protocol",
    "Scene": "protocol",
    "evaluate": "protocol",
    "rollout": "rollouts",
    "states": "rollouts",
    "Suite": "suites",
    "make_suite": "suites",
    "suite_names": "suites",
    "TrainConfig": "training.config",
    "fit": "training.fit",
    "FixedSource": "training.sources",
    "OnPolicySource": "training.sources",
    "ReplaySource": "training.sources",
    "Group": "training.update",
    "TargetCopy": "training.update",
    "Adaptive": "types",
    "Channel": "types",
    "Context": "types",
    "Episode": "types",
    "Explorer": "types",
    "ImageChannel": "types",
    "Learner": "types",
    "Observation": "types",
    "Policy": "types",
    "Spec": "types",
    "Successor": "types",
    "Task": "types",
    "Tellable": "types",
    "WtlError": "types",
    "pretrained": "learners.weights",
}

ENV_ID = "watchtrylearn/Tabletop-v0"
if (
    ENV_ID not in registry
):  # Gymnasium finds no plug-ins by itself: whoever imports us may `make` it, MuJoCo waits for that
    register(
        ENV_ID,
        entry_point="watchtrylearn.suites.tabletop.env:TabletopEnv",
        vector_entry_point="watchtrylearn.suites.tabletop.env:TabletopVectorEnv",
        max_episode_steps=50,
    )

__version__ = version("watchtrylearn")
__all__ = [
    "Adaptive", "Attempt", "BCConfig", "Channel", "Context", "ContextualConfig", "Episode", "EpisodeMemory",
    "EpisodeStore", "EpisodeTable", "Explorer", "FixedSource", "Group", "ImageChannel", "Learner", "NetConfig",
    "Observation", "OnPolicySource", "OneShotConfig", "PairIndex", "Policy", "ReplaySource", "Sampling", "Scene",
    "SliceIndex", "SmoothNoise", "Spec", "Successor", "Suite", "Symmetry", "SymmetryGroup", "TableIndex",
    "TargetCopy", "Task", "Tellable", "TrainConfig", "TransitionIndex", "TrialsOnlyConfig", "WatchTryLearnConfig",
    "WtlError", "collate", "evaluate", "fit", "gather", "learner_names", "load", "load_memory", "make_learner",
    "make_suite", "pretrained", "read_lerobot", "rollout", "stack", "states", "suite_names",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names are imported on first use: importing torch takes seconds, and ``wtl --help`` needs none of it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
