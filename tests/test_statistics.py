"""Intervals and tests against hand numbers, closed forms, and their promise in simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from watchtrylearn.ops.random import generator
from watchtrylearn.statistics import cluster_bootstrap, paired_comparison, ratio_bootstrap, wilson
from watchtrylearn.types import WtlError


def rng(*keys: str | int) -> np.random.Generator:
    return generator("test_statistics", *keys)


# ---------------------------------------------------------------------------------------------------- wilson


def wilson_by_hand(k: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson 1927: the rates p with |k/n - p| = z sqrt(p (1 - p) / n), by the quadratic formula."""
    a, b, c = 1 + z * z / n, -(2 * k / n + z * z / n), (k / n) ** 2
    root = math.sqrt(b * b - 4 * a * c)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_solves_its_equation(counts: tuple[int, int]) -> None:
    assert wilson(*counts) == pytest.approx(wilson_by_hand(*counts), abs=1e-12)


def test_wilson_hand_numbers() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(10, 10)[1] == 1.0


def test_wilson_is_symmetric_in_success_and_failure() -> None:
    low, high = wilson(3, 17)
    assert wilson(14, 17) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_not_a_rate(k: int, n: int) -> None:
    with pytest.raises(WtlError, match="not a success rate"):
        wilson(k, n)


@pytest.mark.parametrize("n", [10, 40, 200])
def test_wilson_covers_95_percent_on_average(n: int) -> None:
    """Exact coverage, no simulation: sum the binomial probabilities of the counts whose interval has p."""
    rates = np.linspace(0.02, 0.98, 97)
    counts = np.arange(n + 1)
    intervals = np.array([wilson(int(k), n) for k in counts])
    inside = (intervals[:, :1] <= rates) & (rates <= intervals[:, 1:])
    coverage = (inside * binom.pmf(counts[:, None], n, rates)).sum(0)
    assert coverage.mean() == pytest.approx(0.95, abs=0.01)


# --------------------------------------------------------------------------------------------------- cluster


def simulated_tasks(tasks: int, scenes: int, a: float, b: float, draw: np.random.Generator) -> np.ndarray:
    """Successes (task, scene): each task has its own success rate from Beta(a, b)."""
    return draw.random((tasks, scenes)) < draw.beta(a, b, tasks)[:, None]


