"""The recommended (alpha, beta) at the largest trained size or at a target, with its certainty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from archsearch.core.budget import readable
from archsearch.core.metrics import rounded
from archsearch.reports.context import Contexts
from archsearch.reports.ladders import Ladder, grouped_ladders
from archsearch.reports.phrases import listed, paragraph
from archsearch.stats.floor import fit_with_floor
from archsearch.stats.intervals import Interval
from archsearch.stats.law import MAX_EXTRAPOLATION, Points, Recommendation, recommend


@dataclass(frozen=True)
class GroupRecommendation:
    """The recommendation from the laws of one group of runs (`ladders.grouped_ladders`).

    ``choice`` compares the pairs by name; ``trained`` holds the smallest and largest trained size
    of each, in parameters.
    """

    runs: tuple[str, ...]
    choice: Recommendation[str]
    trained: Mapping[str, tuple[float, float]]

    @property
    def extrapolated(self) -> tuple[str, ...]:
        """The pairs that were trained only at smaller or only at larger sizes."""
        sizes = self.trained.items()
        return tuple(n for n, (low, high) in sizes if not low <= self.choice.size <= high)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; errors in percent, six decimals."""
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
            "has_single_best": choice.has_single_best,
            "reason": choice.reason,
            "extrapolated": list(self.extrapolated),
        }


def recommendations(contexts: Contexts) -> list[GroupRecommendation]:
    """Return a recommendation per group of comparable runs, for the target of the report.

    Without a target it is for the largest size that the group trained, as far as every pair can be
    predicted there, and a group with a single pair has none.

    Raises:
        ValueError: the target is too far above the sizes that a pair was trained at.
    """
    target, groups = contexts[0].target, grouped_ladders(contexts)
    _check_target(target, [ladder for group in groups for ladder in group])
    return [_recommend(group, target) for group in groups if target is not None or len(group) > 1]


def _check_target(target: int | None, ladders: Sequence[Ladder]) -> None:
    largest = {x.name: max(x.points) for x in ladders}
    limits = {name: size for name, size in largest.items() if (target or 0) > _limit(size)}
    if target is not None and limits:
        texts = "; ".join(f"{name} ({_size_text(size)})" for name, size in limits.items())
        raise ValueError(
            f"no recommendation at {_size_text(target)} parameters, more than "
            f"{MAX_EXTRAPOLATION:g} times the largest trained size of {texts}: intervals are too "
            "narrow there. Train a larger size, or take a smaller target"
        )


def _limit(largest: float) -> float:
    return MAX_EXTRAPOLATION * largest


def _recommend(group: Sequence[Ladder], target: int | None) -> GroupRecommendation:
    largest = [max(x.points) for x in group]
    size = min(max(largest), _limit(min(largest))) if target is None else float(target)
    runs = dict.fromkeys(name for x in group for name in x.runs)
    choice = recommend({x.name: x.points for x in group}, size)
    errors = {x.name: _widened(choice.errors[x.name], x.points, size) for x in group}
    choice = replace(choice, errors=errors)
    trained = {x.name: (min(x.points), max(x.points)) for x in group}
    return GroupRecommendation((*runs,), choice, trained)


def _widened(straight: Interval, points: Points, size: float) -> Interval:
    """Return the interval of a straight law, widened by laws with a floor if sizes suffice."""
    law = fit_with_floor(points)
    if law is None or straight.low is None or straight.high is None:
        return straight
    other = law.predict(size).error
    assert other.low is not None
    assert other.high is not None
    low, high = min(straight.low, other.low), max(straight.high, other.high)
    return replace(straight, low=low, high=high)


def recommendation_text(groups: Sequence[GroupRecommendation], target: int | None) -> str:
    """Return the recommendations as text; empty if there are none and no ``target``."""
    if not groups and target is not None:
        return (
            f"No recommendation at {_size_text(target)} parameters: no pair (α, β) has finished "
            "trainings at two sizes."
        )
    if len(groups) < 2:
        return "".join(map(_group_text, groups))
    return " ".join(f"{listed(group.runs)}: {_group_text(group)}" for group in groups)


def _group_text(group: GroupRecommendation) -> str:
    choice = group.choice
    error = _error_text(choice.errors[choice.best])
    size, tied = _size_text(choice.size), ""
    if len(choice.errors) == 1:
        text = f"has a predicted error of {error}; no other pair was trained for comparison."
    elif choice.has_single_best:
        text = f"has the lowest predicted error, {error}; every other pair is significantly worse."
    else:
        text = f"has the lowest predicted error, {error}, but not significantly: {choice.reason}."
        tied = f"Not significantly worse: {'; '.join(choice.tied[1:])}."
    text = f"At {size} parameters {choice.best} {text}"
    return paragraph(text, tied, _extrapolation_text(group))


def _error_text(error: Interval) -> str:
    if error.low is None or error.high is None:
        return f"{error.mean:.2f}% (no interval from two sizes)"
    return f"{error.mean:.2f}% (95% interval: {error.low:.2f} to {error.high:.2f}%)"


def _extrapolation_text(group: GroupRecommendation) -> str:
    ranges = [f"{n} ({' to '.join(map(_size_text, group.trained[n]))})" for n in group.extrapolated]
    text = f"Extrapolated outside the trained sizes of {'; '.join(ranges)}."
    return text if ranges else ""


def _size_text(value: float) -> str:
    """Return ``114M`` or ``1.08B``, with three digits."""
    return readable(round(value), "params").removesuffix(" params")
