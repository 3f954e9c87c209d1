"""Numbers as texts."""

import pytest

from archsearch.core.metrics import fixed


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_mean_half_way_between_two_texts_has_one_text_whatever_the_order_of_its_sum(sign):
    values = [sign * v for v in (0.1, 0.2, 0.3, -0.46)]
    sums = sum(values), sum(reversed(values))
    assert sums[0] != sums[1]
    assert len({fixed(total / 4, 2) for total in sums}) == 1


def test_positive_numbers_can_have_a_sign():
    assert (fixed(1.25, 1, "+"), fixed(-0.06, 1, "+"), fixed(3, 2)) == ("+1.2", "-0.1", "3.00")
