"""The main job, step by step, as the command line tells it: watch, train, try, learn, evaluate, report."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from watchtrylearn.experiments import EXPERIMENTS, Experiment, steps
from watchtrylearn.experiments import experiment as preset
from watchtrylearn.experiments.beside import Killed, Verb, beside
from watchtrylearn.experiments.clips import cards
from watchtrylearn.experiments.run import Run, as_json
from watchtrylearn.learners import learner_entry, learner_names
from watchtrylearn.protocol import Attempt
from watchtrylearn.reporting import results, tables
from watchtrylearn.reporting.documents import read_document
from watchtrylearn.reporting.report import write_report
from watchtrylearn.system.files import write_json
from watchtrylearn.system.progress import Display
from watchtrylearn.system.settings import differences
from watchtrylearn.training.metrics import read_metrics
from watchtrylearn.types import WtlError

WATCHING: tuple[Verb, ...] = (
    ("learn", "one_shot"),
    ("try", "one_shot"),
    ("learn", "watch_try_learn"),
    ("evaluate", "one_shot"),
    ("evaluate", "watch_try_learn"),
)
BLIND: tuple[Verb, ...] = (
    ("learn", "bc"),
    ("try", "bc"),
    ("learn", "trials_only"),
    ("evaluate", "bc"),
    ("evaluate", "trials_only"),
)


def everything(run: Run, processes: int) -> None:
    """From nothing to RUN/report.html; what is done already is not done again."""
    begin = time.monotonic()
    say(run, f"[bold]{run.experiment.name}[/bold]: {run.experiment.summary}")
    watch(run)
    branches(run, WATCHING, BLIND, processes)
    assess(run)
    show(run)
    say(run, f"done in {(time.monotonic() - begin) / 60:.1f} minutes")


def branches(run: Run, branch: Sequence[Verb], other: Sequence[Verb], processes: int) -> None:
    """Two branches that need nothing of each other: side by side in two ``processes``, or one after the other."""
    steps.evaluation_scenes(run)  # what is shown at evaluation is recorded once, for both
    trained_already = all((run.directory / name / "model.json").exists() for verb, name in other if verb == "learn")
    if processes == 1 or trained_already:
        return carry_out(run, [*branch, *other])
    try:
        with beside(run, other):
            carry_out(run, branch)
    except Killed as error:
        say(run, f"{error}; its branch goes on here")
        carry_out(run, other)


def carry_out(run: Run, branch: Sequence[Verb]) -> None:
    """The steps of a branch, in order; what is done already is not done again."""
    for verb, name in branch:
        match verb:
            case "learn":
                learn(run, name)
            case "try":
                attempt(run, name)
            case "evaluate":
                steps.evaluate_learner(run, name, steps.evaluation_scenes(run))


def watch(run: Run) -> None:
    """Demonstrations of the training tasks."""
    say(run, "[bold]Watch[/bold]: demonstrations of the training tasks")
    counts = steps.record(run)
    say(
        run,
        f"  {counts['recorded']} recorded; {counts['failed']} attempts of the demonstrator failed, not stored",
    )


def learn(run: Run, name: str) -> None:
    """Trains one learner."""
    say(run, f"[bold]Learn[/bold]: {learner_entry(name).summary}")
    summary = steps.train(run, name)
    loss = "not known, since its log is gone" if math.isnan(summary.loss) else f"{summary.loss:.3f}"
    say(run, f"  {name}: {summary.steps} steps, loss {loss}, {summary.seconds:.0f} s")


def attempt(run: Run, explorer: str) -> None:
    """Trials on the training tasks."""
    say(run, f"[bold]Try[/bold]: trials on the training tasks with {explorer}")
    counts = steps.collect_trials(run, explorer)
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
    both = [name for name in trained(run) if name in steps.evaluated(other)]
    if not both:
        raise WtlError(f"{names[1]} has no evaluation of a learner that {names[0]} has; make it with `wtl evaluate`")
    results.require_same_scenes(steps.evaluation_scenes(run), steps.evaluation_scenes(other), names)
    attempts = min(run.experiment.attempts, other.experiment.attempts)
    made, others = attempts_of(run, both), attempts_of(other, both)
    rows = results.across(made, others, entries(both, attempts), run.suite, names)
    run.display.console.print(tables.across_table(rows, names))


def show(run: Run) -> None:
    """Writes RUN/report.html from RUN/results.json and the stored attempts."""
    path = run.directory / "results.json"
    if not path.exists():
        raise WtlError(f"{path} does not exist yet; make it with `wtl evaluate --out {run.directory}`")
    document = read_document(path)
    metrics = {name: read_metrics(run.directory / name) for name in trained(run)}
    with steps.timed(run, "report"):
        made = cards(run, steps.evaluate_learner(run, "watch_try_learn", steps.evaluation_scenes(run)))
    spent = run.seconds()
    document |= {"phases_s": spent, "wall_s": results.wall_seconds(spent)}
    write_json(path, document)
    write_report(run.directory / "report.html", document, made, metrics)
    say(run, f"[bold]Report[/bold]: {run.directory / 'report.html'}")


def results_document(run: Run) -> dict[str, object]:
    """The result document of the run (``documents.Document``): every trained learner in the same scenes."""
    experiment, names = run.experiment, trained(run)
    attempts = attempts_of(run, names)
    pairs: list[tuple[results.Entry, results.Entry]] = []
    if {"watch_try_learn", "one_shot"} <= set(names):
        pairs = [(("watch_try_learn", k), ("one_shot", 0)) for k in range(1, experiment.attempts + 1)]
    return results.document(
        experiment=experiment.name,
        command=_command(experiment),
        seeds=[experiment.seed],
        seconds=run.seconds(),
        rows=results.rows(attempts, run.suite, entries(names, experiment.attempts)),
        comparisons=results.comparisons(attempts, pairs, run.suite),
        extra={
            "summary": experiment.summary,
            "data": steps.counts(run),
            "outcomes": results.outcomes(attempts, run.suite) if "watch_try_learn" in names else [],
        },
    )


def entries(names: Sequence[str], attempts: int) -> list[results.Entry]:
    """The lines of the table if every method that learns from trials may make ``attempts`` after its first."""
    return [
        (name, trials)
        for name in names
        for trials in (range(1, attempts + 1) if learner_entry(name).uses_trials else (0,))
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


def reproduction(experiment: Experiment) -> str:
    """The command that makes this table."""
    return shlex.join(["wtl", "reproduce", experiment.name, *_changes(experiment)])


def _changes(experiment: Experiment) -> list[str]:
    """The arguments that change the preset of this name into ``experiment``; none if it is the preset."""
    changed = differences(as_json(preset(experiment.name)), as_json(experiment))
    settings = [f"{name}={json.dumps(value)}" for name, _, value in changed]
    return ["--set", *settings] if settings else []


def trained(run: Run) -> list[str]:
    """The learners that are trained in this run; refuses a run without any."""
    names = [name for name in learner_names() if (run.directory / name / "model.json").exists()]
    if not names:
        raise WtlError(f"{run.directory} holds no trained model yet; `wtl train one_shot --out {run.directory}`")
    return names


def attempts_of(run: Run, names: Sequence[str]) -> list[Attempt]:
    """Every attempt of the learners ``names`` in the run's evaluation scenes."""
    scenes = steps.evaluation_scenes(run)
    return [a for name in names for a in steps.evaluate_learner(run, name, scenes)]


def say(run: Run, text: str) -> None:
    """One line for the person watching."""
    run.display.say(text)
