"""``wtl reproduce wtl-few-tasks``, small: rows with and without the remedies, from runs that differ in nothing else."""

import re
from pathlib import Path

import pytest

from watchtrylearn import cli
from watchtrylearn.experiments import experiment, main_job, wtl_few_tasks
from watchtrylearn.experiments.plan import settings_of
from watchtrylearn.reporting.documents import read_document

TINY = [
    "suite=toy",
    "demos_per_task=2",
    "one_shot.tries=1",
    "bc.tries=1",
    "scenes=4",
    "attempts=1",
    "eval_tasks=4",
    "net.width=16",
    "net.hidden=[32]",
    "net.chunk=5",
    "net.execute=5",
    "train.steps=2",
    "one_shot.fold_steps=2",
    "bc.fold_steps=2",
]
TRAININGS = [(4, "all", 0), (4, "none", 0), (4, "none", 1)]


@pytest.fixture
def command(tmp_path) -> list[str]:
    runs = str(tmp_path / "runs")
    return ["reproduce", "wtl-few-tasks", "--processes", "1", "--out", runs, "--results", str(tmp_path), "--set", *TINY]


def test_every_training_has_its_rows_and_the_document_grows_by_each(command, tmp_path, monkeypatch):
    monkeypatch.setattr(wtl_few_tasks, "trainings", lambda: [wtl_few_tasks.Training(*which) for which in TRAININGS])
    published = []
    monkeypatch.setattr(main_job, "publish", lambda document, path, display: published.append(document))
    assert cli.main(command) == 0
    document = read_document(tmp_path / "wtl-few-tasks.json")
    overall = [r for r in document["rows"] if r["family"] == "all" and r["subset"] == "all"]
    entries = [("bc", 0), ("one_shot", 0), ("trials_only", 1), ("watch_try_learn", 1)]
    found = [(r["remedies"], r["method"], r["trials"]) for r in overall]
    assert found == [(remedies, *entry) for remedies in ("none", "all") for entry in entries]
    assert {r["remedies"]: list(r["of_seeds"]) for r in overall} == {"none": ["0", "1"], "all": ["0"]}
    assert {r["training_tasks"] for r in overall} == {4}
    assert [sorted({r["remedies"] for r in each["rows"]}) for each in published] == [
        ["all"], ["all", "none"], ["all", "none"],
    ]  # fmt: skip

    compared = [c for c in document["comparisons"] if c["subset"] == "all"]
    gains = [(c["remedies"], c["first"]["method"], c["n"]) for c in compared if c["first"] == c["second"]]
    assert gains == [("all", method, 16) for method, _ in entries]  # of seed 0
    rates = {(r["remedies"], r["method"]): r["of_seeds"]["0"] for r in overall}
    for c in compared:
        if c["first"] == c["second"]:
            method = c["first"]["method"]
            assert c["difference"] == pytest.approx(rates[c["remedies"], method] - rates["none", method])
    over_trials_only = [c["remedies"] for c in compared if c["second"]["method"] != c["first"]["method"]]
    assert over_trials_only == ["none", "all"]

    tried = [
        (t["training_tasks"], t["remedies"], t["seed"], t["method"], t["trials"]) for t in document["training_trials"]
    ]
    assert tried == [(*which, method, 8) for which in TRAININGS for method in ("one_shot", "bc")]


def test_what_tells_a_reader_most_is_trained_first():
    order = list(map(tuple, wtl_few_tasks.trainings()))
    both = ("all", "none")
    assert order[:6] == [(65, remedies, seed) for seed in (0, 1, 2) for remedies in both]
    assert order[6:16] == [(tasks, remedies, 0) for tasks in (32, 130, 16, 260, 520) for remedies in both]
    assert order[16:19] == [(65, remedy, 0) for remedy in ("symmetries", "honest trials", "relabelled")]
    assert order[19:] == [(520, remedies, seed) for seed in (1, 2) for remedies in both]
    assert len({training.folder for training in wtl_few_tasks.trainings()}) == len(order)


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


def test_the_page_says_how_to_have_the_remedies_elsewhere():
    page = (Path(__file__).parents[1] / "docs" / "few-tasks.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    made: dict[str, dict] = {}
    exec(code, made)
    settings = re.search(r"--set \\\n((?: {8}.*\n)+)", page)[1].replace("\\", " ").split()
    told = experiment("wtl-curves", [*settings, "one_shot.fold_steps=1200", "bc.fold_steps=1200"])
    for name in wtl_few_tasks.LEARNERS:
        plans = [methods[name] for methods in (made["methods"], told.methods)]
        assert len({(m.folds, m.fold_steps, m.config) for m in plans}) == 1, name


def test_a_number_of_tasks_is_refused(command, capsys):
    assert cli.main([*command, "tasks=4"]) == 2
    assert "leave out tasks" in " ".join(capsys.readouterr().err.split())
