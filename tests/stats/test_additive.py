"""Effects by an additive model: against a formula's fit, seeds one by one, and published values."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.multitest import multipletests

from archsearch.results import load
from archsearch.stats.additive import AdditiveFit, fit_additive
from archsearch.stats.intervals import interval

PUBLISHED = Path(__file__).parents[2] / "studies/results/grid-2.2M-cifar10"
CELLS = [(a, b) for a in (1, 2, 3) for b in (10, 20)]


def grid(seeds: int = 3, missing: int = 0, scale: float = 1.0, start: int = 4) -> pd.DataFrame:
    """Return values of a 3 x 2 grid in which ``a`` adds 1 a step; the last values are missing."""
    rng = np.random.default_rng(start)
    rows = [(a, b, s, a + rng.normal(0, scale) + s) for a, b in CELLS for s in range(seeds)]
    return pd.DataFrame(rows[: len(rows) - missing], columns=["a", "b", "s", "y"])


def fit(frame: pd.DataFrame, **changes) -> AdditiveFit:
    factors = {name: frame[name].tolist() for name in ("a", "b")}
    return fit_additive(frame.y.tolist(), factors, frame.s.tolist(), **changes)


def by(effects):
    return {(e.factor, e.low, e.high): e for e in effects}


@pytest.mark.parametrize("missing", [0, 2])
def test_steps_and_errors_are_those_of_a_formula(missing: int) -> None:
    frame = grid(missing=missing)
    ours = fit(frame, errors="residual")
    expected = smf.ols("y ~ C(a, Diff) + C(b) + C(s)", frame).fit()
    steps = by(ours.steps)
    for key, name in {
        ("a", 1, 2): "C(a, Diff)[D.1]", ("a", 2, 3): "C(a, Diff)[D.2]", ("b", 10, 20): "C(b)[T.20]"
    }.items():  # fmt: skip
        assert steps[key].estimate == pytest.approx(expected.params[name])
        assert steps[key].standard_error == pytest.approx(expected.bse[name])
        assert steps[key].p_value == pytest.approx(expected.pvalues[name])
        ends = steps[key].interval(0.95, 18)
        assert (ends.low, ends.high) == pytest.approx(tuple(expected.conf_int().loc[name]))
    assert ours.deviation == pytest.approx(expected.mse_resid**0.5)
    assert ours.degrees_of_freedom == expected.df_resid
    without = smf.ols("y ~ C(b) + C(s)", frame).fit()
    main = {e.factor: e for e in ours.main_effects}
    assert main["a"].p_value == pytest.approx(expected.compare_f_test(without)[1])
    cells = smf.ols("y ~ C(a) * C(b) + C(s)", frame).fit()
    assert ours.lack_of_fit == pytest.approx(cells.compare_f_test(expected)[1])


def test_a_slope_is_the_trend_over_the_levels() -> None:
    frame = grid()
    trend = by(fit(frame, errors="residual").trends)["a", 1, 3]
    means = frame.groupby("a").y.mean()
    assert trend.estimate == pytest.approx((means[3] - means[1]) / 2)
    two = by(fit(frame).trends)["b", 10, 20], by(fit(frame).steps)["b", 10, 20]
    assert two[0].estimate == pytest.approx(two[1].estimate)


def test_clustered_errors_are_those_of_the_estimates_of_single_seeds() -> None:
    frame = grid(5)
    clustered = by(fit(frame, errors="clustered").steps)["a", 1, 2]
    table = frame.pivot_table(index="a", columns="s", values="y")
    expected = interval((table.loc[2] - table.loc[1]).tolist())
    assert clustered.degrees_of_freedom == pytest.approx(4)
    assert clustered.estimate == pytest.approx(expected.mean)
    assert clustered.interval(0.95, 5).half_width == pytest.approx(expected.half_width)
    formula = smf.ols("y ~ C(a, Diff) + C(b) + C(s)", frame)
    robust = formula.fit(cov_type="cluster", cov_kwds={"groups": frame.s, "use_correction": False})
    assert clustered.standard_error == pytest.approx(robust.bse["C(a, Diff)[D.1]"] * (5 / 4) ** 0.5)


def test_a_seed_with_few_cells_counts_less_than_a_degree_of_freedom() -> None:
    frame = grid(4)
    few = frame[(frame.s < 3) | (frame.a == 1)]  # seed 3 says nothing about a
    step = by(fit(few, errors="clustered").steps)["a", 2, 3]
    assert step.degrees_of_freedom == pytest.approx(2)


def test_one_seed_alone_has_no_error_clustered_by_seed() -> None:
    """Levels 3 and 4 of ``a`` are on seed 0 only."""
    more = grid(1).assign(a=lambda frame: frame.a + 3)
    frame = pd.concat([grid(4), more[more.a == 4]])
    alone = frame[(frame.s == 0) | (frame.a < 3)]
    step = by(fit(alone, errors="clustered").steps)["a", 3, 4]
    assert (step.standard_error, step.degrees_of_freedom, step.p_value) == (None, 0.0, 1.0)
    assert step.interval(0.95, 3).half_width is None
    assert by(fit(alone, errors="residual").steps)["a", 3, 4].standard_error > 0


def test_seeds_that_agree_exactly_leave_no_doubt() -> None:
    frame = grid(3)
    frame["y"] = frame.a + (frame.b == 20) * frame.s  # only the effect of b depends on the seed
    step = by(fit(frame, errors="clustered").steps)["a", 1, 2]
    assert step.estimate == pytest.approx(1)
    assert step.p_value < 1e-6


def test_errors_are_clustered_where_an_interaction_with_the_seed_shows() -> None:
    frame = grid(4, scale=0.5, start=3)
    shifts = np.random.default_rng(1).normal(0, 3, (4, 4))
    frame["y"] += [shifts[a, s] for a, s in zip(frame.a, frame.s, strict=True)]
    main = {e.factor: e for e in fit(frame).main_effects}
    assert main["a"].clustered
    assert main["a"].interaction_p_value < 0.01
    steps = by(fit(frame).steps)
    assert steps["a", 1, 2].degrees_of_freedom == pytest.approx(3)
    assert not main["b"].clustered
    assert steps["b", 10, 20].degrees_of_freedom > 3
    # The interaction of a is no noise of b, whose error is that of the formula with it.
    formula = smf.ols("y ~ C(a) * C(s) + C(b)", frame).fit()
    assert steps["b", 10, 20].standard_error == pytest.approx(formula.bse["C(b)[T.20]"])
    # The test of a clustered factor divides by the mean square of factor by seed.
    squares = 2 * frame.pivot_table(index="a", columns="s", values="y").to_numpy()
    rest = squares - squares.mean(0) - squares.mean(1, keepdims=True) + squares.mean()
    f = 4 * squares.mean(1).var(ddof=1) / ((rest**2).sum() / 6)
    from scipy.stats import f as f_distribution

    assert main["a"].p_value == pytest.approx(f_distribution.sf(f, 2, 6))


def test_holm_is_within_each_kind() -> None:
    ours = fit(grid())
    for tests in (ours.main_effects, ours.trends, ours.steps):
        expected = multipletests([t.p_value for t in tests], method="holm")[1]
        assert [t.holm_p_value for t in tests] == pytest.approx(expected.tolist())


def test_an_interaction_of_factors_is_lack_of_fit() -> None:
    frame = grid(scale=0.1)
    assert fit(frame).lack_of_fit > 0.05
    frame["y"] += (frame.a == 3) & (frame.b == 20)
    assert fit(frame).lack_of_fit < 0.001
    pairs = frame[(frame.b == 10) | (frame.a == 1)]  # a cross: nothing is left to test it
    assert fit(pairs).lack_of_fit is None


def test_factors_that_change_together_cannot_be_separated() -> None:
    frame = grid()
    together = frame[(frame.a == 3) == (frame.b == 20)]
    ours = fit(together)
    assert set(by(ours.steps)) == {("a", 1, 2)}
    assert {(c.factor, c.kind) for c in ours.not_estimable} == {
        ("a", "trend"), ("a", "step"), ("b", "trend"), ("b", "step")
    }  # fmt: skip


def test_wrong_input_is_refused_with_all_its_problems() -> None:
    with pytest.raises(ValueError, match="two seeds are needed, got 1; a factor with two levels"):
        fit_additive([1.0, 2.0], {"a": [1, 1]}, [0, 0])
    with pytest.raises(ValueError, match=r"one length are needed, got {'a': 3, 'seeds': 2}"):
        fit_additive([1.0, 2.0], {"a": [1, 2, 3]}, [0, 1])
    with pytest.raises(ValueError, match="one finite value per level is needed"):
        fit_additive([1.0, float("nan")], {"a": [1, 2]}, [0, 1])
    with pytest.raises(ValueError, match="the noise is unknown"):
        fit_additive([1.0, 2.0, 2.0, 3.0], {"a": [1, 1, 2, 2]}, [0, 1, 0, 1])


def published(metric: str = "val_accuracy", smallest_c1: int = 0) -> pd.DataFrame:
    """Return the trainings of the published grid, by what was trained."""
    results = load(PUBLISHED)
    rows = {
        t.trial.id: (*(t.trial.variant.by_name[n] for n in ("c1", "group_channels", "l1")),
                     t.trial.seed, t.value(results.metric(metric)))
        for t in results.trials if t.state == "complete"
    }.values()  # fmt: skip
    frame = pd.DataFrame(rows, columns=["c1", "group_channels", "l1", "s", "y"])
    return frame[frame.c1 >= smallest_c1]


def published_fit(frame: pd.DataFrame, **changes) -> AdditiveFit:
    factors = {n: frame[n].tolist() for n in ("c1", "group_channels", "l1")}
    return fit_additive(frame.y.tolist(), factors, frame.s.tolist(), **changes)


def test_the_published_grid_has_the_effects_of_an_independent_audit() -> None:
    """The audit fits C1 and C' as categories and L1 as a number, with residual errors."""
    frame = published()
    audit = smf.ols("y ~ C(c1, Diff) + C(group_channels) + l1 + C(s)", frame).fit()
    assert (audit.params["l1"], *audit.conf_int().loc["l1"]) == pytest.approx(
        (-0.21, -0.41, -0.01), abs=0.005
    )
    ours = published_fit(frame, errors="residual")
    trend = by(ours.trends)["l1", 1, 5]
    assert trend.estimate == pytest.approx(-0.21, abs=0.005)
    assert trend.interval(0.95, 60).low == pytest.approx(-0.42, abs=0.005)
    assert by(ours.steps)["group_channels", 4, 8].estimate == pytest.approx(-0.50, abs=0.005)
    assert ours.lack_of_fit == pytest.approx(0.97, abs=0.005)
    wide = published_fit(published(smallest_c1=16), errors="residual")
    step = by(wide.steps)["c1", 20, 24]
    assert (step.estimate, step.standard_error) == pytest.approx((1.47, 0.50), abs=0.01)


def test_the_seeds_of_the_published_grid_disagree_on_the_width() -> None:
    ours = published_fit(published())
    assert [e.factor for e in ours.main_effects if e.clustered] == ["c1"]
    step = by(ours.steps)["c1", 12, 16]
    assert (step.estimate, step.interval(0.95, 60).half_width) == pytest.approx(
        (3.77, 2.46), abs=0.01
    )


@pytest.mark.parametrize("interaction", [0.0, 1.0])
def test_intervals_cover(interaction: float) -> None:
    """Of 300 studies with 5 seeds, 95% nominal: three standard errors are 3.8 points."""
    rng, covered = np.random.default_rng(8), []
    frame = grid(5)
    for _ in range(300):
        shift = {(x, s): rng.normal(0, interaction / 2**0.5) for x in (1, 2, 3) for s in range(5)}
        noise = rng.normal(size=len(frame))
        frame["y"] = noise + [shift[a, s] for a, s in zip(frame.a, frame.s, strict=True)]
        covered.append(0.0 in by(fit(frame).steps)["a", 1, 2].interval(0.95, 30))
    assert np.mean(covered) > 0.912
