"""Attempts to numbers: by hand, by two routes, and refusing what cannot be compared."""

import dataclasses
import json
import platform
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from watchtrylearn.protocol import Attempt, Scene
from watchtrylearn.reporting import plots, results, statistics, tables
from watchtrylearn.reporting.documents import read_document
from watchtrylearn.reporting.provenance import commit
from watchtrylearn.reporting.report import write_report
from watchtrylearn.reporting.results import Row
from watchtrylearn.suites.toy import Toy
from watchtrylearn.system.files import write_json
from watchtrylearn.types import Episode, Task, WtlError

TOY = Toy()
SCENES = 4  # per task; scene j is demonstrated by seed 2 * (j // 2), so odd scenes are in conflict
Judge = Callable[[Task, int], bool]


@cache
def scenes() -> list[Scene]:
    return [
        Scene(task, (TOY.demonstrate(task, 2 * (j // 2)),), 100 + j)
        for task in TOY.tasks("test")
        for j in range(SCENES)
    ]


def attempts(method: str, trials: int, succeeds: Judge) -> list[Attempt]:
    """One attempt per scene, successful where ``succeeds(task, seed)``."""
    return [Attempt(method, s, trials, episode(s, succeeds(s.task, s.seed))) for s in scenes()]


def episode(scene: Scene, success: bool, **changes: object) -> Episode:
    trial = dataclasses.replace(scene.demos[0], kind="trial", seed=scene.seed, success=success)
    return dataclasses.replace(trial, **changes)


def even(task: Task, seed: int) -> bool:
    return seed % 2 == 0


def _paid(scene: Scene) -> np.ndarray:
    """Rewards that sum to -3 in even scenes and to -4 in odd ones."""
    rewards = np.zeros(len(scene.demos[0]))
    rewards[:2] = -1.0, -2.0 - scene.seed % 2
    return rewards


def number(task: Task, seed: int) -> bool:
    """Succeeds in every scene of some tasks and none of the others."""
    return int(task.name[-3:]) % 3 == 0


def find(rows: Sequence[Row], **wanted: object) -> Row:
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return row


# ------------------------------------------------------------------------------------------------------- rows


def test_a_method_that_reads_wrongly_fails_exactly_in_conflict() -> None:
    rows = results.rows(attempts("one_shot", 0, even), TOY, [("one_shot", 0)])
    assert find(rows, family="all", subset="all")["value"] == 0.5
    assert find(rows, family="all", subset="conflict")["value"] == 0.0
    assert [(r["family"], r["subset"]) for r in rows] == [
        (family, subset) for subset in ("all", "conflict") for family in ("reference", "mirror", "all")
    ]
    assert find(rows, family="all", subset="all")["n"] == 16 * SCENES
    assert find(rows, family="all", subset="conflict")["n"] == 16 * SCENES // 2
    assert find(rows, family="mirror", subset="all")["tasks"] == 8


def test_a_return_is_the_mean_sum_of_rewards_and_is_printed_as_a_number() -> None:
    paid = [
        dataclasses.replace(a, episode=episode(a.scene, True, reward=_paid(a.scene))) for a in attempts("bc", 0, even)
    ]
    rows = results.rows(paid, TOY, [("bc", 0)], "return")
    assert find(rows, family="all", subset="all")["value"] == pytest.approx(-3.5)
    assert find(rows, family="all", subset="conflict")["value"] == pytest.approx(-4.0)
    assert {row["metric"] for row in rows} == {"return"}
    assert {row["ceiling"] for row in rows} == {None}
    shown = tables.markdown({"experiment": "x", "rows": rows})
    assert {row["ci"] for row in rows} == {None}  # every task has the same mean: nothing tells how far off others are
    assert "**-3.50** (?)" in shown
    assert "return" in str(tables.table({"experiment": "x", "rows": rows}).title)


def test_a_mean_without_an_interval_is_written_read_and_drawn(tmp_path: Path) -> None:
    """Returns that are the same in every task."""
    amounts = {"training_tasks": 4, "demos_per_task": 2}
    rows = results.rows(attempts("one_shot", 0, even), TOY, [("one_shot", 0)], "return", **amounts)
    assert {row["ci"] for row in rows} == {None}
    made = results.document("x", command="wtl", seeds=[0], seconds={}, rows=rows)
    write_json(tmp_path / "results.json", made)
    assert read_document(tmp_path / "results.json") == made
    write_json(tmp_path / "rates.json", made | {"rows": [rows[0] | {"metric": "success", "value": 0.5}]})
    with pytest.raises(WtlError, match=r"rows\[0\].ci is null, but every success rate has an interval"):
        read_document(tmp_path / "rates.json")
    assert "<svg" in plots.data_plot(made, "training_tasks", "tasks")
    plain = made | {"rows": results.rows(attempts("one_shot", 0, even), TOY, [("one_shot", 0)], "return")}
    write_report(tmp_path / "report.html", plain)
    assert (tmp_path / "report.html").exists()


def test_a_document_says_how_its_intervals_were_made_and_a_table_where_none_says_so() -> None:
    rows = results.rows(attempts("bc", 0, even), TOY, [("bc", 0)])
    made = results.document("x", command="wtl", seeds=[0], seconds={}, rows=rows)
    assert made["interval"] == statistics.METHOD
    assert tables.measured(made) == "success in %, with 95 % intervals over tasks"
    del made["interval"]
    assert tables.measured(made).endswith("95 % intervals over tasks (by an older method: they cover about 90 %)")


def test_the_whole_is_the_weighted_mean_of_the_families() -> None:
    rows = results.rows(attempts("bc", 0, number), TOY, [("bc", 0)])
    parts = [find(rows, family=family, subset="all") for family in ("reference", "mirror")]
    whole = find(rows, family="all", subset="all")
    assert whole["value"] == pytest.approx(sum(r["value"] * r["n"] for r in parts) / whole["n"])


def test_ceilings_are_the_suites_own_and_average_over_scenes() -> None:
    made = attempts("one_shot", 0, even) + attempts("watch_try_learn", 1, even)
    rows = results.rows(made, TOY, [("one_shot", 0), ("watch_try_learn", 1)])
    best = {key: find(rows, method=key[0], family=key[1], subset="all")["ceiling"] for key in CEILINGS}
    assert best == CEILINGS


CEILINGS = {  # the toy's closed forms
    ("one_shot", "reference"): 0.75,
    ("one_shot", "mirror"): 0.375,
    ("one_shot", "all"): 0.5625,
    ("watch_try_learn", "reference"): 1.0,
    ("watch_try_learn", "mirror"): 0.875,
    ("watch_try_learn", "all"): 0.9375,
}


def test_methods_that_do_not_watch_have_no_demonstration() -> None:
    rows = results.rows(attempts("bc", 0, even), TOY, [("bc", 0)])
    assert {row["demos"] for row in rows} == {0}


@pytest.mark.parametrize("success", [True, False])
def test_certainty_is_never_claimed(success: bool) -> None:
    for row in results.rows(attempts("bc", 0, lambda task, seed: success), TOY, [("bc", 0)]):
        low, high = row["ci"]
        assert 0 <= low <= row["value"] <= high <= 1
        assert high - low > 0.1


def test_intervals_hold_the_value_and_do_not_depend_on_other_methods() -> None:
    one = attempts("bc", 0, number)
    rows = results.rows(one, TOY, [("bc", 0)])
    assert all(row["ci"][0] < row["value"] < row["ci"][1] for row in rows)
    assert results.rows(one + attempts("one_shot", 0, even), TOY, [("bc", 0)]) == rows


def test_a_diverged_attempt_is_a_failure_that_is_counted() -> None:
    made = attempts("bc", 0, lambda task, seed: True)
    made[0] = dataclasses.replace(made[0], episode=episode(made[0].scene, True, diverged=True))
    row = find(results.rows(made, TOY, [("bc", 0)]), family="all", subset="all")
    assert row["diverged"] == 1
    assert row["value"] == (row["n"] - 1) / row["n"]


def test_missing_and_repeated_attempts_are_refused() -> None:
    made = attempts("bc", 0, even)
    with pytest.raises(WtlError, match="no attempts of 'Watch-Try-Learn, after 1 trial'"):
        results.rows(made, TOY, [("watch_try_learn", 1)])
    with pytest.raises(WtlError, match="more than one attempt at task reference-test-000 in scene 100"):
        results.rows([*made, made[0]], TOY, [("bc", 0)])


# ------------------------------------------------------------------------------------------------ comparisons

PAIR = (("watch_try_learn", 1), ("one_shot", 0))


def test_comparison_by_hand() -> None:
    better = {scenes()[i].task.name: scenes()[i].seed for i in range(0, 5 * SCENES, SCENES)}  # in five tasks
    made = attempts("one_shot", 0, even)
    made += attempts("watch_try_learn", 1, lambda t, s: even(t, s) or better.get(t.name) == s - 1)
    row = find(results.comparisons(made, [PAIR], TOY), subset="all")
    assert (row["only_first"], row["only_second"]) == (5, 0)
    assert row["difference"] == pytest.approx(5 / (16 * SCENES))
    assert row["p_scenes"] == pytest.approx(2 * 0.5**5)  # five heads in five throws, two-sided
    assert row["ci"][0] <= row["difference"] <= row["ci"][1]
    disputed = find(results.comparisons(made, [PAIR], TOY), subset="conflict")
    assert disputed["difference"] == pytest.approx(5 / (8 * SCENES))


def test_swapping_a_comparison_mirrors_it() -> None:
    made = attempts("one_shot", 0, even) + attempts("watch_try_learn", 1, number)
    there = find(results.comparisons(made, [PAIR], TOY), subset="all")
    back = find(results.comparisons(made, [PAIR[::-1]], TOY), subset="all")
    assert back["difference"] == -there["difference"]
    assert (back["only_first"], back["only_second"]) == (there["only_second"], there["only_first"])


def test_other_scenes_are_refused_by_name() -> None:
    one, other = attempts("one_shot", 0, even), attempts("watch_try_learn", 1, even)
    with pytest.raises(WtlError, match=r"'one-shot imitation' has no attempt at task mirror-test-015 in scene 103"):
        results.comparisons(one[:-1] + other, [PAIR], TOY)
    moved = dataclasses.replace(other[0].scene, demos=(TOY.demonstrate(other[0].scene.task, 6),))
    other[0] = dataclasses.replace(other[0], scene=moved)
    with pytest.raises(WtlError, match=r"reference-test-000 in scene 100 they saw demonstrations \[6\] and \[0\]"):
        results.comparisons(one + other, [PAIR], TOY)


def test_outcomes_are_shares_of_all_scenes() -> None:
    made = attempts("watch_try_learn", 0, even) + attempts("watch_try_learn", 1, number)
    shares = {row["kind"]: row for row in results.outcomes(made, TOY)}
    assert sum(row["share"] for row in shares.values()) == pytest.approx(1)
    assert sum(row["conflict_share"] for row in shares.values()) == pytest.approx(1)
    assert shares["at once"]["conflict_share"] == 0  # first attempts fail exactly in conflict
    solved = sum(number(s.task, s.seed) for s in scenes()) / len(scenes())
    assert shares["at once"]["share"] + shares["corrected"]["share"] == pytest.approx(solved)


# ----------------------------------------------------------------------------------------- document and table


MAIN = (
    ("bc", 0),
    ("one_shot", 0),
    ("trials_only", 1),
    ("trials_only", 2),
    ("watch_try_learn", 1),
    ("watch_try_learn", 2),
)


def a_document() -> dict[str, object]:
    made = [a for method, trials in MAIN for a in attempts(method, trials, number)]
    return results.document(
        "debug",
        command="wtl demo --preset debug",
        seeds=[0],
        seconds={"record": 1.5, "evaluate": 2.0},
        rows=results.rows(made, TOY, config="small"),
        comparisons=results.comparisons(made, [PAIR], TOY),
        extra={"summary": "a test"},
    )


def test_a_document_is_plain_json() -> None:
    document = a_document()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["wall_s"] == 3.5
    assert document["summary"] == "a test"
    assert all(row["config"] == "small" for row in document["rows"])
    assert a_document() == document
    assert platform.node() not in json.dumps([document["machine"], document["versions"]])


def test_a_document_keeps_its_own_fields() -> None:
    with pytest.raises(WtlError, match="its own rows"):
        results.document("x", command="", seeds=[], seconds={}, rows=[], extra={"rows": []})


def test_the_commit_is_a_commit_or_a_version() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}(\+dirty)?|version \S+", commit())


def test_the_table_fits_a_terminal_and_shows_every_number() -> None:
    document = a_document()
    console = Console(width=100, no_color=True, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tables.table(document))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    for name in (
        "behaviour cloning",
        "one-shot imitation",
        "Watch-Try-Learn",
        "after 2 trials",
        "conflicting",
    ):
        assert name in text
    for row in document["rows"]:
        if row["subset"] == "all" or row["family"] == "all":
            assert tables.percent(row["value"]) in text


@given(st.floats(0, 1))
def test_percent_claims_certainty_only_for_certainty(fraction: float) -> None:
    text = tables.percent(fraction)
    assert abs(float(text) / 100 - fraction) <= 0.005 + 1e-9
    assert (float(text) == 100) == (fraction == 1.0)
    assert (float(text) == 0) == (fraction == 0.0)
