"""``wtl reproduce wtl-curves``, small: a row for every amount of data, from runs that hold just that much."""

import json

import pytest

pytest.importorskip("mujoco")

from test_wtl_state import TINY
from watchtrylearn import cli
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.experiments import wtl_curves
from watchtrylearn.suites import make_suite

pytestmark = pytest.mark.sim
SMALL = [s for s in TINY if not s.startswith(("tasks=", "train.bc", "train.contextual", "train.trials_only"))]


def test_every_amount_of_data_has_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(wtl_curves, "SEEDS", (0,))
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
    for tasks, demos in amounts:
        stored = EpisodeStore.open(
            runs / f"tasks-{tasks}-demos-{demos}" / "seed-0" / "demos", make_suite("tabletop").spec
        )
        assert len({r.task.name for r in stored.records}) == tasks
        assert {r.seed for r in stored.records} == set(range(demos))
