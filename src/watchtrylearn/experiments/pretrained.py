"""``wtl evaluate --pretrained`` and ``wtl demo --pretrained``: weights that come with the package, put to the test.

They are placed in a run directory as if they had been trained there. Everything after that is what any run does, so it
continues where it stopped. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from watchtrylearn.experiments import evaluation, main_job
from watchtrylearn.experiments.plan import Experiment
from watchtrylearn.experiments.presets import read_experiment
from watchtrylearn.experiments.run import Run, open_run
from watchtrylearn.learners.weights import RESULTS, pretrained
from watchtrylearn.protocol import Attempt
from watchtrylearn.reporting import results, tables
from watchtrylearn.reporting.documents import read_published
from watchtrylearn.system.files import write_json
from watchtrylearn.system.progress import Display
from watchtrylearn.training import checkpoint
from watchtrylearn.types import WtlError

LEARNERS = TRIAL, RETRIAL = ("one_shot", "watch_try_learn")
DEMO_TASKS = 8  # two scenes each, one of them in conflict with the task's only demonstration
CLIPS = 4  # scenes that a report shows

Document = Mapping[str, Any]
YES_NO = {True: "yes", False: "no"}
_SCENES = {"all": "in all {n} scenes of {tasks} new tasks", "conflict": "in the {n} scenes where the readings disagree"}


def evaluate(name: str, out: Path | None, display: Display, device: str = "cpu") -> None:
    """Both learners on the full test table: are the published rates found again; the table, each rate, a report."""
    published, experiment = _shipped(name)
    summary = f"the weights of {name} on its test table"
    experiment = replace(experiment, name=f"pretrained-{name}", summary=summary, gallery=CLIPS)
    with _opened(name, experiment, out, display, device) as run:
        document = _assessed(run, f"wtl evaluate --pretrained {name}", attempts(run))
        verdict, *each = agreement(published, document)
        _tell(display, verdict)
        display.console.print(tables.table(document))
        _tell(display, *each)
        main_job.show(run)


def demo(name: str, out: Path | None, display: Display, device: str = "cpu") -> None:
    """A few test tasks: one demonstration each, two scenes, a trial and a retrial; the table, and a report with clips.

    Which tasks and scenes is a matter of their numbers alone, and all of them count.
    """
    with demo_run(name, out, display, device) as run:
        made = attempts(run)
        document = _assessed(run, f"wtl demo --pretrained {name}", made)
        _tell(display, *story(made, run))
        display.console.print(tables.table(document))
        _tell(display, *summary(made, run))
        main_job.show(run)  # filming takes the longest, and by now everything else is told


@contextmanager
def demo_run(name: str, out: Path | None, display: Display, device: str = "cpu") -> Iterator[Run]:
    """The run of ``demo``, opened: the weights, and a few test tasks."""
    _, experiment = _shipped(name)
    few = replace(
        experiment,
        name=f"pretrained-{name}-demo",
        summary="new tasks, shown once, tried, and tried again; nothing is trained here",
        eval_tasks=DEMO_TASKS,
        scenes=2,
        attempts=1,
        gallery=CLIPS,
    )
    with _opened(name, few, out, display, device) as run:
        yield run


# --------------------------------------------------------------------------------------------------- the run


def _shipped(name: str) -> tuple[Document, Experiment]:
    """The published results of the weights called ``name``, and the experiment they come from."""
    path = pretrained(name) / RESULTS
    published = read_published(path)
    return published, read_experiment(published["config"], f"{path}: config")


@contextmanager
def _opened(name: str, experiment: Experiment, out: Path | None, display: Display, device: str) -> Iterator[Run]:
    """A run directory that holds the weights; one that holds another run, or other weights, is refused."""
    with open_run(out or Path("runs") / experiment.name, experiment, display, device=device) as run:
        for learner in LEARNERS:
            checkpoint.copy_model(pretrained(name) / learner, run.directory / learner)
        main_job.say(run, f"[bold]{experiment.name}[/bold]: {experiment.summary}")
        yield run


def attempts(run: Run) -> list[Attempt]:
    """Every attempt of both learners in the run's test scenes, made and stored unless they are there."""
    scenes = evaluation.evaluation_scenes(run)
    return [attempt for name in LEARNERS for attempt in evaluation.evaluate_method(run, name, scenes)]


def rows(made: Sequence[Attempt], run: Run) -> list[results.Row]:
    """One-shot imitation, and Watch-Try-Learn after one trial, two ..."""
    return results.rows(made, run.suite, [(TRIAL, 0), *_retrials(run)])


