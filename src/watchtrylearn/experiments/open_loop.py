"""Without a robot to try on: how well does a policy predict the actions along an episode that it has not seen?

A policy is shown one demonstration of a task and then the observations of *another* episode of that task, step by
step as they were recorded; what it would do is compared with what was done. Like every policy here it looks every
``execute`` steps and carries out what it planned in between, and so does the baseline that stays where it is.

Errors are absolute, per number of the action in the data's own unit, and over all numbers in units of each number's
standard deviation over the training episodes (so predicting their mean costs somewhat less than 1). What the
demonstration tells is the difference to the same policy after a demonstration of another task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.table import Table

from watchtrylearn.learners import learner_entry, learner_names
from watchtrylearn.ops.random import generator
from watchtrylearn.reporting import results
from watchtrylearn.reporting.results import Row
from watchtrylearn.reporting.statistics import mean_interval
from watchtrylearn.types import STATE, Adaptive, Context, Episode, Observation, Policy, Spec

NEW, KNOWN = "new tasks", "new episodes"
GROUPS = {NEW: "tasks that training has not seen", KNOWN: "episodes of the training tasks that it has not seen"}
SMALLEST_STD = 1e-6  # a number of the action that does not move in training has no scale

Errors = Float[np.ndarray, "case act"]


@dataclass(frozen=True)
class Case:
    """One prediction: ``shown`` is a demonstration of the task of ``query``, ``other`` one of another task.

    ``trials`` are the robot's own attempts at the task, if there are any.
    """

    group: str
    query: Episode
    shown: Episode
    other: Episode
    trials: tuple[Episode, ...] = ()


@dataclass(frozen=True)
class Method:
    """A line of the table: who predicts, after watching what."""

    name: str
    watched: str = ""  # "", "its task" or "another task"
    trials: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"method": self.name, "watched": self.watched, "trials": self.trials}


# ------------------------------------------------------------------------------------------------- predicting


def errors(policy: Policy, queries: Sequence[Episode]) -> Errors:
    """The mean absolute error of ``policy``, one world per query, over the steps of each query."""
    policy.reset([generator("open loop", q.task.name, q.seed) for q in queries])
    lengths = np.array([len(q) for q in queries])
    total = np.zeros((len(queries), queries[0].action.shape[1]))
    for step in range(int(lengths.max())):
        at = np.minimum(step, lengths - 1)  # episodes that have ended stand still
        seen = {
            name: np.stack([q.observation[name][i] for q, i in zip(queries, at, strict=True)])
            for name in queries[0].observation
        }
        done = np.stack([q.action[i] for q, i in zip(queries, at, strict=True)])
        total += np.abs(policy.act(seen) - done) * (step < lengths)[:, None]
    mean: np.ndarray = total / lengths[:, None]
    return mean


class Constant:
    """Always the same action."""

    def __init__(self, action: Float[np.ndarray, "act"]) -> None:
        self.action = action

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.worlds = len(rngs)

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        return np.tile(self.action, (self.worlds, 1))


class Stay:
    """Commands the state that it saw when it last looked: what costs a position-controlled arm nothing to say."""

    def __init__(self, size: int, execute: int) -> None:
        self.size, self.execute = size, execute

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.step = 0

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        if self.step % self.execute == 0:
            self.state = observation[STATE][:, : self.size]
        self.step += 1
        return self.state


class Replay:
    """The actions of a demonstration, step by step, and then the last one."""

    def __init__(self, shown: Sequence[Episode]) -> None:
        self.shown = shown

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.step = 0

    def act(self, observation: Observation) -> Float[np.ndarray, "world act"]:
        actions = np.stack([e.action[min(self.step, len(e) - 1)] for e in self.shown])
        self.step += 1
        return actions


def predictions(
    learners: Mapping[str, Adaptive], cases: Sequence[Case], spec: Spec, mean: Float[np.ndarray, "act"], execute: int
) -> dict[Method, Errors]:
    """The errors of every learner, after the right and (where it watches) the wrong demonstration, and of baselines."""
    queries = [case.query for case in cases]
    found: dict[Method, Errors] = {}
    for name, learner in learners.items():
        for method, contexts in _contexts(name, cases):
            found[method] = errors(learner.adapt(contexts), queries)
    found[Method("replay the demonstration", "its task")] = errors(Replay([c.shown for c in cases]), queries)
    if spec.commands_state:
        found[Method("stay where it is")] = errors(Stay(spec.action.size, execute), queries)
    found[Method("mean action")] = errors(Constant(mean), queries)
    return found


def _contexts(name: str, cases: Sequence[Case]) -> list[tuple[Method, list[Context]]]:
    """What learner ``name`` is shown: demonstrations, right and wrong, if it watches; one trial, if it uses them."""
    entry, some = learner_entry(name), any(case.trials for case in cases)
    right = [Context(demos=(case.shown,)) for case in cases]
    wrong = [Context(demos=(case.other,)) for case in cases]
    tried = [Context(trials=case.trials) for case in cases]
    found = [(Method(name, "its task"), right), (Method(name, "another task"), wrong)] if entry.uses_demos else []
    if entry.uses_trials and some:
        shown = [replace(t, demos=c.demos if entry.uses_demos else ()) for c, t in zip(right, tried, strict=True)]
        found.append((Method(name, "its task" if entry.uses_demos else "", 1), shown))
    if not (entry.uses_demos or entry.uses_trials):
        found.append((Method(name), [Context() for _ in cases]))
    return found


# ---------------------------------------------------------------------------------------------------- numbers


def rows(found: Mapping[Method, Errors], cases: Sequence[Case], spec: Spec, std: Float[np.ndarray, "act"]) -> list[Row]:
    """A row for every method and group of cases: its scaled error, and that of every number of the action."""
    built = []
    for group, chosen in _groups(cases):
        tasks = [cases[i].query.task.name for i in chosen]
        for method, error in found.items():
            columns = zip(spec.action.names, error[chosen].T, strict=True)
            built.append(
                {
                    **method.as_json(),
                    "group": group,
                    "metric": "action error",
                    **_mean(scaled(error[chosen], std), tasks),
                    "numbers": [{"name": n, **_mean(column, tasks)} for n, column in columns],
                    "n": len(tasks),
                    "tasks": len(set(tasks)),
                }
            )
    return built


def comparisons(found: Mapping[Method, Errors], cases: Sequence[Case], std: Float[np.ndarray, "act"]) -> list[Row]:
    """For every learner that watches: its error minus that of every other line, in the same cases."""
    learned = [m for m in found if m.watched == "its task" and m.name != "replay the demonstration"]
    built = []
    for group, chosen in _groups(cases):
        tasks = [cases[i].query.task.name for i in chosen]
        for first in learned:
            for second in found:
                if second == first:
                    continue
                difference = scaled(found[first][chosen], std) - scaled(found[second][chosen], std)
                mean = _mean(difference, tasks)
                built.append(
                    {
                        "first": first.as_json(),
                        "second": second.as_json(),
                        "group": group,
                        "difference": mean["value"],
                        "ci": mean["ci"],
                        "n": len(tasks),
                        "tasks": len(set(tasks)),
                    }
                )
    return built


def scaled(error: Errors, std: Float[np.ndarray, "act"]) -> Float[np.ndarray, "case"]:
    """Each case's error in standard deviations of the training actions, averaged over the numbers that move."""
    moves = std > SMALLEST_STD
    result: np.ndarray = (error[:, moves] / std[moves]).mean(axis=1) if moves.any() else error.mean(axis=1)
    return result


