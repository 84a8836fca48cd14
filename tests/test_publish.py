"""The results pages are made of the result documents, whatever those measure."""

import re
from xml.etree import ElementTree

import pytest

from standin import script
from watchtrylearn.reporting import plots

publish = script("publish")


def row(method: str, trials: int, value: float, **facts: object) -> dict:
    return {
        "method": method, "suite": "s", "family": "all", "demos": 1, "trials": trials, "metric": "success",
        "value": value, "ci": [value - 0.05, value + 0.04], "of_seeds": {"0": value - 0.01, "1": value + 0.01},
        "n": 96, "tasks": 8, "diverged": 0,
        "ceiling": 0.75 if trials == 0 else 1.0, "scene": "same", "subset": "all",
    } | facts  # fmt: skip


def document(name: str, rows: list[dict], **extra: object) -> dict:
    return {
        "experiment": name, "command": f"wtl reproduce {name}", "commit": "abc1234def5678", "seeds": [0, 1],
        "wall_s": 1200.0, "machine": {"cores": 2}, "rows": rows, "comparisons": [], "summary": "what it shows",
    } | extra  # fmt: skip


AMOUNTS = [(65, 8), (520, 8), (520, 2)]
ENTRIES = (("one_shot", 0), ("watch_try_learn", 1), ("watch_try_learn", 2))
CURVES = document("wtl-curves", [
    row(method, trials, 0.3 + 0.01 * demos + 0.0005 * tasks, training_tasks=tasks, demos_per_task=demos)
    for tasks, demos in AMOUNTS
    for method, trials in ENTRIES
], comparisons=[
    {
        "first": {"method": method, "trials": trials}, "second": {"method": method, "trials": trials}, "subset": subset,
        "difference": 0.001 * tasks, "ci": [-0.01, 0.3], "training_tasks": tasks, "demos_per_task": demos,
    }
    for tasks, demos in AMOUNTS[::2]
    for method, trials in ENTRIES
    for subset in ("all", "conflict")
])  # fmt: skip
FEW = document("wtl-few-tasks", [
    row(method, trials, value + 0.02 * number, training_tasks=tasks, demos_per_task=8, remedies=remedies)
    | ({"of_seeds": {"0": value}} if tasks == 32 or remedies == "symmetries" else {})
    | ({"ceiling": None} if method == "trials_only" else {})
    for number, (tasks, remedies) in enumerate(
        [(32, "none"), (32, "all"), (65, "none"), (65, "symmetries"), (65, "all")]
    )
    for method, trials, value in (("one_shot", 0, 0.6), ("trials_only", 1, 0.4), ("watch_try_learn", 1, 0.7))
], comparisons=[
    {
        "first": {"method": "watch_try_learn", "trials": 1}, "second": {"method": second, "trials": 1}, "subset": "all",
        "difference": difference, "ci": [0.01, 0.3], "training_tasks": tasks, "demos_per_task": 8, "remedies": "all",
    }
    for tasks, second, difference in (
        (32, "watch_try_learn", 0.11), (32, "trials_only", 0.12), (65, "watch_try_learn", 0.13),
        (65, "trials_only", 0.14),
    )
], training_trials=[
    {
        "method": "one_shot", "seed": seed, "training_tasks": 65, "demos_per_task": 8, "remedies": remedies,
        "trials": 1560, "success": success,
    }
    for seed in (0, 1)
    for remedies, success in (("none", 0.97), ("all", 0.71))
])  # fmt: skip
GAPS = {
    "same": {"value": 0.912, "ci": [0.88, 0.93], "scenes": 480, "of_seeds": {"0": 0.9, "1": 0.924}},
    "new": {"value": 0.896, "ci": [0.87, 0.92], "scenes": 480, "of_seeds": {"0": 0.9, "1": 0.892}},
}
REACHER = document(
    "wtl-reacher",
    [row("expert", 0, -3.4, metric="return", ceiling=None), row("idle", 0, -11.5, metric="return", ceiling=None)],
    gap_recovered=GAPS,
    success=[row("expert", 0, 1.0, ceiling=None), row("idle", 0, 0.014, ceiling=None)],
)


def test_curves_are_drawn_from_the_rows_of_the_largest_other_amount():
    found = plots._amounts(CURVES, "training_tasks")
    assert {entry: [r["training_tasks"] for r in rows] for entry, rows in found.items()} == {
        ("one_shot", 0): [65, 520], ("watch_try_learn", 1): [65, 520], ("watch_try_learn", 2): [65, 520],
    }  # fmt: skip
    assert {r["demos_per_task"] for rows in found.values() for r in rows} == {8}
    assert [r["demos_per_task"] for r in plots._amounts(CURVES, "demos_per_task")["one_shot", 0]] == [2, 8]


