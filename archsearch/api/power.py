"""What a planned study can decide: the smallest effects that it finds, and the seeds they need."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.api.families import AXES
from archsearch.api.keywords import (
    InputErrors,
    check_keywords,
    evaluate_all,
    from_options,
    number_options,
    option,
)
from archsearch.api.options import MAX_SEEDS, Numbers, Training, parse_whole_numbers
from archsearch.api.requests import Grid
from archsearch.core.cell import Cell

if TYPE_CHECKING:
    from archsearch.results import Results
    from archsearch.results.planned import Noise
    from archsearch.stats.contrasts import Contrast
    from archsearch.storage.study_folder import StudyFolder
    from archsearch.study import Study

QUESTIONS = 4
"""The paper orders four things: C', L1, the width C1, and (alpha, beta)."""

ASSUMED_DEVIATION = 0.8
"""Points of accuracy: the noise of the wider networks (C1 >= 16) of
studies/results/grid-2.2M-cifar10, six short epochs on CIFAR-10."""


@dataclass(frozen=True, kw_only=True)
class Power:
    """Say what a planned study can decide, before it is trained.

    For each contrast it prints the smallest effect that is found with 80% probability. The noise of
    training is that of the records of RUN, or --sd. The plan is that of RUN, or the grid or the
    pairs that the options give.
    """

    sd: float | None = option(
        None, "Use this standard deviation between seeds, in points, instead of that of RUN."
    )
    seeds: Numbers = option(
        "3,5,12,24", "Plan these numbers of seeds.", text=str, metavar="N,N,..."
    )
    effect: float | None = option(
        None, "Print the seeds, trainings and hours that find an effect of this many points."
    )
    tests: int = option(
        QUESTIONS, "Share the error of 5% among this many tests (Holm); the default is the paper's."
    )
    pairs: int | None = option(
        None, "Plan this many (alpha, beta) pairs instead of a grid; Table C has 5."
    )
    budget: str | None = option(None, "Plan a grid of this size; the default is that of RUN.")
    values: Mapping[str, Numbers] = number_options(
        AXES, "Plan a grid with these values of {name}, such as 16,32."
    )

    def answer(self, run: Path | None = None) -> "PowerAnswer":
        """Return the smallest effects of this plan.

        Raises:
            ValueError: naming every wrong option; without a run and a deviation; or if the plan
                compares nothing.
        """
        from archsearch.results import load

        _, seeds = evaluate_all(lambda: self._check(run), self._seeds)
        results = None if run is None else load(run)
        study = None if results is None else results.study
        cells, contrasts = self._plan(study)
        if not contrasts:
            raise ValueError(
                "the plan compares no numbers: it needs networks that differ in C1, C' or L1, or "
                "pairs (alpha, beta)"
            )
        noise = self._noise(results, cells)
        return PowerAnswer(contrasts, noise, seeds, self.tests, self.effect)

    def _seeds(self) -> tuple[int, ...]:
        seeds = parse_whole_numbers({"seeds": self.seeds})["seeds"]
        if wrong := [n for n in seeds if not 2 <= n <= MAX_SEEDS]:
            raise ValueError(
                f"seeds must be numbers of seeds from 2 to {MAX_SEEDS:,}, such as 3,5,12, got "
                f"{', '.join(map(str, wrong))}"
            )
        return seeds

    def _check(self, run: Path | None) -> None:
        limits: dict[str, tuple[float, float]] = {
            "sd": (1e-6, 1e6), "effect": (1e-6, 1e6), "tests": (1, 1000), "pairs": (2, 1000)
        }  # fmt: skip
        errors = [
            f"{name} must be from {low:g} to {high:g}, got {value}"
            for name, (low, high) in limits.items()
            if (value := getattr(self, name)) is not None and not low <= value <= high
        ]
        if self.sd is None and run is None:
            errors.append(
                "the noise of training is needed: give a run with two seeds or more, or sd, the "
                "standard deviation between seeds in points"
            )
        if self.pairs is not None and (self.values or self.budget):
            errors.append("pairs and the numbers of a grid cannot be combined: choose one")
        if errors:
            raise InputErrors(errors)

    def _plan(self, study: "Study | None") -> "tuple[tuple[Cell, ...], list[Contrast]]":
        from archsearch.results.planned import pair_contrasts, planned_contrasts

        if self.pairs is not None:
            return (), pair_contrasts(self.pairs)
        if study is not None and not (self.values or self.budget):
            return study.cells, planned_contrasts(study.cells)
        run_budget = None if study is None or study.budget is None else str(study.budget)
        budget = self.budget or (run_budget or Grid.budget).removesuffix(" params")
        cells = Grid(budget=budget, values=self.values).study(Training()).cells
        return cells, planned_contrasts(cells)

    def _noise(self, results: "Results | None", cells: tuple[Cell, ...]) -> "Noise":
        from archsearch.results.planned import Noise, measured_noise, median_seconds

        if self.sd is None:
            assert results is not None, "checked before"
            return measured_noise(results, () if cells == results.study.cells else cells)
        seconds = None if results is None else median_seconds(results)
        return Noise(self.sd, "sd", seconds=seconds)


