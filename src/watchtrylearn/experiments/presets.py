"""Every result of this project as a named plan, and how a person changes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from watchtrylearn.data.sampling import Sampling
from watchtrylearn.errors import suggestion
from watchtrylearn.experiments.plan import Experiment, Method, as_json
from watchtrylearn.learners import learner_entry, learner_names
from watchtrylearn.learners.bc import BCConfig
from watchtrylearn.learners.contextual import EMBEDDING, ContextualConfig
from watchtrylearn.learners.one_shot import OneShotConfig
from watchtrylearn.learners.trials_only import TrialsOnlyConfig
from watchtrylearn.learners.watch_try_learn import WatchTryLearnConfig
from watchtrylearn.nn.target_net import NetConfig
from watchtrylearn.suites.outside import located
from watchtrylearn.system.config import assign, from_json, mistakes_of, parsed, refuse
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.types import WtlError

LAPTOP = {"bc": 1000, "contextual": 1000, "one_shot": 3500, "trials_only": 1500, "watch_try_learn": 2000}


@dataclass(frozen=True)
class Remedies:
    """What keeps a method from learning few tasks by heart (docs/few-tasks.md); without arguments, nothing does.

    Attributes:
        symmetries: of all methods (``Sampling``).
        relabelled: share of such examples of the methods that learn from trials (``Sampling``).
        folds, fold_steps: of the methods that make trials (``Method``).
    """

    symmetries: bool = False
    relabelled: float = 0.0
    folds: int = 0
    fold_steps: int = 0


def watch_try_learn(
    net: NetConfig,
    train: TrainConfig,
    steps: Mapping[str, int] | None = None,
    *,
    frames: int = 16,
    demos: tuple[float, ...] = (0.0, 1.0),
    tries: int = 2,
    blind_tries: int = 1,
    elsewhere: float = 0.0,
    warm_start: bool = True,
    remedies: Remedies = Remedies(),
) -> dict[str, Method]:
    """Watch-Try-Learn and what it is compared with: five methods with one network and one training.

    Args:
        net: of all, but for the contextual policy's embedding.
        train, steps: the training of all, but for the number of steps of each.
        frames: steps imitated of each training example's query.
        demos: relative frequency of 0, 1, 2 ... demonstrations in a training context of methods that watch.
        tries, blind_tries: trials in each demonstrated scene, after a demonstration and without one.
        elsewhere: share of the retrial network's training examples whose trials were made in any scene of the task.
        warm_start: the retrial network begins as a copy of the trial network.
        remedies: against learning few tasks by heart.
    """

    def sampling(usual: Any, **changes: Any) -> Sampling:
        found: Sampling = usual().sampling
        return replace(found, frames=frames, symmetries=remedies.symmetries, **changes)

    relabelled = remedies.relabelled
    retrial = sampling(WatchTryLearnConfig, demos=demos, elsewhere=elsewhere, relabelled=relabelled)
    blind = sampling(TrialsOnlyConfig, relabelled=relabelled)
    folds, fold_steps = remedies.folds, remedies.fold_steps
    last_frame = replace(net, embedding=EMBEDDING)
    found = {
        "bc": Method("bc", BCConfig(net, sampling(BCConfig)), tries=blind_tries, folds=folds, fold_steps=fold_steps),
        "contextual": Method(
            "contextual", ContextualConfig(last_frame, sampling(ContextualConfig, demos=demos)), main=False
        ),
        "one_shot": Method(
            "one_shot",
            OneShotConfig(net, sampling(OneShotConfig, demos=demos)),
            tries=tries,
            folds=folds,
            fold_steps=fold_steps,
        ),
        "trials_only": Method("trials_only", TrialsOnlyConfig(net, blind), trials=("bc",)),
        "watch_try_learn": Method(
            "watch_try_learn",
            WatchTryLearnConfig(net, warm_start, retrial),
            trials=("one_shot",),
            start="one_shot",
        ),
    }
    return {
        name: replace(method, train=replace(train, steps=(steps or {}).get(name, train.steps)))
        for name, method in found.items()
    }


def authors_own(
    steps: Mapping[str, int], *, demos: tuple[float, ...] = (0.0, 1.0), tries: int = 3
) -> dict[str, Method]:
    """The network that the authors released for states, in both phases (docs/learners/watch_try_learn.md): flat
    temporal convolutions, two layers of 100, one action at a time; the trial network has a mixture of 10, the
    retrial network has fresh weights and a squared error. Outside the main job."""
    trial = NetConfig(embedding="flat", hidden=(100, 100), mixtures=10, chunk=1, execute=1)
    retrial = replace(trial, mixtures=1, squared_error=True)
    watching = Sampling(demos=demos, frames=16)
    trying = replace(WatchTryLearnConfig().sampling, demos=demos, frames=16)
    train = {name: TrainConfig(batch_size=64, learning_rate=1e-3, steps=count) for name, count in steps.items()}
    return {
        AUTHORS_TRIAL: Method(
            "one_shot", OneShotConfig(trial, watching), train[AUTHORS_TRIAL], tries=tries, main=False
        ),
        AUTHORS_RETRIAL: Method(
            "watch_try_learn",
            WatchTryLearnConfig(trial, warm_start=False, sampling=trying, retrial=retrial),
            train[AUTHORS_RETRIAL],
            trials=(AUTHORS_TRIAL,),
            start=AUTHORS_TRIAL,
            main=False,
        ),
    }


AUTHORS = AUTHORS_TRIAL, AUTHORS_RETRIAL = "authors_trial", "authors_retrial"
TABLETOP_NET = NetConfig(embedding="object", mixtures=1)
USUAL = TrainConfig(batch_size=64, learning_rate=2e-3)
FEW = {"bc": 1000, "contextual": 1000, "one_shot": 3000, "trials_only": 2000, "watch_try_learn": 3000}
REMEDIES = Remedies(symmetries=True, relabelled=0.5, folds=2, fold_steps=1200)
EXPERIMENTS = (
    Experiment(
        name="demo",
        summary="the main job at laptop scale: four families of tabletop tasks",
        suite="tabletop",
        methods=watch_try_learn(
            TABLETOP_NET,
            USUAL,
            {"bc": 1000, "contextual": 1000, "one_shot": 2000, "trials_only": 1500, "watch_try_learn": 2000},
            tries=3,
            blind_tries=3,
            remedies=replace(REMEDIES, fold_steps=1000),
        ),
        tasks=130,
        demos_per_task=8,
        scenes=12,
    ),
    Experiment(
        name="wtl-state",
        summary="what one demonstration leaves open, one trial settles: every method, three seeds, at full scale",
        suite="tabletop",
        methods=watch_try_learn(
            TABLETOP_NET,
            USUAL,
            {"bc": 3000, "contextual": 8000, "one_shot": 8000, "trials_only": 4000, "watch_try_learn": 4000},
            demos=(0.0, 3.0, 1.0),
            tries=3,
            blind_tries=3,
        )
        | authors_own({AUTHORS_TRIAL: 8000, AUTHORS_RETRIAL: 8000}, demos=(0.0, 3.0, 1.0)),
        demos_per_task=10,
        scenes=24,
        attempts=5,
        gallery=0,
    ),
    Experiment(
        name="wtl-curves",
        summary="how much data it takes: success against training tasks and demonstrations of each",
        suite="tabletop",
        methods=watch_try_learn(TABLETOP_NET, USUAL, LAPTOP, tries=3),
        scenes=12,
        gallery=0,
    ),
    Experiment(
        name="wtl-few-tasks",
        summary="a trial worth learning from, with few tasks: with and without the remedies against memorisation",
        suite="tabletop",
        methods=watch_try_learn(
            TABLETOP_NET,
            USUAL,
            FEW,
            tries=3,
            blind_tries=3,
            remedies=REMEDIES,
        ),
        gallery=0,
    ),
    Experiment(
        name="wtl-reacher",
        summary="the authors' toy arm: a demonstration shows the target, a trial how the joints are wired",
        suite="reacher",
        methods=watch_try_learn(
            NetConfig(embedding="transitions", hidden=(256, 256), mixtures=1, chunk=1, execute=1),
            USUAL,
            {"bc": 5000, "contextual": 5000, "one_shot": 5000, "trials_only": 20000, "watch_try_learn": 20000},
            elsewhere=0.5,
            warm_start=False,
        ),
        demos_per_task=500,
        scenes=60,
        attempts=1,
        gallery=0,
    ),
    Experiment(
        name="debug",
        summary="the same steps on physics-free point tasks in under a minute",
        suite="toy",
        methods=watch_try_learn(
            NetConfig(embedding="object", width=64, hidden=(128, 128), chunk=5, execute=5),
            TrainConfig(batch_size=64, learning_rate=3e-3),
            {"bc": 300, "contextual": 300, "one_shot": 600, "trials_only": 400, "watch_try_learn": 800},
            frames=4,
        ),
        demos_per_task=8,
        scenes=20,
        gallery=0,
    ),
    Experiment(
        name="choices",
        summary="one of four marks: what is possible with and without a demonstration is known after every trial",
        suite="choices",
        methods=watch_try_learn(
            NetConfig(embedding="object", width=64, frames=5, hidden=(128, 128), chunk=5, execute=5),
            TrainConfig(batch_size=64, learning_rate=3e-3),
            {"bc": 600, "contextual": 600, "one_shot": 1200, "trials_only": 1000, "watch_try_learn": 1000},
            frames=4,
            tries=3,
            blind_tries=3,
            remedies=Remedies(symmetries=True, relabelled=0.5, folds=2, fold_steps=600),
        ),
        demos_per_task=8,
        scenes=16,
        attempts=3,
        gallery=0,
    ),
)
MOVED = {  # options that experiments had before they were plans
    "frames": "sampling.frames",
    "demos": "one_shot.sampling.demos",
    "elsewhere": "watch_try_learn.sampling.elsewhere",
    "trials_per_demo": "one_shot.tries",
    "blind_trials_per_demo": "bc.tries",
}


def experiment(name: str, settings: Sequence[str] = (), suite: str | None = None) -> Experiment:
    """The experiment called ``name`` with ``"option=value"`` settings applied, in ``suite`` if one is given.

    An option is one of the experiment (``scenes=4``), of a method (``one_shot.train.steps=100``), or of every method
    that has it (``net.width=32``, ``train.steps=100``). A learner of the table that the plan does not have joins it as
    it is by default, when an option of it is set (``mine.main=true``). An unknown name or option is refused with the
    nearest right one.
    """
    known = {e.name: e for e in EXPERIMENTS}
    if name not in known:
        raise WtlError(f"unknown experiment {name!r}; {suggestion(name, known)}")
    chosen = known[name] if suite is None else replace(known[name], suite=suite)
    if suite is not None and any(setting.startswith("suite=") for setting in settings):
        raise WtlError("--suite and --set suite exclude each other")
    chosen = changed(chosen, settings)
    chosen = replace(chosen, suite=located(chosen.suite))
    if chosen.name != name:
        raise WtlError(f"the name of experiment {name} cannot be set: it says which experiment was changed")
    return chosen


def changed(chosen: Experiment, settings: Sequence[str]) -> Experiment:
    """The experiment with ``"option=value"`` settings applied; all mistakes are said at once."""
    where = f"experiment {chosen.name}"
    stored, mistakes = as_json(chosen), []
    for setting in settings:
        try:
            path, value = parsed(setting)
            for place in _places(stored, path, where):
                assign(stored, place, value, where, ".".join(path))
        except WtlError as error:
            mistakes += mistakes_of(error)
    methods: dict[str, Method] = {}
    wrong: dict[str, list[str]] = {}  # mistake -> the methods that have it
    for name, value in stored["methods"].items():
        try:
            methods[name] = Method.from_json(value, name)
        except WtlError as error:
            for mistake in mistakes_of(error):
                wrong.setdefault(mistake.removeprefix(f"{name}."), []).append(name)
    mistakes += [text if len(names) > 1 else f"{names[0]}: {text}" for text, names in wrong.items()]
    try:
        found = from_json(Experiment, stored | {"methods": dict(chosen.methods) if wrong else methods}, where)
    except WtlError as error:
        mistakes += mistakes_of(error)
    refuse(mistakes)
    return found


def _places(stored: dict[str, Any], path: Sequence[str], where: str) -> list[list[str]]:
    """Where in the JSON of an experiment the option ``path`` is: at one place, or in every method that has it."""
    first, methods = path[0], stored["methods"]
    if first in stored and first != "methods":
        return [list(path)]
    if first not in methods and first in learner_names():
        methods[first] = as_json(Method(first, main=False))
    if first in methods:
        return [["methods", first, *_inside(path[1:])]]
    new = MOVED.get(first)
    if first == "train" and path[1:2] and path[1] in methods:
        new = ".".join([path[1], "train", *path[2:]])
    if new:
        raise WtlError(f"the option {'.'.join(path)} is called {new} now")
    every = [
        name
        for name, method in methods.items()
        if first == "train"
        or (first in method["config"] and ".".join(path) not in learner_entry(method["learner"]).fixed)
    ]
    if not every:
        shared = dict.fromkeys(["train", *(option for method in methods.values() for option in method["config"])])
        known = [*(option for option in stored if option != "methods"), *methods, *shared]
        raise WtlError(f"{where} has no option {'.'.join(path)!r}; {suggestion(first, known)}")
    return [["methods", name, *_inside(path)] for name in every]


def _inside(path: Sequence[str]) -> list[str]:
    """An option of a method: one of its own, else of its learner's config."""
    if not path:
        raise WtlError("a method cannot be set as a whole: name one of its options, such as METHOD.train.steps")
    if path[0] in ("learner", "config"):
        raise WtlError(f"{path[0]!r} cannot be set: it says what the method is")
    own = {f.name for f in fields(Method)}
    return list(path) if path[0] in own else ["config", *path]


@dataclass(frozen=True)
class _Earlier:
    """What experiments had before they were plans: one network for five methods."""

    net: NetConfig
    train: Mapping[str, TrainConfig]
    frames: int
    demos: tuple[float, ...]
    trials_per_demo: int
    blind_trials_per_demo: int
    elsewhere: float
    warm_start: bool


def read_experiment(stored: Mapping[str, Any], where: str) -> Experiment:
    """The experiment in a JSON value: that of ``experiment.json``, or of published results; those of before are read
    too."""
    if "methods" in stored:
        return from_json(Experiment, stored, where)
    names = {f.name for f in fields(_Earlier)}
    old = from_json(_Earlier, {name: value for name, value in stored.items() if name in names}, where)
    methods = watch_try_learn(
        old.net,
        TrainConfig(),
        frames=old.frames,
        demos=old.demos,
        tries=old.trials_per_demo,
        blind_tries=old.blind_trials_per_demo,
        elsewhere=old.elsewhere,
        warm_start=old.warm_start,
    )
    methods = {name: replace(method, train=old.train.get(name, method.train)) for name, method in methods.items()}
    rest = {name: value for name, value in stored.items() if name not in names}
    return from_json(Experiment, {**rest, "methods": methods}, where)
