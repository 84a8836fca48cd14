"""What an experiment is: a plan. Which methods, each with its config and its training, and who needs whom.

The runner reads everything off the plan: what to build, the order of work, and what may be done side by side. It knows
no method by name.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from watchtrylearn.errors import suggestion
from watchtrylearn.learners import learner_entry, learner_names
from watchtrylearn.system.config import from_json, mistakes_of, refuse, require_within, shortened
from watchtrylearn.training.config import MOST_STEPS, TrainConfig
from watchtrylearn.types import Split, WtlError

MOST = 1_000_000  # tasks, or scenes of each
FOLDERS = ("demos", "trials", "evaluation", "beside", "clips")  # of a run; a method has one of its own name
# of a method, and never set for all of them at once
SEPARATE = ("learner", "trials", "start", "tries", "folds", "fold_steps", "main")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")

Verb = tuple[str, str]  # "train", "try" or "evaluate", and the method


@dataclass(frozen=True)
class Method:
    """One method of an experiment: what it is, how it is trained, and what it needs of others.

    Attributes:
        learner: its row in the table of learners. Several methods of an experiment may be of one learner.
        config: what it is built with: the config class of that row, its defaults unless given.
        train: how long and how it is trained; the experiment's seed replaces that of ``train``.
        trials: the methods from whose trials it learns, beside the demonstrations.
        start: the method from whose weights it begins, where its learner begins with another's (``Successor``): one of
            the learner that this one starts from.
        tries: attempts in every demonstrated scene that are kept as its trials; 0: none.
        folds: 0: the trained method itself makes its trials, at tasks that it was trained on. 2 or more: so many
            others, each trained as it is but without a share of the tasks, make those of that share (cross-fitting).
            Trials then go as they will at new tasks, however well the method remembers its own.
        fold_steps: training steps of each of those, if fewer than the method's; 0: as many.
        main: part of the main job (``wtl demo``). Others are trained by name, or by a table that is about them.
    """

    learner: str
    config: Any = None
    train: TrainConfig = field(default_factory=TrainConfig)
    trials: tuple[str, ...] = ()
    start: str | None = None
    tries: int = 0
    folds: int = 0
    fold_steps: int = 0
    main: bool = True

    def __post_init__(self) -> None:
        entry = learner_entry(self.learner)
        if self.config is None:
            object.__setattr__(self, "config", entry.config())
        if self.start is None:
            object.__setattr__(self, "start", entry.starts_from)
        if not isinstance(self.config, entry.config):
            wanted, found = entry.config.__name__, type(self.config).__name__
            raise WtlError(f"{self.learner} is built from a {wanted}, not from a {found}")
        taken = sorted({f.name for f in fields(self)} & {f.name for f in fields(self.config)})
        if taken:
            raise WtlError(f"{entry.config.__name__} has a field {taken[0]!r}, a word that experiments use; rename it")
        require_within("", self, tries=(0, 1000), folds=(0, 100), fold_steps=(0, MOST_STEPS))
        if self.folds == 1:
            raise WtlError("folds is 1, which would leave no task to train on; it must be 0, or 2 or more")
        if self.folds and self.start:
            raise WtlError(f"folds must be 0, since the weights of {self.start}, with which it begins, know all tasks")

    @property
    def needs(self) -> tuple[str, ...]:
        """The methods that must be trained before this one."""
        return (*self.trials, *([self.start] if self.start else []))

    @property
    def steps(self) -> int:
        """Steps of all its trainings."""
        return self.train.steps + self.folds * self.fold_train.steps

    @property
    def fold_train(self) -> TrainConfig:
        """How the further policies of its folds are trained."""
        return replace(self.train, steps=min(self.fold_steps or self.train.steps, self.train.steps))

    @staticmethod
    def from_json(value: Mapping[str, Any], where: str) -> Method:
        """The inverse of ``dataclasses.asdict``; the learner's row says which class its ``config`` is of."""
        entry, mistakes, config = learner_entry(str(value.get("learner", ""))), [], value.get("config") or {}
        if not isinstance(config, Mapping):
            raise WtlError(f"{where}.config must be a group of options, got {shortened(config)}")
        try:
            config = from_json(entry.config, config, where)
        except WtlError as error:
            config, mistakes = None, mistakes_of(error)
        try:
            made = from_json(Method, {**value, "config": config}, where)
        except WtlError as error:
            mistakes += mistakes_of(error)
        refuse(mistakes)
        return made


