"""What a plan can decide: the contrasts of its networks, and the noise that records show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from archsearch.core.cell import Cell
from archsearch.core.family import Family
from archsearch.families.internimage import ORIGIN
from archsearch.results.run_results import Results
from archsearch.stats.additive_design import Array
from archsearch.stats.contrasts import Contrast, neighbors, one_against_the_rest, slope, step
from archsearch.stats.noise import noise_deviation

ENOUGH_DEGREES_OF_FREEDOM = 10
"""A deviation from fewer is too uncertain: its 95% interval spans more than a factor of 2.5."""


def planned_contrasts(cells: Iterable[Cell]) -> list[Contrast]:
    """Return the contrasts that these cells can be compared by; an empty list if there are none.

    For pairs (alpha, beta): one pair against the mean of the others, and two pairs. For a grid:
    each of its numbers, and L1 = 4, the paper's best depth, against the other depths.
    """
    networks = {cell.variant: cell for cell in cells if cell.variant is not None}
    rules = [(c.requested.get("alpha"), c.requested.get("beta")) for c in networks.values()]
    if rules and None not in rules[0]:
        return pair_contrasts(len(rules)) if len(set(rules)) == len(rules) > 1 else []
    return number_contrasts(list(networks))


def pair_contrasts(num_pairs: int) -> list[Contrast]:
    """Return the contrasts of this many (alpha, beta) pairs."""
    pairs = [{"pair": float(i)} for i in range(num_pairs)]
    return _known(
        ("one (alpha, beta) against the others", one_against_the_rest(pairs, "pair", 0)),
        ("two pairs (alpha, beta)", step(pairs, "pair", 0, 1)),
    )


def number_contrasts(variants: Sequence[Family]) -> list[Contrast]:
    """Return the contrasts of a grid's numbers, all but the solved one."""
    if len({type(v) for v in variants}) != 1:
        return []
    family = variants[0]
    names = [n for n in family.number_names() if n != family.solved]
    networks = [{n: float(v.by_name[n]) for n in names} for v in variants]
    varied = [n for n in names if len({network[n] for network in networks}) > 1]
    contrasts = [c for n in varied for c in _steps(networks, n, family.label_of(n))]
    if "l1" in varied and isinstance(family, type(ORIGIN)):
        best = ORIGIN.l1
        against = one_against_the_rest(networks, "l1", best)
        contrasts += _known((f"L1 = {best} against the others", against))
        slopes = _known(("slope of L1, per block", slope(networks, "l1")))
        contrasts += [replace(contrast, is_slope=True) for contrast in slopes]
    return contrasts


def _steps(networks: list[dict[str, float]], name: str, label: str) -> list[Contrast]:
    """Return the step of a number; of several steps the one that is the hardest to find."""
    steps = {pair: step(networks, name, *pair) for pair in neighbors(networks, name)}
    texts = {
        (low, high): f"{label} {low:g} → {high:g}" if len(steps) == 1 else f"each step of {label}"
        for low, high in steps
    }
    known = _known(*((texts[pair], weights) for pair, weights in steps.items()))
    return sorted(known, key=lambda contrast: contrast.unit_variance)[-1:]


def _known(*weighted: tuple[str, Array | None]) -> list[Contrast]:
    return [Contrast(label, tuple(w.tolist())) for label, w in weighted if w is not None]


@dataclass(frozen=True)
class Noise:
    """The standard deviation of the noise of training, in the metric's unit, and its source.

    ``degrees_of_freedom`` are None for a given deviation. ``seconds`` is the median time of a
    training; None if nothing was measured.
    """

    deviation: float
    source: str
    degrees_of_freedom: float | None = None
    seconds: float | None = None

    @property
    def is_well_known(self) -> bool:
        """Whether enough degrees of freedom measure it."""
        return (self.degrees_of_freedom or 0) >= ENOUGH_DEGREES_OF_FREEDOM


def measured_noise(results: Results, cells: Iterable[Cell] = ()) -> Noise:
    """Return the noise that a run's records show: the variance that networks and seeds leave.

    It is that of the run's networks whose numbers are within those of the planned ``cells``, as
    noise differs with the width; of all networks if those are too few.

    Raises:
        ValueError: the run has no two networks with two common seeds.
    """
    planned = [c.variant for c in cells if c.variant is not None]
    inside = noise_of(results, _within(results, planned)) if planned else None
    if inside is not None and inside.is_well_known:
        return inside
    if (noise := noise_of(results)) is None:
        raise ValueError(
            f"{results.name} has no two networks with two common seeds, so the noise of training "
            "is unknown: give a run with more seeds, or sd"
        )
    return noise


def noise_of(results: Results, labels: set[str] | None = None) -> Noise | None:
    """Return the noise of some networks of a run, or of all; None if it is unknown."""
    metric = results.metric(results.study.metric)
    cells = (c for c in results.cells if labels is None or c.label in labels)
    table = {c.label: values for c in cells if (values := c.values(metric))}
    deviation, freedom = noise_deviation(table)
    if deviation == 0:
        return None
    scope = "" if labels is None else " in the range of the plan"
    source = f"{results.name}, {len(table)} networks{scope}, {freedom:.0f} degrees of freedom"
    return Noise(deviation, source, freedom, median_seconds(results, table))


def _within(results: Results, planned: Sequence[Family]) -> set[str]:
    """Return the labels of the networks whose numbers are within the planned ones."""
    names = [n for n in planned[0].number_names() if n != planned[0].solved]
    bounds = {n: [v.by_name[n] for v in planned] for n in names}
    return {
        c.label
        for c in results.cells
        if c.cell.variant is not None
        and all(min(b) <= c.cell.variant.by_name.get(n, -1) <= max(b) for n, b in bounds.items())
    }


def median_seconds(results: Results, labels: Iterable[str] | None = None) -> float | None:
    """Return the median time of a training, of some networks or of all; None without any."""
    networks = {c.label for c in results.cells} if labels is None else labels
    trials = (t for label in networks for t in results.network(label).trials)
    seconds = [t.record.seconds for t in trials if t.record is not None]
    return float(np.median(seconds)) if seconds else None