def _retrials(run: Run) -> list[results.Entry]:
    return [(RETRIAL, trials) for trials in range(1, run.experiment.attempts + 1)]


def _assessed(run: Run, command: str, made: Sequence[Attempt]) -> Document:
    """The result document of the attempts, written to RUN/results.json."""
    pairs: list[tuple[results.Entry, results.Entry]] = [(entry, (TRIAL, 0)) for entry in _retrials(run)]
    document = results.document(
        experiment=run.experiment.name,
        command=command,
        seeds=[run.experiment.seed],
        seconds=run.seconds(),
        rows=rows(made, run),
        comparisons=results.comparisons(made, pairs, run.suite),
        extra={"summary": run.experiment.summary, "outcomes": results.outcomes(made, run.suite)},
    )
    write_json(run.directory / "results.json", document)
    return document


# ----------------------------------------------------------------------------------------------- in plain words


def _tell(display: Display, *lines: str) -> None:
    for line in lines:
        display.console.print(line, highlight=False, markup=False, soft_wrap=True)


def agreement(published: Document, document: Document) -> list[str]:
    """The verdict, then a line per rate of these weights when they were published: is what they reach here inside?

    The rate of all training seeds together stands beside it; one seed may well lie outside that one's interval, which
    is over tasks alone.
    """
    found = {_place(row): row["value"] for row in document["rows"]}
    together = {_place(row): row for row in published["rows"] if not tables.condition(row)}
    for row in published["own"]:
        if not (_place(row) in found and _place(row) in together):
            raise WtlError(f"the published results have a rate that was not found again: {_where(row)}")
    inside = [row["ci"][0] <= found[_place(row)] <= row["ci"][1] for row in published["own"]]
    equal = sum(found[_place(row)] == row["value"] for row in published["own"])
    seeds = f"{len(published['seeds'])} seed{'s' * (len(published['seeds']) > 1)}"
    return [
        f"{sum(inside)} of {len(inside)} rates are inside the 95 % interval that these weights were published with, "
        f"{equal} of them exactly equal"
    ] + [
        f"{_where(row)}: {seeds} {_interval(together[_place(row)])} | these weights {_interval(row)} | "
        f"here {_rate(found[_place(row)])} | {'inside' if agrees else 'OUTSIDE'}"
        for row, agrees in zip(published["own"], inside, strict=True)
    ]


def _interval(row: results.Row) -> str:
    return f"{_rate(row['value'])} ({_rate(row['ci'][0])} to {_rate(row['ci'][1])})"


def _place(row: results.Row) -> tuple[str, int, str, str]:
    return row["method"], row["trials"], row["family"], row["subset"]


def _where(row: results.Row) -> str:
    family = "all families" if row["family"] == "all" else row["family"]
    return f"{results.label(row['method'], row['trials'])}, {family}{', conflict' * (row['subset'] == 'conflict')}"


def _rate(value: float) -> str:
    """In %, to a tenth: a scene of a thousand can decide what is inside."""
    return f"{100 * value:.1f}"


def story(made: Sequence[Attempt], run: Run) -> list[str]:
    """A line per scene: what a person would say, and what came of the trial and of the retrial."""
    pairs = results.paired(made, (RETRIAL, 0), (RETRIAL, 1))
    width = max(len(trial.scene.task.sentence) for trial, _ in pairs)
    return [
        f"  {trial.scene.task.sentence.capitalize():<{width}}  trial: {YES_NO[results.succeeded(trial)]:<3}  "
        f"retrial: {YES_NO[results.succeeded(retrial)]:<3}"
        f"{'  (the readings disagree)' * results.in_conflict(trial.scene, run.suite)}".rstrip()
        for trial, retrial in pairs
    ]


def summary(made: Sequence[Attempt], run: Run) -> list[str]:
    """How many trials and retrials got a yes, over all the scenes and where the readings disagree."""
    found = results.rows(made, run.suite, [(RETRIAL, 0), (RETRIAL, 1)])
    totals = {subset: [r for r in found if (r["family"], r["subset"]) == ("all", subset)] for subset in _SCENES}
    return [_counted(_SCENES[subset], trial, retrial) for subset, (trial, retrial) in totals.items()]


def _counted(where: str, trial: results.Row, retrial: results.Row) -> str:
    first, after = (round(row["value"] * row["n"]) for row in (trial, retrial))
    best = [tables.percent(row["ceiling"]) for row in (trial, retrial)]
    return (
        f"{where.format(**trial)}: yes to {first} trials and to {after} retrials "
        f"(the best possible on average: {best[0]} %, then {best[1]} %)"
    )
