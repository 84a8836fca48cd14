"""Publish finished results: the table in the README, and docs/results.md with its figures.

usage: python benchmarks/publish.py [RUN ...]

Copies the results of the given runs (``wtl demo``) to benchmarks/results, where ``wtl reproduce`` writes its own,
and makes both pages from what is there. Nothing on them is typed by hand but what the papers say.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchtrylearn import plots, results

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Statement:
    """What a paper says, in our words, and which of our comparisons (first minus second) speaks to it."""

    source: str
    text: str
    first: results.Entry | None = None
    second: results.Entry | None = None


SLIDES = "slides 002, Finn 2019"
STATEMENTS = {
    "wtl-state": (
        Statement(
            SLIDES,
            "One demonstration and one trial do significantly better than demonstrations alone.",
            ("watch_try_learn", 1),
            ("one_shot", 0),
        ),
        Statement(
            SLIDES,
            "They do significantly better than trials alone (meta-reinforcement learning).",
            ("watch_try_learn", 1),
            ("trials_only", 1),
        ),
        Statement(SLIDES, "Reinforcement learning from a behaviour-cloning start needs 900 trials to get as far."),
    ),
}


# ------------------------------------------------------------------------------------------------ the README


def block(document: Document) -> str:
    """What stands between the markers of the README."""
    where = f"benchmarks/results/{document['experiment']}.json"
    return f"{BEGIN}\n{results.markdown(document)}\n\n{_caption(document)} [All numbers]({where}).\n{END}"


def _caption(document: Document) -> str:
    count = len(document["seeds"])
    trained = "one training seed" if count == 1 else f"{count} training seeds"
    seeds = ", ".join(map(str, document["seeds"]))
    minutes = float(document["wall_s"]) / 60 / count
    each = "" if count == 1 else " each"
    return (
        f"Success in %, with 95 % intervals over tasks, {trained}: `{document['command']}`, seed{'s' * (count > 1)} "
        f"{seeds}, {minutes:.1f} minutes{each} on {document['machine']['cores']} cores; "
        f"commit {str(document['commit'])[:10]}."
    )


# ------------------------------------------------------------------------------------------- docs/results.md


def page(documents: Sequence[Document]) -> str:
    """docs/results.md: every published result with its command, and what the papers say beside it."""
    head = """# Results

Made by `python benchmarks/publish.py` from the files in [benchmarks/results](../benchmarks/results), not by hand. How
the best possible rates come about is in [suites.md](suites.md), what was tried on the way in [log.md](log.md). The
papers' own success rates were measured in a simulator and on data that were never released, so they are not quoted as
numbers to compare with.
"""
    return head + "".join(map(_section, documents))


def _section(document: Document) -> str:
    name = document["experiment"]
    parts = [f"\n## {name}\n\n{document['summary'].capitalize()}.", results.markdown(document)]
    parts.append(f"{_caption(document)} [All numbers](../benchmarks/results/{name}.json).")
    if name in STATEMENTS:
        parts.append(_statements(document))
    parts += [f"![{title}](figures/{file})" for file, title, _ in figures(document)]
    return "\n\n".join(parts) + "\n"


def _statements(document: Document) -> str:
    lines = ["| what the paper or its slides say | measured here |", "|---|---|"]
    lines += [f"| {s.text} ({s.source}) | {_measured(document, s)} |" for s in STATEMENTS[document["experiment"]]]
    return "\n".join(lines)


def _measured(document: Document, statement: Statement) -> str:
    if statement.first is None or statement.second is None:
        return "not measured yet"
    found = _comparison(document, statement.first, statement.second)
    low, high = (100 * end for end in found["ci"])
    names = f"{results.label(*statement.first)}, minus {results.label(*statement.second)}"
    return f"{names}: **{100 * found['difference']:+.1f}** points ({low:+.1f} to {high:+.1f}), {found['n']} scenes"


def _comparison(document: Document, first: results.Entry, second: results.Entry) -> results.Row:
    """The comparison of two lines of the table, over all families and scenes."""
    sides = [{"method": method, "trials": trials} for method, trials in (first, second)]
    for row in document["comparisons"]:
        if [row["first"], row["second"], row["subset"]] == [*sides, "all"] and row.get("family", "all") == "all":
            return dict(row)
    raise SystemExit(f"{document['experiment']}: no comparison of {first} with {second}")


def figures(document: Document) -> list[tuple[str, str, str]]:
    """(file name, title, SVG) of the figures that belong to a result."""
    name = document["experiment"]
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


def published() -> list[Document]:
    """The documents in benchmarks/results: the main job's first."""
    documents = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    return sorted(documents, key=lambda document: document["experiment"] != "demo")


def main(runs: Sequence[Path]) -> None:
    for run in runs:
        document = json.loads((run / "results.json").read_text())
        (RESULTS / f"{document['experiment']}.json").write_text(json.dumps(document, indent=1) + "\n")
    documents = published()
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    readme.write_text(before + block(documents[0]) + rest.partition(END)[2])
    (ROOT / "docs" / "results.md").write_text(page(documents))
    for document in documents:
        for file, _, svg in figures(document):
            path = ROOT / "docs" / "figures" / file
            path.parent.mkdir(exist_ok=True)
            path.write_text(svg)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
