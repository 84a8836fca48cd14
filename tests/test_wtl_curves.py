"""``wtl reproduce wtl-curves``, small: a row for every amount of data, from runs that hold just that much."""

import json
from itertools import product

import pytest

pytest.importorskip("mujoco")

from test_wtl_state import TINY
from watchtrylearn import cli
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.experiments import wtl_curves
from watchtrylearn.suites import make_suite

pytestmark = pytest.mark.sim
SMALL = [
    s for s in TINY if not s.startswith(("tasks=", "bc.", "contextual.", "trials_only.", "authors_", "scenes="))
] + ["scenes=2"]


def test_every_amount_of_data_has_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(wtl_curves, "SEEDS", (0, 1))
    monkeypatch.setattr(wtl_curves, "TASKS", (4, 8))
    monkeypatch.setattr(wtl_curves, "DEMOS", (3,))
    runs = tmp_path / "runs"
    command = ["reproduce", "wtl-curves", "--out", str(runs), "--results", str(tmp_path), "--set", *SMALL]
    assert cli.main(command) == 0
    document = json.loads((tmp_path / "wtl-curves.json").read_text())
    overall = [r for r in document["rows"] if r["family"] == "all" and r["subset"] == "all"]
    amounts = [(4, 2), (8, 2), (8, 3)]
    entries = [("one_shot", 0), ("watch_try_learn", 1), ("watch_try_learn", 2)]
    found = [(r["training_tasks"], r["demos_per_task"], r["method"], r["trials"]) for r in overall]
    assert found == [(*amount, *entry) for amount in amounts for entry in entries]
    assert document["seeds"] == [0, 1]
    assert all(set(r["of_seeds"]) == {"0", "1"} for r in overall)
    spec, scenes = make_suite("tabletop").spec, set()
    for (tasks, demos), seed in product(amounts, (0, 1)):
        run = runs / f"tasks-{tasks}-demos-{demos}" / f"seed-{seed}"
        stored = EpisodeStore.open(run / "demos", spec).records
        assert len({r.task.name for r in stored}) == tasks
        assert {r.seed for r in stored} == set(range(demos))
        evaluated = EpisodeStore.open(run / "evaluation" / "one_shot", spec).records
        scenes.add(tuple((r.task.name, r.seed) for r in evaluated))
    (same,) = scenes  # for every amount and seed
    assert {r["n"] for r in overall} == {2 * len(same)}
    compared = {(c["training_tasks"], c["demos_per_task"]): c for c in document["comparisons"] if c["subset"] == "all"}
    assert list(compared) == amounts[:2]  # each against the most data there is
    rates = {(r["training_tasks"], r["demos_per_task"]): r["value"] for r in overall if r["trials"] == 2}
    for amount, found in compared.items():
        assert found["difference"] == pytest.approx(rates[8, 3] - rates[amount])


def test_a_number_of_tasks_is_refused(tmp_path, capsys):
    assert cli.main(["reproduce", "wtl-curves", "--out", str(tmp_path / "runs"), "--set", "tasks=4"]) == 2
    assert "leave out tasks" in " ".join(capsys.readouterr().err.split())