def _groups(cases: Sequence[Case]) -> list[tuple[str, list[int]]]:
    groups = [(group, [i for i, case in enumerate(cases) if case.group == group]) for group in GROUPS]
    return [(group, chosen) for group, chosen in groups if chosen]


def _mean(values: Float[np.ndarray, "case"], tasks: Sequence[str]) -> dict[str, Any]:
    """The mean and its 95 % interval over tasks; one task tells nothing of others."""
    interval = mean_interval(values, tasks)
    return {"value": float(values.mean()), "ci": None if interval is None else list(interval)}


# ----------------------------------------------------------------------------------------------------- tables


def tables(document: Mapping[str, Any]) -> Iterator[Table]:
    """The result for a terminal: the scaled errors of every line, and for each group the numbers one by one."""
    groups = list(dict.fromkeys(row["group"] for row in document["rows"]))
    first = Table(title="error of the action in standard deviations, with 95 % intervals over tasks")
    first.add_column("predicted by")
    for group in groups:
        first.add_column(f"{group}", justify="right")
    lines: dict[str, dict[str, Row]] = {}
    for row in document["rows"]:
        lines.setdefault(label(row), {})[row["group"]] = row
    for name, cells in lines.items():
        first.add_row(name, *(_cell(cells[group]) if group in cells else "" for group in groups))
    first.caption = "; ".join(f"{group}: {GROUPS[group]}" for group in groups)
    yield first
    group = groups[0]
    second = Table(title=f"error of each number in its own unit: {group}")
    second.add_column("action", no_wrap=True)
    shown = [row for row in document["rows"] if row["group"] == group]
    for row in shown:
        second.add_column(label(row), justify="right", overflow="fold")
    for i, number in enumerate(shown[0]["numbers"]):
        second.add_row(number["name"], *(f"{row['numbers'][i]['value']:.3g}" for row in shown))
    yield second


def label(row: Row) -> str:
    """What a person calls a line of the table."""
    name = results.label(row["method"], 0)
    told = {"": "", "its task": ", shown its task", "another task": ", shown another task"}[row["watched"]]
    return name + (told if row["method"] in learner_names() else "") + (", after 1 trial" if row["trials"] else "")


def _cell(row: Row) -> str:
    interval = f" ({row['ci'][0]:.2f}-{row['ci'][1]:.2f})" if row["ci"] else ""
    return f"{row['value']:.2f}{interval}"
