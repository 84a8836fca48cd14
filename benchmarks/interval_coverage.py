"""How often do the 95 % intervals hold the truth, and how often does looking again find what is not there?

usage: python benchmarks/interval_coverage.py [REPEATS]

Simulates evaluations of many kinds (``RATES``, ``PAIRS``, ``RETURNS``) whose true means are known, and counts. Prints
for each kind of interval and number of tasks the coverage in all populations together and in the worst, then the false
alarms of comparing two equally good methods once and several times. The documentation's numbers are of 4000 repeats.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from watchtrylearn.ops.random import generator
from watchtrylearn.reporting.statistics import Interval, mean_interval, rate_interval, ratio_interval

TASKS, SCENES = (8, 10, 16, 40), (12, 24, 72)  # 72: three training seeds in 24 scenes

Rng = np.random.Generator
Draw = Callable[[Rng, int], np.ndarray]  # the true means of so many tasks; of two methods: (2, task)


@dataclass(frozen=True)
class Population:
    """Tasks of a kind: how the true means of some of them are drawn, and the mean over all of them."""

    draw: Draw
    mean: float


def alike(rate: float) -> Population:
    """Every task has the same rate."""
    return Population(lambda rng, tasks: np.full(tasks, rate), rate)


def spread(mean: float, correlation: float) -> Population:
    """Rates from a Beta distribution; ``correlation`` is that of two scenes of one task, 1 if tasks are all or none."""
    size = 1 / correlation - 1
    return Population(lambda rng, tasks: rng.beta(mean * size, (1 - mean) * size, tasks), mean)


def odd(rate: float, other: float, share: float) -> Population:
    """Every task has the same rate but a few, of another kind."""
    mean = rate + share * (other - rate)
    return Population(lambda rng, tasks: np.where(rng.random(tasks) < share, other, rate), mean)


def both(first: Population, second: Population) -> Population:
    """Two methods whose rates in a task have nothing to do with each other."""
    return Population(lambda rng, n: np.array([first.draw(rng, n), second.draw(rng, n)]), first.mean - second.mean)


def same(tasks: Population) -> Population:
    """Two methods with the same rate in every task."""
    return Population(lambda rng, n: np.tile(tasks.draw(rng, n), (2, 1)), 0.0)


def better(rate: float, gain: float, share: float) -> Population:
    """Two methods, the first better by ``gain`` in a share of the tasks."""

    def draw(rng: Rng, tasks: int) -> np.ndarray:
        return np.array([np.full(tasks, rate), rate - gain * (rng.random(tasks) < share)])

    return Population(draw, share * gain)


RATES = {
    **{f"alike {rate}": alike(rate) for rate in (0.5, 0.75, 0.9, 0.97)},
    **{
        f"spread {mean}, {correlation}": spread(mean, correlation)
        for mean in (0.5, 0.75, 0.9, 0.95, 0.98)
        for correlation in (0.02, 0.1, 0.3, 0.6, 0.9)
    },
    **{
        f"odd {rate}, {other}, {share}": odd(rate, other, share)
        for rate, other, share in (
            (0.97, 0.5, 0.025), (0.97, 0.5, 0.05), (0.97, 0.5, 0.1), (0.99, 0.5, 0.05), (0.98, 0.7, 0.1),
            (1.0, 0.5, 0.05), (0.75, 0.5, 0.1),
        )
    },
}  # fmt: skip
PAIRS = {
    **{f"same, {name}": same(RATES[name]) for name in ("alike 0.75", "alike 0.97", "spread 0.5, 0.3")},
    **{f"same, {name}": same(RATES[name]) for name in ("spread 0.75, 0.1", "spread 0.95, 0.3", "odd 0.97, 0.5, 0.1")},
    "0.75 and 0.75": both(spread(0.75, 0.1), spread(0.75, 0.1)),
    "0.95 and 0.75": both(spread(0.95, 0.1), spread(0.75, 0.02)),
    "0.98 and 0.5": both(spread(0.98, 0.1), spread(0.5, 0.3)),
    "0.98 and 0.95": both(spread(0.98, 0.1), spread(0.95, 0.3)),
    "all or none": both(spread(0.98, 0.6), spread(0.5, 0.9)),
    "odd and odd": both(odd(0.97, 0.5, 0.1), odd(0.98, 0.7, 0.1)),
    "better 0.25, 0.1": better(0.9, 0.25, 0.1),
    "better 0.3, 0.3": better(0.9, 0.3, 0.3),
    "better 0.5, 0.5": better(0.9, 0.5, 0.5),
}
UNSEEN = {
    "odd 0.75, 0.25, 0.1": odd(0.75, 0.25, 0.1)
}  # one task in ten is of a kind that 16 tasks miss in 1 of 5 cases
UNSEEN_PAIRS = {"better 0.5, 0.1": better(0.9, 0.5, 0.1)}
RETURNS = {
    "normal": Population(lambda rng, n: rng.normal(-5, 1, n), -5.0),
    "gamma": Population(lambda rng, n: -rng.gamma(4.0, 1.0, n), -4.0),
    "half normal": Population(lambda rng, n: -np.abs(rng.normal(0, 1, n)), -float(np.sqrt(2 / np.pi))),
}


# ------------------------------------------------------------------------------------------------- coverage


def of_rate(population: Population, tasks: int, scenes: int, rng: Rng) -> Interval:
    """The interval of one simulated success rate. A task's own rate stands for its scenes, all tasks have as many."""
    return rate_interval(rng.binomial(scenes, population.draw(rng, tasks)) / scenes, range(tasks))


