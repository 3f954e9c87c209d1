"""The design of an additive model: which levels and which seed every value has, no values.

value = mean + effect of each factor's level + effect of the seed + noise. A factor is a number of
the network, such as C1; its levels are categories. Cells and seeds may be missing.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kind = Literal["step", "slope"]
Factors = Mapping[str, Sequence[Any]]
"""Name -> the level of each value, (N,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelContrast:
    """A difference between levels of one factor, as weights (N,) of the values.

    A ``step`` is from level ``low`` to the next one, ``high``. A ``slope`` is the linear trend from
    ``low`` to ``high``, per step between neighboring levels; with two levels it equals the step.
    ``weights`` is None if the cells cannot separate the difference from other factors.
    """

    factor: str
    kind: Kind
    low: Any
    high: Any
    weights: Array | None

    @property
    def unit_variance(self) -> float | None:
        """The variance of the estimate, in units of the variance of the noise of one value."""
        return None if self.weights is None else float(self.weights @ self.weights)


class Design:
    """The additive model of a list of N values with their levels and seeds.

    The design of a planned study says how precise its contrasts will be: see
    `LevelContrast.unit_variance` and `residual_degrees_of_freedom`.

    Raises:
        ValueError: lengths differ, there are fewer than two seeds, or no factor has two levels.
    """

    def __init__(self, factors: Factors, seeds: Sequence[Hashable]) -> None:
        lengths = {name: len(column) for name, column in factors.items()} | {"seeds": len(seeds)}
        levels = {name: _ordered(column) for name, column in factors.items()}
        self.levels = {name: values for name, values in levels.items() if len(values) > 1}
        """Factor -> its levels, sorted if they are numbers; only factors with two or more."""
        self.seeds = tuple(dict.fromkeys(seeds))
        problems = [
            (len({*lengths.values()}) > 1, f"columns of one length are needed, got {lengths}"),
            (len(self.seeds) < 2, f"two seeds are needed, got {len(self.seeds)}"),
            (not self.levels, "a factor with two levels is needed"),
        ]
        if any(is_wrong for is_wrong, _ in problems):
            raise ValueError("; ".join(text for is_wrong, text in problems if is_wrong))
        self.by_seed = _indicators(seeds, self.seeds)
        """1 where a value (row) has a seed (column), else 0: (N, S)."""
        self._by_level = {name: _indicators(factors[name], ls) for name, ls in self.levels.items()}
        cells = list(zip(*(factors[name] for name in self.levels), strict=True))
        self.by_cell = _indicators(cells, tuple(dict.fromkeys(cells)))
        """1 where a value has a combination of levels, else 0: (N, k)."""
        self._columns = {**self._by_level, "": self.by_seed}
        self._additive = np.hstack([*self._columns.values()])
        self._bases: dict[frozenset[str], Array] = {}

    @property
    def num_cells(self) -> int:
        """The number of combinations of levels that have values."""
        return int(self.by_cell.shape[1])

    def with_seed_by(self, factors: frozenset[str] = frozenset()) -> Array:
        """Return independent columns (N, rank) of the additive model and its interactions.

        ``factors`` are those whose effects may differ from seed to seed.
        """
        if factors not in self._bases:
            products = [self._by_level_and_seed(name) for name in self.levels if name in factors]
            self._bases[factors] = basis(np.hstack([self._additive, *products]))
        return self._bases[factors]

    def _by_level_and_seed(self, factor: str) -> Array:
        product = self._by_level[factor][:, :, None] * self.by_seed[:, None, :]
        return np.asarray(product.reshape(len(product), -1))

    def without(self, factor: str) -> Array:
        """Return independent columns of the additive model without a factor."""
        return basis(np.hstack([c for n, c in self._columns.items() if n != factor]))

    @cached_property
    def cells_and_seeds(self) -> Array:
        """Independent columns of the model with a mean of its own for every cell."""
        return basis(np.hstack([self.by_cell, self.by_seed]))

    @cached_property
    def residual_degrees_of_freedom(self) -> int:
        """The degrees of freedom of the residuals of the additive model."""
        return len(self.by_seed) - int(self.with_seed_by().shape[1])

    @cached_property
    def contrasts(self) -> tuple[LevelContrast, ...]:
        """The slope of every factor whose levels are numbers, and its steps."""
        return tuple(contrast for factor in self.levels for contrast in self._contrasts(factor))

    def _contrasts(self, factor: str) -> Iterator[LevelContrast]:
        levels, unit = self.levels[factor], np.eye(len(self.levels[factor]))
        if all(map(_is_number, levels)):
            trend = np.arange(len(levels)) - (len(levels) - 1) / 2
            yield self._contrast(factor, "slope", 0, -1, trend / (trend**2).sum())
        for i in range(len(levels) - 1):
            yield self._contrast(factor, "step", i, i + 1, unit[i + 1] - unit[i])

    def _contrast(
        self, factor: str, kind: Kind, low: int, high: int, of_levels: Array
    ) -> LevelContrast:
        levels = self.levels[factor]
        weights = self._weights(factor, of_levels)
        return LevelContrast(
            factor=factor, kind=kind, low=levels[low], high=levels[high], weights=weights
        )

    def _weights(self, factor: str, of_levels: Array) -> Array | None:
        """Return the weights of the values in a sum of level effects; None if not estimable."""
        parts = {name: np.zeros(columns.shape[1]) for name, columns in self._by_level.items()}
        parts[factor] = of_levels
        row = np.concatenate([*parts.values(), np.zeros(len(self.seeds))])
        weights = row @ self._to_effects
        return weights if np.allclose(weights @ self._additive, row, atol=1e-8) else None

    @cached_property
    def _to_effects(self) -> Array:
        return np.asarray(np.linalg.pinv(self._additive))


def basis(columns: Array) -> Array:
    """Return an orthonormal basis (N, rank) of what the columns (N, P) span."""
    u, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(u[:, sizes > 1e-9 * sizes.max()])


def _indicators(column: Sequence[Hashable], levels: Sequence[Hashable]) -> Array:
    return np.array([[value == level for level in levels] for value in column], dtype=float)


def _ordered(column: Sequence[Any]) -> tuple[Any, ...]:
    levels = tuple(dict.fromkeys(column))
    return tuple(sorted(levels)) if all(map(_is_number, levels)) else levels


def _is_number(level: object) -> bool:
    return isinstance(level, (int, float)) and not isinstance(level, bool)
