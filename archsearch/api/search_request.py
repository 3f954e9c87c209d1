"""The request of a search, and its objectives."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsearch.api.families import SpaceOptions, parse_axes
from archsearch.api.keywords import evaluate_all, option
from archsearch.api.options import Training, parse_key_values
from archsearch.api.requests import BUDGET_HELP, TARGET_HELP, TOLERANCE_HELP
from archsearch.core import plans
from archsearch.core.budget import DEFAULT_TOLERANCE, Budget
from archsearch.core.numbers import LARGEST, quoted
from archsearch.core.plans import PredictedLatency
from archsearch.families.internimage_space import SEARCH_SPACE
from archsearch.latency.target import Target
from archsearch.space.grid import Space
from archsearch.study import Study
from archsearch.tasks.classification import CLASSIFICATION

if TYPE_CHECKING:
    from archsearch.studies.latency import LatencySearch


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
