"""``wtl reproduce wtl-state``, small: every row is there, with its ceiling, and stopping costs nothing."""

import json
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("mujoco")

from watchtrylearn import cli
from watchtrylearn.experiments import wtl_state
from watchtrylearn.reporting import tables
from watchtrylearn.suites import make_suite

pytestmark = pytest.mark.sim
TINY = [
    "tasks=8",
    "demos_per_task=2",
    "one_shot.tries=1",
    "bc.tries=1",
    "scenes=4",
    "eval_tasks=4",
    "attempts=2",
    "net.width=16",
    "net.hidden=[32]",
    "bc.train.steps=2",
    "contextual.train.steps=2",
    "one_shot.train.steps=2",
    "trials_only.train.steps=2",
    "watch_try_learn.train.steps=2",
    "authors_trial.tries=1",
    "authors_trial.train.steps=2",
    "authors_retrial.train.steps=2",
]


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("reproduce")
    return ["reproduce", "wtl-state", "--out", str(folder / "runs"), "--results", str(folder), "--set", *TINY]


@pytest.fixture(scope="module")
def document(command) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wtl_state, "SEEDS", (0, 1))
        assert cli.main(command) == 0
    return json.loads((Path(command[5]) / "wtl-state.json").read_text())


def test_every_row_of_the_table_is_there_for_all_seeds(document):
    overall = [r for r in document["rows"] if r["family"] == "all" and r["subset"] == "all"]
    found = Counter((r["method"], r["trials"], tables.condition(r)) for r in overall)
    wtl = "watch_try_learn"
    plain = [("bc", 0), ("contextual", 0), ("one_shot", 0), ("trials_only", 1), ("trials_only", 2), (wtl, 1), (wtl, 2)]
    plain += [("authors_trial", 0), ("authors_retrial", 1), ("authors_retrial", 2)]
    special = [
        (wtl, 1, "in a new scene"),
        (wtl, 2, "in a new scene"),
        (wtl, 1, "outcome hidden"),
        (wtl, 1, "outcome flipped"),
        (wtl, 0, "2 demonstrations"),
        ("one_shot", 0, "target told"),
    ]
    assert found == Counter([*((method, trials, "") for method, trials in plain), *special])
    assert {r["n"] for r in overall} == {2 * 4 * 4}
    assert document["seeds"] == [0, 1]


def test_the_rows_of_the_authors_network_are_called_so(document):
    lines = tables.lines(document)
    names = [tables.line_name(entry, cells) for entry, cells in lines.items() if entry[0].startswith("authors")]
    assert names == [
        "one-shot imitation (authors_trial)",
        "Watch-Try-Learn (authors_retrial), after 1 trial",
        "Watch-Try-Learn (authors_retrial), after 2 trials",
    ]
    assert lines["authors_trial", 0]["all", "all"]["ceiling"] == 0.75


def test_rows_carry_their_ceilings(document):
    best = {
        (r["method"], r["trials"], tables.condition(r), r["subset"]): r["ceiling"]
        for r in document["rows"]
        if r["family"] == "all"
    }
    assert best["one_shot", 0, "", "all"] == 0.75
    assert best["watch_try_learn", 1, "", "conflict"] == 1.0
    assert best["watch_try_learn", 1, "in a new scene", "all"] == 0.875
    assert best["watch_try_learn", 1, "in a new scene", "conflict"] == 0.75
    assert best["watch_try_learn", 0, "2 demonstrations", "all"] == 1.0
    assert best["one_shot", 0, "target told", "all"] == 1.0
    assert best["trials_only", 1, "", "all"] is None


def test_new_scenes_meet_demonstration_and_trial_in_every_arrangement_alike():
    suite = make_suite("tabletop")
    task = suite.tasks("test")[0]
    triples = Counter()
    for j in range(24):
        demo, tried = 1_000_000 + j // 2, 2_000_000 + j
        new = wtl_state.new_seed(tried)
        triples[suite.conflict(task, demo, tried), suite.conflict(task, demo, new)] += 1
    assert set(triples.values()) == {6}
    assert len({wtl_state.new_seed(2_000_000 + j) for j in range(24)}) == 24


def test_a_finished_reproduction_is_not_done_again(command, document):
    before = {p: p.stat().st_mtime_ns for p in Path(command[3]).rglob("*.parquet")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wtl_state, "SEEDS", (0, 1))
        assert cli.main(command) == 0
    assert {p: p.stat().st_mtime_ns for p in Path(command[3]).rglob("*.parquet")} == before
    assert json.loads((Path(command[5]) / "wtl-state.json").read_text())["rows"] == document["rows"]
