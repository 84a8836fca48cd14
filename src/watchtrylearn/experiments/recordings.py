"""Recordings from elsewhere: several datasets become one, and some of its tasks and episodes are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from watchtrylearn.data.lerobot import Columns, Dataset, part
from watchtrylearn.errors import suggestion
from watchtrylearn.experiments.open_loop import KNOWN, NEW, Case
from watchtrylearn.nn.target_net import NetConfig
from watchtrylearn.ops.random import generator
from watchtrylearn.system.config import require_within
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.types import Channel, Episode, Spec, WtlError, canonical_json

APART = 1_000_000  # between the scenes of datasets that do not say in which scene they were recorded


@dataclass(frozen=True)
class OwnData:
    """What determines the result; the defaults suit an arm recorded at 30 steps a second.

    Attributes:
        columns: where success, kind and scene are (``data.lerobot.Columns``); "" where LeRobot or this library puts it.
        every: keep every so many steps (10 of 30 per second: 3). Actions are those of the steps that are kept, which is
            right for positions and not for differences of positions.
        commands_state: is an action the desired value of the first numbers of the state? null: yes if they have the
            same names.
        hold_out: share of the tasks that training does not see; with 0 nothing is held out, nor evaluated.
        test_tasks: the sentences of the tasks to hold out, instead of a share.
        frames: steps imitated of each training example.
        net, train: the network and the training of every learner.
        seed: of weights, batches, and which tasks are held out.
    """

    columns: Columns = field(default_factory=Columns)
    every: int = 1
    commands_state: bool | None = None
    hold_out: float = 0.2
    test_tasks: tuple[str, ...] = ()
    frames: int = 16
    net: NetConfig = field(default_factory=lambda: NetConfig(mixtures=1, chunk=16, execute=8))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=3000, learning_rate=2e-3))
    seed: int = 0

    def __post_init__(self) -> None:
        require_within("", self, every=(1, 1000), hold_out=(0, 0.95), frames=(1, 1000))


@dataclass(frozen=True)
class Split:
    """The episodes to learn from, and what to predict; ``held_out`` are the sentences of the tasks held out."""

    train: list[Episode]
    cases: list[Case]
    held_out: list[str]


# --------------------------------------------------------------------------------------------------- the data


def combine(datasets: Sequence[Dataset], settings: OwnData) -> tuple[Spec, list[Episode]]:
    """The episodes of all datasets, which must have the same numbers, and the spec that holds for all of them."""
    first = datasets[0]
    for other in datasets[1:]:
        found = _differences(first.spec, other.spec)
        if found:
            raise WtlError(f"{other.path} does not fit {first.path}: {'; '.join(found)}")
    episodes = [
        replace(e, seed=e.seed if dataset.scenes else e.seed + number * APART)
        for number, dataset in enumerate(datasets)
        for e in dataset.episodes
    ]
    every, spec = settings.every, first.spec
    if spec.fps % every:
        raise WtlError(f"every is {every}, which does not divide the {spec.fps} steps of a second")
    if every > 1:
        episodes = [part(e, slice(None, None, every)) for e in episodes]
    commands_state = spec.commands_state if settings.commands_state is None else settings.commands_state
    if commands_state and spec.action.size > spec.state_size:
        raise WtlError(f"an action of {spec.action.size} numbers cannot command a state of {spec.state_size}")
    combined = replace(
        spec,
        fps=spec.fps // every,
        horizon=max(map(len, episodes)),
        commands_state=commands_state,
        observation={name: _union([d.spec.numbers[name] for d in datasets]) for name in spec.numbers},
        action=_union([d.spec.action for d in datasets]),
    )
    return combined, episodes


def _differences(one: Spec, other: Spec) -> list[str]:
    found = one.differences(replace(other, horizon=one.horizon))
    channels = [("action", one.action, other.action)]
    channels += [(f"observation.{n}", c, other.numbers[n]) for n, c in one.numbers.items() if not found]
    if not found:
        found += [f"{n}: {list(a.names)}, not {list(b.names)}" for n, a, b in channels if a.names != b.names]
    return found


def _union(channels: Sequence[Channel]) -> Channel:
    low, high = np.array([c.low for c in channels]).min(0), np.array([c.high for c in channels]).max(0)
    return Channel(channels[0].names, tuple(low.tolist()), tuple(high.tolist()))


def digest(spec: Spec, episodes: Sequence[Episode]) -> str:
    """A SHA-256 of everything that training sees of the episodes."""
    found = hashlib.sha256(canonical_json(spec.to_json()).encode())
    for e in episodes:
        found.update(canonical_json([e.task.to_json(), e.kind, e.seed, e.success, e.diverged, len(e)]).encode())
        for values in (*(e.observation[name] for name in sorted(e.observation)), e.action, e.reward):
            found.update(np.ascontiguousarray(values, np.float32).tobytes())
    return found.hexdigest()


# --------------------------------------------------------------------------------------------- what is held out


def divide(episodes: Sequence[Episode], settings: OwnData) -> Split:
    """Which tasks training does not see: those asked for; else those that a dataset says are not for training; else
    a share of the tasks that have two demonstrations, one to show and one to predict.

    Of each training task with three demonstrations or more, the last one is held out as well.
    """
    sound = [e for e in episodes if not e.diverged]
    demos = demonstrations(sound)
    new = _held_out(demos, settings)
    known = [found[-1] for name, found in demos.items() if name not in new and len(found) > 2 and settings.hold_out]
    queries = [(NEW, e) for name in new for e in demos[name]] + [(KNOWN, e) for e in known]
    kept_out = {id(e) for e in known}
    train = [e for e in sound if e.task.name not in new and id(e) not in kept_out]
    if not any(e.kind == "demo" and e.success for e in train):
        raise WtlError("no successful demonstration is left to train on")
    cases = [case for group, query in queries if (case := _case(group, query, demos, sound, settings.seed)) is not None]
    return Split(train, cases, list(dict.fromkeys(demos[name][0].task.sentence for name in new)))


def demonstrations(episodes: Sequence[Episode]) -> dict[str, list[Episode]]:
    """The successful demonstrations of every task that has any, by its name, in the order of the names."""
    found: dict[str, list[Episode]] = {}
    for episode in sorted(episodes, key=lambda e: e.task.name):
        if episode.kind == "demo" and episode.success:
            found.setdefault(episode.task.name, []).append(episode)
    return found


def _held_out(demos: Mapping[str, Sequence[Episode]], settings: OwnData) -> list[str]:
    pairs = [name for name, found in demos.items() if len({e.seed for e in found}) > 1]
    if settings.test_tasks:
        named: dict[str, list[str]] = {}  # several tasks of a suite may have one sentence
        for name in pairs:
            named.setdefault(demos[name][0].task.sentence, []).append(name)
        for wanted in settings.test_tasks:
            if wanted not in named:
                known = suggestion(wanted, dict.fromkeys(found[0].task.sentence for found in demos.values()))
                raise WtlError(f"test_tasks: no task {wanted!r} has two demonstrations; {known}")
        return [name for wanted in dict.fromkeys(settings.test_tasks) for name in named[wanted]]
    if not settings.hold_out:
        return []
    declared = [name for name in pairs if demos[name][0].task.split != "train"]
    if declared:
        return declared
    if len(pairs) < 3:
        raise WtlError(
            f"{len(pairs)} of {len(demos)} tasks have two successful demonstrations or more; to learn what a "
            "demonstration tells takes two such tasks, and a third one to hold out (`--set hold_out=0` holds none out, "
            "`columns.success=none` lets every demonstration count)"
        )
    count = min(max(1, round(settings.hold_out * len(pairs))), len(pairs) - 2)
    drawn = generator("hold out", settings.seed).permutation(len(pairs))[:count]
    return [pairs[i] for i in sorted(drawn)]


def _case(
    group: str, query: Episode, demos: Mapping[str, Sequence[Episode]], episodes: Sequence[Episode], seed: int
) -> Case | None:
    """What is shown before ``query`` is predicted, drawn by its task and scene; None if nothing else was recorded."""
    rng = generator("shown", seed, query.task.name, query.seed)
    same = [e for e in demos[query.task.name] if e.seed != query.seed]
    others = [e for name, found in demos.items() if name != query.task.name for e in found]
    if not same or not others:
        return None
    trials = [e for e in episodes if e.kind == "trial" and e.task.name == query.task.name]
    trials = [e for e in trials if e.seed == query.seed] or trials
    shown, other = same[rng.integers(len(same))], others[rng.integers(len(others))]
    return Case(group, query, shown, other, (trials[rng.integers(len(trials))],) if trials else ())