@pytest.mark.parametrize("tasks", [40, 10])
@pytest.mark.parametrize(("a", "b"), [(8, 2), (0.5, 0.5)])
def test_cluster_bootstrap_covers(a: float, b: float, tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchtrylearn.statistics.RESAMPLES", 500)
    draw, hits, repeats = rng("cover", str(a), tasks), 0, 400
    for _ in range(repeats):
        success = simulated_tasks(tasks, 4, a, b, draw)
        low, high = cluster_bootstrap(success.ravel(), np.repeat(np.arange(tasks), 4), draw)
        hits += low <= a / (a + b) <= high
    assert 0.93 <= hits / repeats <= 0.99


def test_forgetting_the_clusters_would_not_cover() -> None:
    """Why tasks are resampled: 40 tasks of 8 scenes are not 320 independent attempts."""
    draw, hits = rng("naive"), 0
    for _ in range(300):
        success = simulated_tasks(40, 8, 0.5, 0.5, draw)
        low, high = wilson(int(success.sum()), success.size)
        hits += low <= 0.5 <= high
    assert hits / 300 < 0.8


def test_cluster_bootstrap_of_one_value_per_task_agrees_with_wilson() -> None:
    success = np.arange(200) < 120
    assert cluster_bootstrap(success, range(200), rng("agree")) == pytest.approx(wilson(120, 200), abs=0.015)


def test_clusters_of_copies_are_worth_one_value_each() -> None:
    success = np.arange(30) < 18
    once = cluster_bootstrap(success, range(30), rng("copies"))
    copied = cluster_bootstrap(np.repeat(success, 5), np.repeat(np.arange(30), 5), rng("copies"))
    assert copied == pytest.approx(once)


@pytest.mark.parametrize(("value", "wanted"), [(1.0, wilson(20, 20)), (0.0, wilson(0, 20))])
def test_equal_clusters_are_not_certainty(value: float, wanted: tuple[float, float]) -> None:
    values, tasks = [value] * 60, np.repeat(np.arange(20), 3)
    assert cluster_bootstrap(values, tasks, rng("equal")) == pytest.approx(wanted)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_interval_is_finite_ordered_and_within_bounds(data: list[tuple[int, bool]]) -> None:
    low, high = cluster_bootstrap([float(s) for _, s in data], [c for c, _ in data], rng("finite"))
    assert 0 <= low <= high <= 1


def test_the_interval_does_not_depend_on_the_order_of_scenes_within_a_task() -> None:
    values, tasks = np.array([1.0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    order = [1, 0, 3, 2, 5, 4]
    assert cluster_bootstrap(values, tasks, rng("o")) == cluster_bootstrap(values[order], tasks[order], rng("o"))


def test_a_ratio_to_ones_is_a_mean() -> None:
    values, tasks = rng("ratio").normal(size=40), np.repeat(np.arange(10), 4)
    mean = cluster_bootstrap(values, tasks, rng(1), bounds=(-10.0, 10.0))
    assert ratio_bootstrap(values, np.ones(40), tasks, rng(1)) == pytest.approx(mean)


def test_a_ratio_does_not_depend_on_the_unit() -> None:
    above, below, tasks = rng("a").normal(3, 1, 40), rng("b").normal(5, 1, 40), np.repeat(np.arange(10), 4)
    low, high = ratio_bootstrap(above, below, tasks, rng(2))
    assert low < above.sum() / below.sum() < high
    assert ratio_bootstrap(8 * above, 8 * below, tasks, rng(2)) == pytest.approx((low, high))


def test_equal_ratios_give_no_interval() -> None:
    with pytest.raises(WtlError, match="2 clusters with the same ratio"):
        ratio_bootstrap([1.0, 2.0], [2.0, 4.0], [0, 1], rng())


@pytest.mark.parametrize(("values", "tasks"), [([], []), ([1.0], [0, 1]), ([float("nan")], [0]), ([2.0, 0.0], [0, 1])])
def test_cluster_bootstrap_refuses(values: list[float], tasks: list[int]) -> None:
    with pytest.raises(WtlError):
        cluster_bootstrap(values, tasks, rng("refuse"))


# ---------------------------------------------------------------------------------------------------- paired


def test_mcnemar_by_hand() -> None:
    """8 scenes only the first solved, 2 only the second: p = 2 * P(X >= 8), X ~ Binomial(10, 1/2)."""
    first, second = [True] * 8 + [False] * 2 + [True] * 5, [False] * 8 + [True] * 2 + [True] * 5
    result = paired_comparison(first, second, range(15), rng("mcnemar"))
    assert result.p_scenes == pytest.approx(2 * (45 + 10 + 1) / 1024)
    assert (result.only_first, result.only_second, result.n) == (8, 2, 15)
    assert result.difference == pytest.approx(6 / 15)
    # with one scene per task, flipping tasks is flipping scenes: the two exact tests are the same test
    assert result.p_tasks == pytest.approx(result.p_scenes)


def test_swapping_the_methods_mirrors_everything() -> None:
    draw = rng("swap")
    a, b, tasks = draw.random(60) < 0.7, draw.random(60) < 0.5, np.repeat(np.arange(20), 3)
    one, other = paired_comparison(a, b, tasks, rng("s")), paired_comparison(b, a, tasks, rng("s"))
    assert one.difference == -other.difference
    assert (one.p_scenes, one.p_tasks) == pytest.approx((other.p_scenes, other.p_tasks))
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]), abs=0.02)


def test_equal_methods_show_no_difference_but_no_certainty() -> None:
    result = paired_comparison([True, False] * 20, [True, False] * 20, range(40), rng("same"))
    assert (result.p_scenes, result.p_tasks, result.difference) == (1.0, 1.0, 0.0)
    assert result.interval == pytest.approx((-wilson(0, 40)[1], wilson(0, 40)[1]))


def test_25_of_50_against_29_of_50_is_not_significant() -> None:
    first, second = np.arange(50) < 29, np.arange(50)[::-1] < 25
    assert paired_comparison(first, second, range(50), rng("small")).p_scenes > 0.1


def test_false_alarms_when_whole_tasks_move_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two equal methods whose scenes within a task agree: only the tests over tasks keep their promise."""
    monkeypatch.setattr("watchtrylearn.statistics.RESAMPLES", 400)
    draw, repeats = rng("alarm"), 300
    scenes, over_tasks, interval = 0, 0, 0
    for _ in range(repeats):
        a, b = (np.repeat(draw.random(30) < 0.6, 6) for _ in range(2))
        result = paired_comparison(a, b, np.repeat(np.arange(30), 6), draw)
        scenes += result.p_scenes <= 0.05
        over_tasks += result.p_tasks <= 0.05
        interval += not result.interval[0] <= 0 <= result.interval[1]
    assert scenes / repeats > 0.2
    assert over_tasks / repeats <= 0.07
    assert interval / repeats <= 0.10


def test_paired_comparison_refuses_unpaired_scenes() -> None:
    with pytest.raises(WtlError, match="cannot be paired"):
        paired_comparison([True], [True, False], [0], rng("unpaired"))
