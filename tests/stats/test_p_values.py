"""P-values against scipy, and Holm's adjustment by hand."""

import pytest
from scipy import stats

from archsearch.stats.p_values import f_tail, holm, t_tails


def test_holm_multiplies_the_smallest_by_the_number_of_tests():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": 0.9})
    assert adjusted == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.025, "e": 0.9})


def test_tails_are_those_of_scipy():
    assert t_tails(-1.5, 0.5, 4.2) == pytest.approx(2 * stats.t.sf(3.0, 4.2))
    assert f_tail(5.0, 2.0, 3, 8) == pytest.approx(stats.f.sf(2.5, 3, 8))
    assert (t_tails(1.0, None, 0.0), t_tails(1.0, 0.0, 3), t_tails(0.0, 0.0, 3)) == (1.0, 0.0, 1.0)


def test_an_effect_without_noise_is_certain_and_no_effect_is_none():
    assert f_tail(1.0, 0.0, 2, 4) == 0.0
    assert f_tail(0.0, 0.0, 2, 4) == 1.0
    assert f_tail(1.0, 1.0, 0, 4) == 1.0
