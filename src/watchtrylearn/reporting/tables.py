"""Result documents as tables: what a line is called, and the lines for a terminal and for a page.

Nothing is computed here but the order and the words; every number is the document's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from watchtrylearn.reporting.results import METRICS, Entry, Row, label


def columns(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The columns of the table, (heading, family, subset): families, all scenes, the conflicting ones."""
    have = dict.fromkeys((row["family"], row["subset"]) for row in document["rows"])
    families = [(family, family, "all") for family, subset in have if subset == "all" and family != "all"]
    families = families if len(families) > 1 else []  # a single family is all there is
    totals = [("all", "all", "all"), ("conflict", "all", "conflict")]
    return families + [total for total in totals if total[1:] in have]


def condition(row: Row) -> str:
    """What sets a row apart from the main table, in words; empty for the rows of the main table."""
    parts = [f"{row['demos']} demonstrations"] if row["demos"] > 1 else []
    parts += ["in a new scene"] if row["scene"] == "new" else []
    parts += [f"{name} {row[name]}" for name in ("outcome", "target") if name in row]
    if "training_tasks" in row:
        parts.append(amount(row))
    return ", ".join(parts)


def amount(row: Row) -> str:
    """How much a learner was trained on, and by which remedies, for rows that say so."""
    tasks = f"{row['training_tasks']} tasks of {row['demos_per_task']} demonstrations"
    return f"{tasks}, {remedies(row)}" if "remedies" in row else tasks


def remedies(row: Row) -> str:
    """By which remedies against learning few tasks by heart a learner was trained, in words."""
    words = {"all": "with the remedies", "none": "without remedies"}
    return words.get(row["remedies"], f"{row['remedies']} alone")


def lines(document: Mapping[str, Any], special: str = "") -> dict[Entry, dict[tuple[str, str], Row]]:
    """The lines of the table of a condition, in reading order: (method, trials) -> (family, subset) -> row."""
    found: dict[Entry, dict[tuple[str, str], Row]] = {}
    for row in document["rows"]:
        if condition(row) == special:
            found.setdefault((row["method"], row["trials"]), {})[row["family"], row["subset"]] = row
    return found


def learners_of(document: Mapping[str, Any]) -> dict[str, str]:
    """The learners of the methods in a document, method -> learner."""
    return {row["method"]: row.get("learner", row["method"]) for row in document["rows"]}


def measured(document: Mapping[str, Any]) -> str:
    """What the rows of a document are, in words."""
    row = document["rows"][0]
    return f"{METRICS[row['metric']]}, with {intervals(document, row.get('clusters', 'tasks'))}"


def intervals(document: Mapping[str, Any], clusters: str = "tasks") -> str:
    """What the intervals of a document are; one that does not say how they were made has those of a bootstrap.

    With so few tasks these were too short; with hundreds of scenes they are not.
    """
    old = "interval" not in document and clusters == "tasks"
    doubt = " (by an older method: they cover about 90 %)" if old else ""
    return f"95 % intervals over {clusters}{doubt}"


def percent(fraction: int | float) -> str:
    """``0.873`` -> ``"87"``; a rate short of 1 (or above 0) is never rounded to 100 (or 0)."""
    exact = 100 * fraction
    if fraction in (0.0, 1.0) or 0 < round(exact) < 100:
        return f"{exact:.0f}"
    return f"{min(max(exact, 0.1), 99.9):.1f}"


def table(document: Mapping[str, Any]) -> Table:
    """The table for the terminal (80 columns): methods down, families across; values above their intervals."""
    built = Table(
        title=f"{document['experiment']}: {measured(document)}",
        show_lines=True,
        padding=0,
    )
    built.add_column("method", min_width=18, no_wrap=True)
    wanted = columns(document)
    for heading, _, _ in wanted:
        built.add_column(heading, justify="center", no_wrap=True)
    limited = _has_ceilings(document)
    if limited:
        built.add_column("best", justify="center", no_wrap=True)
    for special, entry, cells in _all_lines(document):
        text = [_cell(cells.get((family, subset))) for _, family, subset in wanted]
        built.add_row(line_name(entry, cells, special).replace(", ", "\n"), *text, *([_best(cells)] if limited else []))
    if any(subset == "conflict" for _, _, subset in wanted):
        built.caption = (
            "conflict: only scenes where two readings of the demonstration disagree\n"
            "best: the best possible, in all | in the conflicting scenes"
        )
    return built


def markdown(document: Mapping[str, Any]) -> str:
    """The table for a page: one line per method, values with their intervals, ceilings beside them."""
    wanted = columns(document)
    limited = _has_ceilings(document)
    heads = ["method", *(heading for heading, _, _ in wanted), *(["best possible: all, conflict"] if limited else [])]
    shown = [_line(heads), "|" + "---|" * len(heads)]
    for special, entry, cells in _all_lines(document):
        rates = [_cell(cells.get((family, subset))).plain.split("\n") for _, family, subset in wanted]
        text = [f"**{cell[0]}** ({cell[1]})" if len(cell) == 2 else "" for cell in rates]
        best = [_best(cells).replace("|", "and")] if limited else []
        shown.append(_line([line_name(entry, cells, special), *text, *best]))
    return "\n".join(shown)


def across_table(rows: Sequence[Row], names: tuple[str, str]) -> Table:
    """The rows of ``across`` for the terminal, in the order of the entries: all scenes, then the conflicting ones."""
    built = Table(title=f"{names[0]} minus {names[1]}, in the same scenes", padding=0)
    built.add_column("method", no_wrap=True)
    for heading in ("scenes", "RUN %", "OTHER %", "difference in points", "95 % interval"):
        built.add_column(heading, justify="right")
    for row in rows:
        low, high = (f"{100 * end:+.1f}" for end in row["ci"])
        scenes = f"{row['n']} {row['subset']}"
        rates = (percent(row["ours"]), percent(row["theirs"]))
        built.add_row(label(**row["first"]), scenes, *rates, f"{100 * row['difference']:+.1f}", f"{low} to {high}")
    return built


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _has_ceilings(document: Mapping[str, Any]) -> bool:
    """Is the best possible known anywhere? Otherwise the tables have no column for it."""
    return any(row["ceiling"] is not None for row in document["rows"])


def _all_lines(document: Mapping[str, Any]) -> Iterator[tuple[str, Entry, dict[tuple[str, str], Row]]]:
    """The lines of the main table, then those of every condition."""
    for special in dict.fromkeys(map(condition, document["rows"])):
        for entry, cells in lines(document, special).items():
            yield special, entry, cells


def line_name(entry: Entry, cells: Mapping[tuple[str, str], Row], special: str = "") -> str:
    """What a line of the table is called; any of its rows knows the learner."""
    name = label(*entry, next(iter(cells.values())).get("learner", ""))
    return f"{name}, {special}" if special else name


def _cell(row: Row | None) -> Text:
    if row is None:
        return Text("")
    if row["metric"] == "return":
        ends = "?" if row["ci"] is None else "{:.2f} to {:.2f}".format(*row["ci"])
        return Text.assemble((f"{row['value']:.2f}", "bold"), f"\n{ends}")
    low, high = (f"{100 * end:.0f}" for end in row["ci"])
    return Text.assemble((percent(row["value"]), "bold"), f"\n{low}–{high}")  # noqa: RUF001


def _best(cells: Mapping[tuple[str, str], Row]) -> str:
    found = [cells[key]["ceiling"] for key in (("all", "all"), ("all", "conflict")) if key in cells]
    return " | ".join("?" if ceiling is None else percent(ceiling) for ceiling in found)
