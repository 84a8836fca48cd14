"""Result documents as SVG: small figures whose colours follow the reader's light or dark theme.

Matplotlib draws with placeholder colours; ``_svg`` replaces each by a CSS variable (``--ink``, ``--series-0``
...) that the page defines, and ``standalone`` makes a file of its own from such a figure. Methods differ by colour
*and* marker, so nothing depends on colour vision.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from watchtrylearn import learners
from watchtrylearn.reporting.results import METRICS, Entry, Row
from watchtrylearn.reporting.tables import learners_of, line_name, lines, remedies

INK, MUTED, GRID = "#000001", "#000002", "#000003"
_CSS = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)"}
_CLEANING = (  # what a standalone SVG file has and a figure in a page must not have
    (r"<metadata>.*?</metadata>", ""),
    (r"<style.*?</style>", ""),
    (r'(<svg[^>]*?) width="[^"]*"', r"\1"),
    (r'(<svg[^>]*?) height="[^"]*"', r"\1"),
    (r"(font-family: |font: [^;\"']*px )[^;\"]*", r"\1system-ui, sans-serif"),
    (r"#00010(\d)", r"var(--series-\1)"),
)
_COLOURS = 6  # --series-0 to --series-5; no divisor in common with the number of markers: 66 pairs before one repeats
_MARKERS = (
    ("s", "■"), ("D", "◆"), ("^", "▲"), ("o", "●"), ("v", "▼"), ("p", "⬟"),
    ("P", "✚"), ("X", "✖"), ("*", "★"), ("<", "◀"), (">", "▶"),
)  # fmt: skip
_STYLE: Any = {  # (matplotlib's own type for this lists all 300 settings)
    "svg.fonttype": "none",  # text stays text: selectable, in the page's font
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
}


@dataclass(frozen=True)
class Look:
    """How a method is drawn: marker, the same as a character, and the number of its colour."""

    marker: str
    symbol: str
    series: int

    @property
    def colour(self) -> str:
        """The placeholder that becomes ``var(--series-N)``."""
        return f"#00010{self.series}"


def look(method: str, others: Iterable[str] = ()) -> Look:
    """The look of a method, by its place in the table of learners; those that are not in it follow in the order of
    ``others``, in colours that these do not have, as long as there are any."""
    known, shown = learners.learner_names(), [*others, method]
    places = {name: place for place, name in enumerate(known) if name in shown}
    for name in dict.fromkeys(shown):
        if name not in places:
            taken = {place % _COLOURS for place in places.values()}
            free = [p for p in range(len(known), len(known) + len(shown) + _COLOURS) if p not in places.values()]
            places[name] = next((place for place in free if place % _COLOURS not in taken), free[0])
    place = places[method]
    return Look(*_MARKERS[place % len(_MARKERS)], place % _COLOURS)


def looks(document: Mapping[str, Any]) -> dict[str, Look]:
    """The look of every method in a document, in the order of its table."""
    methods = list(dict.fromkeys(method for method, _ in lines(document)))
    return {method: look(method, methods) for method in methods}


def attempts_plot(document: Mapping[str, Any], family: str, subset: str, size: tuple[float, float]) -> str:
    """Success against the number of trials before the attempt, with intervals and ceilings.

    ``size`` is in inches. The line of a method whose first attempt is another's, from which it starts, begins there.
    """
    rows = [cells[family, subset] for cells in lines(document).values() if (family, subset) in cells]
    drawn = looks(document)
    offset = {method: 0.06 * (place - (len(drawn) - 1) / 2) for place, method in enumerate(drawn)}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        for method in drawn:
            ours = [row for row in rows if row["method"] == method]
            if all(row["trials"] for row in ours):
                first = _first(document, method)
                ours = [row for row in rows if (row["method"], row["trials"]) == (first, 0)] + ours
            places = [row["trials"] + offset[row["method"]] for row in ours]
            axes.plot(places, [row["value"] for row in ours], color=drawn[method].colour, zorder=2)
        for row in rows:
            _point(axes, row["trials"] + offset[row["method"]], row, drawn[row["method"]])
        _attempt_axes(axes, max(row["trials"] for row in rows))
        return _svg(figure, f"{family} {subset}")


def _first(document: Mapping[str, Any], method: str) -> str | None:
    """The method whose first attempt is this one's too: as the document says, else as the table of learners does."""
    learner = learners_of(document)[method]
    usual = next((entry.starts_from for entry in learners.LEARNERS if entry.name == learner), None)
    found: str | None = document.get("starts", {}).get(method, usual)
    return found


