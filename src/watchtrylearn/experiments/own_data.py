"""Training on recordings from elsewhere: tasks apart by their sentence, some held out, evaluated open-loop.

RUN/own_data.json   settings, a digest of the episodes, and which tasks are held out
RUN/METHOD/         config, metrics, checkpoints, model.safetensors
RUN/results.json    action errors of every trained learner on held-out episodes, beside baselines
"""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from watchtrylearn.data.lerobot import read_dataset
from watchtrylearn.data.memory import EpisodeMemory
from watchtrylearn.data.sampling import Sampling
from watchtrylearn.experiments import open_loop
from watchtrylearn.experiments.fitting import fit_method, looked_at
from watchtrylearn.experiments.open_loop import KNOWN
from watchtrylearn.experiments.plan import Method, as_json
from watchtrylearn.experiments.presets import watch_try_learn
from watchtrylearn.experiments.recordings import OwnData, Split, combine, demonstrations, digest, divide
from watchtrylearn.experiments.run import require_device
from watchtrylearn.learners import learner_entry, learner_names, load_named
from watchtrylearn.nn.target_net import make_encoder
from watchtrylearn.reporting import results
from watchtrylearn.reporting.documents import Seconds, Text
from watchtrylearn.system.config import from_json
from watchtrylearn.system.files import directory_lock, read_typed, write_json
from watchtrylearn.system.progress import Display
from watchtrylearn.system.settings import differences, refuse_changes
from watchtrylearn.training import checkpoint
from watchtrylearn.training.material import Material
from watchtrylearn.types import ENVIRONMENT, STATE, Episode, Learner, Spec, WtlError

FILE = "own_data.json"
PADDED_LIMIT = 4 * 2**30  # bytes of the training episodes side by side, each as long as the longest
SHOWN = 8  # tasks named in one line


# -------------------------------------------------------------------------------------------------- the verbs


@dataclass(frozen=True)
class OwnRun:
    """A run on own data, opened by ``open_run``."""

    directory: Path
    names: tuple[str, ...]
    settings: OwnData
    spec: Spec
    split: Split
    digest: str
    display: Display
    device: str = "cpu"


@contextmanager
def open_run(
    directory: Path,
    names: Sequence[str],
    settings: OwnData | None,
    display: Display,
    *,
    skip_bad: bool = False,
    device: str = "cpu",
) -> Iterator[OwnRun]:
    """Opens (or begins) the run in ``directory`` on the datasets ``names`` and holds it; without names or settings it
    goes on with its own. Says what it read. Refuses other settings, and datasets that have changed."""
    if (directory / "experiment.json").exists():
        raise WtlError(f"{directory} holds a run in simulation; choose another directory with --out")
    before = _kept(directory / FILE) if (directory / FILE).exists() else None
    if not names and before is None:
        raise WtlError(f"{directory} holds no run yet; begin one with `wtl train METHOD --data DATASET`")
    require_device(device)
    names = tuple(names) or tuple(before.datasets if before else ())
    chosen = settings or from_json(OwnData, before.settings if before else {}, str(directory / FILE))
    datasets = [read_dataset(name, chosen.columns, skip_bad=skip_bad) for name in names]
    for dataset in datasets:
        for text in (f"{dataset.path}: {len(dataset.episodes)} episodes", *dataset.notes):
            say(display, text)
    spec, episodes = combine(datasets, chosen)
    split = divide(episodes, chosen)
    _describe(display, spec, episodes, split, chosen)
    now = _Kept(as_json(chosen), list(names), digest(spec, episodes), split.held_out)
    with directory_lock(directory):
        if before is None:
            write_json(directory / FILE, vars(now))
        else:
            refuse_changes(before.settings, now.settings, directory)
            if before.sha256 != now.sha256:
                raise WtlError(
                    f"what is in {', '.join(names)} has changed since {directory} was begun; use another --out"
                )
        yield OwnRun(directory, names, chosen, spec, split, now.sha256, display, device)


