"""Which networks to measure for a model of latency: few, and spread over the space."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from archsearch.core.closed_form import cost_of
from archsearch.core.family import Family
from archsearch.space.search_space import Domain

Array = NDArray[np.float64]

MAX_MEASURED = 12
"""The model of a space is fitted to at most this many measured networks."""

MAX_CANDIDATES = 200
"""Of a larger domain this many choices are drawn at random."""


def spread(
    candidates: Iterable[Family], number: int, chosen: Sequence[Family] = ()
) -> list[Family]:
    """Return at most ``number`` candidates that lie far from each other and from ``chosen``.

    The first ones have the fewest and the most multiply-adds; then each has the largest distance to
    its nearest neighbor (Gonzalez 1985) in the logarithms of the family's numbers and of the
    multiply-adds, each scaled to the range of all networks.
    """
    new = [variant for variant in dict.fromkeys(candidates) if variant not in chosen]
    networks = [*chosen, *new]
    if not new:
        return []
    points, picked = _points(networks), list(range(len(chosen)))
    if not chosen:
        picked = list(dict.fromkeys((int(points[:, 0].argmin()), int(points[:, 0].argmax()))))
    while len(picked) < min(len(chosen) + number, len(networks)):
        distances = np.linalg.norm(points[:, None] - points[None, picked], axis=2).min(axis=1)
        distances[picked] = -1.0
        picked.append(int(distances.argmax()))
    return [networks[i] for i in picked if i >= len(chosen)][:number]


def _points(networks: Sequence[Family]) -> Array:
    """(N, D) coordinates from 0 to 1; the first is of the multiply-adds."""
    rows = [(math.log(cost_of(v).macs), *_numbers(v)) for v in networks]
    points = np.array(rows, dtype=float).reshape(len(networks), -1)
    extent = np.ptp(points, axis=0)
    return np.asarray((points - points.min(axis=0)) / np.where(extent == 0, 1.0, extent))


def _numbers(variant: Family) -> list[float]:
    """The logarithms of the whole numbers of a variant, those of lists included."""
    values = variant.params().values()
    return [math.log1p(value) for value in values if type(value) is int]


def candidates_of(domain: Domain) -> list[Family]:
    """Return variants of a search's domain: the smallest and the largest of each choice."""
    rng, size = np.random.default_rng(0), domain.num_choices
    numbers = range(size) if size <= MAX_CANDIDATES else rng.integers(size, size=MAX_CANDIDATES)
    meeting = (domain.variants_of(_choice(domain, int(number))) for number in numbers)
    return list(dict.fromkeys(v for some in meeting if some for v in (some[0], some[-1])))


def _choice(domain: Domain, number: int) -> dict[str, int]:
    """The choice of this number, in the order of their product."""
    indices = np.unravel_index(number, [len(values) for values in domain.choices.values()])
    pairs = zip(domain.choices.items(), indices, strict=True)
    return {name: values[int(index)] for (name, values), index in pairs}
