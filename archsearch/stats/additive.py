"""Effects of the numbers of a grid: an additive model over all its cells, with seeds as blocks.

Errors: where the effect of a factor differs from seed to seed, the seeds and not the trainings are
its repeats. Such an interaction shows if its mean square exceeds that of the residuals, so that
its estimated variance is positive. The contrasts of that factor then have standard errors
clustered by seed, unbiased under equal noise, with Satterthwaite's degrees of freedom (Bell and
McCaffrey 2002). With all cells on all seeds these are the mean of the seeds' own estimates, and
Student's t with as many degrees of freedom as seeds, less one. The other contrasts have the
residual error. ``python -m archsearch.benchmarks.effects`` measures the coverage.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from archsearch.stats.additive_design import AdditiveDesign, Array, Factors, Kind, LevelContrast
from archsearch.stats.intervals import Interval, student_interval
from archsearch.stats.p_values import f_tail, holm, t_tails
from archsearch.stats.paired_model import paired_model

if TYPE_CHECKING:
    from statsmodels.regression.linear_model import RegressionResults

Errors = Literal["chosen", "residual", "clustered"]


@dataclass(frozen=True, kw_only=True)
class ContrastEstimate:
    """The estimate of a `LevelContrast`, with its standard error.

    ``holm_p_value`` is adjusted over the trends of the fit, or over its steps (Holm 1979). If only
    one seed measures the contrast, errors clustered by seed are unknown: ``standard_error`` is
    None, there are no degrees of freedom, and the p-value is 1.
    """

    factor: str
    kind: Kind
    low: Any
    high: Any
    estimate: float
    standard_error: float | None
    degrees_of_freedom: float
    p_value: float
    holm_p_value: float = 1.0

    def interval(self, level: float, n: int) -> Interval:
        """Return Student's interval, not adjusted; ``n`` is the number of values behind it."""
        error = self.standard_error or 0.0
        return student_interval(self.estimate, error, self.degrees_of_freedom, level, n)


@dataclass(frozen=True, kw_only=True)
class MainEffect:
    """The test of "all levels of this factor are equally good".

    ``interaction_f`` is the mean square of factor by seed over the residual one, with its p-value;
    None if the two cannot be separated. With ``clustered`` errors the test divides by the mean
    square of factor by seed. ``holm_p_value`` is adjusted over the factors.
    """

    factor: str
    levels: tuple[Any, ...]
    p_value: float
    interaction_f: float | None
    interaction_p_value: float | None
    clustered: bool
    holm_p_value: float = 1.0


@dataclass(frozen=True, kw_only=True)
class AdditiveFit:
    """The effects of all factors: trends, steps, and tests of all levels of a factor.

    ``deviation`` is the residual standard deviation, with ``degrees_of_freedom``, beside the
    interactions with the seed that show. ``lack_of_fit`` is the p-value of "no factor interacts
    with another one", None if no degrees of freedom are left to test it. ``not_estimable`` are the
    contrasts that these cells cannot separate from other factors.
    """

    main_effects: tuple[MainEffect, ...]
    trends: tuple[ContrastEstimate, ...]
    steps: tuple[ContrastEstimate, ...]
    deviation: float
    degrees_of_freedom: int
    lack_of_fit: float | None
    not_estimable: tuple[LevelContrast, ...]
    num_values: int
    num_cells: int
    num_seeds: int


def fit_additive(
    values: Sequence[float],
    factors: Factors,
    seeds: Sequence[Hashable],
    errors: Errors = "chosen",
) -> AdditiveFit:
    """Return the effects of the factors on the values (N,), with seeds (N,) as blocks.

    ``factors`` maps a name to the level of each value; a factor with one level is left out.
    ``errors`` is one kind of error for all factors, instead of the choice by factor.

    Raises:
        ValueError: lengths differ, a value is not finite, there are fewer than two seeds, no factor
            has two levels, or the values show no noise, because they are too few or exact.
    """
    return fit_design(values, AdditiveDesign(factors, seeds), errors)


def fit_design(
    values: Sequence[float], design: AdditiveDesign, errors: Errors = "chosen"
) -> AdditiveFit:
    """Return the effects as `fit_additive`, for a design that may be used for many values.

    Raises:
        ValueError: another number of values, one is not finite, or they show no noise.
    """
    y = np.asarray(values, dtype=float)
    if len(y) != len(design.by_seed) or not np.isfinite(y).all():
        raise ValueError(f"one finite value per level is needed, got {list(values)}")
    fit = _Fit(design, y, errors)
    if fit.additive.df_resid < 1 or fit.additive.ssr <= 1e-18 * float(y @ y):
        raise ValueError("the noise is unknown: the additive model leaves no residuals")
    return fit.result()


