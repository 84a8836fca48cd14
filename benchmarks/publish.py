"""Publish finished results: the table in the README, docs/results.md with its figures, the tables of docs/few-tasks.md.

usage: python benchmarks/publish.py [RUN ...]

Copies the results of the given runs (``wtl demo``) to benchmarks/results, where ``wtl reproduce`` writes its own,
and makes the pages from what is there. No number on them is typed by hand.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchtrylearn.reporting import plots, results, tables
from watchtrylearn.reporting.documents import read_document

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FEW_TASKS = "wtl-few-tasks"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Statement:
    """What a paper says, in our words, and how our results speak to it (None: not yet)."""

    source: str
    text: str
    measured: Callable[[Document], str] | None = None


def minus(first: results.Entry, second: results.Entry) -> Callable[[Document], str]:
    """The difference of two lines of the table, from the document's paired comparisons over all scenes."""

    def measured(document: Document) -> str:
        found = _comparison(document, first, second)
        low, high = (100 * end for end in found["ci"])
        names = f"{results.label(*first)}, minus {results.label(*second)}"
        return f"{names}: **{100 * found['difference']:+.1f}** points ({low:+.1f} to {high:+.1f}), {found['n']} scenes"

    return measured


def _comparison(document: Document, first: results.Entry, second: results.Entry) -> results.Row:
    sides = [{"method": method, "trials": trials} for method, trials in (first, second)]
    for row in document["comparisons"]:
        if [row["first"], row["second"], row["subset"]] == [*sides, "all"] and row.get("family", "all") == "all":
            return dict(row)
    raise SystemExit(f"{document['experiment']}: no comparison of {first} with {second}")


def gap(document: Document) -> str:
    """How much of what one-shot imitation leaves to the demonstrator one trial recovers, per scene of the retrial."""
    shares = [
        f"**{100 * found['value']:.1f} %** ({100 * found['ci'][0]:.1f} to {100 * found['ci'][1]:.1f}, over "
        f"{found['scenes']} scenes; seed by seed {', '.join(f'{100 * v:.1f}' for v in found['of_seeds'].values())}) in "
        f"{'the same scene' if scene == 'same' else 'a new scene'}"
        for scene, found in document["gap_recovered"].items()
    ]
    return f"of the gap between one-shot imitation and the demonstrator, one trial recovers {', '.join(shares)}"


def gains(document: Document) -> str:
    """What the most data gives over less, method by method, as a table."""
    found = [row for row in document["comparisons"] if row["subset"] == "all"]
    entries = dict.fromkeys((row["first"]["method"], row["first"]["trials"]) for row in found)
    lines = [
        "What the most data gives over less, in points, in the same scenes:\n",
        "| instead of | " + " | ".join(results.label(*entry) for entry in entries) + " |",
        "|---|" + "---|" * len(entries),
    ]
    for amount in dict.fromkeys(map(tables.amount, found)):
        cells = [
            f"{100 * row['difference']:+.1f} ({100 * row['ci'][0]:+.1f} to {100 * row['ci'][1]:+.1f})"
            for row in found
            if tables.amount(row) == amount
        ]
        lines.append(f"| {amount} | {' | '.join(cells)} |")
    return "\n".join(lines)


# ------------------------------------------------------------------------------- few tasks, with and without remedies

SHOWN: tuple[results.Entry, ...] = (("watch_try_learn", 1), ("one_shot", 0), ("trials_only", 1))


def few_tasks(document: Document) -> str:
    """With and without the remedies by number of tasks, and each remedy alone, as tables; then the figure."""
    alone = [row["training_tasks"] for row in document["rows"] if row["remedies"] not in ("all", "none")]
    parts = [
        _few_tasks_table(document),
        f"{_caption(document)} [All numbers](../benchmarks/results/wtl-few-tasks.json).",
    ]
    if alone:
        parts += [f"Each remedy alone, with {alone[0]} tasks:", _remedies_table(document, alone[0])]
    parts += [f"![Success against {title}](figures/{file})" for file, title, _ in figures(document)]
    return "\n\n".join(parts)


