"""Requests: a grid, a ladder or Table C, a search, one of the paper's studies, a user's own study.

Each request class holds the options of one command; its `study` returns the study to train.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from archsearch.api.keywords import evaluate_all, number_options, option
from archsearch.api.options import Numbers, Resolved, Training, parse_whole_numbers
from archsearch.core import plans
from archsearch.core.budget import DEFAULT_TOLERANCE, Budget
from archsearch.core.numbers import LARGEST, quoted
from archsearch.families.internimage import ORIGIN, SCALED_ORIGIN, parse_variant
from archsearch.families.internimage_space import SEARCH_SPACE
from archsearch.space import scaling
from archsearch.space.grid import Invalid
from archsearch.space.scaling import check_factors
from archsearch.study import Study
from archsearch.tasks.classification import CLASSIFICATION

BUDGET_HELP = "Give all models this size: 30M (parameters), 5G (multiply-adds), ..."
TOLERANCE_HELP = "Allow models to miss the budget by this fraction."
AXES = tuple(name for name in ORIGIN.number_names() if name != ORIGIN.solved)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Train the paper's 30-cell grid and draw its heatmap.

    The budget may be any size. The heatmap has the layout of Fig. A (supplement C.1).
    """

    budget: str = option("30M", BUDGET_HELP)
    preset: str = option("main", "Use the grid main (C1 48, 64, 80) or supplement (C1 16, 32, 64).")
    values: Mapping[str, Numbers] = number_options(
        AXES, "Use these values of {name} instead of the preset's, such as 16,32."
    )
    invalid: Invalid = option("repair", "Repair, skip or refuse the cells that break a rule.")
    tolerance: float = option(DEFAULT_TOLERANCE, TOLERANCE_HELP)

    def study(self, training: Training) -> Study:
        """Return the study of this request.

        Raises:
            ValueError: naming every wrong option.
        """
        from archsearch.studies import grid

        budget, resolved, values = evaluate_all(
            lambda: Budget.parse(self.budget, self.tolerance),
            training.resolved,
            lambda: parse_whole_numbers(self.values),
        )
        study = grid.study(
            budget=budget,
            preset=self.preset,
            invalid=self.invalid,
            **values,
            **_training_arguments(resolved),
        )
        return replace(study, plan=resolved.plan)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Train a ladder of sizes by (alpha, beta), or Table C.

    The ladder has a model for each phi = 0, 1, 2, ... up to the budget. Without alpha and beta,
    the five pairs of Table C are trained.
    """

    alpha: float | None = option(None, "Multiply the depth by this factor per step of phi.")
    beta: float | None = option(None, "Multiply the width by this factor per step of phi.")
    budget: str = option(
        f"{scaling.LADDER_BUDGET}", "End the ladder before a model exceeds this size."
    )
    origin: str = option(SCALED_ORIGIN.name, "Start the ladder from this model (C1-C'-L1-L3).")
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
            lambda: parse_variant(self.origin, like=SCALED_ORIGIN),
            training.resolved,
            self._check_factors,
        )
        study = scale.study(
            alpha=self.alpha, beta=self.beta, budget=budget, origin=origin,
            rounding=self.rounding, phi=self.phi, **_training_arguments(resolved),
        )  # fmt: skip
        return replace(study, plan=resolved.plan)

    def _check_factors(self) -> None:
        if self.alpha is not None or self.beta is not None:
            check_factors(self.alpha, self.beta)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Search for variants under a budget with Optuna.

    Repeating the command gives the same proposals.
    """

    budget: str = option("30M", BUDGET_HELP)
    trials: int = option(60, "Train this many variants.")
    over: plans.Numbers = option(
        "four", "Search the four numbers, or all twelve without the stacking rules."
    )
    values: Mapping[str, Numbers] = number_options(
        AXES, "Search these values of {name}, such as 16,32."
    )
    sampler: plans.Sampler = option("tpe", "Propose variants with this sampler of Optuna.")
    objectives: str = option(
        CLASSIFICATION.ranking_metric,
        f"Optimize these metrics, such as {CLASSIFICATION.ranking_metric},macs; several give a "
        "Pareto front.",
    )
    search_seed: int = option(0, "Use this seed for the proposals.")
    tolerance: float = option(DEFAULT_TOLERANCE, TOLERANCE_HELP)

    def study(self, training: Training) -> Study:
        """Return the study of this request.

        Raises:
            ValueError: naming every wrong option.
        """
        from archsearch.studies import search

        budget, resolved, objectives, values, _ = evaluate_all(
            lambda: Budget.parse(self.budget, self.tolerance),
            training.resolved,
            lambda: parse_metrics(self.objectives),
            self._values,
            self._check_numbers,
        )
        return search.study(
            recipe=resolved.recipe, budget=budget, num_trials=self.trials, over=self.over,
            sampler=self.sampler, objectives=objectives, seed=self.search_seed,
            data=resolved.data, space=SEARCH_SPACE.with_values(**values),
        )  # fmt: skip

    def _check_numbers(self) -> None:
        if not (1 <= self.trials <= LARGEST and 0 <= self.search_seed <= LARGEST):
            raise ValueError(
                f"trials must be at least 1 and search_seed at least 0, both at most {LARGEST:,}, "
                f"got {quoted(self.trials)} and {quoted(self.search_seed)}"
            )

    def _values(self) -> dict[str, tuple[int, ...]]:
        if self.over == "twelve" and self.values:
            names = " and ".join(self.values)
            raise ValueError(f"{names} can be set only if over is four, got over {self.over}")
        return parse_whole_numbers(self.values)


StudyName = Literal["kernel-size", "ablation", "deformable-attention", "data-scale"]


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

    def studies(self, training: Training) -> tuple[Study, ...]:
        """Return the study or studies of this request.

        Raises:
            ValueError: for wrong options, or ``full`` without the paper's data.
        """
        from archsearch.studies import ablation, data_scale, deformable_attention, kernel_size
        from archsearch.studies.sizes import SCALES

        size: Literal["small", "full"] = "full" if self.full else "small"
        scale = SCALES[size]
        epochs = training.epochs or (None if self.recipe else scale.epochs)
        recipe, data = self.recipe or scale.recipe, self.data or training.data
        _, resolved = evaluate_all(
            self._check_data,
            replace(training, recipe=recipe, data=data, epochs=epochs).resolved,
        )
        if self.name == "data-scale":
            studies = data_scale.studies(size=size, **_training_arguments(resolved))
        else:
            modules = {
                "ablation": ablation,
                "deformable-attention": deformable_attention,
                "kernel-size": kernel_size,
            }
            studies = (modules[self.name].study(size=size, **_training_arguments(resolved)),)
        return tuple(replace(study, plan=resolved.plan) for study in studies)

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
    value = runpy.run_path(str(file)).get("study")
    study = value() if callable(value) else value
    if not isinstance(study, Study):
        raise ValueError(
            f"{file} must export `study`, a Study or a function that returns one; it has "
            f"{type(value).__name__}"
        )
    study.check_metrics()
    return replace(study, name=study.name or file.stem)
