"""Where the size of a variant crosses a target as its solved number grows, in few evaluations.

A size may take a built network. Most sizes are linear in a depth and quadratic in a width, so the
next number to evaluate comes from a parabola through three known ones; a bracket around the target
makes the answer exact for every size that never shrinks.
"""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

from archsearch.core.budget import Axis, readable
from archsearch.core.closed_form import size_of
from archsearch.core.family import Family
from archsearch.core.family_fault import BuildFault

FLAT = 256
"""A size that has not grown over so many numbers is taken not to depend on the solved number."""

STRIDE = 16
"""How many times farther than the largest known number the next one may be."""


class Unsolvable(ValueError):
    """Raised if no value of the solved number can be found; the message says why."""


class Sizes:
    """The sizes of a variant by its solved number, each computed once.

    A number that breaks a rule, or gives no network that runs, counts as larger than every target.
    """

    def __init__(self, variant: Family, axis: Axis) -> None:
        self._variant, self._axis = variant, axis
        self._known: dict[int, float] = {}
        self._refused: dict[int, str] = {}

    def __call__(self, solved: int) -> float:
        """The size.

        Raises:
            Unsolvable: a larger number gives a smaller size.
            BuildFault: the smallest network cannot be built or run.
        """
        if solved not in self._known:
            self._known[solved] = self._size(solved)
            self._check_growth()
        return self._known[solved]

    def refusal(self, solved: int) -> str:
        """Why this number gives no network; empty if it does, or was not needed."""
        reason = self._refused.get(solved)
        return f"{self._label} = {solved} is not possible: {reason}" if reason else ""

    def first_above(self, target: float) -> int:
        """The smallest number whose size is at least ``target``, or which gives no network.

        Raises:
            Unsolvable: the size does not grow, or shrinks.
            BuildFault: the smallest network cannot be built or run.
        """
        start = self._variant.min_solved()
        number = first_above(self, start, target, self._check_not_flat)
        if number == start:
            self(start + 1)  # a size that shrinks from here on would meet the target later
        return number

    @property
    def _label(self) -> str:
        return self._variant.label_of(self._variant.solved)

    def _size(self, solved: int) -> float:
        broken = self._variant.unchecked(**{self._variant.solved: solved}).problems()
        if not broken:
            try:
                return size_of(self._variant.with_solved(solved), self._axis)
            except BuildFault as error:
                if solved == self._variant.min_solved():
                    raise
                broken = [str(error)]
        self._refused[solved] = "; ".join(broken)
        return math.inf

    def _check_growth(self) -> None:
        known = sorted((n, size) for n, size in self._known.items() if size < math.inf)
        for low, high in pairwise(known):
            if low[1] > high[1]:
                raise Unsolvable(f"{self._text(low, high)}: the size must never shrink")

    def _check_not_flat(self, end: int) -> None:
        size = self(end)
        same = [n for n, known in self._known.items() if known == size and n <= end - FLAT]
        if same:
            text = self._text((min(same), size), (end, size))
            raise Unsolvable(f"{text}: the size does not depend on it")

    def _text(self, *sizes: tuple[int, float]) -> str:
        parts = (f"{self._label} = {n} gives {readable(int(s), self._axis)}" for n, s in sizes)
        return f"{self._label} cannot be solved: {' and '.join(parts)}"


def first_above(
    value: Callable[[int], float],
    start: int,
    target: float,
    check: Callable[[int], None],
) -> int:
    """The smallest number n >= ``start`` with ``value(n) >= target``; ``value`` must not shrink.

    ``check(n)`` may stop the search at an n whose value is below the target.
    """
    low, high = start - 1, None
    known: dict[int, float] = {}
    while high is None or high - low > 1:
        number = _next_number(known, low, high, start, target)
        known[number] = value(number)
        if known[number] >= target:
            high = number
        else:
            low = number
            check(low)
    return high


def _next_number(
    known: Mapping[int, float], low: int, high: int | None, start: int, target: float
) -> int:
    """The number to evaluate next, inside the bracket: the predicted one, else one far enough.

    Every third number halves the bracket in the end, so that bad predictions cost at most three
    times the evaluations of a bisection.
    """
    if high is None and len(known) < 2:
        return low + 1
    last = (start + STRIDE * (low - start + 1) if high is None else high) - 1
    if high is not None and len(known) > 4 and len(known) % 3 == 0:
        return (low + high) // 2
    predicted = _predicted(known, target)
    if predicted is None:
        return last if high is None else (low + high) // 2
    return max(low + 1, min(last, predicted))


def _predicted(known: Mapping[int, float], target: float) -> int | None:
    """The first number whose size reaches the target, by a parabola through the three nearest.

    Two known sizes give a line.
    """
    finite = ((n, size) for n, size in known.items() if size < math.inf)
    nearest = sorted(sorted(finite, key=lambda point: abs(point[1] - target))[:3])
    if len(nearest) < 2:
        return None
    (n0, s0), (n1, s1), *rest = nearest
    first = slope = (s1 - s0) / (n1 - n0)
    curve = 0.0
    for n2, s2 in rest:
        curve = ((s2 - s1) / (n2 - n1) - first) / (n2 - n0)
        slope = first - curve * (n1 - n0)  # at n0
    root = slope**2 + 4 * curve * (target - s0)
    if root < 0 or slope + math.sqrt(root) <= 0:
        return None
    return n0 + math.ceil(2 * (target - s0) / (slope + math.sqrt(root)) - 1e-6)
