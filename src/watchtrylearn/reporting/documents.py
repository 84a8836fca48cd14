"""Result documents on the disk: what ``results.json`` holds, as types, and its one reader.

``results.document`` makes them. A document read here has every field that tables, plots and reports look at, of the
right type: counts are whole numbers, rates lie between 0 and 1, an interval has two ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from watchtrylearn.errors import WtlError
from watchtrylearn.system.files import JSON_LIMIT, parse_typed, read_bytes

Text = Annotated[str, Meta(max_length=2000)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Number = Annotated[float, Meta(ge=-1e12, le=1e12)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Rate = Annotated[float, Meta(ge=0, le=1)]
Interval = Annotated[list[Number], Meta(min_length=2, max_length=2)]
Subset = Literal["all", "conflict"]


class Row(TypedDict):
    """One success rate or mean return (``results.rows``)."""

    method: Text
    learner: NotRequired[Text]  # of the method, where that is not its name
    suite: Text
    family: Text
    demos: Count
    trials: Count
    metric: Literal["success", "return"]
    value: Number
    ci: Interval | None  # a rate has one; returns that are the same in every task have none
    of_seeds: NotRequired[dict[Text, Number]]  # older documents have none
    n: Annotated[int, Meta(ge=1, le=2**53)]
    tasks: Annotated[int, Meta(ge=1, le=2**53)]
    diverged: Count
    ceiling: Rate | None
    scene: Text
    subset: Subset
    modality: Text
    clusters: NotRequired[Text]
    outcome: NotRequired[Text]
    target: NotRequired[Text]
    training_tasks: NotRequired[Count]
    demos_per_task: NotRequired[Count]
    remedies: NotRequired[Text]  # against learning few tasks by heart: all, none, or the only one


class Line(TypedDict):
    """A method after a number of trials."""

    method: Text
    trials: Count
    learner: NotRequired[Text]


class Comparison(TypedDict):
    """First minus second in the same scenes (``results.comparisons``, ``results.across``)."""

    first: Line
    second: Line
    subset: Subset
    difference: Number
    ci: Interval
    p_scenes: Rate
    p_tasks: Rate
    only_first: Count
    only_second: Count
    n: Count
    tasks: Count
    family: NotRequired[Text]
    ours: NotRequired[Rate]
    theirs: NotRequired[Rate]
    training_tasks: NotRequired[Count]
    demos_per_task: NotRequired[Count]
    remedies: NotRequired[Text]  # against learning few tasks by heart: all, none, or the only one


class Outcome(TypedDict):
    """How often a second attempt ended like this (``results.outcomes``)."""

    kind: Text
    share: Rate
    conflict_share: Rate | None
    n: Count


class TrainingTrials(TypedDict):
    """How often a method's trials at its training tasks succeeded (``wtl reproduce wtl-few-tasks``)."""

    method: Text
    seed: Count
    training_tasks: Count
    demos_per_task: Count
    remedies: Text
    trials: Count
    success: Rate


class Machine(TypedDict):
    """What wall times depend on (``provenance.machine``)."""

    cpu: Text
    cores: Count
    memory_gib: Number
    system: Text


class Gap(TypedDict):
    """A share of a gap that was recovered (``wtl reproduce wtl-reacher``)."""

    value: Number
    ci: Interval
    scenes: Count
    of_seeds: dict[Text, Number]


class _Common(TypedDict):
    experiment: Text
    command: Text
    commit: Text
    seeds: Annotated[list[Count], Meta(min_length=1)]
    machine: Machine
    versions: dict[Text, Text]
    interval: NotRequired[Text]  # how intervals were computed; older documents do not say
    rows: Annotated[list[Row], Meta(min_length=1)]
    comparisons: list[Comparison]


class Document(_Common):
    """The results of an experiment (``results.document``)."""

    wall_s: Seconds
    phases_s: dict[Text, Seconds]
    summary: NotRequired[Text]
    data: NotRequired[dict[Text, Number]]
    outcomes: NotRequired[list[Outcome]]
    starts: NotRequired[dict[Text, Text]]
    success: NotRequired[Annotated[list[Row], Meta(min_length=1)]]
    gap_recovered: NotRequired[dict[Text, Gap]]
    training_trials: NotRequired[list[TrainingTrials]]


class Published(_Common):
    """The results that come with trained weights (``benchmarks/pretrain.py``)."""

    seed: Count
    config: dict[str, Any]
    data: dict[Text, Number]
    seconds: dict[Text, Seconds]
    parameters: dict[Text, Count]
    own: Annotated[list[Row], Meta(min_length=1)]


def read_document(path: str | Path) -> dict[str, Any]:
    """The result document in a file (``Document``); ``WtlError`` names file and field of what is not one."""
    return _read(path, Document, ("rows", "success"))


def read_published(path: str | Path) -> dict[str, Any]:
    """The results that come with trained weights (``Published``)."""
    return _read(path, Published, ("rows", "own"))


def _read(path: str | Path, kind: Any, tables: Sequence[str]) -> dict[str, Any]:
    content = read_bytes(path, JSON_LIMIT)
    parse_typed(content, kind, str(path))
    whole: dict[str, Any] = parse_typed(content, dict[str, Any], str(path))  # with what it has beyond those fields
    for name in tables:
        _require_lines(whole.get(name, []), f"{path}: {name}")
    return whole


def _require_lines(rows: Sequence[dict[str, Any]], where: str) -> None:
    """Refuses success rates that are none, and lines of a table that lack the row of all families and scenes."""
    totals = {_line(row) for row in rows if (row["family"], row["subset"]) == ("all", "all")}
    for number, row in enumerate(rows):
        if row["metric"] == "success" and not 0 <= row["value"] <= 1:
            raise WtlError(f"{where}[{number}].value is {row['value']}, which is no success rate")
        if row["metric"] == "success" and row["ci"] is None:
            raise WtlError(f"{where}[{number}].ci is null, but every success rate has an interval")
        if _line(row) not in totals:
            raise WtlError(f"{where}[{number}] is of a line without a row of all families and scenes")


def _line(row: dict[str, Any]) -> tuple[Any, ...]:
    facts = ("demos", "scene", "outcome", "target", "training_tasks", "demos_per_task", "remedies")
    return (row["method"], row["trials"], *(row.get(name) for name in facts))