@dataclass(frozen=True)
class Experiment:
    """Record, train, try, evaluate: everything that determines the numbers.

    Attributes:
        name, summary: what it is called, and in one sentence what it shows.
        suite: where it happens: a suite of this library, or MODULE:FUNCTION (``make_suite``).
        methods: the plan: name -> method, in the order of the table.
        tasks: training tasks used (0: all), the first of every family alike.
        demos_per_task: scenes in which each training task is demonstrated.
        split: tasks to evaluate on; ``eval_tasks`` of them (0: all), ``scenes`` scenes each.
        attempts: how often each method may try after its first attempt.
        gallery: clips in the report.
        seed: of weights, batches, trials and evaluation.
    """

    name: str
    summary: str
    suite: str
    methods: Mapping[str, Method] = field(hash=False)
    tasks: int = 0
    demos_per_task: int = 8
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
            eval_tasks=(0, MOST),
            scenes=(2, MOST),
            attempts=(1, 1000),
            gallery=(0, 1000),
            seed=(0, 2**32),
        )
        if self.scenes % 2:
            raise WtlError(f"scenes must be even, so that exactly half of them are in conflict; got {self.scenes}")
        for name, method in self.methods.items():
            self._check(name, method)
        self.ordered(self.methods)  # refuses a circle

    def _check(self, name: str, method: Method) -> None:
        """Refuses a method that could not be addressed, or needs what is not there."""
        if not _NAME.fullmatch(name) or name in FOLDERS or name in {f.name for f in fields(self)}:
            raise WtlError(
                f"a method cannot be called {name[:100]!r}: choose another word of letters, digits, '-', '_'"
            )
        for other in method.needs:
            if other not in self.methods:
                raise WtlError(
                    f"{name} needs {other!r}, which the experiment does not have; {suggestion(other, self.methods)}"
                )
        if name in learner_names() and name != method.learner:
            raise WtlError(f"a {method.learner} cannot be called {name!r}, which is another learner's name")
        begins = learner_entry(method.learner).starts_from
        if method.start and (found := self.methods[method.start].learner) != begins:
            wanted = f"of {begins}" if begins else "of no other method"
            raise WtlError(
                f"{name} begins with the weights {wanted}, so {name}.start cannot be {method.start!r}, a {found}"
            )
        for other in method.trials:
            if not self.methods[other].tries:
                raise WtlError(f"{name} learns from the trials of {other}, which makes none: {other}.tries is 0")

    def method(self, name: str) -> Method:
        """The method ``name`` of the plan; or, since any learner can be trained in any run, one as it is by default."""
        if name in self.methods:
            return self.methods[name]
        if name in learner_names():
            return Method(name, main=False)
        raise WtlError(f"unknown method {name[:60]!r}; {suggestion(name, self.known)}")

    @property
    def known(self) -> list[str]:
        """The methods that can be trained: those of the plan, then the other learners of the table."""
        return list(dict.fromkeys([*self.methods, *learner_names()]))

    def uses_trials(self, name: str) -> bool:
        """Does a method learn from its own attempts? Then it is evaluated after each of them."""
        return learner_entry(self.method(name).learner).uses_trials

    @property
    def main(self) -> list[str]:
        """The methods of the main job."""
        return [name for name, method in self.methods.items() if method.main]

    @property
    def retrial(self) -> str | None:
        """The method whose trials and retrials a report shows: the last of the main ones that learns from its own."""
        return next((name for name in reversed(self.main) if self.uses_trials(name)), None)

    @property
    def explorers(self) -> list[str]:
        """The methods that make trials; those from which ``retrial`` learns come first, as what `wtl try` makes."""
        first = self.methods[self.retrial].trials if self.retrial else ()
        return list(dict.fromkeys([*first, *(name for name, method in self.methods.items() if method.tries)]))

    def ordered(self, names: Iterable[str]) -> list[str]:
        """The methods ``names`` and those they need, each after what it needs; else as in the plan."""
        found: list[str] = []
        place = self.known.index

        def add(name: str, waiting: tuple[str, ...]) -> None:
            if name in waiting:
                raise WtlError(f"methods need each other in a circle: {' -> '.join([*waiting, name])}")
            for other in sorted(self.method(name).needs, key=place):
                add(other, (*waiting, name))
            if name not in found:
                found.append(name)

        for name in sorted(names, key=place):
            add(name, ())
        return found


def branches(experiment: Experiment, names: Sequence[str]) -> tuple[list[Verb], list[Verb]]:
    """The work on the methods ``names``, and on those they need: two branches that need nothing of each other.

    Methods that need each other are in one branch. The longest such group, by its steps of training, begins the first
    branch; every other goes to whichever branch is shorter so far. Of the methods only ``names`` are evaluated.
    """
    order = experiment.ordered(names)
    groups: list[set[str]] = []
    for name in order:
        touched = [group for group in groups if group & set(experiment.method(name).needs)]
        groups = [group for group in groups if group not in touched] + [{name}.union(*touched)]

    def steps(group: Iterable[str]) -> int:
        return sum(experiment.method(name).steps for name in group)

    halves: tuple[set[str], set[str]] = (set(), set())
    for group in sorted(groups, key=lambda g: (-steps(g), -max(map(order.index, g)))):
        min(halves, key=steps).update(group)
    first, second = (_work(experiment, [n for n in order if n in half], names) for half in halves)
    return first, second


def _work(experiment: Experiment, order: Sequence[str], names: Sequence[str]) -> list[Verb]:
    """Train each, let it try if another learns from that; then evaluate."""
    watched = {other for name in order for other in experiment.method(name).trials}
    work: list[Verb] = []
    for name in order:
        work += [("train", name), *([("try", name)] if name in watched else [])]
    return work + [("evaluate", name) for name in order if name in names]


def as_json(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as JSON has it: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings)))
    return plain


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """Every setting by the name that ``--set`` knows it by: METHOD.train.steps, METHOD.net.width, scenes."""
    stored = as_json(experiment)
    methods = stored.pop("methods")
    return stored | {name: {**method.pop("config"), **method} for name, method in methods.items()}
