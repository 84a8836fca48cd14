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


class Deaf(Copy):
    """Does what was demonstrated, whatever it hears."""

    def __init__(self) -> None:
        self.heard: list[list[Context]] = []

    def adapt(self, contexts: Sequence[Context]) -> Straight:
        self.heard.append(list(contexts))
        return super().adapt(contexts)


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


def test_every_attempt_notes_what_had_been_watched(scenes: list[Scene], usual: list[Attempt]) -> None:
    assert any(scene.demos for scene in scenes)
    assert all(a.episode.watched == tuple(demo.seed for demo in a.scene.demos) for a in usual)


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
    deaf = Deaf()
    for outcome, told in (("told", lambda s: s), ("flipped", lambda s: not s), ("hidden", lambda s: s)):
        found = evaluate(deaf, TOY, scenes, trials=1, outcome=outcome)
        truth = [a.episode.success for a in found[: len(scenes)]]  # attempts keep it
        assert {True, False} == set(truth)
        assert [c.trials[0].success for c in deaf.heard[-1]] == [told(success) for success in truth]
        assert {c.hidden for c in deaf.heard[-1]} == {outcome == "hidden"}


def test_a_hidden_outcome_is_neither_yes_nor_no_to_a_network(usual: list[Attempt]) -> None:
    trials = [a.episode for a in usual if a.trials == 0]
    yes, no = (next(e for e in trials if e.success is s) for s in (True, False))
    batch = collate([Context((), [yes, no]), Context((), [yes, no], hidden=True)], SPEC)
    assert batch.trials.success.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert Context((), [yes], hidden=True).with_trial(no).hidden


def test_a_hidden_outcome_is_not_told_by_rewards_and_endings_either(usual: list[Attempt]) -> None:
    demo = usual[0].scene.demos[0]
    yes = next(a.episode for a in usual if a.episode.success)
    assert yes.terminated
    assert yes.reward.sum() == 1
    batch = collate([Context([demo], [yes]), Context([demo], [yes], hidden=True)], SPEC)
    assert (batch.trials.reward.sum((1, 2)).tolist(), batch.trials.terminated[:, 0].tolist()) == ([1, 0], [True, False])
    assert batch.demos.reward.sum((1, 2)).tolist() == [1, 1]  # nobody hides how a demonstration ended
    for name, value in batch.trials.observation.items():
        assert value[0].equal(value[1]), name
    assert batch.trials.length.tolist() == [[len(yes)]] * 2
    assert yes.reward.sum() == 1  # what is attempted keeps it


def test_a_flipped_outcome_is_told_by_rewards_and_endings_too(usual: list[Attempt]) -> None:
    first = [a for a in usual if a.trials == 0]
    deaf = Deaf()
    evaluate(deaf, TOY, [a.scene for a in first], trials=1, made=first, outcome="flipped")
    heard = [context.trials[0] for context in deaf.heard[0]]
    assert {trial.success for trial in heard} == {True, False}
    for attempt, told in zip(first, heard, strict=True):
        truth = attempt.episode
        assert told.success is told.terminated is not truth.success
        assert told.reward.tolist() == [0.0] * (len(truth) - 1) + [float(told.success)]
        assert (told.terms, told.diverged) == ({}, False)
        assert told.action is truth.action
        assert told.observation is truth.observation
        assert truth.reward.sum() == float(truth.success)


def test_attempts_after_other_demonstrations_are_made(scenes: list[Scene], usual: list[Attempt]) -> None:
    """They are known by what was demonstrated, not by which object in memory tells it."""
    witness, copied = (
        Witness(),
        [replace(a, scene=replace(a.scene, demos=tuple(map(replace, a.scene.demos)))) for a in usual],
    )
    evaluate(witness, TOY, scenes, trials=2, made=copied)
    assert witness.heard == []
    others = [replace(s, demos=(TOY.demonstrate(s.task, s.demos[0].seed + 1),)) for s in scenes]
    assert same(evaluate(witness, TOY, others, trials=2, made=usual), evaluate(Ideal(), TOY, others, trials=2))
    assert len(witness.heard) == 3
    slower = [replace(s, demos=(replace(s.demos[0], action=s.demos[0].action / 2),)) for s in scenes]
    evaluate(witness, TOY, slower, trials=0, made=usual)
    assert len(witness.heard) == 4


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
