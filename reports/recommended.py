"""Which (alpha, beta) to scale by, at the largest size trained or a target, and how sure it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archsearch.core.budget import readable
from archsearch.core.metrics import rounded
from archsearch.reports.ladders import Ladder, grouped
from archsearch.reports.phrases import listed
from archsearch.results import Results
from archsearch.stats.intervals import Interval
from archsearch.stats.law import Recommendation, recommend


@dataclass(frozen=True)
class Advice:
    """What the laws of one group of runs (`ladders.grouped`) recommend at a size.

    ``told`` compares the pairs by name; ``trained`` holds the smallest and largest size that each
    was trained at, in parameters.
    """

    runs: tuple[str, ...]
    told: Recommendation[str]
    trained: Mapping[str, tuple[float, float]]

    @property
    def beyond(self) -> tuple[str, ...]:
        """The pairs whose law is extrapolated: trained at smaller or at larger sizes only."""
        sizes = self.trained.items()
        return tuple(n for n, (low, high) in sizes if not low <= self.told.size <= high)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; errors in percent, six decimals."""
        errors = {name: _numbers(found) for name, found in self.told.errors.items()}
        return {
            "runs": list(self.runs),
            "size": self.told.size,
            "best": self.told.best,
            "tied": list(self.told.tied),
            "errors": errors,
            "sure": self.told.sure,
            "reason": self.told.reason,
            "extrapolated": list(self.beyond),
        }


def advice(results: Sequence[Results], target: int | None = None) -> list[Advice]:
    """One for each group of runs that compare.

    ``target`` is a size in parameters; without one it is the largest that a group trained, and a
    group with a single pair has nothing to say.
    """
    laws = grouped(results)
    if target is None:
        laws = [found for found in laws if len(found) > 1]
    return [_advice(found, target) for found in laws]


def _advice(found: Sequence[Ladder], target: int | None) -> Advice:
    size = max(max(x.points) for x in found) if target is None else float(target)
    runs = dict.fromkeys(name for x in found for name in x.runs)
    told = recommend({x.name: x.points for x in found}, size)
    return Advice((*runs,), told, {x.name: (min(x.points), max(x.points)) for x in found})


def recommendation(results: Sequence[Results], target: int | None = None) -> str:
    """`advice` in words; empty where there is none and no ``target`` was asked for."""
    found = advice(results, target)
    if not found and target is not None:
        return (
            f"No recommendation at {_size(target)} parameters: no pair (α, β) has finished "
            "trainings at two sizes."
        )
    if len(found) < 2:
        return "".join(map(_words, found))
    return " ".join(f"{listed([*one.runs])}: {_words(one)}" for one in found)


def _words(one: Advice) -> str:
    told = one.told
    promise = _promise(told.errors[told.best])
    alone = len(told.errors) == 1
    words = f"At {_size(told.size)} parameters {told.best} promises "
    if alone:
        words += f"an error of {promise}; no other pair was trained to compare it with."
    elif told.sure:
        words += f"the least error, {promise}; every other pair is shown to promise more."
    else:
        words += f"the least error, {promise}, but that is not sure: {told.reason}."
    rivals = "" if alone or told.sure else _rivals(told)
    return " ".join(filter(None, (words, rivals, _extrapolated(one))))


def _promise(error: Interval) -> str:
    if error.low is None or error.high is None:
        return f"{error.mean:.2f}% (no interval from two sizes)"
    return f"{error.mean:.2f}% (95% interval: {error.low:.2f} to {error.high:.2f}%)"


def _rivals(told: Recommendation[str]) -> str:
    others = told.tied[1:]
    return f"Not told apart from it: {'; '.join(others)}." if others else ""


def _extrapolated(one: Advice) -> str:
    if not one.beyond:
        return ""
    ranges = (f"{n} ({' to '.join(map(_size, one.trained[n]))})" for n in one.beyond)
    return f"Extrapolated, as that lies outside the sizes trained for {'; '.join(ranges)}."


def _size(value: float) -> str:
    """114M, 1.08B: three digits."""
    return readable(round(value), "params").removesuffix(" params")


def _numbers(found: Interval) -> dict[str, float | None]:
    values = {"mean": found.mean, "low": found.low, "high": found.high}
    return {name: rounded(v) for name, v in values.items()}
