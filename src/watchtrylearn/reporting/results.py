"""Attempts become numbers: the result document behind every table, plot and report (``results.json``).

A row is one success rate, or one mean return: one method after a number of trials, in one family (or ``"all"``),
on all scenes or only on the conflicting ones, with its 95 % interval over tasks and the best rate that anybody
could reach there. An attempt whose physics diverged counts as a failure and is counted in ``diverged``; methods
are compared on the very same scenes or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from watchtrylearn import learners
from watchtrylearn.ops.random import generator
from watchtrylearn.protocol import Attempt, Scene
from watchtrylearn.reporting.provenance import commit, machine, versions
from watchtrylearn.reporting.statistics import METHOD, mean_interval, paired_comparison, rate_interval
from watchtrylearn.suites import Ambiguous, Suite
from watchtrylearn.types import Episode, WtlError

Entry = tuple[str, int]  # a line of the table: (method, trials made before the attempt)
Row = dict[str, Any]
Key = tuple[str, int, int]  # task, scene seed, training seed
ByScene = dict[Key, Attempt]
Facts = Mapping[str, str | int | float | None]

REFERENCES = {"expert": "the demonstrator", "idle": "doing nothing"}  # what methods are held against
METRICS = {"success": "success in %", "return": "return"}  # name -> what a table of it shows
OUTCOMES = {  # (first attempt, second attempt) -> what that is called
    (False, True): "corrected",
    (True, True): "at once",
    (False, False): "not solved",
    (True, False): "lost again",
}


def label(method: str, trials: int, learner: str = "") -> str:
    """What a person calls a line of the table: ``"Watch-Try-Learn, after 1 trial"``. A method that is not called as its
    ``learner`` is told apart by its name: ``"behaviour cloning (wide)"``."""
    names = {entry.name: entry.label for entry in learners.LEARNERS} | REFERENCES
    name = f"{names.get(learner, learner)} ({method})" if learner not in ("", method) else names.get(method, method)
    return f"{name}, after {trials} trial{'s' if trials > 1 else ''}" if trials else name


# --------------------------------------------------------------------------------------------------- the rows


def rows(
    attempts: Sequence[Attempt],
    suite: Suite,
    entries: Sequence[Entry] | None = None,
    metric: str = "success",
    **facts: str | int | float | None,
) -> list[Row]:
    """Success rates (or mean returns) of every entry: per family and over all, on all scenes and the conflicting ones.

    The interval ``ci`` is over tasks (``statistics.rate_interval``, ``mean_interval``): where the mean of these trained
    policies on all such tasks may lie. It is None for returns that are the same in all tasks, since those have no
    natural bounds. Of several training seeds a row has their mean, and ``of_seeds`` has each one's. ``facts``
    (``dataset_size=...``, ``config=...``) are added to every row; ``scene`` and ``ceiling`` replace the row's own, and
    with ``clusters="scenes"`` the interval is over scenes: for suites whose tasks are all the tasks there are.

    Args:
        attempts: of any number of methods (``protocol.evaluate``).
        suite: its optional ``conflict(task, demo_seed, seed) -> bool`` makes the rows of subset
            ``"conflict"``; its optional ``ceiling(family, demos=, trials=, subset=, scene=) -> float | None``
            tells the best rate.
        entries: (method, trials) in the order of the table; unless given, every method there is: at its first attempt,
            or, if it made others, after each of its trials.
        metric: ``"success"``, or ``"return"`` (the undiscounted sum of an attempt's rewards).

    Raises:
        WtlError: an entry has no attempts, or the same scene twice; an unknown metric.
    """
    if metric not in METRICS:
        raise WtlError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
    built: list[Row] = []
    for entry in lines_of(attempts) if entries is None else entries:
        mine = list(_by_scene(attempts, entry).values())
        for subset, chosen in _subsets([a.scene for a in mine], suite):
            built += [
                _row(entry, family, subset, within, suite, metric, facts) | facts
                for family, within in _families([mine[i] for i in chosen])
            ]
    return built


def lines_of(attempts: Sequence[Attempt]) -> list[Entry]:
    """The lines of the table of these attempts."""
    made = dict.fromkeys((a.method, a.trials) for a in attempts)
    retried = {method for method, trials in made if trials}
    return [(method, trials) for method, trials in made if trials or method not in retried]


def retrial_of(attempts: Sequence[Attempt]) -> str:
    """The last method here that made a second attempt."""
    retried = [a.method for a in attempts if a.trials == 1]
    if not retried:
        raise WtlError("there is no method here that made a second attempt")
    return retried[-1]


def _by_scene(attempts: Sequence[Attempt], entry: Entry) -> ByScene:
    """The attempts of one entry by (task, scene seed, training seed)."""
    mine = [a for a in attempts if (a.method, a.trials) == entry]
    if not mine:
        known = sorted({(a.method, a.trials) for a in attempts})
        raise WtlError(f"there are no attempts of {label(*entry)!r}; there are those of {known}")
    found = {(a.scene.task.name, a.scene.seed, a.seed): a for a in mine}
    if len(found) != len(mine):
        (task, seed), _ = Counter((a.scene.task.name, a.scene.seed) for a in mine).most_common(1)[0]
        raise WtlError(f"{_label(mine[0])!r} has more than one attempt at task {task} in scene {seed}")
    return found


def _label(attempt: Attempt) -> str:
    """What the line of an attempt is called."""
    return label(attempt.method, attempt.trials, attempt.learner)


def _variant(attempt: Attempt) -> dict[str, str]:
    """The learner of an attempt's method, as a field of its line, unless the method is called like it."""
    return {} if attempt.learner in ("", attempt.method) else {"learner": attempt.learner}


def _subsets(scenes: Sequence[Scene], suite: Suite) -> Iterator[tuple[str, list[int]]]:
    """The indices of all scenes, and of the conflicting ones if there are any."""
    yield "all", list(range(len(scenes)))
    disputed = [i for i, scene in enumerate(scenes) if in_conflict(scene, suite)]
    if disputed:
        yield "conflict", disputed


def _families(attempts: list[Attempt]) -> Iterator[tuple[str, list[Attempt]]]:
    """Every family in order of appearance, then all of them together."""
    for family in dict.fromkeys(a.scene.task.family for a in attempts):
        yield family, [a for a in attempts if a.scene.task.family == family]
    yield "all", attempts


def in_conflict(scene: Scene, suite: Suite) -> bool:
    """Do the readings of this scene's demonstrations disagree here? (False if the suite knows none.)"""
    if not isinstance(suite, Ambiguous) or not scene.demos:
        return False
    return all(suite.conflict(scene.task, demo.seed, scene.seed) for demo in scene.demos)


def succeeded(attempt: Attempt) -> bool:
    """The yes or no of an attempt; one whose physics diverged is a no."""
    return attempt.episode.success and not attempt.episode.diverged


def returned(attempt: Attempt) -> float:
    """The return of an attempt: the undiscounted sum of its rewards."""
    return float(attempt.episode.reward.sum(dtype=np.float64))


def _row(
    entry: Entry, family: str, subset: str, attempts: Sequence[Attempt], suite: Suite, metric: str, facts: Facts
) -> Row:
    method, trials = entry
    values = [float(succeeded(a)) if metric == "success" else returned(a) for a in attempts]
    tasks = [a.scene.task.name for a in attempts]
    scenes = [f"{a.scene.task.name}/{a.scene.seed}" for a in attempts]
    clusters = scenes if facts.get("clusters") == "scenes" else tasks
    interval = rate_interval(values, clusters) if metric == "success" else mean_interval(values, clusters)
    return {
        "method": method,
        **_variant(attempts[0]),
        "suite": suite.name,
        "family": family,
        "demos": _demos(entry, attempts),
        "trials": trials,
        "metric": metric,
        "value": float(np.mean(values)),
        "ci": None if interval is None else list(interval),
        "of_seeds": _of_seeds(attempts, values),
        "n": len(attempts),
        "tasks": len(set(tasks)),
        "diverged": sum(a.episode.diverged for a in attempts),
        "ceiling": _ceiling(entry, subset, attempts, suite, facts) if metric == "success" else None,
        "scene": "same",
        "subset": subset,
        "modality": "state",
    }


def _of_seeds(attempts: Sequence[Attempt], values: Sequence[float]) -> dict[str, float]:
    """The mean of every training seed."""
    found: dict[str, list[float]] = {}
    for attempt, value in zip(attempts, values, strict=True):
        found.setdefault(str(attempt.seed), []).append(value)
    return {seed: float(np.mean(of_seed)) for seed, of_seed in found.items()}


def _demos(entry: Entry, attempts: Sequence[Attempt]) -> int:
    """How many demonstrations the method watched."""
    blind = {*REFERENCES, *(learner.name for learner in learners.LEARNERS if not learner.uses_demos)}
    return 0 if (attempts[0].learner or entry[0]) in blind else len(attempts[0].scene.demos)


def _ceiling(entry: Entry, subset: str, attempts: Sequence[Attempt], suite: Suite, facts: Facts) -> float | None:
    """The best possible rate on these scenes: each family's, weighted by its scenes; None if unknown.

    Who is told the target knows what two demonstrations say whose readings disagree.
    """
    if not isinstance(suite, Ambiguous):
        return None
    demos, trials, scene = _demos(entry, attempts), entry[1], str(facts.get("scene", "same"))
    if facts.get("target") == "told":
        demos = 2
    scenes = Counter(a.scene.task.family for a in attempts)
    best = {family: suite.ceiling(family, demos=demos, trials=trials, subset=subset, scene=scene) for family in scenes}
    known = [scenes[family] * value for family, value in best.items() if value is not None]
    return sum(known) / len(attempts) if len(known) == len(scenes) else None


# ------------------------------------------------------------------------------------------ comparing methods


def comparisons(attempts: Sequence[Attempt], pairs: Sequence[tuple[Entry, Entry]], suite: Suite) -> list[Row]:
    """First minus second of every pair, in the same scenes: all of them, and the conflicting ones.

    Each has ``difference`` and its 95 % interval ``ci`` over tasks, how many scenes only one of the two
    solved, and two two-sided p-values (``statistics.Comparison``): ``p_scenes`` (McNemar, exact) and
    ``p_tasks`` (sign flips of tasks: valid although the scenes of a task resemble each other).

    Raises:
        WtlError: the scenes of a pair differ; names the first difference.
    """
    built: list[Row] = []
    for first, second in pairs:
        both = paired(attempts, first, second)
        built += [
            _comparison(first, second, subset, [both[i] for i in chosen])
            for subset, chosen in _subsets([ours.scene for ours, _ in both], suite)
        ]
    return built


def paired(attempts: Sequence[Attempt], first: Entry, second: Entry) -> list[tuple[Attempt, Attempt]]:
    """The attempts of two entries scene by scene; ``WtlError`` names the first scene that only one saw."""
    ours, theirs = _by_scene(attempts, first), _by_scene(attempts, second)
    names = [_label(next(iter(side.values()))) for side in (ours, theirs)]
    return _matched(ours, theirs, (names[0], names[1]))


def _matched(ours: ByScene, theirs: ByScene, names: tuple[str, str]) -> list[tuple[Attempt, Attempt]]:
    _require_same({key: a.scene for key, a in ours.items()}, {key: a.scene for key, a in theirs.items()}, names)
    return [(ours[key], theirs[key]) for key in ours]


def require_same_scenes(ours: Sequence[Scene], theirs: Sequence[Scene], names: tuple[str, str]) -> None:
    """Refuses scenes that differ in task, seed or what is shown; the sentence says where first."""
    _require_same({(s.task.name, s.seed, 0): s for s in ours}, {(s.task.name, s.seed, 0): s for s in theirs}, names)


def _require_same(ours: Mapping[Key, Scene], theirs: Mapping[Key, Scene], names: tuple[str, str]) -> None:
    unequal = f"{names[0]!r} and {names[1]!r} were not evaluated on the same scenes"
    for key in (*ours, *theirs):
        where = f"task {key[0]} in scene {key[1]}"
        for name, found in zip(names, (ours, theirs), strict=True):
            if key not in found:
                raise WtlError(f"{unequal}: {name!r} has no attempt at {where}")
        shown = [found[key].demos for found in (ours, theirs)]
        seeds = [[demo.seed for demo in demos] for demos in shown]
        if seeds[0] != seeds[1]:
            raise WtlError(f"{unequal}: for {where} they saw demonstrations {seeds[0]} and {seeds[1]}")
        if not all(map(_same, *shown)):
            raise WtlError(f"{unequal}: for {where} they saw different demonstrations of seeds {seeds[0]}")


def _same(one: Episode, other: Episode) -> bool:
    """Was the same thing shown?"""
    pairs = [(values, other.observation[name]) for name, values in one.observation.items()]
    return one is other or all(np.array_equal(a, b) for a, b in [*pairs, (one.action, other.action)])


def across(
    ours: Sequence[Attempt], theirs: Sequence[Attempt], entries: Sequence[Entry], suite: Suite, names: tuple[str, str]
) -> list[Row]:
    """The same methods in two runs, scene by scene: our rate minus theirs, for all scenes and the conflicting ones.

    Rows are those of ``comparisons`` with the rates of both runs (``ours``, ``theirs``). Training seeds may differ: the
    first of ours is compared with the first of theirs, and so on.

    Raises:
        WtlError: the scenes or what was shown in them differ; says where first, with the ``names`` of the runs.
    """
    built: list[Row] = []
    for entry in entries:
        found = [_by_scene(_seeds_numbered(attempts), entry) for attempts in (ours, theirs)]
        both = _matched(found[0], found[1], names)
        for subset, chosen in _subsets([one.scene for one, _ in both], suite):
            pairs = [both[i] for i in chosen]
            rates = [float(np.mean([succeeded(a) for a in side])) for side in zip(*pairs, strict=True)]
            built.append(_comparison(entry, entry, subset, pairs) | {"ours": rates[0], "theirs": rates[1]})
    return built


def _seeds_numbered(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts with their training seeds numbered from 0, in order."""
    numbers = {seed: number for number, seed in enumerate(sorted({a.seed for a in attempts}))}
    return [replace(a, seed=numbers[a.seed]) for a in attempts]


def _comparison(first: Entry, second: Entry, subset: str, pairs: Sequence[tuple[Attempt, Attempt]]) -> Row:
    found = paired_comparison(
        [succeeded(ours) for ours, _ in pairs],
        [succeeded(theirs) for _, theirs in pairs],
        [ours.scene.task.name for ours, _ in pairs],
        generator("comparison", *first, *second, subset),
    )
    return {
        "first": {"method": first[0], "trials": first[1], **_variant(pairs[0][0])},
        "second": {"method": second[0], "trials": second[1], **_variant(pairs[0][1])},
        "subset": subset,
        "difference": found.difference,
        "ci": list(found.interval),
        "p_scenes": found.p_scenes,
        "p_tasks": found.p_tasks,
        "only_first": found.only_first,
        "only_second": found.only_second,
        "n": found.n,
        "tasks": found.tasks,
    }


def outcome(trial: Attempt, retrial: Attempt) -> str:
    """What two successive attempts in one scene are called: a value of ``OUTCOMES``."""
    return OUTCOMES[succeeded(trial), succeeded(retrial)]


def outcomes(attempts: Sequence[Attempt], suite: Suite, method: str | None = None) -> list[Row]:
    """How often the second attempt ends like this after the first ended like that; shares of all scenes.

    One row per kind in ``OUTCOMES``, with ``share``, ``conflict_share`` (of the conflicting scenes; None if
    there are none) and ``n``. The report states them, so that its choice of clips cannot mislead. ``method``:
    ``retrial_of(attempts)`` unless given.
    """
    method = method or retrial_of(attempts)
    pairs = paired(attempts, (method, 0), (method, 1))
    kinds = [(outcome(a, b), in_conflict(a.scene, suite)) for a, b in pairs]
    disputed = sum(conflict for _, conflict in kinds)
    return [
        {
            "kind": kind,
            "share": sum(k == kind for k, _ in kinds) / len(kinds),
            "conflict_share": sum(k == kind and c for k, c in kinds) / disputed if disputed else None,
            "n": len(kinds),
        }
        for kind in OUTCOMES.values()
    ]


# ----------------------------------------------------------------------------------------------- the document


def document(
    experiment: str,
    *,
    command: str,
    seeds: Sequence[int],
    seconds: Mapping[str, float],
    rows: Sequence[Row],
    comparisons: Sequence[Row] = (),
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The result document: what was run, by what, on what, and the rows. Plain JSON values in a fixed order.

    ``seconds`` is the wall time of each phase; ``wall_s`` is their sum, without those that passed ``beside`` another.
    ``interval`` says how intervals were computed; documents without it have those of an older method
    (``tables.measured``). ``extra`` adds further fields (the report reads ``summary``, ``data``, ``outcomes`` and
    ``starts``: method -> the one whose first attempt is its own too) and may not replace one.
    """
    built = {
        "experiment": experiment,
        "command": command,
        "commit": commit(),
        "seeds": list(seeds),
        "wall_s": wall_seconds(seconds),
        "phases_s": {phase: round(spent, 1) for phase, spent in seconds.items()},
        "machine": machine(),
        "versions": versions(),
        "interval": METHOD,
        "rows": list(rows),
        "comparisons": list(comparisons),
    }
    taken = sorted(built.keys() & (extra or {}).keys())
    if taken:
        raise WtlError(f"the result document has its own {', '.join(taken)}; choose another name")
    return built | dict(extra or {})


def wall_seconds(phases: Mapping[str, float]) -> float:
    """The wall time of all phases together; what a second process did beside them took none of its own."""
    own = (spent for phase, spent in phases.items() if not phase.endswith("(beside)"))
    return round(sum(own, 0.0), 1)
