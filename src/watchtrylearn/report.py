"""One self-contained HTML page from a result document: the question, the answer, clips, how it was run.

The page shows the very numbers of ``results.json`` (a copy is inside it), needs no network and works from
``file://``. Everything that comes from data is escaped. Layout, style and script are in ``report.html``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from watchtrylearn import plots
from watchtrylearn.files import write_atomic
from watchtrylearn.gallery import Card, section
from watchtrylearn.results import Entry, Row, label
from watchtrylearn.tables import columns, lines, percent
from watchtrylearn.types import WtlError

Document = Mapping[str, Any]
Metrics = Sequence[Mapping[str, Any]]

_QUESTION = """\
A robot watches <strong>one demonstration</strong> of a task it was never trained on. What it saw has two
readings: <em>this very thing</em>, or <em>the thing at this place</em>. In a new scene the two may ask for
different actions, and nothing in the demonstration says which was meant. So the robot <strong>tries</strong>,
hears only whether it succeeded, yes or no, and <strong>tries again</strong>."""
_PLAIN_QUESTION = """\
A robot watches <strong>one demonstration</strong> of a task it was never trained on, <strong>tries</strong>,
hears only whether it succeeded, yes or no, and <strong>tries again</strong>."""
_DATA = {  # counts of a run, in words
    "recorded": "demonstrations recorded",
    "failed": "demonstrations failed (not stored)",
    "trials_one_shot": "trials after one demonstration",
    "trials_one_shot_success": "… of them successful",
    "trials_bc": "trials without a demonstration",
    "trials_bc_success": "… of them successful",
}


def write_report(
    path: str | Path,
    document: Document,
    gallery: Sequence[Card] = (),
    metrics: Mapping[str, Metrics] | None = None,
) -> None:
    """Writes the page of a result document (``results.document``) to ``path``, whole or not at all.

    Beyond the document's own fields it shows ``summary`` (a sentence), ``data`` (name -> a count, or a rate
    as a fraction) and ``outcomes`` (``results.outcomes``) where present. ``metrics``: learner -> rows of its
    log (``metrics.read_metrics``), of which it draws ``loss`` against ``step``. Raises ``WtlError`` if there
    are no rows or the file cannot be written.
    """
    if not document["rows"]:
        raise WtlError(f"the result document of {document['experiment']!r} has no rows to report")
    page = Template(files("watchtrylearn").joinpath("report.html").read_text(encoding="utf-8"))
    write_atomic(
        path,
        page.substitute(
            title=escape(f"Watch, try, learn: {document['experiment']}"),
            heading="Watch, try, learn",
            introduction=_introduction(document),
            steps=_steps(document),
            table=_table(document),
            findings="".join(map(_finding, document["comparisons"])),
            figures=_figures(document),
            gallery=section(gallery, document.get("outcomes", [])),
            run=_run(document),
            training=_training(metrics or {}),
            footer=f"Experiment “{escape(document['experiment'])}”, made with watchtrylearn.",
            data=json.dumps(document, allow_nan=False).replace("<", "\\u003c"),
        ),
    )


# ----------------------------------------------------------------------------------------------- the question


def _introduction(document: Document) -> str:
    """What the experiment is, in plain words, with its own numbers."""
    row = lines(document)[next(iter(lines(document)))]["all", "all"]
    text = [
        _QUESTION if _disputed(document) else _PLAIN_QUESTION,
        _best_possible(document),
        f"Every method below attempts the same {row['n']} scenes of {row['tasks']} held-out tasks; a rate is "
        "shown with its 95 % interval over tasks and beside the best that is possible.",
    ]
    named = f"Experiment “{document['experiment']}”: {document.get('summary', '')}".rstrip(": ")
    lead = " ".join(text).replace(" %", "&nbsp;%")
    return f'<p class="lead">{lead}</p><p class="muted">{escape(named)}</p>'


def _disputed(document: Document) -> bool:
    """Does the suite know scenes where the readings of a demonstration disagree?"""
    return any(subset == "conflict" for _, _, subset in columns(document))


def _best_possible(document: Document) -> str:
    """The ceilings on all scenes after the demonstration alone, and after one trial."""
    found = {trials: cells["all", "all"]["ceiling"] for (_, trials), cells in _watching(document)}
    first, later = found.get(0), found.get(1)
    if first is None or later is None:
        return ""
    then = "one trial settles the question, and" if later == 1.0 else "after one trial"
    return (
        f"From the demonstration alone nobody could succeed in more than {percent(first)} % of the scenes; "
        f"{then} the best possible rate is {percent(later)} %."
    )


def _watching(document: Document) -> list[tuple[Entry, Mapping[tuple[str, str], Row]]]:
    """The lines of methods that look at the demonstration."""
    return [(entry, cells) for entry, cells in lines(document).items() if cells["all", "all"]["demos"]]


def _steps(document: Document) -> str:
    """The headline: the rate after the demonstration alone, after one trial, after two ..."""
    items = "".join(_step(label(*entry), entry[0], cells, document) for entry, cells in _watching(document))
    return f'<ol class="steps">{items}</ol>' if items else ""


def _step(name: str, method: str, cells: Mapping[tuple[str, str], Row], document: Document) -> str:
    row, disputed = cells["all", "all"], cells.get(("all", "conflict"))
    best = "success" if row["ceiling"] is None else f"success; the best possible is {percent(row['ceiling'])} %"
    where = f"<small>{percent(disputed['value'])} % where the readings disagree</small>" if disputed else ""
    return (
        f'<li class="panel"><span>{escape(name)}</span><b>{percent(row["value"])} %</b>'
        f"{_bar(row, plots.looks(document)[method].series)}<small>{best}</small>{where}</li>"
    )


def _bar(row: Row, series: int) -> str:
    """A thin bar as long as the rate, with a tick at the ceiling."""
    tick = "" if row["ceiling"] is None else f'<u style="--c:{100 * row["ceiling"]:.1f}%"></u>'
    style = f"--v:{100 * row['value']:.1f}%;--bar:var(--series-{series})"
    return f'<span class="bar" style="{style}" aria-hidden="true"><i></i>{tick}</span>'


# ------------------------------------------------------------------------------------------------- the answer


def _table(document: Document) -> str:
    wanted = columns(document)
    head = "".join(f'<th scope="col"{_total(f)}>{escape(heading)}</th>' for heading, f, _ in wanted)
    body = "".join(_line(document, entry, cells) for entry, cells in lines(document).items())
    return (
        '<div class="panel scroll" tabindex="0" role="region" aria-label="Success rates">'
        f'<table class="results"><thead><tr><th scope="col">method</th>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="note">{_table_note(document)}</p>'
    )


def _line(document: Document, entry: Entry, cells: Mapping[tuple[str, str], Row]) -> str:
    name, _, after = label(*entry).partition(", ")
    more = f"<small>{escape(after)}</small>" if after else ""
    series = plots.looks(document)[entry[0]].series
    shown = "".join(_cell(cells.get((f, subset)), f, series) for _, f, subset in columns(document))
    return f'<tr><th scope="row">{escape(name)}{more}</th>{shown}</tr>'


def _total(family: str) -> str:
    return ' class="total"' if family == "all" else ""


def _cell(row: Row | None, family: str, series: int) -> str:
    if row is None:
        return f"<td{_total(family)}></td>"
    low, high = (f"{100 * end:.0f}" for end in row["ci"])
    best = "" if row["ceiling"] is None else f"<small>best possible {percent(row['ceiling'])}</small>"
    rate = f"<b>{percent(row['value'])}</b> <small>{low} to {high}</small>"
    return f"<td{_total(family)}>{rate}{_bar(row, series)}{best}</td>"


def _table_note(document: Document) -> str:
    text = ["Success in %, with the 95 % interval over tasks; the tick on a bar is the best possible rate."]
    if _disputed(document):
        text.append("<em>Conflicting</em>: scenes in which the two readings of the demonstration disagree.")
    diverged = sum(r["diverged"] for r in document["rows"] if (r["family"], r["subset"]) == ("all", "all"))
    if diverged:
        text.append(f"Attempts in which the physics broke down count as failures: {diverged}.")
    return " ".join(text)


def _finding(comparison: Row) -> str:
    """The paired comparison as a sentence."""
    first, second = (escape(label(**comparison[side])) for side in ("first", "second"))
    points, (low, high) = 100 * comparison["difference"], (100 * end for end in comparison["ci"])
    scenes = f"In the same {comparison['n']} scenes"
    if comparison["subset"] == "conflict":
        scenes = f"In the {comparison['n']} scenes where the readings disagree"
    doubt = "" if low > 0 or high < 0 else ", which includes no difference"
    return (
        f'<p class="panel finding">{scenes}, <strong>{first}</strong> succeeds '
        f"<strong>{abs(points):.1f} percentage points {'more' if points >= 0 else 'less'} often</strong> "
        f"than {second} (95 % interval of the difference {low:+.1f} to {high:+.1f}{doubt}; "
        f"{_p(comparison['p_scenes'])} over scenes, {_p(comparison['p_tasks'])} over tasks). It alone "
        f"succeeds in {comparison['only_first']} scenes, the other alone in {comparison['only_second']}.</p>"
    )


def _p(value: float) -> str:
    return "p &lt; 0.001" if value < 0.001 else f"p = {value:.2g}"


def _figures(document: Document) -> str:
    """Success against attempts: over all families large, then every family small."""
    totals = {"all": "All scenes", "conflict": "Only scenes where the readings disagree"}
    have = {(family, subset) for _, family, subset in columns(document)}
    families = [family for _, family, _ in columns(document) if family != "all"]
    large = [
        _figure(title, plots.attempts_plot(document, "all", subset, (4.3, 2.9)))
        for subset, title in totals.items()
        if ("all", subset) in have
    ]
    small = [_figure(f, plots.attempts_plot(document, f, "all", (2.4, 2.1))) for f in families]
    return (
        f'{_legend(document)}<div class="figures">{"".join(large)}</div>'
        f'<div class="figures small">{"".join(small)}</div>'
        '<p class="note">Success at the first attempt (at once) and after trials; vertical lines are 95 % '
        "intervals over tasks. The first attempt of Watch-Try-Learn is made by its trial policy, one-shot "
        "imitation.</p>"
    )


def _figure(title: str, svg: str) -> str:
    return f'<figure class="panel"><h3>{escape(title)}</h3>{svg}</figure>'


def _legend(document: Document) -> str:
    looks = plots.looks(document)
    marks = [(f"--series-{look.series}", look.symbol, label(method, 0)) for method, look in looks.items()]
    items = "".join(
        f'<li><span style="color:var({colour})" aria-hidden="true">{symbol}</span> {escape(name)}</li>'
        for colour, symbol, name in [*marks, ("--muted", "▬", "best possible")]
    )
    return f'<ul class="legend">{items}</ul>'


# --------------------------------------------------------------------------------------------- how it was run


def _run(document: Document) -> str:
    times = [(phase, _duration(seconds)) for phase, seconds in document["phases_s"].items()]
    counts = [(_DATA.get(name, name), _count(value)) for name, value in document.get("data", {}).items()]
    panels = {
        "Reproduce": _list(_provenance(document)),
        "Wall time": _list([*times, ("together", _duration(document["wall_s"]))]),
        "Data": _list(counts),
    }
    shown = "".join(f'<div class="panel"><h3>{name}</h3>{html}</div>' for name, html in panels.items() if html)
    return f'<div class="facts">{shown}</div>'


def _provenance(document: Document) -> list[tuple[str, str]]:
    machine = document["machine"]
    return [
        ("command", document["command"]),
        ("commit", document["commit"]),
        ("seeds", ", ".join(map(str, document["seeds"]))),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB"),
        ("versions", ", ".join(f"{name} {number}" for name, number in document["versions"].items())),
    ]


def _list(entries: Sequence[tuple[str, str]]) -> str:
    """A list of terms and values; nothing if there are none."""
    items = "".join(f"<dt>{escape(term)}</dt><dd>{escape(value)}</dd>" for term, value in entries)
    return f"<dl>{items}</dl>" if items else ""


def _count(value: int | float) -> str:
    """Whole numbers count; others are rates."""
    return f"{value:,}" if isinstance(value, int) else f"{percent(value)} %"


def _duration(seconds: int | float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _training(metrics: Mapping[str, Metrics]) -> str:
    """The training loss of every learner that logged one."""
    figures = [
        _figure(label(name, 0), plots.curve_plot(name, [(row["step"], row["loss"]) for row in logged]))
        for name, logged in ((name, [row for row in log if "loss" in row]) for name, log in metrics.items())
        if len(logged) > 1
    ]
    if not figures:
        return ""
    return (
        f'<h2 id="training">Training</h2><div class="figures small">{"".join(figures)}</div>'
        '<p class="note">Training loss: as logged thin, the running mean thick.</p>'
    )