def train(run: OwnRun, name: str) -> None:
    """Trains method ``name`` in RUN/name from the training episodes."""
    spec, uses_trials = run.spec, learner_entry(name).uses_trials
    episodes = run.split.train if uses_trials else [e for e in run.split.train if e.kind == "demo"]
    if uses_trials and not any(e.kind == "trial" for e in episodes):
        raise WtlError(
            f"{name} learns from trials, and {', '.join(run.names)} has none; `--set columns.kind=COLUMN` "
            "says which column tells trials from demonstrations"
        )
    size = 4 * len(episodes) * spec.horizon * (1 + spec.action.size + sum(c.size for c in spec.numbers.values()))
    size += sum(len(e) + 1 for e in episodes) * sum(c.size for c in spec.images.values())
    if size > PADDED_LIMIT:
        raise WtlError(
            f"{len(episodes)} episodes of up to {spec.horizon} steps take {size / 1e9:.1f} GB of memory side by side, "
            f"more than {PADDED_LIMIT / 1e9:.1f} GB; `--set every=3` keeps every third step"
        )
    say(run.display, f"{name}: {len(episodes)} episodes in {size / 1e6:.0f} MB")
    method = _method(run.settings, name, 0.0 if _share_scenes(episodes) else 1.0)
    data = {"episodes": run.digest, "held out": "; ".join(run.split.held_out)}
    start = None
    if method.start:
        if not _is_trained(run, method.start):
            raise WtlError(f"{name} starts from {method.start}; first `wtl train {method.start} --out {run.directory}`")
        start = _load(run, method.start)
        data[f"weights of {method.start}"] = checkpoint.model_sha256(run.directory / method.start)
    material = Material(
        spec=spec,
        memory=EpisodeMemory(looked_at(method, spec), episodes),
        tasks=(),
        attempts=None,
        batch_size=method.train.batch_size,
        seed=run.settings.seed,
    )
    summary = fit_method(method, material, run.directory / name, data, run.display, start=start, device=run.device)
    say(run.display, f"{name}: {summary.steps} steps, loss {summary.loss:.3f}, {summary.seconds:.0f} s")
    write_json(run.directory / "seconds.json", _seconds(run) | {f"train {name}": round(summary.seconds, 1)})


def _method(settings: OwnData, name: str, elsewhere: float) -> Method:
    """The method ``name`` with the network and the training of the run; a learner that has no such network is as it is
    by default. ``elsewhere``: the share of examples whose trials come from any scene."""
    family = watch_try_learn(settings.net, settings.train, frames=settings.frames)
    method = family.get(name) or Method(name, train=settings.train)
    sampling = learner_entry(name).sampling(method.config)
    if not isinstance(sampling, Sampling):
        return method
    return replace(method, config=replace(method.config, sampling=replace(sampling, elsewhere=elsewhere)))


def assess(run: OwnRun) -> None:
    """Predicts the actions of the held-out episodes with every trained learner; writes RUN/results.json, prints it."""
    learners = _trained(run)
    cases, spec = run.split.cases, run.spec
    if not cases:
        say(run.display, "nothing is held out, so there is nothing to evaluate on")
        return
    begin = time.monotonic()
    actions = np.concatenate([e.action for e in run.split.train if e.kind == "demo" and e.success]).astype(np.float64)
    mean, std = actions.mean(0), actions.std(0)
    found = open_loop.predictions(learners, cases, spec, mean, run.settings.net.execute)
    document = results.document(
        experiment="own-data",
        command=_command(run, list(learners)),
        seeds=[run.settings.seed],
        seconds=_seconds(run) | {"evaluate": time.monotonic() - begin},
        rows=open_loop.rows(found, cases, spec, std),
        comparisons=open_loop.comparisons(found, cases, std),
        extra={
            "summary": "actions predicted along held-out episodes, after one demonstration of their task",
            "data": {
                "sha256": run.digest,
                "datasets": list(run.names),
                "training_episodes": len(run.split.train),
                "held_out_tasks": run.split.held_out,
                "action_mean": dict(zip(spec.action.names, mean.tolist(), strict=True)),
                "action_std": dict(zip(spec.action.names, std.tolist(), strict=True)),
            },
        },
    )
    write_json(run.directory / "results.json", document)
    for table in open_loop.tables(document):
        run.display.console.print(table)
    say(run.display, f"written: {run.directory / 'results.json'}")