@dataclass(frozen=True)
class PowerAnswer:
    """The contrasts of a plan, the noise, and the smallest effects at each number of seeds."""

    contrasts: "list[Contrast]"
    noise: "Noise"
    seeds: tuple[int, ...]
    tests: int
    effect: float | None

    @property
    def num_networks(self) -> int:
        """The number of networks of the plan."""
        return len(self.contrasts[0].weights)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per contrast and number of seeds.

        ``alone`` is the smallest effect of a single test, ``smallest_effect`` that of the first of
        ``tests`` tests, which share the error. ``hours`` are those of one worker; None if no
        training was timed.
        """
        from archsearch.stats.power import smallest_effect

        def effect(contrast: "Contrast", seeds: int, tests: int) -> float:
            return smallest_effect(contrast, seeds, self.noise.deviation, tests)

        return [
            {"contrast": c.label, "seeds": n, "alone": effect(c, n, 1)}
            | {"smallest_effect": effect(c, n, self.tests), **self._cost(self.num_networks, n)}
            for c in self.contrasts
            for n in self.seeds
        ]

    def designs(self) -> list[dict[str, Any]]:
        """Return the cheapest design that finds ``effect``, by contrast; empty without an effect.

        It has only the networks that enter the contrast; ``seeds`` is None if even 1,000 seeds are
        too few.
        """
        from archsearch.stats.power import seeds_needed

        if self.effect is None:
            return []
        rows = []
        for contrast in self.contrasts:
            contrast = contrast.without_unused()
            seeds = seeds_needed(contrast, self.effect, self.noise.deviation, self.tests)
            row = {"contrast": contrast.label, "networks": len(contrast.weights), "seeds": seeds}
            rows.append(row | self._cost(len(contrast.weights), seeds))
        return rows

    def _cost(self, networks: int, seeds: int | None) -> dict[str, Any]:
        trainings = None if seeds is None else networks * seeds
        seconds = self.noise.seconds
        hours = None if trainings is None or seconds is None else trainings * seconds / 3600
        return {"trainings": trainings, "hours": hours}

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers as plain values."""
        return {
            "deviation": self.noise.deviation,
            "source": self.noise.source,
            "seconds": self.noise.seconds,
            "tests": self.tests,
            "power": 0.8,
            "effects": self.rows(),
            "designs": self.designs(),
        }


def power(run: Path | str | None = None, **options: Any) -> PowerAnswer:
    """Return what a planned study can decide; the options are those of `Power`."""
    check_keywords(options, Power)
    return from_options(Power, options).answer(None if run is None else Path(run))


def power_line(folder: "StudyFolder") -> str:
    """Return one sentence on what a study can find; empty if it compares no numbers.

    The deviation is that of the folder's own records if they show it well; otherwise it is assumed,
    and the sentence says so.
    """
    from archsearch.core.plans import MoreSeeds
    from archsearch.results.planned import planned_contrasts
    from archsearch.stats.power import smallest_effect
    from archsearch.stats.seeds import FIRST_SEEDS

    study = folder.study()
    has_plan = study.plan is not None and not isinstance(study.plan, MoreSeeds)
    is_accuracy = study.task.metric(study.metric).unit == "%" and not study.is_fine_tuned
    if has_plan or not is_accuracy or not (contrasts := planned_contrasts(study.cells)):
        return ""
    seeds = FIRST_SEEDS if study.plan else len(study.seeds)
    if seeds < 2:
        return "Power: one seed per network shows no effect; `archsearch power` plans how many do."
    deviation, source = _deviation(folder)
    effects = (
        f"{c.label} from {smallest_effect(c, seeds, deviation):.1f}"
        for c in contrasts
        if not c.is_slope
    )
    return (
        f"Power: with {seeds} seeds this study finds {', '.join(effects)} points on (80% power; "
        f"deviation {deviation:.2g} {source})."
    )


def _deviation(folder: "StudyFolder") -> tuple[float, str]:
    """Return the deviation of the noise in a folder's records, or the assumed one, and its source.

    Too few records give no deviation (`archsearch.results.planned.Noise.is_well_known`).
    """
    from archsearch.results import load
    from archsearch.results.planned import noise_of

    noise = noise_of(load(folder.path))
    if noise is not None and noise.is_well_known:
        return noise.deviation, f"from {noise.source}"
    return (
        ASSUMED_DEVIATION,
        "assumed, as on our CIFAR-10 grid; `archsearch power RUN` uses that of a run",
    )
