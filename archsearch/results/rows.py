"""Flat rows of a run's results, for tables and data frames."""

from collections.abc import Mapping
from typing import Any

from archsearch.core.metrics import Metric, rounded
from archsearch.results.cells import CellResult, TrialResult
from archsearch.stats.intervals import Interval


def cell_row(
    cell: CellResult, numbers: tuple[str, ...], estimates: Mapping[str, Interval | None]
) -> dict[str, Any]:
    """Return one cell: request, fate, network, cost, state and the estimate of every metric."""
    variant, cost = cell.cell.variant, cell.cell.cost
    row: dict[str, Any] = {"cell": cell.index + 1, "network": cell.label}
    row |= {f"requested_{k}": v for k, v in cell.cell.requested.items()}
    row |= {"fate": cell.cell.fate, "reason": cell.cell.reason, "state": cell.status_text}
    if variant is None or variant.numbers:
        row |= {n: getattr(variant, n, None) for n in numbers}
    row |= {n: getattr(cost, n, None) for n in ("params", "macs", "activations")}
    for name, estimate in estimates.items():
        row |= {f"{name}_{k}": rounded(getattr(estimate, k, None)) for k in ("mean", "low", "high")}
        row[f"{name}_n"] = estimate.n if estimate else 0
    return row


def seed_row(result: TrialResult, label: str, measured: tuple[Metric, ...]) -> dict[str, Any]:
    """Return one training: network, seed, state, metrics and how it ended."""
    record = result.record
    row: dict[str, Any] = {"network": label, "seed": result.trial.seed, "trial": result.trial.id}
    row |= {"state": result.state, "epochs": len(result.curve)}
    row |= {metric.name: rounded(result.value(metric)) for metric in measured}
    row |= {n: getattr(record, n, None) for n in ("kind", "error", "attempts", "device")}
    return row | {"seconds": getattr(record, "seconds", None)}
