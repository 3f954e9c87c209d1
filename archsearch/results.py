"""What a run gave, cell by cell: the one thing that every report reads.

Nothing is hidden and nothing is invented: an infeasible, failed, diverged or pending cell stays in
its place, and a missing number is None, never 0. Reading needs no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from archsearch.core.cell import Cell
from archsearch.core.family import Family, differing_switches, with_switches
from archsearch.core.metrics import Metric, rounded
from archsearch.core.plans import Halve
from archsearch.core.task import Data
from archsearch.stats.intervals import Interval, Method, interval
from archsearch.stats.ranking import Ranking, tied_with_best
from archsearch.stats.seeds import next_seeds
from archsearch.study import Record, Study, Trial

if TYPE_CHECKING:
    from archsearch.searching.halving import Halving

State = Literal[
    "pending", "running", "interrupted", "complete", "diverged", "failed", "infeasible", "pruned"
]
UNFINISHED = ("running", "interrupted", "pending")
LEVEL = 0.95
"""Confidence of every interval and tie that is reported."""


@dataclass(frozen=True)
class TrialResult:
    """One training: what was requested, its state and what it gave so far.

    ``curve`` has one mapping per finished epoch, of an unfinished training too.
    """

    trial: Trial
    state: State
    record: Record | None = None
    curve: tuple[Mapping[str, Any], ...] = ()

    def value(self, by: Metric) -> float | None:
        """The measured number in the metric's unit; None when it was not measured."""
        return by.of(self.record)


@dataclass(frozen=True)
class CellResult:
    """One cell of the plan with its trainings, ordered by seed.

    ``label`` names its network; cells that repair to one network share label and trainings.
    ``pruned`` is the cheap rung after which halving dropped it; what it had by then stays.
    """

    index: int
    cell: Cell
    label: str
    trials: tuple[TrialResult, ...] = ()
    pruned: str = ""

    @property
    def state(self) -> State:
        """Where the cell stands: unfinished before finished, then the best that came of it."""
        if self.cell.variant is None:
            return "infeasible"
        states = {t.state for t in self.trials}
        for state in (*UNFINISHED, "complete", "failed", "diverged"):
            if state in states:
                return state
        return "pruned" if self.pruned else "pending"

    @property
    def lost(self) -> tuple[TrialResult, ...]:
        """Trainings that ended without a result."""
        return tuple(t for t in self.trials if t.state in ("diverged", "failed"))

    @property
    def told(self) -> str:
        """State and reason in a few words, as tables print it."""
        kinds = sorted({t.record.kind for t in self.lost if t.record and t.record.kind})
        words = self.state + (f": {', '.join(kinds)}" if self.state == "failed" and kinds else "")
        if self.pruned:
            words += f"{'' if self.state == 'pruned' else ', pruned'} after {self.pruned}"
        if self.lost and len(self.lost) < len(self.trials):
            names = sorted({f"{t.state}" for t in self.lost})
            words += f", {len(self.lost)} of {len(self.trials)} seeds {' or '.join(names)}"
        return words

    def values(self, by: Metric) -> dict[int, float | None]:
        """Seed -> value of every training that ended; None where it ended without one."""
        return {t.trial.seed: t.value(by) for t in self.trials if t.state not in UNFINISHED}

    def counted(self, by: Metric) -> float | None:
        """A number known without seeds: a cost."""
        if by.source == "budget":
            return getattr(self.cell.cost, by.field) / by.scale if self.cell.cost else None
        return next((v for t in self.trials if (v := t.value(by)) is not None), None)

    def estimate(self, by: Metric, method: Method = "student") -> Interval | None:
        """Mean and interval over the seeds that gave a value; None without one."""
        if by.counted:
            value = self.counted(by)
            return None if value is None else Interval(value, None, None, 1, "counted")
        found = [v for v in self.values(by).values() if v is not None]
        return interval(found, LEVEL, method) if found else None

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """What a repair changed: coordinate -> (requested, used)."""
        requested = self.cell.requested
        used = {k: getattr(self.cell.variant, k, v) for k, v in requested.items()}
        return {k: (v, used[k]) for k, v in requested.items() if used[k] != v}


