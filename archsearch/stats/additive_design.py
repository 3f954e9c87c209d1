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

from archsearch.stats.paired_model import design_of

Array = NDArray[np.float64]
Kind = Literal["step", "trend"]
Factors = Mapping[str, Sequence[Any]]
"""Name -> the level of each value, (N,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelContrast:
    """A difference between levels of one factor, as weights (N,) of the values.

    A ``step`` is from level ``low`` to the next one, ``high``. A ``trend`` is the straight line
    over all levels, per step between neighboring ones; with two levels it equals the step.
    ``weights`` is None if the cells cannot separate the difference from other factors.
    """

    factor: str
    kind: Kind
    low: Any
    high: Any
    weights: Array | None


class AdditiveDesign:
    """The additive model of a list of N values with their levels and seeds.

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
        self.by_seed = indicators(seeds, self.seeds)
        """1 where a value (row) has a seed (column), else 0: (N, S)."""
        self._by_level = {name: indicators(factors[name], ls) for name, ls in self.levels.items()}
        cells = list(zip(*(factors[name] for name in self.levels), strict=True))
        self.num_cells = len(set(cells))
        """The number of combinations of levels that have values."""
        self.cells_and_seeds = design_of(cells, seeds)
        """The design of the model with a mean of its own for every cell."""
        self._columns = {**self._by_level, "": self.by_seed}
        self._additive = np.hstack([*self._columns.values()])
        self._bases: dict[frozenset[str], Array] = {}

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
    def contrasts(self) -> tuple[LevelContrast, ...]:
        """The trend of every factor whose levels are numbers, and its steps."""
        return tuple(contrast for factor in self.levels for contrast in self._contrasts(factor))

    def _contrasts(self, factor: str) -> Iterator[LevelContrast]:
        levels, unit = self.levels[factor], np.eye(len(self.levels[factor]))
        if all(map(_is_number, levels)):
            trend = np.arange(len(levels)) - (len(levels) - 1) / 2
            yield self._contrast(factor, "trend", 0, -1, trend / (trend**2).sum())
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
        return weights_of_effects(row, self._additive, self._to_effects)

    @cached_property
    def _to_effects(self) -> Array:
        return np.asarray(np.linalg.pinv(self._additive))


def weights_of_effects(effects: Array, columns: Array, inverse: Array) -> Array | None:
    """Return the weights (N,) of the values in the least-squares estimate of a sum of effects.

    The effects (P,) are those of the columns (N, P), whose pseudo-inverse is ``inverse`` (P, N).
    None if the columns cannot separate them.
    """
    weights = effects @ inverse
    return weights if np.allclose(weights @ columns, effects, atol=1e-8) else None


def basis(columns: Array) -> Array:
    """Return an orthonormal basis (N, rank) of what the columns (N, P) span."""
    u, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(u[:, sizes > 1e-9 * sizes.max()])


def indicators(column: Sequence[Hashable], levels: Sequence[Hashable]) -> Array:
    """Return 1 where a value (row) has a level (column), else 0: (N, levels)."""
    return np.array([[value == level for level in levels] for value in column], dtype=float)


def _ordered(column: Sequence[Any]) -> tuple[Any, ...]:
    levels = tuple(dict.fromkeys(column))
    return tuple(sorted(levels)) if all(map(_is_number, levels)) else levels


def _is_number(level: object) -> bool:
    return isinstance(level, (int, float)) and not isinstance(level, bool)
