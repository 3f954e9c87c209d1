"""What can be asked: a grid, a ladder or Table C, a search, a study of one's own.

Each is the options of one command; `study` makes the value that is trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from archsearch.api.keywords import numbers, option, together
from archsearch.api.options import Numbers, Resolved, Training, whole_numbers
from archsearch.core import plans
from archsearch.core.budget import DEFAULT_TOLERANCE, Budget
from archsearch.families.internimage import ORIGIN, SCALED_ORIGIN, parse_variant
from archsearch.families.internimage_space import SEARCH_SPACE
from archsearch.space import scaling
from archsearch.space.grid import Invalid
from archsearch.space.scaling import check_factors
from archsearch.study import Study
from archsearch.tasks.classification import CLASSIFICATION

TOLERANCE = "How far from the budget a model may be, as a fraction."
AXES = tuple(name for name in ORIGIN.number_names() if name != ORIGIN.solved)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Train the paper's 30-cell grid and draw its heatmap.

    At any budget, as in supplement C.1 (Fig. A).
    """

    budget: str = option("30M", "30M parameters, 5G multiply-adds, ...")
    preset: str = option("main", "main: C1 48, 64, 80. supplement: C1 16, 32, 64.")
    values: Mapping[str, Numbers] = numbers(AXES, "Values in place of the preset's, such as 16,32.")
    invalid: Invalid = option("repair", "What becomes of a cell that breaks a rule.")
    tolerance: float = option(DEFAULT_TOLERANCE, TOLERANCE)

    def study(self, training: Training) -> Study:
        from archsearch.studies import grid

        budget, resolved, values = together(
            lambda: Budget.parse(self.budget, self.tolerance),
            training.resolved,
            lambda: whole_numbers(self.values),
        )
        study = grid.study(
            budget=budget, preset=self.preset, invalid=self.invalid, **values, **_common(resolved)
        )
        return replace(study, plan=resolved.plan)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Train a ladder of sizes by (alpha, beta), or Table C.

    A rung for each phi = 0, 1, 2, ... up to the budget; without factors, Table C's five pairs.
    """

    alpha: float | None = option(None, "Depth factor of one step of phi.")
    beta: float | None = option(None, "Width factor of one step of phi.")
    budget: str = option(f"{scaling.LADDER_BUDGET}", "The ladder ends where it would exceed this.")
    origin: str = option(SCALED_ORIGIN.name, "Where the ladder starts: C1-C'-L1-L3.")
    rounding: str | None = option(
        None, "nearest, floor or budget; Table C also recovered (its default)."
    )
    tolerance: float = option(DEFAULT_TOLERANCE, TOLERANCE)

    def study(self, training: Training) -> Study:
        from archsearch.studies import scale

        budget, origin, resolved, _ = together(
            lambda: Budget.parse(self.budget, self.tolerance),
            lambda: parse_variant(self.origin, like=SCALED_ORIGIN),
            training.resolved,
            self._check_factors,
        )
        study = scale.study(
            alpha=self.alpha, beta=self.beta, budget=budget, origin=origin,
            rounding=self.rounding, **_common(resolved),
        )  # fmt: skip
        return replace(study, plan=resolved.plan)

    def _check_factors(self) -> None:
        if self.alpha is not None or self.beta is not None:
            check_factors(self.alpha, self.beta)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Search for variants under a budget with Optuna.

    The same command proposes the same again.
    """

    budget: str = option("30M", "30M parameters, 5G multiply-adds, ...")
    trials: int = option(60, "How many variants to train.")
    over: plans.Numbers = option("four", "The four numbers, or all twelve, rules aside.")
    values: Mapping[str, Numbers] = numbers(AXES, "Values to search, such as 16,32.")
    sampler: plans.Sampler = option("tpe", "How to propose.")
    objectives: str = option(
        CLASSIFICATION.chooses,
        f"Metrics, such as {CLASSIFICATION.chooses},macs; several give a Pareto front.",
    )
    search_seed: int = option(0, "Seed of the proposals.")
    tolerance: float = option(DEFAULT_TOLERANCE, TOLERANCE)

    def study(self, training: Training) -> Study:
        from archsearch.studies import search

        budget, resolved, objectives, values, _ = together(
            lambda: Budget.parse(self.budget, self.tolerance),
            training.resolved,
            lambda: metrics(self.objectives),
            self._values,
            self._check_numbers,
        )
        return search.study(
            recipe=resolved.recipe, budget=budget, num_trials=self.trials, over=self.over,
            sampler=self.sampler, objectives=objectives, seed=self.search_seed,
            data=resolved.data, space=SEARCH_SPACE.with_values(**values),
        )  # fmt: skip

    def _check_numbers(self) -> None:
        if self.trials < 1 or self.search_seed < 0:
            raise ValueError(
                f"wanted at least one trial and a seed from 0 on, got {self.trials} trials and "
                f"search_seed {self.search_seed}"
            )

    def _values(self) -> dict[str, tuple[int, ...]]:
        if self.over == "twelve" and self.values:
            raise ValueError(f"{' and '.join(self.values)} are the space of over='four' only")
        return whole_numbers(self.values)


Name = Literal["kernel-size", "ablation", "deformable-attention", "data-scale"]


@dataclass(frozen=True, kw_only=True)
class PaperStudy:
    """Train one of the paper's other studies.

    The report has the paper's figures beside ours.
    """

    name: Name
    data: str | None = option(
        None, "As for grid. Default: digits; --full has none.", metavar="NAME"
    )
    recipe: str | None = option(
        None, "Default: quick with more epochs; --full table-b.", metavar="NAME"
    )
    full: bool = option(
        False, "T and Table B as the paper has them, or 1M networks.", flag="--full/--small"
    )

    def studies(self, training: Training) -> tuple[Study, ...]:
        """One study or several, of the data and by the recipe of this request.

        Raises:
            ValueError: for options that are wrong, or ``full`` without the paper's data.
        """
        from archsearch.studies import ablation, data_scale, deformable_attention, kernel_size
        from archsearch.studies.sizes import SCALES

        size: Literal["small", "full"] = "full" if self.full else "small"
        scale = SCALES[size]
        epochs = training.epochs or (None if self.recipe else scale.epochs)
        recipe, data = self.recipe or scale.recipe, self.data or training.data
        training = replace(training, recipe=recipe, data=data, epochs=epochs)
        resolved, _ = together(training.resolved, self._check_data)
        if self.name == "data-scale":
            made = data_scale.studies(size=size, **_common(resolved))
        else:
            modules = {
                "ablation": ablation,
                "deformable-attention": deformable_attention,
                "kernel-size": kernel_size,
            }
            made = (modules[self.name].study(size=size, **_common(resolved)),)
        return tuple(replace(study, plan=resolved.plan) for study in made)

    def _check_data(self) -> None:
        if self.full and self.data is None:
            raise ValueError(
                "--full trains as the paper does and wants its data: --data imagefolder:PATH "
                "(for the built-in digits leave --full out)"
            )


def _common(resolved: Resolved) -> dict[str, Any]:
    return {"recipe": resolved.recipe, "data": resolved.data, "seeds": resolved.seeds}


def metrics(text: str) -> tuple[str, ...]:
    """``val_accuracy,macs`` as names of metrics, every unknown one told."""
    names = tuple(part.strip() for part in text.split(","))
    together(*((lambda name=name: CLASSIFICATION.metric(name)) for name in names))
    return names


def study_in(file: Path) -> Study:
    """The Study that a file exports as ``study`` (a value, or a function without arguments).

    Raises:
        ValueError: when the file is not there, or exports none.
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
    return replace(study, name=study.name or file.stem)
