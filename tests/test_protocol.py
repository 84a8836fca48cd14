"""The one evaluation loop: what its arguments change, and that nothing else changes with them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from toy_learners import Copy, Ideal, Straight
from watchtrylearn.data.batches import collate
from watchtrylearn.protocol import Attempt, Scene, evaluate
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites.toy import SPEC, Toy
from watchtrylearn.types import Context, WtlError

TOY = Toy()


class Witness(Ideal):
    """The ideal learner, noting what it is told; and how often a world moved."""

    def __init__(self) -> None:
        self.heard: list[list[Context]] = []
        self.steps = 0

    def adapt(self, contexts: Sequence[Context]) -> Straight:
        self.heard.append(list(contexts))
        return super().adapt(contexts)

    def step(self, running: int) -> None:
        self.steps += 1


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    tasks = TOY.tasks("test")
    jobs = [(task, j) for task in tasks for j in range(4)]
    demos = TOY.demonstrations([t for t, _ in jobs], [700 + j // 2 for _, j in jobs])
    return [Scene(task, (demo,), 800 + j) for (task, j), demo in zip(jobs, demos, strict=True)]


@pytest.fixture(scope="module")
def usual(scenes: list[Scene]) -> list[Attempt]:
    return evaluate(Ideal(), TOY, scenes, trials=2)


def same(one: Sequence[Attempt], other: Sequence[Attempt]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        (a.scene.seed, a.trials, a.episode.success) == (b.scene.seed, b.trials, b.episode.success)
        and np.array_equal(a.episode.action, b.episode.action)
        for a, b in pairs
    )


def test_what_was_made_is_not_made_again(scenes: list[Scene], usual: list[Attempt]) -> None:
    witness = Witness()
    first = [a for a in usual if a.trials < 2]
    assert same(evaluate(witness, TOY, scenes, trials=2, made=first, on_step=witness.step), usual)
    assert len(witness.heard) == 1  # for the third attempts alone
    assert all(len(context.trials) == 2 for context in witness.heard[0])
    witness = Witness()
    assert same(evaluate(witness, TOY, scenes, trials=2, made=usual, on_step=witness.step), usual)
    assert (witness.heard, witness.steps) == ([], 0)


def test_attempts_at_other_scenes_are_made(scenes: list[Scene], usual: list[Attempt]) -> None:
    witness = Witness()
    elsewhere = [replace(a, scene=replace(a.scene, seed=a.scene.seed + 50)) for a in usual]
    assert same(evaluate(witness, TOY, scenes, trials=2, made=elsewhere), usual)
    assert len(witness.heard) == 3


def test_the_last_attempt_is_made_in_another_scene(scenes: list[Scene], usual: list[Attempt]) -> None:
    retry = [900 + 2 * s.seed + s.seed // 2 % 2 for s in scenes]
    found = evaluate(Ideal(), TOY, scenes, trials=1, retry=retry)
    first, last = found[: len(scenes)], found[len(scenes) :]
    assert same(first, [a for a in usual if a.trials == 0])
    assert [a.scene.seed for a in last] == [a.episode.seed for a in last] == retry
    assert [a.scene.demos for a in last] == [s.demos for s in scenes]
    contexts = [Context(s.demos, [a.episode]) for s, a in zip(scenes, first, strict=True)]
    worlds = TOY.worlds([s.task for s in scenes], retry)
    by_hand = rollout(Ideal().adapt(contexts), worlds, attempt=1)
    assert [a.episode.success for a in last] == [e.success for e in by_hand]


def test_outcomes_are_told_hidden_or_flipped(scenes: list[Scene]) -> None:
    heard: list[list[Context]] = []

    class Deaf(Copy):
        """Does what was demonstrated, whatever it hears."""

        def adapt(self, contexts: Sequence[Context]) -> Straight:
            heard.append(list(contexts))
            return super().adapt(contexts)

    for outcome, told in (("told", lambda s: s), ("flipped", lambda s: not s), ("hidden", lambda s: s)):
        found = evaluate(Deaf(), TOY, scenes, trials=1, outcome=outcome)
        truth = [a.episode.success for a in found[: len(scenes)]]  # attempts keep it
        assert {True, False} == set(truth)
        assert [c.trials[0].success for c in heard[-1]] == [told(success) for success in truth]
        assert {c.hidden for c in heard[-1]} == {outcome == "hidden"}


def test_a_hidden_outcome_is_neither_yes_nor_no_to_a_network(usual: list[Attempt]) -> None:
    trials = [a.episode for a in usual if a.trials == 0]
    yes, no = (next(e for e in trials if e.success is s) for s in (True, False))
    batch = collate([Context((), [yes, no]), Context((), [yes, no], hidden=True)], SPEC)
    assert batch.trials.success.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert Context((), [yes], hidden=True).with_trial(no).hidden


def test_attempts_of_another_number_draw_anew_and_only_they(scenes: list[Scene]) -> None:
    class Dice(Ideal):
        """Commands what its generator gives."""

        def adapt(self, contexts: Sequence[Context]) -> "Dice":
            return self

        def reset(self, rngs: Sequence[np.random.Generator]) -> None:
            self.command = np.array([rng.uniform(-0.1, 0.1, 2) for rng in rngs])

        def act(self, observation: object) -> np.ndarray:
            return self.command

    zero, again, hundred = (evaluate(Dice(), TOY, scenes, trials=1, number=number) for number in (0, 0, 100))
    assert same(zero, again)
    assert not any(np.array_equal(a.episode.action, b.episode.action) for a, b in zip(zero, hundred, strict=True))
    shifted = evaluate(Dice(), TOY, scenes, trials=0, number=1)
    assert same(shifted, [replace(a, trials=0) for a in zero[len(scenes) :]])


def test_a_learner_that_cannot_be_told_its_target_is_refused(scenes: list[Scene]) -> None:
    with pytest.raises(WtlError, match="ideal cannot be told which entity is meant"):
        evaluate(Ideal(), TOY, scenes, trials=0, targets=[0] * len(scenes))
