"""How sure can one be? Intervals and comparisons for success rates and returns, paired scene by scene.

Scenes of one task resemble each other, so the independent unit is the *task* (a cluster): an interval says where the
mean over all tasks of this kind may lie, given those that were met. What belongs to a task stays together: its scenes,
and the training seeds whose attempts are pooled there. Seeds are therefore not resampled: an interval is about *these*
trained policies on other tasks, and each seed's own mean stands beside it in every row. A crashed or diverged attempt
is a failure and belongs into every count; 0 of 0 has no rate.

One interval for each kind of number, all with Student's t for the number of clusters:

- rates, and differences of rates (``rate_interval``): Wilson's score interval for as many independent attempts as the
  spread of the tasks is worth (the effective sample size of Korn & Graubard 1998, "Confidence intervals for
  proportions with small expected number of positive counts estimated from cluster survey data");
- means of returns, and ratios (``mean_interval``, ``ratio_interval``): Student's interval, on the side of the longer
  tail with the correction of Johnson 1978, "Modified t tests and confidence intervals for asymmetrical populations".

Measured (``python benchmarks/interval_coverage.py``, which names the populations): with 10, 16 or 40 tasks the 95 %
intervals of rates cover 94.3 % or more in each of 36 populations (tasks alike, spread, all or none, mostly at 97 % with
a few at 50 %) and 97 to 98 % on average, those of differences 94.8 % or more, those of returns and ratios 94.2 % or
more. What no interval can know is a kind of task that was not met: where one task in ten is 50 points off and all
others are alike, the worst is 85 % (16 tasks, 72 scenes each). Looking again while scenes are added raises false alarms
from at most 4 % in one look to 12 % in nine.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import binomtest, permutation_test, skew
from scipy.stats import t as student

from watchtrylearn.types import WtlError

METHOD = "score interval over clusters, Student's t"  # what a result document says its intervals are
SPREAD = 0.06  # tasks that were not met may differ from those that were: this is added to their spread
RESAMPLES = 9999
ROUNDING = 1e-12  # of the largest value: means of hundreds of values may differ by this much though they are equal

Interval = tuple[float, float]
Values = Sequence[bool] | Sequence[int] | Sequence[float] | np.ndarray
Labels = Sequence[Hashable] | np.ndarray


def rate_interval(
    values: Values, clusters: Labels, confidence: float = 0.95, bounds: Interval = (0.0, 1.0)
) -> Interval:
    """An interval for the mean of ``values`` that holds for new clusters; it always has a width.

    ``values[i]`` (a success, or within ``bounds`` (-1, 1) a difference of two) was observed in ``clusters[i]`` (a
    task). Equal clusters are not certainty: a spread of ``SPREAD`` is added to theirs, and at a rate of 0 or 1 a task
    counts as one attempt. One cluster tells nothing of others: its interval is ``bounds``.

    Raises ``WtlError`` for no values, or one outside ``bounds``.
    """
    sums, counts = _per_cluster(values, clusters, bounds)
    tasks = len(sums)
    if tasks == 1:
        return bounds
    low, width = bounds[0], bounds[1] - bounds[0]
    mean, deviations = _ratio(sums, counts)
    rate = (mean - low) / width
    # no mean of values within the bounds varies more than rate * (1 - rate): then a task is worth one attempt
    attempts = tasks * max(1.0, rate * (1 - rate) * width**2 / (float(deviations.var(ddof=1)) + SPREAD**2))
    ends = wilson(rate, attempts, _quantile(confidence, tasks))
    return low + width * ends[0], low + width * ends[1]


def wilson(rate: float, attempts: int | float, quantile: float) -> Interval:
    """Wilson's score interval: the rates ``p`` with ``|rate - p| <= quantile * sqrt(p (1 - p) / attempts)``."""
    weight = quantile**2 / attempts
    centre = (rate + weight / 2) / (1 + weight)
    reach = math.sqrt(weight * rate * (1 - rate) + weight**2 / 4) / (1 + weight)
    return max(0.0, min(rate, centre - reach)), min(1.0, max(rate, centre + reach))  # whatever rounding does


def mean_interval(values: Values, clusters: Labels, confidence: float = 0.95) -> Interval | None:
    """An interval for the mean of ``values`` without bounds (returns) that holds for new clusters.

    None where the clusters' means differ by no more than rounding, or there is only one: then nothing tells how far off
    another may be.
    """
    sums, counts = _per_cluster(values, clusters)
    alike = np.ptp(sums / counts) <= ROUNDING * np.abs(np.asarray(values, dtype=float)).max()
    return None if alike else _student(sums, counts, confidence)


