"""How the error falls with size: a power law per scaling rule, tested by prediction.

log(error) = a - c log(size) + misfit[size] + noise[seed], error in percent, size in parameters or
MACs. The misfit is a model that lies off its own law (sizes are rounded to whole blocks and
channels); it does not shrink with more seeds, so the sizes' means are what the fit counts.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats as sps

from archsearch.stats.intervals import Interval
from archsearch.stats.ranking import step_down

Array = NDArray[np.float64]
Rule = TypeVar("Rule", bound=Hashable)
Points = Mapping[float, Sequence[float]]
"""size -> error in percent of each seed."""


@dataclass(frozen=True)
class Law:
    """A fitted power law, error = exp(a) * size^-c.

    ``exponent`` is c with its interval. ``bend`` is the coefficient of log(size)^2 if one is
    added: above zero, the error falls ever more slowly, as towards a floor. ``deviation`` is the
    standard deviation of a size's mean about the law, in log(error), with ``freedom`` degrees of
    freedom; None where the points cannot show it. ``notes`` says what they cannot bear.
    """

    exponent: Interval
    bend: Interval
    sizes: tuple[float, ...]
    log_errors: tuple[float, ...]
    deviation: float | None
    freedom: int
    level: float
    notes: tuple[str, ...]

    def log_error(self, size: float) -> float:
        x = np.log(self.sizes)
        return float(np.mean(self.log_errors) - self.exponent.mean * (math.log(size) - x.mean()))

    def leverage(self, size: float) -> float:
        """Variance of the fitted line at this size, in units of ``deviation`` squared."""
        x = np.log(self.sizes)
        away = math.log(size) - x.mean()
        return float(1 / len(x) + away**2 / ((x - x.mean()) ** 2).sum())


@dataclass(frozen=True)
class Prediction:
    """The error that the mean over as many seeds should show at ``size``, said beforehand."""

    size: float
    error: Interval


@dataclass(frozen=True)
class Score:
    """A prediction beside what came: ``inside`` its interval? ``miss`` is outcome - predicted,
    in percent points of error; ``inside`` is None if no interval could be predicted."""

    prediction: Prediction
    outcome: float
    miss: float
    inside: bool | None


def fit(points: Points, level: float = 0.95) -> Law:
    """Fit a power law to the mean errors of two sizes or more.

    Two numbers are fitted, a and c: three to five sizes cannot also tell the floor of
    error = floor + b size^-c from a small exponent, so the floor is not fitted; instead ``bend``
    says whether the points contradict a straight law, from four sizes on. Intervals are exact
    (Student) if deviations from the law are normal in log(error) with one variance; measured
    coverage on synthetic truth is in the tests.

    Raises:
        ValueError: for fewer than two sizes, or errors that are not above 0.
    """
    sizes, means = _means(points)
    x, y = np.log(sizes) - np.log(sizes).mean(), np.log(means)
    exponent = -float(x @ y / (x @ x))
    residual = y - y.mean() + exponent * x
    freedom = len(x) - 2
    deviation = math.sqrt(float(residual @ residual) / freedom) if freedom else None
    slope = _student(exponent, deviation, float(x @ x), freedom, level, len(x))
    return Law(
        exponent=slope,
        bend=_bend(x, y, level),
        sizes=tuple(sizes.tolist()),
        log_errors=tuple(y.tolist()),
        deviation=deviation,
        freedom=freedom,
        level=level,
        notes=_cannot_bear(points, freedom),
    )


def predict(law: Law, size: float) -> Prediction:
    """What a model of this size should reach, before it is trained.

    The interval covers the mean over the same seeds as the law was fitted to (a seed's effect on
    all sizes then cancels), the new model's own misfit included. No interval from two sizes.

    Raises:
        ValueError: for a size that is not positive.
    """
    if size <= 0:
        raise ValueError(f"a size to predict must be above 0, got {size}")
    centre, n = law.log_error(size), len(law.sizes)
    if law.deviation is None:
        return Prediction(size, Interval(math.exp(centre), None, None, n, "student, log error"))
    t = float(sps.t.ppf((1 + law.level) / 2, law.freedom))
    half = t * law.deviation * math.sqrt(1 + law.leverage(size))
    low, high = (min(100.0, math.exp(min(centre + h, 700.0))) for h in (-half, half))
    return Prediction(size, Interval(math.exp(centre), low, high, n, "student, log error"))


def score(prediction: Prediction, errors: Sequence[float]) -> Score:
    """Set a prediction beside the errors that came.

    Raises:
        ValueError: without errors.
    """
    if not len(errors):
        raise ValueError("nothing to score: the predicted size has no finished training")
    outcome = float(np.mean(errors))
    known = prediction.error.low is not None
    inside = outcome in prediction.error if known else None
    return Score(prediction, outcome, outcome - prediction.error.mean, inside)


@dataclass(frozen=True)
class Recommendation(Generic[Rule]):
    """Which (alpha, beta) to scale by for a target size, and how sure that is.

    ``tied`` holds ``best`` and every rule whose law is not shown to promise a higher error at
    ``size`` (family-wise over all rules); ``errors`` what each promises. If ``sure`` is False,
    ``reason`` says why there is no choice to make yet.
    """

    size: float
    best: Rule
    tied: tuple[Rule, ...]
    errors: Mapping[Rule, Interval]
    sure: bool
    reason: str


def recommend(
    studies: Mapping[Rule, Points], size: float, level: float = 0.95, draws: int = 10_000
) -> Recommendation[Rule]:
    """The scaling rule whose law promises the lowest error at ``size``, with its rivals.

    ``studies`` gives the points of each rule, say ``{(1.09, 1.36): {size: errors}}``. The misfit
    is taken as equal for all rules and pooled over them, which is what makes three sizes a rule
    enough, and the rules as trained on the same seeds. A start that they share makes the
    comparison a little too careful.

    Raises:
        ValueError: without rules, or for points that `fit` refuses.
    """
    if not studies:
        raise ValueError("no scaling rule to recommend: give the points of one at least")
    laws = {rule: fit(points, level) for rule, points in studies.items()}
    errors = {rule: predict(law, size).error for rule, law in laws.items()}
    order = sorted(errors, key=lambda rule: errors[rule].mean)
    freedom = sum(law.freedom for law in laws.values())
    if len(laws) < 2 or not freedom:
        reason = "one rule alone has no rival" if len(laws) < 2 else "two sizes show no deviation"
        return Recommendation(size, order[0], tuple(order), errors, False, reason)
    p = _chance_of_best(list(laws.values()), size, freedom, draws)
    shown = {rule for rule, value in zip(laws, p, strict=True) if value <= 1 - level}
    tied = tuple(rule for rule in order if rule == order[0] or rule not in shown)
    reason = "" if len(tied) == 1 else f"{len(tied)} rules cannot be told apart at this size"
    return Recommendation(size, order[0], tied, errors, len(tied) == 1, reason)


def _chance_of_best(laws: Sequence[Law], size: float, freedom: int, draws: int) -> Array:
    """Adjusted p-value of "no other rule promises less error", per rule (max-t, pooled)."""
    centre = np.array([law.log_error(size) for law in laws])
    h = np.array([law.leverage(size) for law in laws])
    squares = sum((law.deviation or 0.0) ** 2 * law.freedom for law in laws)
    se = np.sqrt(h[:, None] + h)
    rng = np.random.default_rng(0)

    def greatest(y: Array, deviation: Array) -> Array:
        t = (y[:, :, None] - y[:, None, :]) / (deviation[:, None, None] * se)
        return np.asarray(t.max(2))

    null_deviation = np.sqrt(rng.chisquare(freedom, draws) / freedom)
    null = greatest(rng.normal(size=(draws, len(laws))) * np.sqrt(h), null_deviation)
    seen = greatest(centre[None], np.array([math.sqrt(squares / freedom)]))[0]
    return step_down(seen, null)


def _means(points: Points) -> tuple[Array, Array]:
    problems = []
    if len(points) < 2:
        problems.append(f"a law needs two sizes, got {len(points)}")
    for size, errors in points.items():
        if size <= 0 or not len(errors):
            problems.append(f"size {size:g} must be above 0 and have errors, got {len(errors)}")
        elif not all(math.isfinite(e) and e > 0 for e in errors):
            problems.append(f"errors at size {size:g} must be above 0 percent, got {list(errors)}")
    if problems:
        raise ValueError("; ".join(problems))
    sizes = np.array(sorted(points), dtype=float)
    return sizes, np.array([np.mean(points[size]) for size in sorted(points)])


def _student(
    value: float, deviation: float | None, information: float, freedom: int, level: float, n: int
) -> Interval:
    if deviation is None:
        return Interval(value, None, None, n, "student")
    half = float(sps.t.ppf((1 + level) / 2, freedom)) * deviation / math.sqrt(information)
    return Interval(value, value - half, value + half, n, "student")


def _bend(x: Array, y: Array, level: float) -> Interval:
    """The coefficient of log(size)^2, 0 without an interval below four sizes."""
    n = len(x)
    if n < 4:
        return Interval(0.0, None, None, n, "not fitted")
    design = np.vander(x, 3)
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ y
    residual = y - design @ coefficients
    deviation = math.sqrt(float(residual @ residual) / (n - 3))
    return _student(float(coefficients[0]), deviation, 1 / inverse[0, 0], n - 3, level, n)


def _cannot_bear(points: Points, freedom: int) -> tuple[str, ...]:
    counts = {len(errors) for errors in points.values()}
    notes = []
    if freedom == 0:
        notes.append("two sizes fix the line: no interval, nothing is tested")
    if freedom == 1:
        notes.append("three sizes leave one degree of freedom: intervals are very wide")
    if freedom < 2:
        notes.append("a floor or a bend cannot be told below four sizes")
    if counts == {1}:
        notes.append("one seed per size: the law's misfit and the seeds' noise are not told apart")
    if len(counts) > 1:
        notes.append(f"{min(counts)} to {max(counts)} seeds a size, each size weighs the same")
    return tuple(notes)
