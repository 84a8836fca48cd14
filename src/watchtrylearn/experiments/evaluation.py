"""Evaluating the methods of a run, all in the same scenes: read from the run, or made and stored there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from watchtrylearn.experiments.run import Run, chosen_tasks
from watchtrylearn.experiments.steps import demonstrator, made_by, timed, trained
from watchtrylearn.protocol import Attempt, Outcome, Scene, evaluate
from watchtrylearn.suites import Demonstrator
from watchtrylearn.types import Episode, Spec, Task, WtlError

TEST_DEMO_SEED = 1_000_000  # scene seeds of evaluation: far from those of training
TEST_SEED = 2_000_000
AGAIN, ELSEWHERE = 20, 1000  # attempts of the demonstrator at a test task, and how far apart their scene seeds are
OTHERWISE = 100  # numbers of attempts under other conditions begin here, so that no random stream is used twice

OnStep = Callable[[int], None]


def evaluation_scenes(run: Run) -> list[Scene]:
    """The scenes every method is tested in: held-out tasks, each scene with its own demonstration.

    Scene ``j`` of a task has seed TEST_SEED + j and shows the demonstration of seed TEST_DEMO_SEED + j // 2: where
    a seed's parity decides what is on the left, exactly half of the scenes conflict with their demonstration.
    """
    chosen = chosen_tasks(run.suite, run.experiment.split, run.experiment.eval_tasks, "eval_tasks")
    jobs = [(t, TEST_DEMO_SEED + j) for t in chosen for j in range((run.experiment.scenes + 1) // 2)]
    demos = _test_demos(run, jobs)
    return [
        Scene(task, (demos[task.name, TEST_DEMO_SEED + j // 2],), TEST_SEED + j)
        for task in chosen
        for j in range(run.experiment.scenes)
    ]


def _test_demos(run: Run, jobs: Sequence[tuple[Task, int]]) -> dict[tuple[str, int], Episode]:
    with run.store("evaluation", "demos") as store:
        if len(store) == 0:
            store.append(_successes(demonstrator(run, "evaluation/demos"), jobs, run.suite.spec))
    episodes = store.read()
    if len(episodes) != len(jobs):
        raise WtlError(f"{store.path} holds {len(episodes)} demonstrations instead of {len(jobs)}; remove it")
    for number, (episode, (task, seed)) in enumerate(zip(episodes, jobs, strict=True)):
        again, other = divmod(episode.seed - seed, ELSEWHERE)  # where the demonstrator failed at first
        if (episode.task, episode.kind, episode.success, other) != (task, "demo", True, 0) or not 0 <= again < AGAIN:
            raise WtlError(
                f"{store.path}: episode {number} is not a demonstration of task {task.name} ({task.split}) in scene "
                f"{seed}, but of {episode.task.name} ({episode.task.split}) in scene {episode.seed}; remove that folder"
            )
    keys = [(task.name, seed) for task, seed in jobs]
    return dict(zip(keys, episodes, strict=True))


def _successes(expert: Demonstrator, jobs: Sequence[tuple[Task, int]], spec: Spec) -> list[Episode]:
    """One successful, sound demonstration per job; where the expert fails, a later seed of the same parity is used."""
    episodes = expert.demonstrations([t for t, _ in jobs], [s for _, s in jobs])
    for again in range(1, AGAIN):
        failed = [i for i, e in enumerate(episodes) if not e.success or e.problems(spec)]
        if not failed:
            return episodes
        retried = expert.demonstrations([jobs[i][0] for i in failed], [jobs[i][1] + ELSEWHERE * again for i in failed])
        for i, episode in zip(failed, retried, strict=True):
            episodes[i] = episode
    raise WtlError(f"the expert failed {AGAIN} times at task {jobs[failed[0]][0].name}")


def evaluated(run: Run) -> list[str]:
    """The methods whose evaluation is stored in this run."""
    return [name for name in run.experiment.known if run.stored("evaluation", name)]


def evaluate_method(run: Run, name: str, scenes: Sequence[Scene]) -> list[Attempt]:
    """All attempts of method ``name`` on ``scenes``, read from RUN/evaluation/name or made and stored there."""
    trials = run.experiment.attempts if run.experiment.uses_trials(name) else 0
    expected = [(s, k) for k in range(trials + 1) for s in scenes]

    def make(on_step: OnStep) -> list[Attempt]:
        seed = run.experiment.seed
        return evaluate(trained(run, name), run.suite, scenes, trials=trials, run_seed=seed, on_step=on_step)

    return kept(run, name, name, expected, make)


def evaluate_otherwise(
    run: Run,
    folder: str,
    name: str,
    scenes: Sequence[Scene],
    trials: int,
    *,
    made: Sequence[Attempt] = (),
    retry: Sequence[int] | None = None,
    outcome: Outcome = "told",
    targets: Sequence[int] | None = None,
) -> list[Attempt]:
    """The last attempt of method ``name`` at every scene under other conditions (``protocol.evaluate``), read from
    RUN/evaluation/folder or made and stored there."""
    seeds = [s.seed for s in scenes] if retry is None else retry
    expected = [(replace(s, seed=seed), trials) for s, seed in zip(scenes, seeds, strict=True)]

    def make(on_step: OnStep) -> list[Attempt]:
        every = evaluate(
            trained(run, name),
            run.suite,
            scenes,
            trials=trials,
            made=made,
            retry=retry,
            outcome=outcome,
            targets=targets,
            number=OTHERWISE,
            run_seed=run.experiment.seed,
            on_step=on_step,
        )
        return every[-len(scenes) :]

    return kept(run, folder, name, expected, make)


def kept(
    run: Run,
    folder: str,
    name: str,
    expected: Sequence[tuple[Scene, int]],
    make: Callable[[OnStep], list[Attempt]],
) -> list[Attempt]:
    """The attempts by method ``name`` in RUN/evaluation/folder; if there are none yet, those of ``make``, stored first.

    Refuses stored ones that are not at the ``expected`` scenes (each with the trials before it), in that order, and
    those that other weights of the method made.
    """
    with made_by(run, name, "evaluation", folder) as store:
        if len(store) == 0:
            steps = run.suite.spec.horizon * len(expected) // len({(s.task, s.seed) for s, _ in expected})
            with timed(run, "evaluate"), run.display.track(f"evaluating {folder}", steps) as advance:
                made = make(lambda running: advance(1, f"{running} worlds running"))
                store.append_attempts([attempt.episode for attempt in made])
    if [(r.task.name, r.seed) for r in store.records] != [(s.task.name, s.seed) for s, _ in expected]:
        raise WtlError(f"{store.path} holds attempts in other scenes than this evaluation's; remove it")
    learner = run.experiment.method(name).learner
    episodes = zip(expected, store.read(), strict=True)
    return [Attempt(name, s, k, e, run.experiment.seed, learner) for (s, k), e in episodes]