@dataclass(frozen=True)
class Comparison:
    """The cells of a run by one metric: estimates in plan order, and who is best or tied with it.

    ``ranking`` is over networks, by label. A network that diverged on a seed does not compete:
    the mean of its survivors would flatter it.
    """

    metric: Metric
    estimates: tuple[Interval | None, ...]
    ranking: Ranking[str]

    @property
    def digits(self) -> int:
        """Decimals worth printing: one less than the table's where the interval hides it."""
        halves = [e.half_width for e in self.estimates if e and e.half_width is not None]
        coarse = not halves or sorted(halves)[len(halves) // 2] >= 0.1
        return max(self.metric.digits - (coarse and self.metric.unit == "%"), 0)


@dataclass(frozen=True)
class Results:
    """A run: what was requested (`study.json`) and what every cell gave.

    ``others`` are trainings in the folder that belong to no cell of the plan. ``notes`` say what a
    halving found: whether its rungs may prune, and what all of it cost.
    """

    name: str
    study: Study
    data: Data
    request: Mapping[str, Any]
    cells: tuple[CellResult, ...]
    others: tuple[TrialResult, ...] = ()
    notes: tuple[str, ...] = ()
    _compared: dict[str, Comparison] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def trials(self) -> tuple[TrialResult, ...]:
        """Every distinct training of the plan, in plan order."""
        return tuple({t.trial.id: t for c in self.cells for t in c.trials}.values())

    @property
    def num_seeds(self) -> int:
        """Most finished seeds that any cell has."""
        done = (sum(t.state == "complete" for t in c.trials) for c in self.cells)
        return max(done, default=0)

    @property
    def versions(self) -> Mapping[str, str]:
        return dict(self.request.get("versions", {}))

    def network(self, label: str) -> CellResult:
        """The cell that stands for a network: one that was asked for as it is, if there is one."""
        found = [c for c in self.cells if c.label == label]
        return min(found, key=lambda c: (c.cell.fate != "exact", c.index))

    @property
    def measured(self) -> tuple[Metric, ...]:
        """The metrics that at least one training of this run has a value for."""
        return tuple(
            m
            for m in self.study.task.all_metrics().values()
            if m.source in ("metrics", "record")
            and any(t.value(m) is not None for t in self.trials)
        )

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per cell: asked, fate, network, budget cost, state and every estimate, of
        the study's metric by the bootstrap too."""
        return [
            _cell_row(cell, self.number_names, self.measured)
            | _bootstrap(cell, self.metric(self.study.metric))
            for cell in self.cells
        ]

    def seed_rows(self) -> list[dict[str, Any]]:
        """One flat row per training, those outside the plan too."""
        trials = (*self.trials, *self.others)
        labels = {t.trial.id: c.label for c in self.cells for t in c.trials}
        return [_seed_row(t, labels.get(t.trial.id, ""), self.measured) for t in trials]

    @property
    def number_names(self) -> tuple[str, ...]:
        """The numbers of the variants of this run, in their order."""
        variants = (cell.cell.variant for cell in self.cells)
        names = dict.fromkeys(n for v in variants if v is not None for n in v.number_names())
        return tuple(names)

    def metric(self, name: str) -> Metric:
        """A metric of the run's task.

        Raises:
            ValueError: for an unknown name.
        """
        return self.study.task.metric(name)

    def frame(self) -> Any:
        """`rows` as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def compare(self, metric_name: str | None = None) -> Comparison:
        """Estimates of every cell and the tie with the best, at `LEVEL` family-wise.

        Raises:
            ValueError: for an unknown metric.
        """
        by = self.metric(metric_name or self.study.metric)
        if by.name not in self._compared:
            self._compared[by.name] = _compare(self.cells, by, self.study.max_seeds)
        return self._compared[by.name]


def _compare(cells: tuple[CellResult, ...], by: Metric, max_seeds: int | None) -> Comparison:
    """With seeds that were added where cells were tied, the ranking pays for having looked."""
    estimates = tuple(cell.estimate(by) for cell in cells)
    if by.counted:
        return Comparison(by, estimates, _counted_order(cells, by))
    table = {
        cell.label: cell.values(by)
        for cell in cells
        if cell.cell.variant is not None and not any(t.state == "diverged" for t in cell.trials)
    }
    if max_seeds is None:
        return Comparison(by, estimates, tied_with_best(table, LEVEL, by.higher_is_better))
    ranking = next_seeds(table, max_seeds, LEVEL, by.higher_is_better).ranking
    return Comparison(by, estimates, ranking)


def _counted_order(cells: tuple[CellResult, ...], by: Metric) -> Ranking[str]:
    """A count has no noise: equal numbers tie, nothing else does."""
    means = {c.label: v for c in cells if (v := c.counted(by)) is not None}
    order = sorted(means, key=lambda k: -means[k] if by.higher_is_better else means[k])
    tied = tuple(k for k in order if means[k] == means[order[0]])
    why = "" if order else "cannot rank: no cell has a value"
    return Ranking(bool(order), why, next(iter(order), None), tied, means, {}, LEVEL, ())


def assemble(
    name: str,
    study: Study,
    data: Data,
    request: Mapping[str, Any],
    trials: tuple[TrialResult, ...],
    halved: "Halving | None" = None,
) -> Results:
    """Put trainings into the cells they belong to; a pure function.

    Seeds beyond the study's own are extra seeds for tied cells; a training without a cell (a
    search's) gets one of its own if it has the study's recipe and data, and is kept apart if not.
    What was ``halved`` is finished: the trainings that a pruned cell was spared are not pending.
    """
    pruned = {} if halved is None else halved.pruned
    mine = [t for t in trials if _belongs(t.trial, study, data)]
    wanted = [t for t in mine if t.state != "pending" or t.trial.variant not in pruned]
    of: dict[Family, list[TrialResult]] = {}
    for result in sorted(wanted, key=lambda t: t.trial.seed):
        of.setdefault(result.trial.variant, []).append(result)
    planned = {c.variant for c in study.cells}
    found = tuple(_found_cell(v) for v in of if v not in planned)
    cells = (*study.cells, *found)
    labels = _labels(cells)
    rows = tuple(
        CellResult(
            i, cell, label, tuple(of.get(v, ())) if v else (), pruned.get(v, "") if v else ""
        )
        for i, (cell, label) in enumerate(zip(cells, labels, strict=True))
        for v in [cell.variant]
    )
    others = tuple(t for t in trials if t not in mine)
    return Results(name, study, data, request, rows, others, halved.notes if halved else ())


def _belongs(trial: Trial, study: Study, data: Data) -> bool:
    same_data = trial.data.fingerprint == data.fingerprint
    return trial.recipe == study.recipe and trial.task == study.task and same_data


def _found_cell(variant: Family) -> Cell:
    return Cell(variant.by_name, "exact", variant, variant.cost())


def _labels(cells: tuple[Cell, ...]) -> list[str]:
    """A name per network: the paper's four numbers, and the switches that differ in this run."""
    varying = differing_switches(c.variant for c in cells if c.variant is not None)
    return [_label(cell, varying) for cell in cells]


def _label(cell: Cell, varying: list[str]) -> str:
    variant = cell.variant
    if variant is None:
        return ", ".join(f"{k} {v}" for k, v in cell.requested.items())
    return with_switches(variant.label, variant, varying)


def _cell_row(
    cell: CellResult, numbers: tuple[str, ...], measured: tuple[Metric, ...]
) -> dict[str, Any]:
    variant, cost = cell.cell.variant, cell.cell.cost
    row: dict[str, Any] = {"cell": cell.index + 1, "network": cell.label}
    row |= {f"asked_{k}": v for k, v in cell.cell.requested.items()}
    row |= {"fate": cell.cell.fate, "reason": cell.cell.reason, "state": cell.told}
    if variant is None or variant.numbers:
        row |= {n: getattr(variant, n, None) for n in numbers}
    row |= {n: getattr(cost, n, None) for n in ("params", "macs", "activations")}
    for by in measured:
        estimate = cell.estimate(by)
        for k in ("mean", "low", "high"):
            row[f"{by.name}_{k}"] = rounded(getattr(estimate, k, None))
        row[f"{by.name}_n"] = estimate.n if estimate else 0
    return row


def _bootstrap(cell: CellResult, by: Metric) -> dict[str, Any]:
    """Ends of the interval that assumes no distribution; too short below some ten seeds."""
    found = None if by.counted else cell.estimate(by, "bootstrap")
    return {f"{by.name}_bootstrap_{k}": rounded(getattr(found, k, None)) for k in ("low", "high")}


def _seed_row(result: TrialResult, label: str, measured: tuple[Metric, ...]) -> dict[str, Any]:
    record = result.record
    row: dict[str, Any] = {"network": label, "seed": result.trial.seed, "trial": result.trial.id}
    row |= {"state": result.state, "epochs": len(result.curve)}
    row |= {by.name: rounded(result.value(by)) for by in measured}
    row |= {n: getattr(record, n, None) for n in ("kind", "error", "attempts", "device")}
    return row | {"seconds": getattr(record, "seconds", None)}


def load(run_dir: str | Path) -> Results:
    """Read a run's folder; any run, finished or not.

    Raises:
        ValueError: when the folder holds no study.
    """
    from archsearch.storage.study_folder import StudyFolder

    folder = StudyFolder(Path(run_dir))
    if not (folder.path / "study.json").exists():
        raise ValueError(f"{run_dir} holds no study: it has no study.json")
    states = folder.states()
    trials = tuple(
        _read_trial(trial, states[trial.id], folder.trial(trial.id)) for trial in folder.trials()
    )
    name, study, data = Path(run_dir).resolve().name, folder.study(), folder.data()
    return assemble(name, study, data, folder.request(), trials, _halved(study, data, trials))


def _halved(study: Study, data: Data, trials: tuple[TrialResult, ...]) -> "Halving | None":
    """What a halving did, from its records again; None for another study, or one under way."""
    from archsearch.searching.adaptive_plan import drive
    from archsearch.searching.plans import halving_of

    if not isinstance(study.plan, Halve):
        return None
    # Planned anew, trials have the ids of these numerics; the folder's may be of earlier ones.
    records = {replace(t.trial).id: t.record for t in trials}
    return drive(halving_of(study, data), records.get)


def _read_trial(trial: Trial, state: State, folder: Any) -> TrialResult:
    record = folder.record()
    if record is not None:
        return TrialResult(trial, record.status, record, record.curve)
    return TrialResult(trial, state, None, folder.curve())
