"""The main job, step by step, as the command line tells it: record, train, try, evaluate, report."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from watchtrylearn.experiments import evaluation, steps
from watchtrylearn.experiments.beside import Killed, beside
from watchtrylearn.experiments.clips import cards
from watchtrylearn.experiments.plan import SEPARATE, Experiment, Method, Verb, branches, settings_of
from watchtrylearn.experiments.presets import EXPERIMENTS
from watchtrylearn.experiments.presets import experiment as preset
from watchtrylearn.experiments.run import Run
from watchtrylearn.learners import learner_entry
from watchtrylearn.protocol import Attempt
from watchtrylearn.reporting import results, tables
from watchtrylearn.reporting.documents import read_document
from watchtrylearn.reporting.report import write_report
from watchtrylearn.system.files import write_json
from watchtrylearn.system.progress import Display
from watchtrylearn.system.settings import differences
from watchtrylearn.training.metrics import read_metrics
from watchtrylearn.types import WtlError


def everything(run: Run, processes: int) -> None:
    """From nothing to RUN/report.html; what is done already is not done again."""
    begin = time.monotonic()
    say(run, f"[bold]{run.experiment.name}[/bold]: {run.experiment.summary}")
    record(run)
    work(run, run.experiment.main, processes)
    assess(run)
    show(run)
    say(run, f"done in {(time.monotonic() - begin) / 60:.1f} minutes")


def work(run: Run, names: Sequence[str], processes: int) -> None:
    """Trains the methods ``names`` and what they need, lets them try, and evaluates them.

    What needs nothing of each other is done side by side in two ``processes``, or one after the other.
    """
    evaluation.evaluation_scenes(run)  # what is shown at evaluation is recorded once, for both branches
    first, second = branches(run.experiment, names)
    trained_already = all((run.directory / name / "model.json").exists() for verb, name in second if verb == "train")
    if processes == 1 or trained_already:
        return carry_out(run, [*first, *second])
    try:
        with beside(run, second):
            carry_out(run, first)
    except Killed as error:
        say(run, f"{error}; its branch goes on here")
        carry_out(run, second)


def carry_out(run: Run, branch: Sequence[Verb]) -> None:
    """The steps of a branch, in order; what is done already is not done again."""
    for verb, name in branch:
        match verb:
            case "train":
                train(run, name)
            case "try":
                try_(run, name)
            case "evaluate":
                evaluation.evaluate_method(run, name, evaluation.evaluation_scenes(run))


def record(run: Run) -> None:
    """Demonstrations of the training tasks."""
    say(run, "[bold]Record[/bold]: demonstrations of the training tasks")
    counts = steps.record(run)
    say(
        run,
        f"  {counts['recorded']} recorded; {counts['failed']} attempts of the demonstrator failed, not stored",
    )


def train(run: Run, name: str) -> None:
    """Trains one method."""
    say(run, f"[bold]Train[/bold]: {learner_entry(run.experiment.method(name).learner).summary}")
    summary = steps.train(run, name)
    loss = "not known, since its log is gone" if math.isnan(summary.loss) else f"{summary.loss:.3f}"
    say(run, f"  {name}: {summary.steps} steps, loss {loss}, {summary.seconds:.0f} s")


def try_(run: Run, explorer: str | None = None) -> None:
    """Trials on the training tasks, of the experiment's first method that makes some unless told of which."""
    if explorer is None:
        if not run.experiment.explorers:
            raise WtlError("no method of this experiment makes trials: none has `tries`")
        explorer = run.experiment.explorers[0]
    say(run, f"[bold]Try[/bold]: trials on the training tasks with {explorer}")
    counts = steps.make_trials(run, explorer)
    say(run, f"  {counts['trials']:.0f} trials, {100 * counts['success']:.0f} % of them successful")


def assess(run: Run) -> None:
    """Evaluates every trained learner on the same held-out scenes; writes RUN/results.json and prints the table."""
    say(run, f"[bold]Evaluate[/bold]: {run.experiment.split} tasks, every method in the same scenes")
    document = results_document(run)
    write_json(run.directory / "results.json", document)
    run.display.console.print(tables.table(document))


def compare(run: Run, other: Run) -> None:
    """Prints the methods of two runs side by side, scene by scene; ``other`` must be evaluated already."""
    names = (str(run.directory), str(other.directory))
    for what, ours, theirs in (
        ("suite", run.suite.name, other.suite.name),
        ("split", run.experiment.split, other.experiment.split),
    ):
        if ours != theirs:
            raise WtlError(f"{names[0]} and {names[1]} cannot be compared: their {what} is {ours!r} and {theirs!r}")
    both = [name for name in trained(run) if name in evaluation.evaluated(other)]
    if not both:
        raise WtlError(f"{names[1]} has no evaluation of a learner that {names[0]} has; make it with `wtl evaluate`")
    results.require_same_scenes(evaluation.evaluation_scenes(run), evaluation.evaluation_scenes(other), names)
    attempts = min(run.experiment.attempts, other.experiment.attempts)
    made, others = attempts_of(run, both), attempts_of(other, both)
    lines = entries(run.experiment, both, attempts)
    rows = results.across(made, others, lines, run.suite, names)
    run.display.console.print(tables.across_table(rows, names))


