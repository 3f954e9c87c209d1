"""The requests of a grid, and of a ladder or Table C.

A request holds the options of one command; its `study` returns the study to train.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from archsearch.api.families import FamilyOptions, SpaceOptions
from archsearch.api.keywords import evaluate_all, option
from archsearch.api.options import Training
from archsearch.core.budget import DEFAULT_TOLERANCE, Budget
from archsearch.core.family import Family
from archsearch.core.numbers import quoted
from archsearch.families import DEFAULT
from archsearch.families.internimage import SCALED_ORIGIN
from archsearch.families.internimage_space import named_space
from archsearch.latency.target import Target
from archsearch.space import scaling
from archsearch.space.grid import Invalid, Space
from archsearch.space.scaling import check_factors
from archsearch.space.step_budget import StepBudget
from archsearch.study import Study

if TYPE_CHECKING:
    from archsearch.studies.latency import LatencyGrid

BUDGET_HELP = "Give all models this size: 30M (parameters), 5G (multiply-adds), ..."
TOLERANCE_HELP = "Allow models to miss the budget by this fraction."
TARGET_HELP = (
    "Measure latency on this processor with torch (cpu) or onnxruntime, or by a command that takes "
    "an ONNX file and prints seconds"
)


@dataclass(frozen=True, kw_only=True)
class Grid(SpaceOptions):
    """Train the paper's 30-cell grid and draw its heatmap.

    The family and the budget may be any. InternImage's heatmap has the layout of Fig. A
    (supplement C.1).
    """

    budget: str = option("30M", BUDGET_HELP)
    preset: str | None = option(
        None,
        "Use InternImage's grid main (C1 48, 64, 80; the default) or supplement (C1 16, 32, 64).",
    )
    invalid: Invalid = option("repair", "Repair, skip or refuse the cells that break a rule.")
    tolerance: float = option(DEFAULT_TOLERANCE, TOLERANCE_HELP)
    target: str | None = option(
        None,
        f"{TARGET_HELP}; the budget is then a latency, such as 5ms.",
        metavar="cpu|onnxruntime|CMD",
    )

    def planned(self, training: Training) -> "Study | LatencyGrid":
        """Return the study of this request, or the grid to measure first.

        Raises:
            ValueError: naming every wrong option.
        """
        if self.target is None and not StepBudget.is_time(self.budget):
            return self.study(training)
        from archsearch.studies.latency import LatencyGrid

        budget, target, resolved, space = evaluate_all(
            self._latency_budget, self._target, training.resolved, self._space
        )
        return LatencyGrid(
            space=space, budget=budget, target=target, invalid=self.invalid, plan=resolved.plan,
            **resolved.arguments(),
        )  # fmt: skip

    def _latency_budget(self) -> StepBudget:
        if self.target is not None and not StepBudget.is_time(self.budget):
            raise ValueError(
                f"with a target the budget is a latency, such as 5ms, got {quoted(self.budget)}"
            )
        return StepBudget.parse(self.budget, self.tolerance, "the latency of one image")

    def _target(self) -> str:
        if self.target is None:
            raise ValueError(
                f"the budget {self.budget} is a latency: give its --target cpu, onnxruntime or a "
                "command"
            )
        return Target.parse(self.target).text

    def study(self, training: Training) -> Study:
        """Return the study of this request.

        Raises:
            ValueError: naming every wrong option.
        """
        from archsearch.studies import grid

        budget, resolved, space = evaluate_all(
            lambda: Budget.parse(self.budget, self.tolerance), training.resolved, self._space
        )
        study = grid.study_of(space, budget=budget, invalid=self.invalid, **resolved.arguments())
        return replace(study, plan=resolved.plan)

    def _space(self) -> Space:
        return self.space(named_space(self.preset or "main"), preset=self.preset)


@dataclass(frozen=True, kw_only=True)
class Scale(FamilyOptions):
    """Train a ladder of sizes by (alpha, beta), or Table C.

    The ladder has a model for each phi = 0, 1, 2, ... up to the budget. Without alpha and beta,
    InternImage's five pairs of Table C are trained.
    """

    alpha: float | None = option(None, "Multiply the depth by this factor per step of phi.")
    beta: float | None = option(None, "Multiply the width by this factor per step of phi.")
    budget: str = option(
        f"{scaling.LADDER_BUDGET}", "End the ladder before a model exceeds this size."
    )
    origin: str | None = option(
        None,
        "Start the ladder from this model: a published name, or all numbers of the family joined "
        f"by -; the default of InternImage is {SCALED_ORIGIN.name} (C1-C'-L1-L3).",
    )
    rounding: str | None = option(
        None,
        "Round by nearest (the ladder's default), floor, budget, equal-size (one size per step for "
        "all pairs, within 1%) or recovered (Table C's default).",
    )
    phi: int | None = option(None, "Train Table C at this step of phi; the default is 2.")
    tolerance: float = option(DEFAULT_TOLERANCE, TOLERANCE_HELP)

    def study(self, training: Training) -> Study:
        """Return the study of this request.

        Raises:
            ValueError: naming every wrong option.
        """
        from archsearch.studies import scale

        budget, origin, resolved, _ = evaluate_all(
            lambda: Budget.parse(self.budget, self.tolerance),
            self._origin,
            training.resolved,
            self._check_factors,
        )
        study = scale.study(
            alpha=self.alpha, beta=self.beta, budget=budget, origin=origin,
            rounding=self.rounding, phi=self.phi, **resolved.arguments(),
        )  # fmt: skip
        return replace(study, plan=resolved.plan)

    def _origin(self) -> Family:
        like = self.like(SCALED_ORIGIN)
        if self.origin is None and type(like) is not DEFAULT:
            raise ValueError(
                f"a ladder of {type(like).__name__} needs an origin: give --origin and a published "
                f"name or the numbers {like.form()}"
            )
        return type(like).parse(self.origin or SCALED_ORIGIN.name, like)

    def _check_factors(self) -> None:
        if self.alpha is not None or self.beta is not None:
            check_factors(self.alpha, self.beta)
