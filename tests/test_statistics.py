"""Intervals and tests against hand numbers, closed forms, and their promise in simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm, ttest_1samp
from scipy.stats import t as student

from standin import script
from watchtrylearn.ops.random import generator
from watchtrylearn.reporting.statistics import (
    SPREAD,
    mean_interval,
    paired_comparison,
    rate_interval,
    ratio_interval,
    wilson,
)
from watchtrylearn.types import WtlError

coverage = script("interval_coverage")
NORMAL = float(norm.ppf(0.975))


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
    k, n = counts
    assert wilson(k / n, n, NORMAL) == pytest.approx(wilson_by_hand(k, n), abs=1e-12)


def test_wilson_hand_numbers() -> None:
    assert wilson(8 / 10, 10, NORMAL) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(1.0, 10, NORMAL)[1] == 1.0


@pytest.mark.parametrize("n", [10, 40, 200])
def test_wilson_covers_95_percent_on_average(n: int) -> None:
    """Exact coverage, no simulation: sum the binomial probabilities of the counts whose interval has p."""
    rates = np.linspace(0.02, 0.98, 97)
    counts = np.arange(n + 1)
    intervals = np.array([wilson(k / n, n, NORMAL) for k in counts])
    inside = (intervals[:, :1] <= rates) & (rates <= intervals[:, 1:])
    coverage = (inside * binom.pmf(counts[:, None], n, rates)).sum(0)
    assert coverage.mean() == pytest.approx(0.95, abs=0.01)


# ----------------------------------------------------------------------------------------------- promises kept

REPEATS, ENOUGH = 300, 0.92  # 0.94 less one and a half standard errors of 300 repeats
KINDS = ["alike 0.97", "spread 0.5, 0.3", "spread 0.95, 0.3", "spread 0.98, 0.3", "odd 0.97, 0.5, 0.05"]


@pytest.mark.parametrize("tasks", [10, 16, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_of_a_rate_covers(kind: str, tasks: int) -> None:
    assert coverage.covered(coverage.of_rate, coverage.RATES[kind], tasks, 24, REPEATS) >= ENOUGH


@pytest.mark.parametrize("tasks", [10, 40])
@pytest.mark.parametrize("kind", ["same, alike 0.97", "same, spread 0.5, 0.3", "0.98 and 0.95", "better 0.25, 0.1"])
def test_the_interval_of_a_difference_covers(kind: str, tasks: int) -> None:
    assert coverage.covered(coverage.of_difference, coverage.PAIRS[kind], tasks, 24, REPEATS) >= ENOUGH


@pytest.mark.parametrize("one", [coverage.of_return, coverage.of_ratio])
@pytest.mark.parametrize("kind", ["normal", "half normal"])
def test_the_intervals_of_a_return_and_of_a_ratio_cover(kind: str, one: object) -> None:
    for tasks in (10, 40):
        assert coverage.covered(one, coverage.RETURNS[kind], tasks, 24, REPEATS) >= ENOUGH


def test_many_equal_tasks_are_not_given_away() -> None:
    """The price of the promise: with 40 tasks that are all alike, two points to either side, not ten."""
    draw = rng("alike")
    widths = [np.diff(rate_interval(draw.binomial(24, 0.75, 40) / 24, range(40)))[0] for _ in range(50)]
    assert np.mean(widths) < 0.08


def test_forgetting_the_clusters_would_not_cover() -> None:
    """Why tasks count and scenes do not: 40 tasks of 8 scenes are not 320 independent attempts."""
    draw, hits = rng("naive"), 0
    for _ in range(300):
        success = draw.random((40, 8)) < draw.beta(0.5, 0.5, 40)[:, None]
        low, high = wilson(success.mean(), success.size, NORMAL)
        hits += low <= 0.5 <= high
    assert hits / 300 < 0.8


def test_looking_nine_times_finds_what_is_not_there() -> None:
    """Why one decides on the number of scenes first: two equal methods, looked at once or after every few scenes."""
    pair = coverage.PAIRS["same, spread 0.75, 0.1"]
    once, often = (coverage.false_alarms(looks, pair, 200) for looks in (1, 9))
    assert once <= 0.06
    assert often > 2 * once


# -------------------------------------------------------------------------------------------- rates by cluster


def test_one_scene_per_task_is_wilsons_interval_with_students_t() -> None:
    success = np.arange(200) < 120
    by_hand = wilson_by_hand(120, 200, float(student.ppf(0.975, 199)))
    assert rate_interval(success, range(200)) == pytest.approx(by_hand, abs=0.002)


def test_clusters_of_copies_are_worth_one_value_each() -> None:
    success = np.arange(30) < 18
    once = rate_interval(success, range(30))
    assert rate_interval(np.repeat(success, 5), np.repeat(np.arange(30), 5)) == pytest.approx(once)


def test_failures_mirror_successes() -> None:
    values, tasks = np.array([1.0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    low, high = rate_interval(values, tasks)
    assert rate_interval(1 - values, tasks) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("value", [1.0, 0.0])
def test_equal_clusters_are_not_certainty(value: float) -> None:
    """Twenty tasks that all went well are worth twenty attempts."""
    values, tasks = [value] * 60, np.repeat(np.arange(20), 3)
    wanted = wilson_by_hand(int(20 * value), 20, float(student.ppf(0.975, 19)))
    assert rate_interval(values, tasks) == pytest.approx(wanted, abs=1e-9)


def test_equal_clusters_between_the_bounds_keep_the_spread_of_others() -> None:
    low, high = rate_interval([1.0, 0.0] * 40, np.repeat(np.arange(40), 2))
    assert high - low == pytest.approx(2 * student.ppf(0.975, 39) * SPREAD / math.sqrt(40), rel=0.01)


def test_one_task_says_nothing_of_others() -> None:
    assert rate_interval([1.0] * 24, [0] * 24) == (0.0, 1.0)
    assert rate_interval([0.0] * 24, [0] * 24, bounds=(-1.0, 1.0)) == (-1.0, 1.0)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_interval_is_finite_ordered_and_within_bounds(data: list[tuple[int, bool]]) -> None:
    values = [float(s) for _, s in data]
    low, high = rate_interval(values, [c for c, _ in data])
    assert 0 <= low <= np.mean(values) <= high <= 1
    assert high - low > 0.05


def test_the_interval_does_not_depend_on_the_order_of_scenes_within_a_task() -> None:
    values, tasks = np.array([1.0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    order = [1, 0, 3, 2, 5, 4]
    assert rate_interval(values, tasks) == rate_interval(values[order], tasks[order])


@pytest.mark.parametrize("values", [[], [1.0], [float("nan"), 0.0], [2.0, 0.0]])
def test_what_is_not_rates_in_places_is_refused(values: list[float]) -> None:
    with pytest.raises(WtlError):
        rate_interval(values, [0, 1] if values else [])


# ------------------------------------------------------------------------------------------- returns and ratios


def test_the_interval_of_symmetrical_returns_is_students() -> None:
    means = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    wanted = ttest_1samp(means, 0.0).confidence_interval(0.95)
    assert mean_interval(np.repeat(means, 2), np.repeat(np.arange(7), 2)) == pytest.approx(tuple(wanted))


def test_a_long_tail_lengthens_its_side_and_no_other() -> None:
    means = np.array([-9.0, -1.0, -1.0, -0.5, -0.5, 0.0])
    wanted = ttest_1samp(means, 0.0).confidence_interval(0.95)
    low, high = mean_interval(means, range(6))
    assert high == pytest.approx(wanted.high)
    assert low < wanted.low


def test_equal_returns_give_no_interval() -> None:
    assert mean_interval([-5.0, -5.0], [0, 1]) is None
    assert mean_interval([-5.0, -4.0], [0, 0]) is None
    assert mean_interval([0.1 + 0.2, 0.3, 0.3], [0, 1, 2]) is None  # what rounding tells apart is equal
    assert mean_interval([0.0, 0.0], [0, 1]) is None
    assert mean_interval([0.3, 0.3, 0.3 * (1 + 1e-9)], [0, 1, 2]) is not None
    assert mean_interval([0.1] * 30, [0] * 23 + [1] * 7) is None


def test_a_ratio_to_ones_is_a_mean() -> None:
    values, tasks = rng("ratio").normal(size=40), np.repeat(np.arange(10), 4)
    assert ratio_interval(values, np.ones(40), tasks) == pytest.approx(mean_interval(values, tasks))


def test_a_ratio_does_not_depend_on_the_unit() -> None:
    above, below, tasks = rng("a").normal(3, 1, 40), rng("b").normal(5, 1, 40), np.repeat(np.arange(10), 4)
    low, high = ratio_interval(above, below, tasks)
    assert low < above.sum() / below.sum() < high
    assert ratio_interval(8 * above, 8 * below, tasks) == pytest.approx((low, high))


def test_equal_ratios_and_ratios_to_nothing_give_no_interval() -> None:
    with pytest.raises(WtlError, match="2 clusters with the same ratio"):
        ratio_interval([1.0, 2.0], [2.0, 4.0], [0, 1])
    with pytest.raises(WtlError, match="3 clusters with the same ratio"):
        ratio_interval([0.1 + 0.2, 0.3, 0.3], [1.0, 1.0, 1.0], [0, 1, 2])
    with pytest.raises(WtlError, match="clearly not 0"):
        ratio_interval([1.0, 2.0], [1.0, -0.5], [0, 1])


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
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))


def test_equal_methods_show_no_difference_but_no_certainty() -> None:
    result = paired_comparison([True, False] * 20, [True, False] * 20, range(40), rng("same"))
    assert (result.p_scenes, result.p_tasks, result.difference) == (1.0, 1.0, 0.0)
    assert result.interval == pytest.approx((-0.0192, 0.0192), abs=1e-4)  # t(39) * SPREAD / sqrt(40)


def test_25_of_50_against_29_of_50_is_not_significant() -> None:
    first, second = np.arange(50) < 29, np.arange(50)[::-1] < 25
    assert paired_comparison(first, second, range(50), rng("small")).p_scenes > 0.1


def test_false_alarms_when_whole_tasks_move_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two equal methods whose scenes within a task agree: only the tests over tasks keep their promise."""
    monkeypatch.setattr("watchtrylearn.reporting.statistics.RESAMPLES", 400)
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