def of_difference(population: Population, tasks: int, scenes: int, rng: Rng) -> Interval:
    """The interval of one simulated difference of two success rates."""
    first, second = rng.binomial(scenes, population.draw(rng, tasks)) / scenes
    return rate_interval(first - second, range(tasks), bounds=(-1.0, 1.0))


def of_return(population: Population, tasks: int, scenes: int, rng: Rng) -> Interval:
    """The interval of one simulated mean return; scenes differ by as much as tasks do."""
    found = mean_interval(population.draw(rng, tasks) + rng.normal(0, 1 / np.sqrt(scenes), tasks), range(tasks))
    assert found is not None
    return found


def of_ratio(population: Population, tasks: int, scenes: int, rng: Rng) -> Interval:
    """The interval of the ratio of returns to what was missing, whose true value is the population's mean over 5."""
    below = 5 + rng.normal(0, 0.5, tasks)
    return ratio_interval(population.draw(rng, tasks) + population.mean * (below - 5) / 5, below, range(tasks))


def covered(
    one: Callable[[Population, int, int, Rng], Interval], population: Population, tasks: int, scenes: int, repeats: int
) -> float:
    """The share of simulated intervals that hold the true mean."""
    rng = generator("coverage", tasks, scenes)
    truth = population.mean / 5 if one is of_ratio else population.mean
    ends = np.array([one(population, tasks, scenes, rng) for _ in range(repeats)])
    return float(np.mean((ends[:, 0] <= truth + 1e-12) & (truth - 1e-12 <= ends[:, 1])))


def report(name: str, one: Callable[..., Interval], populations: Mapping[str, Population], repeats: int) -> None:
    for tasks in TASKS:
        found = {
            f"{population}; {scenes} scenes": covered(one, populations[population], tasks, scenes, repeats)
            for population in populations
            for scenes in SCENES
        }
        worst = min(found, key=lambda key: found[key])
        mean = np.mean(list(found.values()))
        print(f"{name}, {tasks} tasks: {100 * mean:.1f} % on average, {100 * found[worst]:.1f} % at worst ({worst})")


# --------------------------------------------------------------------------------------------- false alarms


def false_alarms(looks: int, population: Population, repeats: int, tasks: int = 40, scenes: int = 36) -> float:
    """How often two equally good methods look different (0 outside the interval) in at least one of ``looks``.

    Scenes are added to every task between looks, up to ``scenes``; whoever looks once waits for all of them.
    """
    rng = generator("looks", looks)
    alarms = 0
    for _ in range(repeats):
        rates = population.draw(rng, tasks)
        steps = rng.binomial(scenes // looks, np.broadcast_to(rates, (looks, *rates.shape)))
        done = np.cumsum(steps, axis=0) / (scenes // looks * np.arange(1, looks + 1))[:, None, None]
        ends = [rate_interval(first - second, range(tasks), bounds=(-1.0, 1.0)) for first, second in done]
        alarms += any(not low <= 0 <= high for low, high in ends)
    return alarms / repeats


def main(repeats: int) -> None:
    report("rate", of_rate, RATES, repeats)
    report("difference", of_difference, PAIRS, repeats)
    report("return", of_return, RETURNS, repeats)
    report("ratio", of_ratio, RETURNS, repeats)
    report("rate, a kind of task unseen", of_rate, UNSEEN, repeats)
    report("difference, a kind of task unseen", of_difference, UNSEEN_PAIRS, repeats)
    for name in ("same, spread 0.75, 0.1", "0.75 and 0.75"):
        found = ", ".join(f"{100 * false_alarms(looks, PAIRS[name], repeats):.1f} % in {looks}" for looks in (1, 3, 9))
        print(f"false alarms, {name}: {found} looks")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