def _attempt_axes(axes: Axes, trials: int) -> None:
    axes.set_ylim(-0.02, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25", "50", "75", "100 %"])
    axes.set_xlim(-0.35, trials + 0.35)
    names = ["at once", *(f"{k} trial{'s' if k > 1 else ''}" for k in range(1, trials + 1))]
    axes.set_xticks(range(trials + 1), names)


def _point(axes: Axes, x: float, row: Row, look: Look) -> None:
    """A rate with its interval, if it has one, and a short bar at the best possible rate."""
    if row["ci"] is not None:
        axes.vlines(x, *row["ci"], color=look.colour, linewidth=1.4, zorder=3)
    axes.plot([x], [row["value"]], look.marker, color=look.colour, zorder=4)
    if row["ceiling"] is not None:
        axes.hlines(row["ceiling"], x - 0.11, x + 0.11, color=MUTED, linewidth=1.6, zorder=1)


def curve_plot(name: str, points: Sequence[tuple[int, float]], drawn: Look) -> str:
    """A method's training curve, (step, value): the measurements thin, their running mean thick."""
    step, value = np.array(points, float).T
    colour = drawn.colour
    window = max(1, len(value) // 25)
    total = np.cumsum(np.concatenate([[0.0], value]))
    mean = (total[window:] - total[:-window]) / window
    thin = max(1, len(value) // 300)  # more points than pixels would only make the page heavy
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.2, 2.0), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(step[::thin], value[::thin], color=colour, linewidth=0.7, alpha=0.35)
        axes.plot(step[window - 1 :][::thin], mean[::thin], color=colour, linewidth=1.8)
        axes.set_xlabel("step")
        return _svg(figure, f"training {name}")


def data_plot(document: Mapping[str, Any], fact: str, title: str) -> str:
    """Success over all scenes against an amount of training data, on a logarithmic axis; one line per method.

    ``fact`` is the field of the rows that holds the amount; of the other amount the largest is shown. Bars are the
    rows' intervals, small dots the training seeds, dotted lines the best possible rates.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        found = _amounts(document, fact)
        for entry, rows in found.items():
            drawn = look(entry[0], [method for method, _ in found])
            shift = 1 + 0.06 * (entry[1] - 1) if entry[1] else 1.0  # beside each other, not on top
            name = line_name(entry, {("all", "all"): rows[0]})
            _data_line(axes, name, drawn, [row[fact] * shift for row in rows], rows, faint=entry[1] > 1)
        _data_axes(axes, [row for rows in found.values() for row in rows], fact, title)
        axes.legend(frameon=False, loc="lower right")
        return _svg(figure, f"data {fact}")


def remedies_plot(document: Mapping[str, Any], entries: Sequence[Entry], title: str) -> str:
    """Success over all scenes against the number of training tasks, on a logarithmic axis, of some lines of the table:
    each with the remedies against learning few tasks by heart (filled), and without (hollow). The first is thick.

    Bars, dots and dotted lines are those of ``data_plot``.
    """
    overall = [row for row in document["rows"] if (row["family"], row["subset"]) == ("all", "all")]
    shown: list[Row] = []
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for entry in entries:
            drawn = look(entry[0])
            for kind, shift in (("all", 1.02), ("none", 0.98)):
                rows = [r for r in overall if (r["method"], r["trials"], r["remedies"]) == (*entry, kind)]
                if not rows:
                    continue
                rows.sort(key=lambda row: int(row["training_tasks"]))
                places = [row["training_tasks"] * shift for row in rows]
                name = line_name(entry, {("all", "all"): rows[0]}, remedies(rows[0]))
                _data_line(axes, name, drawn, places, rows, faint=kind == "none", thin=entry != entries[0])
                shown += rows
        _data_axes(axes, shown, "training_tasks", title)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.45, -0.16), fontsize=8)
        return _svg(figure, "remedies")


def _amounts(document: Mapping[str, Any], fact: str) -> dict[Entry, list[Row]]:
    """The overall rows in which every other amount is the largest, by line of the table and in order of ``fact``."""
    (other,) = {"training_tasks", "demos_per_task"} - {fact}
    rows = [row for row in document["rows"] if (row["family"], row["subset"]) == ("all", "all")]
    most = max(row[other] for row in rows)
    found: dict[Entry, list[Row]] = {}
    for row in sorted((row for row in rows if row[other] == most), key=lambda row: int(row[fact])):
        found.setdefault((row["method"], row["trials"]), []).append(row)
    return found


def _data_axes(axes: Axes, rows: Sequence[Row], fact: str, title: str) -> None:
    """The axes of success against the amount ``fact``, and the best possible rates of the ``rows`` that are shown."""
    ceilings = sorted({row["ceiling"] for row in rows if row["ceiling"] is not None})
    for number, ceiling in enumerate(ceilings):
        name = "" if number else "best possible, without and with a trial"
        axes.axhline(ceiling, color=MUTED, linewidth=1.0, linestyle=":", zorder=1, label=name)
    amounts = sorted({row[fact] for row in rows})
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(amounts, [str(amount) for amount in amounts])
    axes.set_xlabel(title)
    axes.set_ylabel(f"{METRICS['success']}, 95 % intervals over tasks")
    axes.set_ylim(0, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25", "50", "75", "100 %"])


def _data_line(
    axes: Axes,
    name: str,
    drawn: Look,
    places: Sequence[float],
    rows: Sequence[Row],
    *,
    faint: bool = False,
    thin: bool = False,
) -> None:
    """A line through ``rows`` at ``places``; a ``faint`` one is dashed, and hollow are its markers."""
    values = [row["value"] for row in rows]
    intervals = [(place, *row["ci"]) for place, row in zip(places, rows, strict=True) if row["ci"] is not None]
    if intervals:
        axes.vlines(*zip(*intervals, strict=True), color=drawn.colour, linewidth=0.9 if thin else 1.4)
    axes.plot(
        places, values, drawn.marker, linestyle="--" if faint else "-", color=drawn.colour,
        markerfacecolor="none" if faint else drawn.colour, label=name,
        linewidth=1.0 if thin else 2.0, markersize=4 if thin else 6,
    )  # fmt: skip
    for place, row in zip(places, rows, strict=True):
        seeds = list(row["of_seeds"].values())
        axes.plot([place] * len(seeds), seeds, ".", color=drawn.colour, markersize=3, alpha=0.5)


def standalone(svg: str) -> str:
    """A figure of this module as a file of its own: it brings the report's colours, for light and dark, with it."""
    style = files("watchtrylearn.reporting").joinpath("report.css").read_text(encoding="utf-8")
    colours = style[style.index(":root") : style.index("* {")]
    box = re.search(r'viewBox="0 0 (\S+) (\S+)"', svg)
    assert box is not None, "matplotlib writes a viewBox"
    ground = f'<rect width="{box[1]}" height="{box[2]}" fill="var(--card)"/>'
    head, _, rest = svg.partition(">")
    sized = f'{head} width="{float(box[1]) * 4 / 3:.0f}" height="{float(box[2]) * 4 / 3:.0f}"'  # points to pixels
    return f"{sized}><style>{colours}</style>{ground}{rest}"


def _svg(figure: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element to place in a page, with CSS variables for colours.

    The same figure and ``name`` give the same text, and different names different ids.
    """
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern, replacement in _CLEANING:
        text = re.sub(pattern, replacement, text, flags=re.S)
    for colour, variable in _CSS.items():
        text = text.replace(colour, variable)
    linked = set(re.findall(r'(?:href="|url\()#([^")]+)', text))  # other names repeat in every figure
    return re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in linked else "", text)
