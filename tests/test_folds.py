"""Trials at training tasks are made by policies that were not trained on those tasks."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from watchtrylearn.experiments import experiment, steps
from watchtrylearn.experiments.folds import Divided, fold_directories, fold_of
from watchtrylearn.experiments.run import Run, open_run
from watchtrylearn.experiments.steps import explorers, make_trials, training_tasks
from watchtrylearn.learners import load
from watchtrylearn.rollouts import rollout
from watchtrylearn.system.progress import Display
from watchtrylearn.types import Context, WtlError

TINY = [
    "demos_per_task=2",
    "tasks=16",
    "one_shot.tries=2",
    "one_shot.folds=2",
    "one_shot.fold_steps=5",
    "one_shot.train.steps=8",
    "net.hidden=[16]",
    "net.width=16",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Recorded and trained, with the tasks that each training saw noted in ``seen``."""
    with open_run(tmp_path_factory.mktemp("folds"), experiment("debug", TINY), Display(quiet=True)) as opened:
        steps.record(opened)
        yield opened


@pytest.fixture(scope="module")
def seen(run: Run) -> dict[str, tuple[set[str], int]]:
    """What each training of one_shot saw: folder -> (tasks, steps)."""
    found: dict[str, tuple[set[str], int]] = {}
    original = steps.fit_method

    def noted(method, material, directory, *arguments, **options):
        tasks = {material.memory.tasks[row] for row in range(len(material.memory))}
        assert tasks == {task.name for task in material.tasks}
        found[str(directory.relative_to(run.directory))] = tasks, method.train.steps
        return original(method, material, directory, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "fit_method", noted)
        steps.train(run, "one_shot")
    return found


def test_tasks_are_dealt_out_family_by_family_at_random(run: Run) -> None:
    tasks = training_tasks(run)
    dealt = fold_of(run, tasks, 4)
    assert dealt == fold_of(run, tasks, 4)
    assert set(dealt) == {task.name for task in tasks}
    assert set(Counter((task.family, dealt[task.name]) for task in tasks).values()) == {2}
    with pytest.raises(WtlError, match="17 folds need as many training tasks, and there are 16"):
        fold_of(run, tasks, 17)


def test_each_fold_is_trained_without_its_tasks(run: Run, seen: dict[str, tuple[set[str], int]]) -> None:
    dealt = fold_of(run, training_tasks(run), 2)
    assert seen == {
        "one_shot": (set(dealt), 8),
        "one_shot/folds/0": ({name for name, fold in dealt.items() if fold != 0}, 5),
        "one_shot/folds/1": ({name for name, fold in dealt.items() if fold != 1}, 5),
    }


def test_a_trial_is_what_the_policy_of_its_fold_does(run: Run, seen: object) -> None:
    made = make_trials(run, "one_shot")
    store = run.stored("trials", "one_shot")
    assert store is not None
    assert made["trials"] == len(store) == 64
    demos = {(e.task.name, e.seed): e for e in run.store("demos").read()}
    dealt = fold_of(run, training_tasks(run), 2)
    learners = [load(directory) for directory in fold_directories(run, "one_shot")]
    for number in (0, 7, 40):
        trial = store.read([number])[0]
        assert trial.watched != (trial.seed,)
        watched = demos[trial.task.name, trial.watched[0]]
        policy = learners[dealt[trial.task.name]].explore([Context(demos=(watched,))])
        worlds = run.suite.worlds([trial.task], [trial.seed])
        again = rollout(policy, worlds, attempt=number // 32, run_seed=run.experiment.seed)[0]
        assert np.allclose(again.action, trial.action, atol=1e-5)


def test_worlds_are_divided_among_policies() -> None:
    class Says:
        def __init__(self, number: int) -> None:
            self.number = number

        def reset(self, rngs: list) -> None:
            self.rngs = rngs

        def act(self, observation: dict) -> np.ndarray:
            return self.number + observation["state"]

    first, second = Says(10), Says(20)
    divided = Divided([(first, np.array([1, 2])), (second, np.array([0, 3]))])
    divided.reset([np.random.default_rng(i) for i in range(4)])
    assert divided.act({"state": np.arange(4.0)[:, None]})[:, 0].tolist() == [20, 11, 12, 23]
    assert [r.bit_generator.state for r in second.rngs] == [
        np.random.default_rng(i).bit_generator.state for i in (0, 3)
    ]


def test_trials_are_refused_while_a_fold_is_not_trained(run: Run, seen: object) -> None:
    model = fold_directories(run, "one_shot")[1] / "model.json"
    model.rename(model.with_suffix(".away"))
    try:
        with pytest.raises(WtlError, match=r"folds/1 holds no trained model yet; `wtl train one_shot"):
            explorers(run, "one_shot")
    finally:
        model.with_suffix(".away").rename(model)


def test_more_folds_than_tasks_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    settings = ["tasks=16", "demos_per_task=2", "one_shot.folds=17", "one_shot.train.steps=2"]
    with open_run(tmp_path, experiment("debug", settings), Display(quiet=True)) as opened:
        steps.record(opened)
        with pytest.raises(WtlError, match="17 folds need as many training tasks, and there are 16"):
            steps.train(opened, "one_shot")
    assert not (tmp_path / "one_shot").exists()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("one_shot.folds=1", "folds is 1, which would leave no task to train on; it must be 0, or 2 or more"),
        ("watch_try_learn.folds=2", "folds must be 0, since the weights of one_shot, with which it begins, know all"),
        ("folds=2", "has no option 'folds'"),
    ],
)
def test_folds_that_make_no_sense_are_refused(option: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(WtlError, match=sentence):
        experiment("debug", [option])