class _Fit:
    """The least squares of one vector of values under nested models."""

    def __init__(self, design: AdditiveDesign, y: Array, errors: Errors) -> None:
        self.design, self.y, self.errors = design, y, errors
        self.additive = self._with_seed_by()

    def _least_squares(self, independent_columns: Array) -> "RegressionResults":
        from statsmodels.regression.linear_model import OLS

        return OLS(self.y, independent_columns).fit()

    def _with_seed_by(self, *factors: str) -> "RegressionResults":
        """Fit the additive model with the interactions of these factors with the seed."""
        return self._least_squares(self.design.with_seed_by(frozenset(factors)))

    @cached_property
    def saturated(self) -> "RegressionResults":
        """The model with the interaction of every factor with the seed."""
        return self._with_seed_by(*self.design.levels)

    @cached_property
    def interactions(self) -> dict[str, tuple[float, int]]:
        """Factor -> mean square of factor by seed beside all others, and degrees of freedom."""
        names = tuple(self.design.levels)
        smaller = {name: self._with_seed_by(*(n for n in names if n != name)) for name in names}
        return {name: _mean_square(fit, self.saturated) for name, fit in smaller.items()}

    def interaction_test(self, factor: str) -> tuple[float, float] | None:
        """Return F and p-value of factor by seed; None if it cannot be separated."""
        (square, freedom), (noise, rest) = (
            self.interactions[factor],
            _residual_variance(self.saturated),
        )
        if not (freedom and rest and noise):
            return None
        return square / noise, f_tail(square, noise, freedom, rest)

    @cached_property
    def clustered(self) -> set[str]:
        """The factors whose errors are clustered by seed."""
        names = {name for name in self.design.levels if self.interactions[name][1]}
        if self.errors == "chosen":
            tests = {name: self.interaction_test(name) for name in names}
            return {name for name, test in tests.items() if test is not None and test[0] > 1}
        return names if self.errors == "clustered" else set()

    @cached_property
    def residual(self) -> tuple[float, int]:
        """The variance beside the interactions that show, and its degrees of freedom."""
        return _residual_variance(self._with_seed_by(*self.clustered))

    def error(self, factor: str, weights: Array) -> tuple[float | None, float]:
        """Return the standard error of a weighted sum of values, and its degrees of freedom."""
        if factor in self.clustered:
            return self._clustered_error(weights)
        variance, freedom = self.residual
        return float(np.sqrt(variance * (weights @ weights))), freedom

    def _clustered_error(self, weights: Array) -> tuple[float | None, float]:
        parts, q = (weights[:, None] * self.design.by_seed).T, self.additive.model.exog
        squares = float(((parts @ self.additive.resid) ** 2).sum())
        residuals = parts - (parts @ q) @ q.T  # (S, N): how residuals depend on values
        products = residuals @ residuals.T
        trace = float(np.trace(products))
        if trace < 1e-9 * float(weights @ weights):  # one seed alone measures it
            return None, 0.0
        freedom = trace**2 / float((products**2).sum())
        return float(np.sqrt(squares * (weights @ weights) / trace)), freedom

    def main_effect(self, factor: str) -> MainEffect:
        """Return the F test of a factor."""
        without = self._least_squares(self.design.without(factor))
        square, freedom = _mean_square(without, self.additive)
        is_clustered, test = factor in self.clustered, self.interaction_test(factor)
        noise, rest = self.interactions[factor] if is_clustered else self.residual
        return MainEffect(
            factor=factor,
            levels=self.design.levels[factor],
            p_value=f_tail(square, noise, freedom, rest),
            interaction_f=test and test[0],
            interaction_p_value=test and test[1],
            clustered=is_clustered,
        )

    def contrast(self, planned: LevelContrast) -> ContrastEstimate:
        """Return the estimate of a contrast."""
        assert planned.weights is not None, "only estimable contrasts"
        estimate = float(planned.weights @ self.y)
        error, freedom = self.error(planned.factor, planned.weights)
        return ContrastEstimate(
            factor=planned.factor,
            kind=planned.kind,
            low=planned.low,
            high=planned.high,
            estimate=estimate,
            standard_error=error,
            degrees_of_freedom=freedom,
            p_value=t_tails(estimate, error, freedom),
        )

    def lack_of_fit(self) -> float | None:
        """Return the p-value of "no factor interacts with another one"."""
        cells = paired_model(self.design.cells_and_seeds)
        squares = float((cells.fit(self.y[None])[1] ** 2).sum())
        rest = round(cells.degrees_of_freedom.sum())
        freedom = round(self.additive.df_resid) - rest
        if not (freedom and rest and squares):
            return None
        square = max(0.0, float(self.additive.ssr) - squares) / freedom
        return f_tail(square, squares / rest, freedom, rest)

    def result(self) -> AdditiveFit:
        """Return all effects; p-values are adjusted within each kind."""
        main = [self.main_effect(factor) for factor in self.design.levels]
        planned = self.design.contrasts
        contrasts = [self.contrast(c) for c in planned if c.weights is not None]
        variance, freedom = self.residual
        return AdditiveFit(
            main_effects=_with_holm(main),
            trends=_with_holm([c for c in contrasts if c.kind == "trend"]),
            steps=_with_holm([c for c in contrasts if c.kind == "step"]),
            deviation=float(np.sqrt(variance)),
            degrees_of_freedom=freedom,
            lack_of_fit=self.lack_of_fit(),
            not_estimable=tuple(c for c in planned if c.weights is None),
            num_values=len(self.y),
            num_cells=self.design.num_cells,
            num_seeds=len(self.design.seeds),
        )


def _residual_variance(fit: "RegressionResults") -> tuple[float, int]:
    """Return the residual variance of a fit and its degrees of freedom; zeros without any."""
    freedom = round(fit.df_resid)
    return (float(fit.ssr) / freedom, freedom) if freedom else (0.0, 0)


def _mean_square(smaller: "RegressionResults", larger: "RegressionResults") -> tuple[float, int]:
    """Return the mean square by which the larger of two nested models fits better."""
    freedom = round(smaller.df_resid - larger.df_resid)
    return (max(0.0, float(smaller.ssr - larger.ssr)) / freedom, freedom) if freedom else (0.0, 0)


Test = TypeVar("Test", ContrastEstimate, MainEffect)


def _with_holm(tests: Sequence[Test]) -> tuple[Test, ...]:
    """Return the tests with their p-values adjusted together."""
    adjusted = holm({i: test.p_value for i, test in enumerate(tests)})
    return tuple(replace(test, holm_p_value=adjusted[i]) for i, test in enumerate(tests))
