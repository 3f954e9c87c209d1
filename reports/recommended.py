"""Which (alpha, beta) to scale by, at the largest size trained or a target, and how sure it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archsearch.core.budget import readable
from archsearch.core.metrics import rounded
from archsearch.reports.context import Contexts
from archsearch.reports.ladders import Ladder, grouped_ladders
from archsearch.reports.phrases import listed, paragraph
from archsearch.stats.intervals import Interval
from archsearch.stats.law import Recommendation, recommend


@dataclass(frozen=True)
class Advice:
    """What the laws of one group of runs (`ladders.grouped_ladders`) recommend at a size.

    ``choice`` compares the pairs by name; ``trained`` holds the smallest and largest size that each
    was trained at, in parameters.
    """

    runs: tuple[str, ...]
    choice: Recommendation[str]
    trained: Mapping[str, tuple[float, float]]

    @property
    def extrapolated(self) -> tuple[str, ...]:
        """The pairs that were trained at smaller or at larger sizes only."""
        sizes = self.trained.items()
        return tuple(n for n, (low, high) in sizes if not low <= self.choice.size <= high)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; errors in percent, six decimals."""
        choice = self.choice
        return {
            "runs": list(self.runs),
            "size": choice.size,
            "best": choice.best,
            "tied": list(choice.tied),
            "errors": {
                name: {"mean": rounded(e.mean), "low": rounded(e.low), "high": rounded(e.high)}
                for name, e in choice.errors.items()
            },
            "sure": choice.sure,
            "reason": choice.reason,
            "extrapolated": list(self.extrapolated),
        }


def advise(contexts: Contexts) -> list[Advice]:
    """One for each group of runs that compare, for the target of the report.

    Without a target it is the largest size that a group trained, and a group with a single pair
    has no advice.
    """
    target, groups = contexts[0].target, grouped_ladders(contexts)
    return [_advice(group, target) for group in groups if target is not None or len(group) > 1]


def _advice(group: Sequence[Ladder], target: int | None) -> Advice:
    size = max(max(x.points) for x in group) if target is None else float(target)
    runs = dict.fromkeys(name for x in group for name in x.runs)
    choice = recommend({x.name: x.points for x in group}, size)
    return Advice((*runs,), choice, {x.name: (min(x.points), max(x.points)) for x in group})


def recommendation(advice: Sequence[Advice], target: int | None) -> str:
    """The advice in words; empty where there is none and the report has no ``target``."""
    if not advice and target is not None:
        return (
            f"No recommendation at {_size_text(target)} parameters: no pair (α, β) has finished "
            "trainings at two sizes."
        )
    if len(advice) < 2:
        return "".join(map(_advice_text, advice))
    return " ".join(f"{listed(one.runs)}: {_advice_text(one)}" for one in advice)


def _advice_text(one: Advice) -> str:
    choice = one.choice
    promise = _error_text(choice.errors[choice.best])
    text, rivals = f"At {_size_text(choice.size)} parameters {choice.best} promises ", ""
    if len(choice.errors) == 1:
        text += f"an error of {promise}; no other pair was trained to compare it with."
    elif choice.sure:
        text += f"the least error, {promise}; every other pair is shown to promise more."
    else:
        text += f"the least error, {promise}, but that is not sure: {choice.reason}."
        rivals = "; ".join(choice.tied[1:])
    rivals = f"Not told apart from it: {rivals}." if rivals else ""
    return paragraph(text, rivals, _extrapolation_text(one))


def _error_text(error: Interval) -> str:
    if error.low is None or error.high is None:
        return f"{error.mean:.2f}% (no interval from two sizes)"
    return f"{error.mean:.2f}% (95% interval: {error.low:.2f} to {error.high:.2f}%)"


def _extrapolation_text(one: Advice) -> str:
    ranges = [f"{n} ({' to '.join(map(_size_text, one.trained[n]))})" for n in one.extrapolated]
    text = f"Extrapolated, as that lies outside the sizes trained for {'; '.join(ranges)}."
    return text if ranges else ""


def _size_text(value: float) -> str:
    """114M, 1.08B: three digits."""
    return readable(round(value), "params").removesuffix(" params")