def test_a_figure_of_its_own_is_well_formed_and_knows_its_colours():
    for file, _, svg in publish.figures(CURVES):
        assert file.endswith(".svg")
        ElementTree.fromstring(svg)
        used = set(re.findall(r"var\((--[\w-]+)\)", svg))
        assert used <= set(re.findall(r"(--[\w-]+):", svg))
        assert "Watch-Try-Learn, after 2 trials" in svg
        assert "prefers-color-scheme: dark" in svg


def test_the_page_has_a_section_a_figure_and_a_caption_of_each():
    page = publish.page({"wtl-curves": CURVES, "wtl-reacher": REACHER})
    assert "## wtl-curves\n\nWhat it shows." in page
    assert "figures/wtl-curves-training_tasks.svg" in page
    assert "10.0 minutes each on 2 cores; commit abc1234def." in page
    assert "Return, with 95 % intervals" in page
    assert "**-11.50**" in page
    assert "**91.2 %** (88.0 to 93.0, over 480 scenes; seed by seed 90.0, 92.4) in the same scene" in page
    assert "**89.6 %** (87.0 to 92.0, over 480 scenes; seed by seed 90.0, 89.2) in a new scene" in page
    assert "Success in %, with 95 % intervals over tasks" in page
    assert "| 65 tasks of 8 demonstrations | +6.5 (-1.0 to +30.0) | +6.5 (" in page


def test_a_line_of_a_curve_is_drawn_at_its_rows_with_their_intervals_seeds_and_best_rates(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_svg", lambda figure, name: drawn.append(figure) or "")
    plots.data_plot(CURVES, "training_tasks", "training tasks")
    (axes,) = drawn[0].axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["65", "520"]
    shown = {line.get_label(): line for line in axes.get_lines()}
    values = [r["value"] for r in CURVES["rows"] if (r["method"], r["demos_per_task"]) == ("one_shot", 8)]
    assert list(shown["one-shot imitation"].get_ydata()) == values
    assert [end[:, 1].tolist() for end in axes.collections[0].get_segments()] == [[v - 0.05, v + 0.04] for v in values]
    dots = [line for line in axes.get_lines() if line.get_marker() == "."]
    assert sorted(dots[0].get_ydata()) == [values[0] - 0.01, values[0] + 0.01]
    assert [line.get_ydata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"] == [0.75, 1.0]


def test_few_tasks_are_shown_with_and_without_remedies_and_each_remedy_alone():
    shown = publish.few_tasks(FEW)
    assert (
        "| 65 | 0, 1 | **74** (69–78) and **78** (73–82) | **64** (59–68) and **68** (63–72) | "  # noqa: RUF001
        "**44** (39–48) and **48** (43–52) | +13.0 (+1.0 to +30.0) | +14.0 (+1.0 to +30.0) | 97, 97 % and 71, 71 % |"  # noqa: RUF001
    ) in shown
    assert "| 32 | 0 | **70** (65–74) and" in shown  # noqa: RUF001
    assert "Each remedy alone, with 65 tasks:" in shown
    names = [line.split(" | ")[0].removeprefix("| ") for line in shown.split("Each remedy alone")[1].splitlines()]
    assert [name for name in names if "remedies" in name or "alone" in name] == [
        "without remedies", "symmetries alone", "with the remedies",
    ]  # fmt: skip
    assert "training seeds as named: `wtl reproduce wtl-few-tasks`, seeds 0, 1, 0.3 hours on 2 cores" in shown
    assert shown in publish.page({"wtl-few-tasks": FEW})
    ((file, _, svg),) = publish.figures(FEW)
    assert file == "wtl-few-tasks.svg"
    for name in ("Watch-Try-Learn, after 1 trial, with the remedies", "trials only, after 1 trial, without remedies"):
        assert name in svg


def test_a_page_is_filled_between_its_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n")
    publish.fill(page, "new")
    assert page.read_text() == f"before\n{publish.BEGIN}\nnew\n{publish.END}\nafter\n"


def test_a_statement_without_its_comparison_is_an_error():
    with pytest.raises(SystemExit, match="no comparison"):
        publish.page({"wtl-state": document("wtl-state", [row("one_shot", 0, 0.7)])})