# ------------------------------------------------------------------------------------------------------ parts


@dataclass(frozen=True)
class _Kept:
    """RUN/own_data.json."""

    settings: dict[str, Any]
    datasets: list[str]
    sha256: str
    held_out: list[str]


def _kept(path: Path) -> _Kept:
    """What the run was begun with, all of its settings there."""
    kept = read_typed(path, _Kept)
    return replace(kept, settings=as_json(from_json(OwnData, kept.settings, str(path))))


def _trained(run: OwnRun) -> dict[str, Learner]:
    found = {name: _load(run, name) for name in learner_names() if _is_trained(run, name)}
    if not found:
        raise WtlError(f"{run.directory} holds no trained model yet; `wtl train METHOD --out {run.directory}`")
    return found


def _is_trained(run: OwnRun, name: str) -> bool:
    return (run.directory / name / "model.json").exists()


def _load(run: OwnRun, name: str) -> Learner:
    """The trained learner RUN/name; refused if it is another, or was trained for other data."""
    learner = load_named(name, run.directory / name)
    different = learner.spec.differences(run.spec)
    if different:
        raise WtlError(f"{run.directory / name} was trained for other data: {'; '.join(different)}")
    learner.to(run.device)
    return learner


def _share_scenes(episodes: Sequence[Episode]) -> bool:
    """Was any trial made in a scene of its task that was demonstrated too?"""
    places = {kind: {(e.task.name, e.seed) for e in episodes if e.kind == kind} for kind in ("demo", "trial")}
    return bool(places["demo"] & places["trial"])


def _seconds(run: OwnRun) -> dict[str, float]:
    """Wall time of each training, all sessions."""
    path = run.directory / "seconds.json"
    return read_typed(path, dict[Text, Seconds]) if path.exists() else {}


def _describe(display: Display, spec: Spec, episodes: Sequence[Episode], split: Split, settings: OwnData) -> None:
    """What was read and what is done with it, a line each."""
    kinds = Counter("diverged" if e.diverged else e.kind if e.success else f"failed {e.kind}" for e in episodes)
    counted = ", ".join(f"{count} {kind}s" for kind, count in kinds.items())
    say(display, f"tasks: {len({e.task.name for e in episodes})}; {counted}")
    few = [found[0].task.sentence for found in demonstrations(episodes).values() if len(found) == 1]
    if few:
        say(display, f"with one demonstration only, so nothing to show for it: {_listed(few)}")
    if split.held_out:
        say(display, f"held out: {_listed(split.held_out)}")
    known = sum(case.group == KNOWN for case in split.cases)
    if known:
        say(display, f"and the last demonstration of {known} training tasks")
    say(display, f"the action is {'' if spec.commands_state else 'not '}the desired state")
    unseen = [f"observation.{name}" for name in spec.observation if name not in (STATE, ENVIRONMENT)]
    if unseen:
        say(display, f"no network here looks at {', '.join(unseen)}")
    embedding = make_encoder(settings.net, spec).name  # refuses sizes that do not fit
    say(display, f"episodes of up to {spec.horizon} steps, {spec.fps} a second; embedding {embedding!r}")


def _listed(sentences: Sequence[str]) -> str:
    more = f" and {len(sentences) - SHOWN} more" if len(sentences) > SHOWN else ""
    return ", ".join(repr(sentence) for sentence in sentences[:SHOWN]) + more


def _command(run: OwnRun, names: Sequence[str]) -> str:
    """The commands that make these results."""
    changed = differences(as_json(OwnData()), as_json(run.settings))
    settings = [f"{name}={json.dumps(value)}" for name, _, value in changed]
    data = ["--data", *run.names, *(["--set", *settings] if settings else [])]
    return "; ".join(shlex.join(["wtl", "train", name, *data]) for name in names)


def say(display: Display, text: str) -> None:
    """One line for the person watching."""
    display.console.print(text, highlight=False, markup=False, soft_wrap=True)