def _few_tasks_table(document: Document) -> str:
    pairs = [f"{results.label(*entry)}: without, with" for entry in SHOWN]
    heads = ["training tasks", "seeds", *pairs, "the remedies give Watch-Try-Learn, in points"]
    heads += ["with them, it is above trials only by", "training trials that succeeded: without, with"]
    lines = []
    for tasks in sorted({row["training_tasks"] for row in document["rows"]}):
        both = [(tasks, kind) for kind in ("none", "all")]
        rates = [" and ".join(_rate(document, which, entry) for which in both) for entry in SHOWN]
        trials = " and ".join(_tried(document, which) for which in both)
        gain, over = (_gain(document, both[1], other) for other in (SHOWN[0], SHOWN[2]))
        lines.append([str(tasks), _seeds(document, both[1]), *rates, gain, over, trials])
    return _table(heads, lines)


def _remedies_table(document: Document, tasks: int) -> str:
    found = dict.fromkeys(row["remedies"] for row in document["rows"] if row["training_tasks"] == tasks)
    heads = ["trained", "seeds", *(results.label(*entry) for entry in SHOWN)]
    heads += ["more than without, Watch-Try-Learn, in points", "training trials that succeeded"]
    lines = []
    for kind in found:
        which = (tasks, kind)
        rates = [_rate(document, which, entry) for entry in SHOWN]
        name = tables.remedies({"remedies": kind})
        lines.append([name, _seeds(document, which), *rates, _gain(document, which, SHOWN[0]), _tried(document, which)])
    return _table(heads, lines)


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *lines))


def _total(document: Document, which: tuple[int, str], entry: results.Entry) -> results.Row | None:
    """The row of all families and scenes of these trainings (tasks, remedies)."""
    wanted = (*which, *entry, "all", "all")
    names = ("training_tasks", "remedies", "method", "trials", "family", "subset")
    return next((row for row in document["rows"] if tuple(row[name] for name in names) == wanted), None)


def _rate(document: Document, which: tuple[int, str], entry: results.Entry) -> str:
    row = _total(document, which, entry)
    return (
        "?"
        if row is None
        else "**{}** ({:.0f}–{:.0f})".format(  # noqa: RUF001
            tables.percent(row["value"]), *(100 * end for end in row["ci"])
        )
    )


def _seeds(document: Document, which: tuple[int, str]) -> str:
    row = _total(document, which, SHOWN[0])
    return "" if row is None else ", ".join(row["of_seeds"])


def _gain(document: Document, which: tuple[int, str], other: results.Entry) -> str:
    """Watch-Try-Learn after a trial, minus ``other``: itself without remedies, or another method, trained alike."""
    wanted = (*which, SHOWN[0], other, "all")
    for row in document["comparisons"]:
        sides = [(row[side]["method"], row[side]["trials"]) for side in ("first", "second")]
        if (row["training_tasks"], row["remedies"], *sides, row["subset"]) == wanted:
            low, high = (100 * end for end in row["ci"])
            return f"{100 * row['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
    return ""


def _tried(document: Document, which: tuple[int, str]) -> str:
    """How often the trial policy's trials at the training tasks succeeded, seed by seed."""
    found = [
        tables.percent(trials["success"])
        for trials in document["training_trials"]
        if (trials["training_tasks"], trials["remedies"], trials["method"]) == (*which, "one_shot")
    ]
    return f"{', '.join(found)} %" if found else "?"


SLIDES = "slides, Finn 2019"
ABSTRACT = "abstract of Watch-Try-Learn"
STATEMENTS = {
    "wtl-state": (
        Statement(
            SLIDES,
            "One demonstration and one trial do significantly better than demonstrations alone.",
            minus(("watch_try_learn", 1), ("one_shot", 0)),
        ),
        Statement(
            SLIDES,
            "They do significantly better than trials alone (meta-reinforcement learning).",
            minus(("watch_try_learn", 1), ("trials_only", 1)),
        ),
        Statement(SLIDES, "Reinforcement learning from a behaviour-cloning start needs 900 trials to get as far."),
    ),
    "wtl-reacher": (
        Statement(
            ABSTRACT,
            "Where the dynamics are not observed, demonstrations alone may not say enough; one must also try.",
            gap,
        ),
    ),
}


