"""One self-contained HTML page from a result document: one story first, then the numbers, then how it was run.

The page shows the very numbers of ``results.json`` (a copy is inside it), needs no network and works from ``file://``.
Its template is ``report.html``, which escapes everything that is put into it; only our own style, script and figures
are markup. Its content security policy lets nothing else run or load.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from watchtrylearn.reporting import plots
from watchtrylearn.reporting.gallery import Card
from watchtrylearn.reporting.results import Entry, Row, label
from watchtrylearn.reporting.tables import columns, learners_of, line_name, lines, percent
from watchtrylearn.system.files import write_atomic
from watchtrylearn.types import WtlError

Document = Mapping[str, Any]
Metrics = Sequence[Mapping[str, Any]]

_DATA = {  # counts of a run, in words
    "recorded": "demonstrations recorded",
    "failed": "demonstrations failed (not stored)",
}
_KINDS = {  # of results.OUTCOMES, for the reader
    "corrected": "the trial fails and the retrial succeeds",
    "at once": "both succeed",
    "not solved": "both fail",
    "lost again": "the trial succeeds and the retrial fails",
}


def write_report(
    path: str | Path,
    document: Document,
    gallery: Sequence[Card] = (),
    metrics: Mapping[str, Metrics] | None = None,
) -> None:
    """Writes the page of a result document (``results.document``) to ``path``, whole or not at all.

    Beyond the document's own fields it shows ``summary`` (a sentence), ``data`` (name -> a count, or a rate
    as a fraction) and ``outcomes`` (``results.outcomes``) where present. The first card of the ``gallery`` is told
    large, before everything else. ``metrics``: learner -> rows of its log (``metrics.read_metrics``), of which it
    draws ``loss`` against ``step``. Raises ``WtlError`` if there are no rows or the file cannot be written.
    """
    if not document["rows"]:
        raise WtlError(f"the result document of {document['experiment']!r} has no rows to report")
    page = _environment().get_template("report.html").render(
        document=document,
        style=_own("report.css"),
        script=_own("report.js"),
        disputed=_disputed(document),
        best=_best_possible(document),
        scenes=lines(document)[next(iter(lines(document)))]["all", "all"],
        steps=[_line(document, entry, cells) for entry, cells in _watching(document)],
        columns=columns(document),
        lines=[_line(document, entry, cells) for entry, cells in lines(document).items()],
        diverged=sum(r["diverged"] for r in document["rows"] if (r["family"], r["subset"]) == ("all", "all")),
        findings=[_finding(comparison) for comparison in document["comparisons"]],
        legend=[(look, label(name, 0, learners_of(document)[name])) for name, look in plots.looks(document).items()],
        figures_shown=_figures(document),
        cards=gallery,
        families=Counter(card.family for card in gallery[1:]),
        outcomes=[(_KINDS[row["kind"]], row) for row in document.get("outcomes", [])],
        facts=_facts(document),
        training=_training(document, metrics or {}),
    )  # fmt: skip
    write_atomic(path, page)


@functools.cache
def _environment() -> jinja2.Environment:
    """Templates of this package. Whatever is put into one is escaped, and what is not there is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("watchtrylearn.reporting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    environment.filters |= {
        "percent": percent,
        "rounded": lambda fraction: f"{100 * fraction:.0f}",
        "share": lambda fraction: f"{100 * fraction:.1f}%",
        "label": lambda entry: label(**entry),
        "probability": lambda value: "p < 0.001" if value < 0.001 else f"p = {value:.2g}",
        "sentence": lambda text: f"“{text[:1].upper()}{text[1:]}”",
        "base64": lambda content: base64.b64encode(content).decode("ascii"),
        "csp_hash": _csp_hash,
    }
    return environment


def _own(name: str) -> Markup:
    """A file of this package as it is."""
    return Markup(files("watchtrylearn.reporting").joinpath(name).read_text(encoding="utf-8"))