def ratio_interval(above: Values, below: Values, clusters: Labels, confidence: float = 0.95) -> Interval:
    """An interval for sum(``above``) / sum(``below``), both observed in ``clusters``, that holds for new clusters.

    Raises ``WtlError`` if the mean of ``below`` is within four standard errors of 0 (a ratio to that means nothing),
    and if no two clusters differ: then nothing tells how far another one might be off.
    """
    top, bottom = (_per_cluster(values, clusters)[0] for values in (above, below))
    if abs(bottom.mean()) <= 4 * bottom.std() / math.sqrt(len(bottom)):
        raise WtlError("a ratio needs a denominator that is clearly not 0")
    if np.ptp(top * bottom[0] - bottom * top[0]) <= ROUNDING * np.abs(top * bottom[0]).max():
        raise WtlError(f"{len(top)} clusters with the same ratio give no interval")
    return _student(top, bottom, confidence)


def _student(above: Float[np.ndarray, "cluster"], below: Float[np.ndarray, "cluster"], confidence: float) -> Interval:
    """Student's t interval of sum(above) / sum(below), which reaches further to the side of the longer tail."""
    ratio, deviations = _ratio(above, below)
    quantile, error = _quantile(confidence, len(above)), float(deviations.std(ddof=1)) / math.sqrt(len(above))
    tail = error * float(skew(deviations)) * (1 + 2 * quantile**2) / (6 * math.sqrt(len(above)))
    return ratio - quantile * error + min(0.0, tail), ratio + quantile * error + max(0.0, tail)


def _ratio(
    above: Float[np.ndarray, "cluster"], below: Float[np.ndarray, "cluster"]
) -> tuple[float, Float[np.ndarray, "cluster"]]:
    """sum(above) / sum(below), and by how much each cluster moves it (their mean is 0). Of counts it is a mean."""
    ratio = float(above.sum() / below.sum())
    return ratio, (above - ratio * below) / below.mean()


def _quantile(confidence: float, clusters: int) -> float:
    """How many standard errors an interval reaches to either side."""
    return float(student.ppf((1 + confidence) / 2, clusters - 1))


def _per_cluster(
    values: Values, clusters: Labels, bounds: Interval = (-math.inf, math.inf)
) -> tuple[Float[np.ndarray, "cluster"], Float[np.ndarray, "cluster"]]:
    """The sum of the values in each cluster, and how many there are."""
    numbers = np.asarray(values, dtype=float)
    if len(numbers) == 0 or len(numbers) != len(clusters):
        raise WtlError(f"{len(numbers)} values in {len(clusters)} places have no mean")
    if not ((numbers >= bounds[0]) & (numbers <= bounds[1])).all():
        raise WtlError(f"a value is not a number within {list(bounds)}")
    row_of = {cluster: row for row, cluster in enumerate(dict.fromkeys(clusters))}
    rows = [row_of[cluster] for cluster in clusters]
    return np.bincount(rows, weights=numbers), np.bincount(rows).astype(float)


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same scenes.

    Attributes:
        difference, interval: success rate of the first minus the second, and its interval over tasks.
        only_first, only_second: scenes in which only that method succeeded.
        p_scenes: exact McNemar test, two-sided: are those two numbers like heads and tails? Valid if the
            scenes are independent.
        p_tasks: sign-flip test over tasks, two-sided, exact up to the number of resamples: valid however
            much the scenes of a task resemble each other.
        n, tasks: scenes and tasks compared.
    """

    difference: float
    interval: Interval
    only_first: int
    only_second: int
    p_scenes: float
    p_tasks: float
    n: int
    tasks: int


def paired_comparison(
    first: Values,
    second: Values,
    clusters: Labels,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two methods by their outcomes ``first[i]`` and ``second[i]`` in the same scene ``i``.

    ``clusters[i]`` is the task of scene ``i``.
    """
    if not len(first) == len(second) == len(clusters):
        raise WtlError(f"outcomes in {len(first)}, {len(second)} and {len(clusters)} scenes cannot be paired")
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    sums, _ = _per_cluster(difference, clusters)
    more, less = int((difference > 0).sum()), int((difference < 0).sum())
    return Comparison(
        difference=float(difference.mean()),
        interval=rate_interval(difference, clusters, confidence, (-1.0, 1.0)),
        only_first=more,
        only_second=less,
        p_scenes=float(binomtest(more, more + less).pvalue) if more + less else 1.0,
        p_tasks=_sign_flip(sums, rng),
        n=len(difference),
        tasks=len(sums),
    )


def _sign_flip(sums: Float[np.ndarray, "cluster"], rng: np.random.Generator) -> float:
    """If the two methods were alike, the sign of each task's difference would be a coin flip."""
    moved = sums[sums != 0]
    if len(moved) < 2:
        return 1.0  # one flip can go either way: no evidence
    test = permutation_test(
        (moved,),
        lambda flipped, axis: flipped.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=rng,
    )
    return float(test.pvalue)
