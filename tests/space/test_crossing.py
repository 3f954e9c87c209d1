"""The solved number is found exactly, with few evaluations, or the reason why not is said."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.core.budget import Budget
from archsearch.core.cost import Cost
from archsearch.core.family import Family
from archsearch.space.crossing import Unsolvable, first_above
from archsearch.space.grid import Space, plan, solve

SHAPES: dict[str, Callable[[int, int, int], float]] = {
    "linear": lambda n, a, b: a * n + b,
    "quadratic": lambda n, a, b: a * n**2 + b * n,
    "rounded width": lambda n, a, b: a * (8 * ((n + 7) // 8)) ** 2 + b,
    "doubling": lambda n, a, b: a * 2 ** min(n, 40) + b,
    "slowing": lambda n, a, b: a * math.isqrt(n) + b,
    "limited": lambda n, a, b: a * n + b if n <= 12 + b % 20 else math.inf,
}


@pytest.mark.parametrize("shape", SHAPES)
@given(
    a=st.integers(1, 10**7), b=st.integers(0, 10**7), start=st.integers(1, 9), at=st.floats(0, 1)
)
def test_the_first_number_above_is_exact(shape: str, a: int, b: int, start: int, at: float) -> None:
    def size(n: int) -> float:
        return SHAPES[shape](n, a, b)

    finite = [s for n in range(start, 60) if (s := size(n)) < math.inf]
    target = min(finite[0] + at * (finite[-1] - finite[0]), finite[-1]) if finite else 1.0
    expected = next(n for n in range(start, 100) if size(n) >= target)
    assert first_above(size, start, target, lambda _: None) == expected


@pytest.mark.parametrize(
    ("shape", "target", "most"),
    [("linear", 20, 4), ("linear", 900, 6), ("quadratic", 20, 6), ("quadratic", 900, 6),
     ("rounded width", 900, 18), ("slowing", 900, 20)],
)  # fmt: skip
def test_few_networks_are_built(shape: str, target: int, most: int) -> None:
    seen = []

    def size(n: int) -> float:
        seen.append(n)
        return SHAPES[shape](n, 1000, 500)

    assert first_above(size, 1, size(target), lambda _: None) <= target
    assert len(set(seen)) <= most


@dataclass(frozen=True)
class Toy(Family):
    """A family whose size is a function of its solved number."""

    width: int
    depth: int
    solved = "depth"
    size = staticmethod(lambda depth: 1000 * depth)
    most = 10**9

    def rules(self) -> list[str]:
        return ["depth is at most 6"] if self.depth > self.most else []

    def cost(self, *_: int) -> Cost:  # type: ignore[override]
        return Cost(type(self).size(self.depth), 0, 0, 224)


def toy(size: Callable[[int], int], most: int = 10**9) -> Family:
    return type("Toy", (Toy,), {"size": staticmethod(size), "most": most})(8, 1)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (lambda _: 900, "depth = 1 gives 900 params and depth = .* the size does not depend on it"),
        (lambda n: 1 if n < 2 else 900, "does not depend"),
        (lambda n: 90_000 // n, "depth = 1 gives 90.0K params and depth = 2 gives 45.0K params: "
                                "the size must never shrink"),
        (lambda n: 1000 * n if n != 5 else 1, "depth = 5 gives 1 params: the size must never"),
    ],
)  # fmt: skip
def test_a_number_without_a_solution_is_a_reason(size: Callable[[int], int], message: str) -> None:
    like, budget = toy(size), Budget(5_000)
    with pytest.raises(Unsolvable, match=message):
        solve(like, budget)
    (cell,) = plan(Space(like, {"width": (8,)}), budget)
    assert cell.fate == "infeasible"
    assert "depth cannot be solved" in cell.reason


def test_the_largest_legal_network_is_the_closest_and_the_rule_is_named() -> None:
    like = toy(lambda n: 1000 * n, most=6)
    assert solve(like, Budget(9_000)).depth == 6  # type: ignore[attr-defined]
    (cell,) = plan(Space(like, {"width": (8,)}), Budget(9_000))
    assert cell.reason == (
        "the closest model with width = 8 has depth = 6: 6.00K params is 33.3% under the budget of "
        "9K params (tolerance 5%); depth = 7 is not possible: depth is at most 6"
    )