# ------------------------------------------------------------------------------------------------ the README


def block(documents: Mapping[str, Document]) -> str:
    """What stands between the markers of the README: the full table's main rows, and what the main job gets to."""
    full, demo = documents["wtl-state"], documents["demo"]
    main = [row for row in full["rows"] if not tables.condition(row) and row["trials"] <= 2]
    rates = [
        f"{results.label(*entry)} {_percent(demo, entry)} %" for entry in (("one_shot", 0), ("watch_try_learn", 1))
    ]
    short = f"`make demo`, one seed in {float(demo['wall_s']) / 60:.1f} minutes: {', '.join(rates)}."
    return (
        f"{tables.markdown({**full, 'rows': main})}\n\n{_caption(full)} {short} "
        f"[All results](docs/results.md), and [as numbers](benchmarks/results)."
    )


def _percent(document: Document, entry: results.Entry) -> str:
    """The success of a line of the table over all families and scenes."""
    return tables.percent(tables.lines(document)[entry]["all", "all"]["value"])


def _caption(document: Document) -> str:
    count = len(document["seeds"])
    trained = "one training seed" if count == 1 else f"{count} training seeds"
    seeds = ", ".join(map(str, document["seeds"]))
    minutes = float(document["wall_s"]) / 60 / count
    each = "" if count == 1 else " each"
    measured = tables.measured(document).capitalize()
    command = f"`{document['command']}`, seed{'s' * (count > 1)} {seeds}"
    time = f"{minutes:.1f} minutes{each}"
    if "training_trials" in document:  # not every amount of data with every seed
        trained, time = "training seeds as named", f"{minutes * count / 60:.1f} hours"
    machine = f"{time} on {document['machine']['cores']} cores"
    commit = str(document["commit"])[:10]
    return f"{measured}, {trained}: {command}, {machine}; commit {commit}."


# ------------------------------------------------------------------------------------------- docs/results.md


def page(documents: Mapping[str, Document]) -> str:
    """docs/results.md: every published result with its command, and what the papers say beside it."""
    head = """# Results

Made by `python benchmarks/publish.py` from the files in [benchmarks/results](../benchmarks/results), not by hand. How
the best possible rates come about is in [suites.md](suites.md), what was tried on the way in [log.md](log.md). The
papers' own success rates were measured in a simulator and on data that were never released, so they are not quoted as
numbers to compare with.
"""
    return head + _ABOUT_INTERVALS + "".join(map(_section, documents.values()))


_ABOUT_INTERVALS = """
## How sure the numbers are

An interval is over *tasks* (over scenes where a table says so): where the rate of these trained policies may lie over
all such tasks, since scenes of one task resemble each other and the tasks met are a sample. Training seeds are pooled
inside each task and not resampled: how far seeds differ shows in their own rates (`of_seeds` in the files).

Rates and differences have Wilson's score interval for as many attempts as the spread of the tasks is worth, returns and
ratios Student's (sources: `reporting/statistics.py`). In simulated evaluations of 10, 16, 40 tasks 95 % intervals
hold the truth in 94.2 % of the cases or more, in every population tried (`python benchmarks/interval_coverage.py`). The
exception is a kind of task that was not met: if one task in ten is 50 points off and all others are alike, 16 tasks
miss that kind in one of five evaluations, and then the interval of a difference holds the truth in 85 % of all.

**Looking repeatedly costs.** Two equally good methods differ "significantly" (0 outside the interval of the difference)
in 2 to 4 % of the comparisons if one looks once, in 6 to 7 % if one looks three times while scenes are added, and in
12 % if one looks nine times. So decide on tasks, scenes and seeds before looking, and look once. Who must look *k*
times should believe only what holds at a confidence of 1 - 0.05 / *k* (Bonferroni; the argument `confidence` of
`paired_comparison` in `reporting/statistics.py`). The same goes for picking the best of *k* settings.

Tables that say *by an older method* were computed with a bootstrap, from attempts that are not kept here. Those
intervals are too short: they cover about 90 % with 40 tasks and 84 % with 16.
"""


