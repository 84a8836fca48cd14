"""Symmetries are true: they form a group, worlds obey them, and training sees each example and its images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import watchtrylearn as wtl
from test_starts import Playing, attempts, sent
from watchtrylearn.data.sampling import Sampling
from watchtrylearn.experiments.fitting import fit_method
from watchtrylearn.experiments.plan import Method
from watchtrylearn.experiments.presets import experiment
from watchtrylearn.experiments.run import open_run
from watchtrylearn.learners.one_shot import OneShotConfig
from watchtrylearn.ops.random import generator
from watchtrylearn.ops.symmetry import Symmetry, SymmetryGroup
from watchtrylearn.suites import Symmetric
from watchtrylearn.system.progress import Display
from watchtrylearn.training.material import Material
from watchtrylearn.types import ACTION, ENVIRONMENT, STATE, Channel, Episode, ImageChannel, Spec, Task, WtlError

SIZES = {"toy": 8, "reacher": 16, "tabletop": 4}  # maps in the group of each suite


def group_of(name: str, *chosen: int) -> SymmetryGroup:
    suite = wtl.make_suite(name)
    assert isinstance(suite, Symmetric)
    every = suite.symmetries()
    return SymmetryGroup([every[i] for i in chosen] or every, suite.spec)


def image(group: SymmetryGroup, member: int, channel: str, values: np.ndarray) -> np.ndarray:
    """Of the numbers of one channel over time."""
    return group.numbers(channel, torch.as_tensor(values)[None], np.array([member]))[0].numpy()


# ---------------------------------------------------------------------------------------------- a group


@pytest.mark.parametrize("name", SIZES)
def test_each_declared_symmetry_is_its_own_inverse_and_all_of_them_commute_into_a_small_group(name: str) -> None:
    group, spec = group_of(name), wtl.make_suite(name).spec
    assert len(group) == SIZES[name]
    rng = generator("symmetry", name)
    found = set()
    for member in range(len(group)):
        seen = []
        for channel, kind in {**spec.numbers, ACTION: spec.action}.items():
            values = rng.standard_normal((5, kind.size)).astype(np.float32)
            once = image(group, member, channel, values)
            np.testing.assert_array_equal(image(group, member, channel, once), values)  # twice: where it was
            seen.append((np.array_equal(once, values), once))
            if member == 0:
                np.testing.assert_array_equal(once, values)
        order = [
            image(group, member, c, np.arange(1.0, k.size + 1, dtype=np.float32)[None]) for c, k in spec.numbers.items()
        ]
        order.append(image(group, member, ACTION, np.arange(1.0, spec.action.size + 1, dtype=np.float32)[None]))
        found.add(b"".join(o.tobytes() for o in order))
    assert len(found) == len(group)  # no map is there twice


def test_maps_made_of_two_are_the_one_after_the_other() -> None:
    """Also where they do not commute: exchanging, then changing one sign, turns by a quarter."""
    numbers = Channel(("x", "y"), (-1.0, -1.0), (1.0, 1.0))
    spec = Spec(fps=10, horizon=4, observation={STATE: numbers}, action=numbers)
    exchange = Symmetry("diagonal", exchanged={STATE: [("x", "y")], ACTION: [("x", "y")]})
    turn = replace(exchange, name="turn", negated={STATE: ["x"], ACTION: ["x"]})
    assert len(SymmetryGroup([exchange], spec)) == 2
    group = SymmetryGroup([turn], spec)
    assert len(group) == 4
    found = [tuple(image(group, m, STATE, np.array([[1.0, 2.0]], np.float32))[0]) for m in range(4)]
    assert found == [(1, 2), (-2, 1), (-1, -2), (2, -1)]
    assert len(SymmetryGroup([turn, exchange], spec)) == 8


def test_a_symmetry_that_does_not_fit_is_one_sentence() -> None:
    spec = wtl.make_suite("toy").spec
    for wrong, text in (
        (Symmetry("m", negated={"stat": ["x"]}), "symmetry 'm': negated: no channel 'stat'; did you mean 'state'?"),
        (Symmetry("m", exchanged={STATE: [("x", "z")]}), "symmetry 'm': state has no number 'z'"),
        (Symmetry("m", flipped=["front"]), "symmetry 'm': flipped: no channel 'front'"),
        (
            Symmetry("m", negated={STATE: ["may be mirrored"]}),
            "'may be mirrored' would be within .-1, -?0., and its bounds",
        ),
        (
            Symmetry("m", exchanged={STATE: [("x", "may be mirrored")]}),
            "symmetry 'm': state 'x' would be within .0, 1.",
        ),
    ):
        with pytest.raises(WtlError, match=text):
            SymmetryGroup([wrong], spec)


# ------------------------------------------------------------------------------------------- the worlds


def images(group: SymmetryGroup, member: int, episode: Episode) -> Episode:
    """What the episode becomes under a map."""
    return replace(
        episode,
        observation={n: image(group, member, n, v) for n, v in episode.observation.items()},
        final={n: image(group, member, n, v[None])[0] for n, v in episode.final.items()},
        action=image(group, member, ACTION, episode.action),
        executed=None if episode.executed is None else image(group, member, ACTION, episode.executed),
    )


def with_parameters(task: Task, **changes: object) -> Task:
    return replace(task, parameters=tuple((n, changes.get(n.replace(" ", "_"), v)) for n, v in task.parameters))


@pytest.mark.parametrize("symmetry", range(3))
def test_points_obey_their_symmetries_exactly(symmetry: int) -> None:
    """Experts and random commands: the images of commands, in the image of the scene, lead to the images of what was
    seen, and the judge of the other task says the same."""
    suite, found = attempts("toy")
    group = group_of("toy", symmetry)
    for episode in found:
        changed = images(group, 1, episode)
        marks = suite.worlds([episode.task], [episode.seed]).marks
        other = {0: "place", 1: None, 2: "identity"}[symmetry] == episode.task["reading"]
        task = with_parameters(episode.task, value=int(episode.task["value"]) ^ other)
        worlds = suite.worlds([task], [episode.seed])
        worlds.marks = (marks * [-1, 1], marks * [1, -1], marks[:, ::-1])[symmetry].copy()
        same(wtl.rollout(Playing([sent(changed)], [0]), worlds)[0], changed)


@pytest.mark.sim
@pytest.mark.parametrize("symmetry", range(4))
def test_the_arm_obeys_its_symmetries_exactly(symmetry: int) -> None:
    suite, found = attempts("reacher")
    group = group_of("reacher", symmetry)
    for episode in found:
        changed, task = images(group, 1, episode), episode.task
        names = (None, "shoulder sign", "elbow sign", "target")
        if symmetry:
            now = 1 - int(task["target"]) if symmetry == 3 else -int(task[names[symmetry]])
            task = with_parameters(task, **{names[symmetry].replace(" ", "_"): now})
        same_scene = suite.worlds([episode.task], [episode.seed])
        worlds = suite.worlds([task], [episode.seed])
        worlds.joints, worlds.targets = same_scene.joints, same_scene.targets
        if symmetry == 0:
            worlds.joints, worlds.targets = -worlds.joints, worlds.targets * [1, -1]
        if symmetry == 3:
            worlds.targets = worlds.targets[:, ::-1].copy()
        same(wtl.rollout(Playing([sent(changed)], [0]), worlds)[0], changed)


def same(found: Episode, wanted: Episode) -> None:
    assert len(found) == len(wanted)
    for name, values in wanted.observation.items():
        np.testing.assert_array_equal(found.observation[name], values, err_msg=name)
        np.testing.assert_array_equal(found.final[name], wanted.final[name], err_msg=name)
    np.testing.assert_array_equal(found.reward, wanted.reward)
    assert (found.success, found.terminated) == (wanted.success, wanted.terminated)
