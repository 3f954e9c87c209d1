"""Scaling laws: a power law of the error per scaling rule, tested by prediction.

log(error) = a - c log(size) + misfit[size] + noise[seed], error in percent, size in parameters or
MACs. The misfit is the deviation of a model from its law, since sizes are rounded to whole blocks
and channels. It does not shrink with more seeds, so the law is fitted to the means of the sizes.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from archsearch.stats.intervals import Interval, student_interval, t_quantile
from archsearch.stats.paired_model import greatest_t, step_down

Array = NDArray[np.float64]
Rule = TypeVar("Rule", bound=Hashable)
Points = Mapping[float, Sequence[float]]
"""size -> error in percent of each seed."""

MAX_EXTRAPOLATION = 4.0
"""How many times the largest trained size a prediction may be. With an error that no size removes,
95% intervals contain the result too rarely beyond it (archsearch.benchmarks.scaling_law)."""


@dataclass(frozen=True)
class Law:
    """A fitted power law, error = exp(a) * size^-c.

    ``exponent`` is c with its interval. ``curvature`` is the coefficient of an added log(size)^2
    term; above zero the error falls more and more slowly, as if it approached a floor.
    ``deviation`` is the standard deviation of a size's mean from the law, in log(error), with
    ``degrees_of_freedom``; None for two sizes. ``notes`` state the limits of the data.
    """

    exponent: Interval
    curvature: Interval
    sizes: tuple[float, ...]
    log_errors: tuple[float, ...]
    deviation: float | None
    degrees_of_freedom: int
    level: float
    notes: tuple[str, ...]

    def log_error(self, size: float) -> float:
        """Return the logarithm of the error in percent that the law predicts at this size."""
        x = np.log(self.sizes)
        return float(np.mean(self.log_errors) - self.exponent.mean * (math.log(size) - x.mean()))

    def leverage(self, size: float) -> float:
        """Return the variance of the fitted line at this size, in ``deviation`` squared."""
        x = np.log(self.sizes)
        distance = math.log(size) - x.mean()
        return float(1 / len(x) + distance**2 / ((x - x.mean()) ** 2).sum())


@dataclass(frozen=True)
class Prediction:
    """The predicted mean error over the same number of seeds at ``size``, before it is trained."""

    size: float
    error: Interval


@dataclass(frozen=True)
class Score:
    """A prediction and the measured ``outcome``. ``miss`` is outcome - prediction, in percentage
    points of error; ``within_interval`` says whether the outcome is within the predicted interval,
    and is None if there is no interval."""

    prediction: Prediction
    outcome: float
    miss: float
    within_interval: bool | None


def fit(points: Points, level: float = 0.95) -> Law:
    """Fit a power law to the mean errors of two sizes or more.

    Only a and c are fitted. ``curvature``, from four sizes on, shows whether the points contradict
    a straight law; `archsearch.stats.floor` fits a floor from five sizes on. Intervals are exact
    (Student) if deviations from the law are normal in log(error) with one variance; the tests
    measure their coverage on synthetic data.

    Raises:
        ValueError: there are fewer than two sizes, an error is negative, or all errors of a size
            are 0.
    """
    sizes, means = means_of_sizes(points)
    x, y = np.log(sizes) - np.log(sizes).mean(), np.log(means)
    exponent = -float(x @ y / (x @ x))
    residual = y - y.mean() + exponent * x
    freedom = len(x) - 2
    deviation = math.sqrt(float(residual @ residual) / freedom) if freedom else None
    standard_error = (deviation or 0.0) / math.sqrt(float(x @ x))
    return Law(
        exponent=student_interval(exponent, standard_error, freedom, level, len(x)),
        curvature=_curvature(x, y, level),
        sizes=tuple(sizes.tolist()),
        log_errors=tuple(y.tolist()),
        deviation=deviation,
        degrees_of_freedom=freedom,
        level=level,
        notes=_limits_of_the_data(points, freedom),
    )


def predict(law: Law, size: float, furthest: float = MAX_EXTRAPOLATION) -> Prediction:
    """Predict the error of a model of this size, up to ``furthest`` times the largest trained one.

    The interval is for the mean over the seeds that the law was fitted to, so that a seed's effect
    on all sizes cancels, and includes the misfit of the new model. Two sizes give no interval.

    Raises:
        ValueError: the size is not above 0, or too far above the trained ones.
    """
    if not 0 < size <= furthest * max(law.sizes):
        raise ValueError(
            f"a size to predict must be above 0 and at most {furthest:g} times the largest trained "
            f"size, {max(law.sizes):,.0f}, got {size:,.0f}"
        )
    center, n = law.log_error(size), len(law.sizes)
    if law.deviation is None:
        return Prediction(size, Interval(math.exp(center), None, None, n, "student, log error"))
    t = t_quantile((1 + law.level) / 2, law.degrees_of_freedom)
    half = t * law.deviation * math.sqrt(1 + law.leverage(size))
    low, high = (min(100.0, math.exp(min(center + h, 700.0))) for h in (-half, half))
    return Prediction(size, Interval(math.exp(center), low, high, n, "student, log error"))


def score(prediction: Prediction, errors: Sequence[float]) -> Score:
    """Compare a prediction with the measured errors of the seeds.

    Raises:
        ValueError: there are no errors.
    """
    if not len(errors):
        raise ValueError("cannot score: the predicted size has no finished training")
    outcome = float(np.mean(errors))
    within_interval = None if prediction.error.low is None else outcome in prediction.error
    return Score(prediction, outcome, outcome - prediction.error.mean, within_interval)


@dataclass(frozen=True)
class Recommendation(Generic[Rule]):
    """The rule with the lowest predicted error at a target size, and the rules tied with it.

    ``tied`` holds ``best`` and every rule whose predicted error at ``size`` is not significantly
    higher (family-wise over all rules); ``errors`` holds the prediction of each rule. If
    ``has_single_best`` is False, ``reason`` says why the data do not determine a single best rule.
    """

    size: float
    best: Rule
    tied: tuple[Rule, ...]
    errors: Mapping[Rule, Interval]
    has_single_best: bool
    reason: str


def recommend(
    studies: Mapping[Rule, Points], size: float, level: float = 0.95, draws: int = 10_000
) -> Recommendation[Rule]:
    """Return the scaling rule with the lowest predicted error at ``size``, and the tied rules.

    ``studies`` holds the points of each rule, such as ``{(1.09, 1.36): {size: errors}}``. The rules
    are assumed to have equal misfit, which is pooled so that three sizes per rule are enough, and
    to be trained on the same seeds. If they share the smallest model, the comparison is slightly
    conservative.

    Raises:
        ValueError: there are no rules, or as `fit`.
    """
    if not studies:
        raise ValueError("no scaling rule to recommend: give the points of at least one")
    laws = {rule: fit(points, level) for rule, points in studies.items()}
    errors = {rule: predict(law, size).error for rule, law in laws.items()}
    order = sorted(errors, key=lambda rule: errors[rule].mean)
    freedom = sum(law.degrees_of_freedom for law in laws.values())
    if len(laws) < 2 or not freedom:
        reason = "there is only one rule" if len(laws) < 2 else "two sizes give no interval"
        return Recommendation(size, order[0], tuple(order), errors, False, reason)
    p = _p_values_of_best(list(laws.values()), size, freedom, draws)
    worse = {rule for rule, value in zip(laws, p, strict=True) if value <= 1 - level}
    tied = tuple(rule for rule in order if rule == order[0] or rule not in worse)
    reason = "" if len(tied) == 1 else f"{len(tied)} rules are statistically tied at this size"
    return Recommendation(size, order[0], tied, errors, len(tied) == 1, reason)


def _p_values_of_best(laws: Sequence[Law], size: float, freedom: int, draws: int) -> Array:
    """Return the adjusted p-value of "no other rule has a lower error" of each rule.

    The test is a max-t test with pooled variance.
    """
    center = np.array([law.log_error(size) for law in laws])
    h = np.array([law.leverage(size) for law in laws])
    squares = sum((law.deviation or 0.0) ** 2 * law.degrees_of_freedom for law in laws)
    rng = np.random.default_rng(0)

    def greatest(y: Array, deviation: Array) -> Array:
        return greatest_t(-y, np.broadcast_to(h, y.shape)) / deviation[:, None]

    null_deviation = np.sqrt(rng.chisquare(freedom, draws) / freedom)
    null = greatest(rng.normal(size=(draws, len(laws))) * np.sqrt(h), null_deviation)
    observed = greatest(center[None], np.array([math.sqrt(squares / freedom)]))[0]
    return step_down(observed, null)


def means_of_sizes(points: Points) -> tuple[Array, Array]:
    """Return the sizes in order and the mean error of each.

    Raises:
        ValueError: as `fit`.
    """
    problems = []
    if len(points) < 2:
        problems.append(f"a law needs two sizes, got {len(points)}")
    for size, errors in points.items():
        if size <= 0 or not len(errors):
            problems.append(f"size {size:g} must be above 0 and have errors, got {len(errors)}")
        elif not (all(math.isfinite(e) and e >= 0 for e in errors) and any(errors)):
            problems.append(
                f"errors at size {size:g} must be 0 percent or more, with a mean above 0, got "
                f"{list(errors)}"
            )
    if problems:
        raise ValueError("; ".join(problems))
    sizes = np.array(sorted(points), dtype=float)
    return sizes, np.array([np.mean(points[size]) for size in sorted(points)])


def _curvature(x: Array, y: Array, level: float) -> Interval:
    """Return the coefficient of log(size)^2; 0 without an interval below four sizes."""
    n = len(x)
    if n < 4:
        return Interval(0.0, None, None, n, "not fitted")
    coefficients, covariance = np.polyfit(x, y, 2, cov=True)
    standard_error = math.sqrt(covariance[0, 0])
    return student_interval(float(coefficients[0]), standard_error, n - 3, level, n)


def _limits_of_the_data(points: Points, freedom: int) -> tuple[str, ...]:
    counts = {len(errors) for errors in points.values()}
    notes = []
    if freedom == 0:
        notes.append("two sizes determine the line: no interval and no test")
    if freedom == 1:
        notes.append("three sizes leave one degree of freedom: intervals are very wide")
    if freedom < 2:
        notes.append("fewer than four sizes cannot show a floor or curvature")
    if counts == {1}:
        notes.append("one seed per size: the law's misfit and the seeds' noise are not separated")
    if len(counts) > 1:
        notes.append(
            f"{min(counts)} to {max(counts)} seeds per size; every size has the same weight"
        )
    return tuple(notes)