def _csp_hash(text: str) -> str:
    """How a content security policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


# ------------------------------------------------------------------------------------------------- the answer


def _disputed(document: Document) -> bool:
    """Does the suite know scenes where the readings of a demonstration disagree?"""
    return any(subset == "conflict" for _, _, subset in columns(document))


def _best_possible(document: Document) -> tuple[float, float] | None:
    """The ceilings on all scenes after the demonstration alone, and after one trial; None where one is unknown."""
    found = {trials: cells["all", "all"]["ceiling"] for (_, trials), cells in _watching(document)}
    first, later = found.get(0), found.get(1)
    return None if first is None or later is None else (first, later)


def _watching(document: Document) -> list[tuple[Entry, Mapping[tuple[str, str], Row]]]:
    """The lines of methods that look at the demonstration."""
    return [(entry, cells) for entry, cells in lines(document).items() if cells["all", "all"]["demos"]]


def _line(document: Document, entry: Entry, cells: Mapping[tuple[str, str], Row]) -> dict[str, Any]:
    """A line of the table: its name, the number of its colour, and its cells in the order of the columns."""
    name, _, after = line_name(entry, cells).partition(", ")
    return {
        "name": name,
        "after": after,
        "series": plots.looks(document)[entry[0]].series,
        "cells": [(family, cells.get((family, subset))) for _, family, subset in columns(document)],
        "total": cells["all", "all"],
        "disputed": cells.get(("all", "conflict")),
    }


def _finding(comparison: Row) -> dict[str, Any]:
    """A paired comparison, with what a sentence about it needs."""
    low, high = (100 * end for end in comparison["ci"])
    points = 100 * comparison["difference"]
    return {
        **comparison,
        "points": f"{abs(points):.1f}",
        "more": "more" if points >= 0 else "less",
        "interval": f"{low:+.1f} to {high:+.1f}",
        "doubtful": low <= 0 <= high,
    }


def _figures(document: Document) -> dict[str, list[tuple[str, Markup]]]:
    """Success against attempts: over all families large, then every family small. Titles and figures."""
    totals = {"all": "All scenes", "conflict": "Only scenes where the readings disagree"}
    have = {(family, subset) for _, family, subset in columns(document)}
    return {
        "": [
            (title, Markup(plots.attempts_plot(document, "all", subset, (4.3, 2.9))))
            for subset, title in totals.items()
            if ("all", subset) in have
        ],
        "small": [
            (family, Markup(plots.attempts_plot(document, family, "all", (2.4, 2.1))))
            for _, family, _ in columns(document)
            if family != "all"
        ],
    }


# --------------------------------------------------------------------------------------------- how it was run


def _facts(document: Document) -> dict[str, list[tuple[str, str]]]:
    """Lists of terms and values, by title."""
    times = [(phase, _duration(seconds)) for phase, seconds in document["phases_s"].items()]
    return {
        "Reproduce": _provenance(document),
        "Wall time": [*times, ("together", _duration(document["wall_s"]))],
        "Data": [(_counted(document, name), _count(value)) for name, value in document.get("data", {}).items()],
    }


def _provenance(document: Document) -> list[tuple[str, str]]:
    machine = document["machine"]
    return [
        ("command", document["command"]),
        ("commit", document["commit"]),
        ("seeds", ", ".join(map(str, document["seeds"]))),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB"),
        ("versions", ", ".join(f"{name} {number}" for name, number in document["versions"].items())),
    ]


def _counted(document: Document, name: str) -> str:
    """What a count of the run is of, in words."""
    if name.startswith("trials_"):
        method = name.removeprefix("trials_")
        learner = learners_of(document).get(method, "")
        return "… of them successful" if method.endswith("_success") else f"trials by {label(method, 0, learner)}"
    return _DATA.get(name, name)


def _count(value: int | float) -> str:
    """Whole numbers count; others are rates."""
    return f"{value:,}" if isinstance(value, int) else f"{percent(value)} %"


def _duration(seconds: int | float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _training(document: Document, metrics: Mapping[str, Metrics]) -> list[tuple[str, Markup]]:
    """The training loss of every method that logged one."""
    methods, found = learners_of(document), []
    for name, log in metrics.items():
        points = [(row["step"], row["loss"]) for row in log if "loss" in row]
        if len(points) > 1:
            figure = plots.curve_plot(name, points, plots.look(name, methods))
            found.append((label(name, 0, methods.get(name, "")), Markup(figure)))
    return found