def show(run: Run) -> None:
    """Writes RUN/report.html from RUN/results.json and the stored attempts."""
    path = run.directory / "results.json"
    if not path.exists():
        raise WtlError(f"{path} does not exist yet; make it with `wtl evaluate --out {run.directory}`")
    document = read_document(path)
    metrics = {name: read_metrics(run.directory / name) for name in trained(run)}
    shown = run.experiment.retrial
    with steps.timed(run, "report"):
        made = cards(run, attempts_of(run, [shown])) if shown in metrics else []
    spent = run.seconds()
    document |= {"phases_s": spent, "wall_s": results.wall_seconds(spent)}
    write_json(path, document)
    write_report(run.directory / "report.html", document, made, metrics)
    say(run, f"[bold]Report[/bold]: {run.directory / 'report.html'}")


def results_document(run: Run) -> dict[str, object]:
    """The result document of the run (``documents.Document``): every trained learner in the same scenes."""
    experiment, names = run.experiment, trained(run)
    attempts, shown = attempts_of(run, names), experiment.retrial
    pairs: list[tuple[results.Entry, results.Entry]] = [
        ((name, k), (start, 0))
        for name in names
        if experiment.uses_trials(name) and (start := experiment.method(name).start) in names
        for k in range(1, experiment.attempts + 1)
    ]
    return results.document(
        experiment=experiment.name,
        command=_command(experiment),
        seeds=[experiment.seed],
        seconds=run.seconds(),
        rows=results.rows(attempts, run.suite, entries(experiment, names, experiment.attempts)),
        comparisons=results.comparisons(attempts, pairs, run.suite),
        extra={
            "summary": experiment.summary,
            "data": steps.counts(run),
            "outcomes": results.outcomes(attempts, run.suite, shown) if shown in names else [],
            "starts": {name: start for name in names if (start := experiment.method(name).start)},
        },
    )


def entries(experiment: Experiment, names: Sequence[str], attempts: int) -> list[results.Entry]:
    """The lines of the table if every method that learns from trials may make ``attempts`` after its first."""
    return [
        (name, trials)
        for name in names
        for trials in (range(1, attempts + 1) if experiment.uses_trials(name) else (0,))
    ]


def publish(document: Mapping[str, object], path: Path, display: Display) -> None:
    """Prints a result document's table, every condition, and writes the document to ``path``."""
    display.console.print(tables.table(document))
    write(document, path, display)


def write(document: Mapping[str, object], path: Path, display: Display) -> None:
    """Writes a result document to ``path`` and says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, document)
    display.console.print(f"written: {path}", highlight=False)


def _command(experiment: Experiment) -> str:
    """The command that makes this run: the preset, and what was changed of it. One of no preset names its verb."""
    if experiment.name not in {e.name for e in EXPERIMENTS}:
        return "wtl evaluate --out RUN"
    chosen = [] if experiment.name == "demo" else ["--preset", experiment.name]
    return shlex.join(["wtl", "demo", *chosen, *_changes(experiment)])


def reproduce_command(experiment: Experiment) -> str:
    """The command that makes this table."""
    return shlex.join(["wtl", "reproduce", experiment.name, *_changes(experiment)])


def _changes(experiment: Experiment) -> list[str]:
    """The arguments that change the preset of this name into ``experiment``; none if it is the preset."""
    base = preset(experiment.name)
    added = {name: Method(name, main=False) for name in experiment.methods if name not in base.methods}
    base = replace(base, methods={**base.methods, **added})
    before, now = settings_of(base), settings_of(experiment)
    changed = {name: value for name, _, value in differences(before, now) if name != "suite"}
    shared = _together(changed, now, experiment.methods)
    names = sorted(shared, key=lambda name: name not in vars(experiment))  # options of the experiment itself come first
    settings = [f"{name}={json.dumps(shared[name])}" for name in names]
    outside = ["--suite", experiment.suite] if experiment.suite != base.suite else []
    return [*outside, *(["--set", *settings] if settings else [])]


def _together(changed: Mapping[str, Any], now: Mapping[str, Any], methods: Collection[str]) -> dict[str, Any]:
    """The changes, those that every method that has the option shares said once: ``net.width`` for all of them."""
    found: dict[str, Any] = {}
    for name, value in changed.items():
        method, _, option = name.partition(".")
        having = [m for m in methods if option.partition(".")[0] in now[m]] if method in methods else []
        shared = option.partition(".")[0] not in SEPARATE and len(having) > 1
        everywhere = shared and all((f"{m}.{option}", value) in changed.items() for m in having)
        found[option if everywhere else name] = value
    return found


def trained(run: Run) -> list[str]:
    """The methods that are trained in this run; refuses a run without any."""
    names = [name for name in run.experiment.known if (run.directory / name / "model.json").exists()]
    if not names:
        raise WtlError(f"{run.directory} holds no trained model yet; see `wtl train --help`")
    return names


def attempts_of(run: Run, names: Sequence[str]) -> list[Attempt]:
    """Every attempt of the methods ``names`` in the run's evaluation scenes."""
    scenes = evaluation.evaluation_scenes(run)
    return [a for name in names for a in evaluation.evaluate_method(run, name, scenes)]


def say(run: Run, text: str) -> None:
    """One line for the person watching."""
    run.display.say(text)
