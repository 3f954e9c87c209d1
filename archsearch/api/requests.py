"""Requests: a grid, a ladder or Table C, a search, one of the paper's studies, a user's own study.

Each request class holds the options of one command; its `study` returns the study to train.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from archsearch.api.families import FamilyOptions, SpaceOptions, parse_axes
from archsearch.api.keywords import evaluate_all, option
from archsearch.api.options import Resolved, Seeds, Training, parse_key_values
from archsearch.core import plans
from archsearch.core.budget import DEFAULT_TOLERANCE, Budget
from archsearch.core.family import Family
from archsearch.core.numbers import LARGEST, quoted
from archsearch.core.plans import PredictedLatency
from archsearch.families import DEFAULT
from archsearch.families.internimage import SCALED_ORIGIN, Variant, parse_variant
from archsearch.families.internimage_space import SEARCH_SPACE, named_space
from archsearch.latency.target import Target
from archsearch.space import scaling
from archsearch.space.grid import Invalid, Space
from archsearch.space.scaling import check_factors
from archsearch.space.step_budget import StepBudget
from archsearch.study import Study
from archsearch.tasks.classification import CLASSIFICATION

if TYPE_CHECKING:
    from archsearch.studies.latency import LatencyGrid, LatencySearch

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
            **_training_arguments(resolved),
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
        study = grid.study_of(
            space, budget=budget, invalid=self.invalid, **_training_arguments(resolved)
        )
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
            rounding=self.rounding, phi=self.phi, **_training_arguments(resolved),
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


@dataclass(frozen=True, kw_only=True)
class Search(SpaceOptions):
    """Search for variants under a budget with Optuna.

    Repeating the command gives the same proposals.
    """

    budget: str = option("30M", BUDGET_HELP)
    trials: int = option(60, "Train this many variants.")
    over: plans.Numbers = option(
        "four",
        "Search InternImage's four numbers, or all twelve without the stacking rules. Other "
        "families are searched over all of their numbers.",
    )
    sampler: plans.Sampler = option("tpe", "Propose variants with this sampler of Optuna.")
    objectives: str = option(
        CLASSIFICATION.ranking_metric,
        f"Optimize these metrics, such as {CLASSIFICATION.ranking_metric},macs; several give a "
        "Pareto front. latency needs a target.",
    )
    target: str | None = option(None, f"{TARGET_HELP}.", metavar="cpu|onnxruntime|CMD")
    search_seed: int = option(0, "Use this seed for the proposals.")
    tolerance: float = option(DEFAULT_TOLERANCE, TOLERANCE_HELP)

    def study(self, training: Training) -> Study:
        """Return the study of this request.

        Raises:
            ValueError: naming every wrong option.
        """
        from archsearch.studies import search

        budget, resolved, objectives, latency, space, _ = evaluate_all(
            lambda: Budget.parse(self.budget, self.tolerance),
            training.resolved,
            lambda: parse_metrics(self.objectives),
            self._latency,
            self._space,
            self._check_numbers,
        )
        return search.study(
            recipe=resolved.recipe, budget=budget, num_trials=self.trials, over=self.over,
            sampler=self.sampler, objectives=objectives, seed=self.search_seed,
            data=resolved.data, space=space, latency=latency,
        )  # fmt: skip

    def planned(self, training: Training) -> "Study | LatencySearch":
        """Return the study of this request, or the search to measure first; raises as `study`."""
        from archsearch.studies.latency import LatencySearch

        study = self.study(training)
        return study if self.target is None else LatencySearch(study)

    def _latency(self) -> PredictedLatency | None:
        is_objective = "latency" in self.objectives.replace(" ", "").split(",")
        if is_objective and self.target is None:
            raise ValueError(
                "the objective latency is measured: give its --target cpu, onnxruntime or a command"
            )
        if self.target is None:
            return None
        if not is_objective:
            raise ValueError(
                f"a target is for latency: give --objectives {self.objectives},latency too"
            )
        return PredictedLatency(Target.parse(self.target).text, "")

    def _check_numbers(self) -> None:
        if not (1 <= self.trials <= LARGEST and 0 <= self.search_seed <= LARGEST):
            raise ValueError(
                f"trials must be at least 1 and search_seed at least 0, both at most {LARGEST:,}, "
                f"got {quoted(self.trials)} and {quoted(self.search_seed)}"
            )

    def _space(self) -> Space:
        space = self.space(SEARCH_SPACE, over=None if self.over == "four" else self.over)
        names = [*parse_axes(self.values), *self.own_values, *parse_key_values(self.switches)]
        if self.over == "twelve" and names:
            raise ValueError(
                f"{' and '.join(names)} can be set only if over is four, got over {self.over}"
            )
        return space


StudyName = Literal[
    "kernel-size", "ablation", "deformable-attention", "data-scale", "operator-or-frame"
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PaperStudy:
    """Train one of the paper's other studies.

    The report shows the paper's figures beside ours.
    """

    name: StudyName
    data: str | None = option(
        None,
        "Train on digits (the default), cifar10[:PATH] or imagefolder:PATH; --full has no default.",
        metavar="NAME",
    )
    recipe: str | None = option(
        None,
        "Train with this recipe; the default is quick with more epochs, or table-b with --full.",
        metavar="NAME",
    )
    full: bool = option(
        False,
        "Train T by Table B as the paper does (--full), or networks of 1M parameters (--small).",
        flag="--full/--small",
    )
    seeds: Seeds | None = option(
        None,
        "Train this many seeds, the seeds of a list (0,4,7), or more seeds where they pay (auto); "
        "the default is 1, and 5 of operator-or-frame.",
        text=str,
        metavar="N|LIST|auto[:MOST]",
    )
    origin: str | None = option(
        None,
        "Change the operator of this InternImage, such as 16-8-2-4 (C1-C'-L1-L3); only of "
        "operator-or-frame.",
    )

    def studies(self, training: Training) -> tuple[Study, ...]:
        """Return the study or studies of this request.

        Raises:
            ValueError: for wrong options, or ``full`` without the paper's data.
        """
        from archsearch.studies import (
            ablation,
            data_scale,
            deformable_attention,
            kernel_size,
            operator_or_frame,
        )
        from archsearch.studies.sizes import SCALES

        size: Literal["small", "full"] = "full" if self.full else "small"
        scale = SCALES[size]
        epochs = training.epochs or (None if self.recipe else scale.epochs)
        recipe, data = self.recipe or scale.recipe, self.data or training.data
        seeds = self.seeds or (
            operator_or_frame.NUM_SEEDS if self.name == "operator-or-frame" else training.seeds
        )
        _, origin, resolved = evaluate_all(
            self._check_data,
            self._origin,
            replace(training, recipe=recipe, data=data, epochs=epochs, seeds=seeds).resolved,
        )
        if self.name == "data-scale":
            studies = data_scale.studies(size=size, **_training_arguments(resolved))
        elif self.name == "operator-or-frame":
            studies = (
                operator_or_frame.study(size=size, origin=origin, **_training_arguments(resolved)),
            )
        else:
            modules = {
                "ablation": ablation,
                "deformable-attention": deformable_attention,
                "kernel-size": kernel_size,
            }
            studies = (modules[self.name].study(size=size, **_training_arguments(resolved)),)
        return tuple(replace(study, plan=resolved.plan) for study in studies)

    def _origin(self) -> Variant | None:
        if self.origin is None:
            return None
        if self.name != "operator-or-frame":
            raise ValueError(f"origin is of operator-or-frame, and {self.name} has no origin")
        return parse_variant(self.origin)

    def _check_data(self) -> None:
        if self.full and self.data is None:
            raise ValueError(
                "--full trains as the paper does and needs its data: --data imagefolder:PATH "
                "(for the built-in digits leave --full out)"
            )


def _training_arguments(resolved: Resolved) -> dict[str, Any]:
    return {"recipe": resolved.recipe, "data": resolved.data, "seeds": resolved.seeds}


def parse_metrics(text: str) -> tuple[str, ...]:
    """Return the names in ``val_accuracy,macs``.

    Raises:
        ValueError: naming every metric that is unknown, of the test split, or named twice.
    """
    names = tuple(part.strip() for part in text.split(","))
    if len(set(names)) < len(names):
        raise ValueError(f"objectives must be different metrics, got {text}")
    evaluate_all(*((lambda name=name: CLASSIFICATION.choosing_metric(name)) for name in names))
    return names


def load_study(file: Path) -> Study:
    """Return the Study that a file exports as ``study`` (a value, or a function of no arguments).

    Raises:
        ValueError: if the file does not exist or exports no study, or one that chooses by the test
            split.
    """
    import runpy

    if not file.is_file():
        raise ValueError(f"{file} is not a file")
    sys.path.insert(0, str(file.absolute().parent))  # as Python does for a script
    value = runpy.run_path(str(file)).get("study")
    study = value() if callable(value) else value
    if not isinstance(study, Study):
        raise ValueError(
            f"{file} must export `study`, a Study or a function that returns one; it has "
            f"{type(value).__name__}"
        )
    study.check_metrics()
    return replace(study, name=study.name or file.stem)
