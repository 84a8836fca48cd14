"""``wtl reproduce debug``: the whole reproduction without physics, and what it survives."""

import hashlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from processes import fork, wait
from watchtrylearn import cli
from watchtrylearn.experiments import run, steps, wtl_state
from watchtrylearn.reporting import tables
from watchtrylearn.suites.toy import Toy

STEPS = 60  # of the two trainings that are killed
BATCH = 4
DEMOS = 16 * 4
EVALUATIONS = 12  # datasets below RUN/evaluation
TINY = [
    "demos_per_task=4",
    "tasks=16",
    "one_shot.tries=2",
    "scenes=4",
    "eval_tasks=8",
    "bc.train.steps=8",
    "contextual.train.steps=8",
    f"one_shot.train.steps={STEPS}",
    "trials_only.train.steps=8",
    f"watch_try_learn.train.steps={STEPS}",
    *(f"{name}.train.checkpoint_every=0.05" for name in ("one_shot", "watch_try_learn")),
    "net.hidden=[16]",
    "net.width=16",
]


def command(folder: Path) -> list[str]:
    return [
        "reproduce",
        "debug",
        "--out",
        str(folder / "runs"),
        "--results",
        str(folder),
        "--processes",
        "1",
        "--set",
        *TINY,
    ]


@pytest.fixture(autouse=True)
def one_seed_in_small_batches(monkeypatch):
    """One seed, and so few worlds at once that every phase saves many times."""
    monkeypatch.setattr(wtl_state, "SEEDS", (0,))
    monkeypatch.setattr(steps, "BATCH", BATCH)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A reproduction that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wtl_state, "SEEDS", (0,))
        patch.setattr(steps, "BATCH", BATCH)
        assert wait(fork(lambda: os._exit(cli.main(command(folder))))) == 0
    return folder


def document(folder: Path) -> dict:
    return json.loads((folder / "debug.json").read_text())


def weights(folder: Path) -> dict[str, str]:
    found = (folder / "runs" / "seed-0").glob("*/model.safetensors")
    return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


# ------------------------------------------------------------------------------------------------- the rows


def test_every_row_that_the_suite_offers_is_there(whole):
    overall = [r for r in document(whole)["rows"] if r["family"] == "all" and r["subset"] == "all"]
    wtl = "watch_try_learn"
    plain = [("bc", 0), ("contextual", 0), ("one_shot", 0), ("trials_only", 1), ("trials_only", 2), (wtl, 1), (wtl, 2)]
    assert Counter((r["method"], r["trials"], tables.condition(r)) for r in overall) == Counter([
        *((method, trials, "") for method, trials in plain),
        (wtl, 1, "in a new scene"),
        (wtl, 2, "in a new scene"),
        (wtl, 1, "outcome hidden"),
        (wtl, 1, "outcome flipped"),
        (wtl, 0, "2 demonstrations"),
        ("one_shot", 0, "target told"),
    ])  # fmt: skip
    assert {r["n"] for r in overall} == {8 * 4}
    best = {(r["method"], tables.condition(r)): r["ceiling"] for r in overall if r["trials"] == 0}
    assert best["one_shot", "target told"] == best[wtl, "2 demonstrations"] == 0.75  # mirror's sign stays unknown


def test_the_document_names_the_command_that_makes_it(whole):
    assert document(whole)["command"].startswith("wtl reproduce debug --set demos_per_task=4 eval_tasks=8")


class Less:
    """The toy suite, keeping to itself which readings there are, which target is right and what can be reached."""

    def __init__(self) -> None:
        toy = Toy()
        self.name, self.spec, self.tasks, self.worlds = toy.name, toy.spec, toy.tasks, toy.worlds
        self.demonstrate, self.demonstrations = toy.demonstrate, toy.demonstrations


def test_rows_for_which_a_suite_knows_too_little_are_left_out(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "make_suite", lambda name: Less())
    assert wait(fork(lambda: os._exit(cli.main(command(tmp_path))))) == 0
    conditions = {tables.condition(row) for row in document(tmp_path)["rows"]}
    assert conditions == {"", "in a new scene", "outcome hidden", "outcome flipped"}
    full = [row for row in document(whole)["rows"] if row["subset"] == "all"]
    less = [row | {"ceiling": None} for row in full if tables.condition(row) in conditions]
    assert document(tmp_path)["rows"] == less


# -------------------------------------------------------------------------------------------- what it survives


def appended(dataset: str) -> Callable[[Path], int]:
    """How many batches a dataset holds (seen from outside: opening it might repair it)."""
    return lambda directory: len(list(directory.glob(f"{dataset}/meta/episodes/*/*.parquet")))


def trained(learner: str) -> Callable[[Path], int]:
    """The step of a training's last checkpoint."""

    def step(directory: Path) -> int:
        if (directory / learner / "model.json").exists():
            return STEPS
        return max((int(p.name[5:]) for p in directory.glob(f"{learner}/checkpoints/step-*")), default=0)

    return step


PHASES = {  # phase -> how far it came, how far it goes
    "record": (appended("demos"), DEMOS // BATCH),
    "train": (trained("one_shot"), STEPS),
    "try": (appended("trials/one_shot"), 2 * DEMOS // BATCH),
    "train again": (trained("watch_try_learn"), STEPS),
    "evaluate": (appended("evaluation/*"), EVALUATIONS),
}


def killed_in_every_phase(folder: Path, rng: random.Random) -> bool:
    """Starts the reproduction once per phase and kills it there; False if one was over before the kill came."""
    for done, total in PHASES.values():
        at = rng.randint(1, total // 2)
        pid = fork(lambda: os._exit(cli.main(command(folder))))
        while done(folder / "runs" / "seed-0") < at:
            assert os.waitpid(pid, os.WNOHANG)[0] == 0, "the reproduction ended by itself"
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(pid, signal.SIGKILL)
        wait(pid)
        if not 0 < done(folder / "runs" / "seed-0") < total:
            return False
    return True


def test_killed_in_every_phase_it_ends_with_the_same_rows_and_weights(whole, tmp_path):
    rng = random.Random(1)
    folder = next(f for f in (tmp_path / str(i) for i in range(10)) if killed_in_every_phase(f, rng))
    assert not (folder / "debug.json").exists()
    assert wait(fork(lambda: os._exit(cli.main(command(folder))))) == 0
    for part in ("rows", "comparisons", "outcomes"):
        assert document(folder)[part] == document(whole)[part]
    assert len(weights(whole)) == 5
    assert weights(folder) == weights(whole)
