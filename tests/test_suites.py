"""What suites say they can do, and that they can."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from watchtrylearn import suites
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import (
    Ambiguous,
    Demonstrator,
    Filmable,
    Rewarding,
    Suite,
    Symmetric,
    Targeted,
    make_suite,
    suite_names,
)
from watchtrylearn.types import ENVIRONMENT, STATE, WtlError
from watchtrylearn.worlds import Resumable

PAGE = Path(__file__).parents[1] / "docs" / "suites.md"
SUITES = ["toy", "choices", *(pytest.param(name, marks=pytest.mark.sim) for name in ("reach", "reacher", "tabletop"))]
OURS = ["choices", "push", "reach", "reach_vision", "reacher", "tabletop", "toy"]
ABLE = {
    "toy": {Suite, Demonstrator, Targeted, Ambiguous, Rewarding, Symmetric},
    "choices": {Suite, Demonstrator, Targeted, Ambiguous, Rewarding, Symmetric},
    "reach": {Suite, Demonstrator, Targeted, Filmable, Rewarding},
    "reach_vision": {Suite, Demonstrator, Targeted, Filmable},
    "reacher": {Suite, Demonstrator, Targeted, Rewarding, Symmetric},
    "tabletop": {Suite, Demonstrator, Targeted, Ambiguous, Filmable, Symmetric},
    "push": {Suite, Demonstrator, Targeted, Filmable},
}


class Anything:
    """Random actions, beyond the bounds too."""

    def __init__(self, spec, scale=1.5):
        self.low, self.high, self.scale = np.array(spec.action.low), np.array(spec.action.high), scale

    def reset(self, rngs):
        self.rngs = rngs

    def act(self, observation):
        drawn = np.stack([self.scale * rng.uniform(-1, 1, len(self.low)) for rng in self.rngs])
        return (self.low + self.high) / 2 + (self.high - self.low) / 2 * drawn


@pytest.mark.parametrize("place", ["line.py", "curve/suite.py"])
def test_a_new_suite_is_one_folder(place, tmp_path, monkeypatch):
    """Or one file: it is listed without being imported, made on use, and nothing else says its name."""
    name = place.split("/")[0].removesuffix(".py")
    assert suite_names() == OURS
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("import mark_of_import\n\n\ndef make():\n    return mark_of_import.SUITE\n")
    (tmp_path / "helpers.py").write_text("def made():\n    return 7\n")  # no suite
    monkeypatch.setattr(suites, "__path__", [*suites.__path__, str(tmp_path)])
    assert suite_names() == sorted([name, *OURS])
    with pytest.raises(ModuleNotFoundError, match="mark_of_import"):
        make_suite(name)
    suite = make_suite("toy")
    monkeypatch.setitem(sys.modules, "mark_of_import", SimpleNamespace(SUITE=suite))
    assert make_suite(name) is suite
    with pytest.raises(WtlError, match=f"unknown suite '{name}s'; did you mean '{name}'"):
        make_suite(f"{name}s")


def test_the_camera_of_the_page_is_seen_and_stored(tmp_path):
    (block,) = re.findall(r"### A camera.*?```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    page = {}
    exec(block, page)
    line, spec = page["Line"](), page["SPEC"]
    assert isinstance(line, Suite)
    tasks = line.tasks("train")
    right = Anything(spec, 0.0)  # the middle of its bounds, which are both:
    right.low = right.high
    episodes = rollout(right, line.worlds(tasks * 4, range(8)))
    assert [e.success for e in episodes] == [task["side"] == 1 for task in tasks * 4]
    assert all(e.problems(spec) == [] for e in episodes)
    marks = {(task.name, seed): line.worlds([task], [seed]).envs[0].mark for task in tasks for seed in range(8)}
    for episode in episodes:
        frames = episode.observation["images.front"]
        assert (frames.dtype, frames.shape) == (np.uint8, (len(episode), 24, 32, 3))
        column = round(15.5 * (1 + marks[episode.task.name, episode.seed]))
        assert frames[0, 10, column].tolist() == [255, 40, 40]
    with EpisodeStore.create(tmp_path / "line", spec, "line") as store:
        store.append(episodes)
    for kept, made in zip(EpisodeStore.open(tmp_path / "line").read(), episodes, strict=True):
        np.testing.assert_array_equal(kept.observation["images.front"], made.observation["images.front"])


@pytest.mark.parametrize(
    "name", [*SUITES, *(pytest.param(name, marks=pytest.mark.sim) for name in ("push", "reach_vision"))]
)
def test_a_suite_declares_what_it_can_do(name):
    suite = make_suite(name)
    asked = (Suite, Demonstrator, Targeted, Ambiguous, Filmable, Rewarding, Symmetric)
    assert {each for each in asked if isinstance(suite, each)} == ABLE[name]
    assert isinstance(suite.worlds(suite.tasks("test")[:1], [0]), Resumable)


@pytest.mark.parametrize("name", SUITES[:4])
def test_the_reward_as_a_function_is_what_the_worlds_pay(name):
    """Of experts, who get some, and of random commands, some of them beyond the bounds."""
    suite = make_suite(name)
    tasks = suite.tasks("train")[:64] * 2
    seeds = list(range(len(tasks)))
    attempts = [
        *suite.demonstrations(tasks, seeds),
        *rollout(Anything(suite.spec), suite.worlds(tasks, seeds)),
    ]
    for episode in attempts:
        seen = {n: np.concatenate([episode.observation[n], episode.final[n][None]]) for n in (STATE, ENVIRONMENT)}
        before, after = ({n: values[span] for n, values in seen.items()} for span in (slice(0, -1), slice(1, None)))
        paid = suite.reward([episode.task] * len(episode), before, episode.action, after)
        np.testing.assert_allclose(paid, episode.reward, atol=1e-5)
    assert len({round(float(episode.reward.sum()), 3) for episode in attempts}) > 1


def test_a_file_without_its_function_is_told_how_to_name_it() -> None:
    with pytest.raises(WtlError, match=r"'robot.py' does not say which function makes it; write robot.py:make"):
        make_suite("robot.py")


@pytest.mark.parametrize(("name", "told"), [
    ("toy@40x32", "suite 'toy' has no camera whose images could have another size, so it cannot be toy@40x32"),
    ("toy@big", "the size of images is WIDTHxHEIGHT, as in toy@40x32, not 'big'"),
    ("toys@40x32", "unknown suite 'toys'; did you mean 'toy'"),
])  # fmt: skip
def test_a_size_of_images_that_cannot_be_had_is_refused(name: str, told: str) -> None:
    with pytest.raises(WtlError, match=re.escape(told)):
        make_suite(name)