def _section(document: Document) -> str:
    name = document["experiment"]
    head = f"\n## {name}\n\n{document['summary'].capitalize()}."
    if name == FEW_TASKS:
        return "\n\n".join([head, few_tasks(document), _ABOUT_FEW_TASKS]) + "\n"
    parts = [head, tables.markdown(document)]
    parts.append(f"{_caption(document)} [All numbers](../benchmarks/results/{name}.json).")
    parts += [_statements(document)] if name in STATEMENTS else []
    if "success" in document:
        successes = {**document, "rows": document["success"]}
        parts += [f"The same attempts: {tables.measured(successes)}.", tables.markdown(successes)]
    if "training_tasks" in document["rows"][0]:
        parts += [gains(document), _ABOUT_CURVES]
    parts += [f"![Success against {title}](figures/{file})" for file, title, _ in figures(document)]
    return "\n\n".join(parts) + "\n"


_ABOUT_FEW_TASKS = """Success over all scenes; families, conflicting scenes and second trials are in the file.
Several seeds are pooled. All trainings have the same number of steps, whatever the number of tasks; with the remedies,
further policies are trained, which try the tasks that they do not know. What the remedies are, and why they are needed:
[few-tasks.md](few-tasks.md)."""


_ABOUT_CURVES = """All amounts have the same number of training steps, fewer than in wtl-state. Trials are made in the
scenes of the demonstrations, three for each, so fewer demonstrations also mean fewer trials. Half of a task's
demonstrations are of either arrangement, so two of them show both in all, 67 % and 57 % of the cases with 2, 4 and 8 of
them, while half of the scenes of the evaluation are in conflict. In the figures, bars are the intervals and small dots
the training seeds. Why little data does not teach what a trial is good for: [log.md](log.md)."""


def _statements(document: Document) -> str:
    lines = ["| what the paper or its slides say | measured here |", "|---|---|"]
    for said in STATEMENTS[document["experiment"]]:
        measured = "not measured yet" if said.measured is None else said.measured(document)
        lines.append(f"| {said.text} ({said.source}) | {measured} |")
    return "\n".join(lines)


def figures(document: Document) -> list[tuple[str, str, str]]:
    """(file name, title, SVG) of the figures that belong to a result."""
    name = document["experiment"]
    if name == FEW_TASKS:
        title = "training tasks"
        return [(f"{name}.svg", title, plots.standalone(plots.remedies_plot(document, SHOWN, title)))]
    if name != "wtl-curves":
        return []
    return [
        (f"{name}-{fact}.svg", title, plots.standalone(plots.data_plot(document, fact, title)))
        for fact, title in (
            ("training_tasks", "training tasks"),
            ("demos_per_task", "demonstrations per training task"),
        )
    ]


# ---------------------------------------------------------------------------------------------------- write


def published() -> dict[str, Document]:
    """The documents in benchmarks/results by experiment, the main job's first."""
    documents: list[Document] = [read_document(path) for path in sorted(RESULTS.glob("*.json"))]
    documents.sort(key=lambda document: str(document["experiment"]) != "demo")
    return {document["experiment"]: document for document in documents}


def fill(path: Path, text: str) -> None:
    """Puts ``text`` between the markers of a page."""
    before, _, rest = path.read_text().partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


def main(runs: Sequence[Path]) -> None:
    for run in runs:
        finished = read_document(run / "results.json")
        (RESULTS / f"{finished['experiment']}.json").write_text(json.dumps(finished, indent=1) + "\n")
    documents = published()
    fill(ROOT / "README.md", block(documents))
    if FEW_TASKS in documents:
        fill(ROOT / "docs" / "few-tasks.md", few_tasks(documents[FEW_TASKS]))
    (ROOT / "docs" / "results.md").write_text(page(documents))
    for document in documents.values():
        for file, _, svg in figures(document):
            path = ROOT / "docs" / "figures" / file
            path.parent.mkdir(exist_ok=True)
            path.write_text(svg)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
