"""``wtl reproduce wtl-few-tasks``, small: rows with and without the remedies, from runs that differ in nothing else."""

import pytest

from watchtrylearn import cli
from watchtrylearn.experiments import experiment, wtl_few_tasks
from watchtrylearn.experiments.plan import settings_of
from watchtrylearn.reporting.documents import read_document

TINY = [
    "suite=toy",
    "demos_per_task=2",
    "one_shot.tries=1",
    "scenes=4",
    "eval_tasks=4",
    "net.width=16",
    "net.hidden=[32]",
    "net.chunk=5",
    "net.execute=5",
    "train.steps=2",
    "one_shot.fold_steps=2",
    "bc.fold_steps=2",
]
CURVE = [(8, "all", 0), (8, "none", 0), (4, "all", 0), (4, "none", 0)]
FURTHER = [(8, "all", 1), (8, "none", 1)]
ALONE = [(8, "symmetries", 0), (8, "honest trials", 0), (8, "relabelled", 0)]


@pytest.fixture
def command(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.setattr(wtl_few_tasks, "SEEDS", (0, 1))
    monkeypatch.setattr(wtl_few_tasks, "TASKS", (8, 4))
    monkeypatch.setattr(wtl_few_tasks, "SEEDED", (8,))
    monkeypatch.setattr(wtl_few_tasks, "ALONE", 8)
    runs = str(tmp_path / "runs")
    return ["reproduce", "wtl-few-tasks", "--processes", "1", "--out", runs, "--results", str(tmp_path), "--set", *TINY]


def test_every_training_has_its_rows_and_the_document_grows_by_each(command, tmp_path, monkeypatch):
    assert list(map(tuple, wtl_few_tasks.trainings())) == [*CURVE, *FURTHER, *ALONE]
    written = []
    monkeypatch.setattr(
        wtl_few_tasks.main_job, "publish", lambda document, path, display: written.append((document["rows"], path))
    )
    assert cli.main(command) == 0
    document = read_document(tmp_path / "wtl-few-tasks.json")
    overall = [r for r in document["rows"] if r["family"] == "all" and r["subset"] == "all"]
    entries = [("bc", 0), ("one_shot", 0), *((name, k) for name in ("trials_only", "watch_try_learn") for k in (1, 2))]
    found = [(r["training_tasks"], r["remedies"], r["method"], r["trials"]) for r in overall]
    trained = [(4, "none"), (4, "all"), (8, "none"), *((tasks, remedy) for tasks, remedy, _ in ALONE), (8, "all")]
    assert found == [(*which, *entry) for which in trained for entry in entries]
    both = [(8, "none"), (8, "all")]
    assert all(list(r["of_seeds"]) == ["0", "1"][: 1 + ((r["training_tasks"], r["remedies"]) in both)] for r in overall)
    assert [len({(r["training_tasks"], r["remedies"]) for r in rows}) for rows, _ in written] == [
        1,
        2,
        3,
        4,
        4,
        4,
        5,
        6,
        7,
    ]

    gains = [c for c in document["comparisons"] if c["subset"] == "all" and c["first"] == c["second"]]
    assert list(dict.fromkeys((c["training_tasks"], c["remedies"]) for c in gains)) == [
        w for w in trained if w[1] != "none"
    ]
    assert {c["remedies"]: c["n"] for c in gains if c["training_tasks"] == 8} == {
        "symmetries": 16, "honest trials": 16, "relabelled": 16, "all": 32,
    }  # fmt: skip
    over_trials_only = [c for c in document["comparisons"] if c["second"] == {"method": "trials_only", "trials": 1}]
    assert {(c["training_tasks"], c["remedies"]) for c in over_trials_only} >= set(trained)

    tried = document["training_trials"]
    assert [(t["training_tasks"], t["remedies"], t["seed"]) for t in tried[::2]] == [*CURVE, *FURTHER, *ALONE]
    assert {(t["method"], t["training_tasks"], t["trials"]) for t in tried} == {
        (method, tasks, 2 * tasks) for method in ("one_shot", "bc") for tasks in (4, 8)
    }
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.parquet")}
    assert cli.main(command) == 0  # continues where it stopped: nothing is done again
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.parquet")} == before


def test_without_remedies_all_else_is_equal():
    chosen = experiment("wtl-few-tasks")
    with_them = settings_of(chosen)
    without = settings_of(wtl_few_tasks.plain(chosen))
    changed = {name for method in with_them for name in _differing(with_them[method], without[method])}
    assert changed == {"folds", "fold_steps", "sampling.symmetries", "sampling.relabelled"}
    for method in wtl_few_tasks.plain(chosen).methods.values():
        assert (method.folds, method.fold_steps) == (0, 0)
        assert (method.config.sampling.symmetries, method.config.sampling.relabelled) == (False, 0.0)
    assert wtl_few_tasks.only(chosen, "all") == chosen
    alone = wtl_few_tasks.only(chosen, "honest trials").methods
    assert (alone["one_shot"].folds, alone["bc"].folds) == (2, 2)
    assert (
        alone["watch_try_learn"].config.sampling
        == wtl_few_tasks.plain(chosen).methods["watch_try_learn"].config.sampling
    )


def _differing(one: object, other: object, name: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [found for key in one for found in _differing(one[key], other[key], f"{name}.{key}" if name else key)]
    return [] if one == other else [name]


def test_a_number_of_tasks_is_refused(command, capsys):
    assert cli.main([*command, "tasks=4"]) == 2
    assert "leave out tasks" in " ".join(capsys.readouterr().err.split())
