"""Evaluating the methods of a run, all in the same scenes: read from the run, or made and stored there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, islice

import numpy as np

from watchtrylearn.experiments.run import Run, chosen_tasks
from watchtrylearn.experiments.steps import BATCH, demonstrator, made_by, sees_images, timed, trained, unpacked
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

    Demonstrations are without images, which only a method that looks at them is shown, some at a time.
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
        for part in _parts(run, len(jobs)):
            if part.start == len(store):
                store.append(_successes(demonstrator(run, "evaluation/demos"), jobs[part], run.suite.spec))
    episodes = store.read(images=False)
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
    """All attempts of method ``name`` on ``scenes``, read from RUN/evaluation/name or made and stored there.

    They are without images, as ``evaluation_scenes`` are; ``unpacked_attempts`` has them.
    """
    trials = run.experiment.attempts if run.experiment.uses_trials(name) else 0
    parts = _parts(run, len(scenes), trials + 2)
    expected = [[(s, k) for k in range(trials + 1) for s in scenes[part]] for part in parts]

    def make(number: int, on_step: OnStep) -> list[Attempt]:
        shown, seed = _as_seen(run, name, scenes[parts[number]]), run.experiment.seed
        return evaluate(trained(run, name), run.suite, shown, trials=trials, run_seed=seed, on_step=on_step)

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
    RUN/evaluation/folder or made and stored there. ``made`` are of ``evaluate_method``."""
    seeds = [s.seed for s in scenes] if retry is None else retry
    parts = _parts(run, len(scenes), trials + 2)
    expected = [
        [(replace(s, seed=seed), trials) for s, seed in zip(scenes[part], seeds[part], strict=True)] for part in parts
    ]

    def make(number: int, on_step: OnStep) -> list[Attempt]:
        part = parts[number]
        before = made
        if sees_images(run, name):
            here = {(s.task.name, s.seed) for s in scenes[part]}
            wanted = [a for a in made if (a.scene.task.name, a.scene.seed) in here and a.trials < trials]
            before = unpacked_attempts(run, wanted)
        every = evaluate(
            trained(run, name),
            run.suite,
            _as_seen(run, name, scenes[part]),
            trials=trials,
            made=before,
            retry=None if retry is None else retry[part],
            outcome=outcome,
            targets=None if targets is None else targets[part],
            number=OTHERWISE,
            run_seed=run.experiment.seed,
            on_step=on_step,
        )
        return every[-len(scenes[part]) :]

    return kept(run, folder, name, expected, make)


def kept(
    run: Run,
    folder: str,
    name: str,
    expected: Sequence[Sequence[tuple[Scene, int]]],
    make: Callable[[int, OnStep], list[Attempt]],
) -> list[Attempt]:
    """The attempts by method ``name`` in RUN/evaluation/folder, without images; those that are not there yet are those
    of ``make``, stored first.

    ``expected`` are the scenes, each with the trials before it, in parts: ``make(i, ...)`` makes the attempts of the
    ``i``th, which are stored before the next ones are made. Refuses stored ones that are not at these scenes in that
    order, and those that other weights of the method made.
    """
    ends = [0, *accumulate(map(len, expected))]

    def made(number: int, on_step: OnStep) -> list[Episode]:
        return [attempt.episode for attempt in make(number, on_step)]

    with made_by(run, name, "evaluation", folder) as store:
        if len(store) in ends[:-1]:
            first = ends.index(len(store))
            steps = [run.suite.spec.horizon * len(p) // len({(s.task, s.seed) for s, _ in p}) for p in expected]
            with (
                timed(run, "evaluate"),
                run.display.track(f"evaluating {folder}", sum(steps), sum(steps[:first])) as advance,
            ):
                for number in range(first, len(expected)):
                    store.append_attempts(made(number, lambda running: advance(1, f"{running} worlds running")))
    flat = [each for part in expected for each in part]
    if [(r.task.name, r.seed) for r in store.records] != [(s.task.name, s.seed) for s, _ in flat]:
        raise WtlError(f"{store.path} holds attempts in other scenes than this evaluation's; remove it")
    learner = run.experiment.method(name).learner
    episodes = zip(flat, store.read(images=False), strict=True)
    attempts = [Attempt(name, s, k, e, run.experiment.seed, learner) for (s, k), e in episodes]
    return sorted(attempts, key=lambda attempt: attempt.trials)


# --------------------------------------------------------------------------------------------------- images


def _parts(run: Run, count: int, each: int = 1) -> list[slice]:
    """How ``count`` jobs are divided if each takes ``each`` episodes: not at all, but where there are images so that no
    more than a batch of episodes is in memory."""
    size = max(1, BATCH // each if run.suite.spec.images else count)
    return [slice(at, min(at + size, count)) for at in range(0, count, size)]


def _as_seen(run: Run, name: str, scenes: Sequence[Scene]) -> list[Scene]:
    """The scenes as method ``name`` is shown them: with the images of their demonstrations if it looks at any."""
    return unpacked_scenes(run, scenes) if sees_images(run, name) else list(scenes)


def unpacked_scenes(run: Run, scenes: Sequence[Scene]) -> list[Scene]:
    """Scenes of the evaluation, few of them, with the images of what is shown in them."""
    if not run.suite.spec.images:
        return list(scenes)
    store = run.store("evaluation", "demos")
    number = {(record.task.name, record.seed): record.index for record in store.records}
    shown = iter(unpacked(store, [number[d.task.name, d.seed] for s in scenes for d in s.demos]))
    return [replace(s, demos=tuple(islice(shown, len(s.demos)))) for s in scenes]


def require_same_images(run: Run, other: Run) -> None:
    """Refuses two runs in which the same demonstrations look different; one episode of each is in memory at a time."""
    stores = [each.store("evaluation", "demos") for each in (run, other)]
    for name in run.suite.spec.images:
        for (number, ours), (_, theirs) in zip(*(store.images(name) for store in stores), strict=True):
            if not np.array_equal(ours, theirs):
                raise WtlError(
                    f"{run.directory} and {other.directory} were not evaluated on the same scenes: the images of "
                    f"camera {name!r} in demonstration {number} of evaluation/demos differ"
                )


def unpacked_attempts(run: Run, attempts: Sequence[Attempt]) -> list[Attempt]:
    """Attempts of ``evaluate_method``, few and of one method, again with their images."""
    if not attempts or not run.suite.spec.images:
        return list(attempts)
    store = run.store("evaluation", attempts[0].method)
    number: dict[tuple[str, int, int], int] = {}
    made: Counter[tuple[str, int]] = Counter()  # attempts in a scene so far
    for record in store.records:
        scene = record.task.name, record.seed
        number[*scene, made[scene]] = record.index
        made[scene] += 1
    episodes = unpacked(store, [number[a.scene.task.name, a.scene.seed, a.trials] for a in attempts])
    return [replace(a, episode=e) for a, e in zip(attempts, episodes, strict=True)]
