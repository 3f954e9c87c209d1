"""The latencies of a run: what was measured, and what a model of some networks predicts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from archsearch.core.family import Family
from archsearch.core.plans import Latency, PredictedLatency, Search
from archsearch.latency.known import Latencies
from archsearch.results.cells import TrialResult
from archsearch.results.run_results import Results
from archsearch.results.step_times import StepTime, step_times
from archsearch.stats.intervals import pareto

SECONDS = "latency_seconds"
"""The metric of a record that a repeat writes, and that the results of a run get."""

MODEL, DOUBTFUL, CHOSEN = "model", "doubtful", "chosen"
"""Why a network is measured: for the model, because its prediction did not decide, or because the
trainings have chosen it. The last ones take no part in any decision."""


@dataclass(frozen=True)
class MeasuredLatencies:
    """The study of the measurements in a run's folder."""

    results: Results

    @property
    def plan(self) -> Latency:
        plan = self.results.study.plan
        assert isinstance(plan, Latency), "the study of measured latencies has this plan"
        return plan

    @cached_property
    def times(self) -> Mapping[Family, StepTime]:
        """The repeats of every network that has all of them.

        Raises:
            ValueError: a network could not be timed.
        """
        return step_times(self.results, SECONDS)

    @cached_property
    def purposes(self) -> Mapping[Family, str]:
        """Why each network is measured."""
        cells = (c.cell for c in self.results.cells if c.cell.variant in self.times)
        return {c.variant: str(c.requested["purpose"]) for c in cells if c.variant}

    @cached_property
    def known(self) -> Latencies:
        """What decides: all but the networks that the trainings have chosen."""
        used = {v: time.median for v, time in self.times.items() if self.purposes[v] != CHOSEN}
        fitted = tuple(v for v in used if self.purposes[v] == MODEL)
        study, data = self.results.study, self.results.data
        return Latencies(study.recipe.image_size, data.num_classes, used, fitted)

    @property
    def prediction(self) -> PredictedLatency:
        """What a search predicts of its proposals by."""
        model = self.known.model
        return PredictedLatency(self.plan.target, self.plan.device, model.rates, model.num_networks)

    def seconds(self, variant: Family) -> float | None:
        """Return the measured latency of a network, else the predicted one, if there is a model."""
        if variant in self.times:
            return self.times[variant].median
        return self.known.predicted(variant) if self.known.fitted else None

    def added_to(self, trials: Iterable[TrialResult]) -> tuple[TrialResult, ...]:
        """Return the trainings with the latency of their networks among their metrics."""
        return tuple(self._with_latency(trial) for trial in trials)

    def _with_latency(self, result: TrialResult) -> TrialResult:
        seconds = self.seconds(result.trial.variant) if result.record is not None else None
        if result.record is None or seconds is None:
            return result
        metrics = {**result.record.metrics, SECONDS: seconds}
        return replace(result, record=replace(result.record, metrics=metrics))


def front(results: Results) -> list[Family]:
    """Return the networks on the Pareto front of a search's objectives, by their means."""
    plan = results.study.plan
    assert isinstance(plan, Search), "only a search has objectives"
    by = [results.metric(name) for name in plan.objectives]
    points = {cell.cell.variant: [cell.mean(one) for one in by] for cell in results.cells}
    known = {v: [n for n in means if n is not None] for v, means in points.items() if v}
    complete = {v: means for v, means in known.items() if len(means) == len(by)}
    return list(pareto(complete, [one.higher_is_better for one in by])) if complete else []
