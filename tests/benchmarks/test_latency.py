"""The benchmark of predicted latencies: what it measures, and the documented numbers."""

import json
from pathlib import Path

from archsearch.benchmarks.latency import networks, rows, summary
from archsearch.core.family import Family
from archsearch.latency.known import Latencies
from archsearch.results.step_times import StepTime

ROOT = Path(__file__).parents[2]


def test_the_held_out_networks_are_no_part_of_the_model() -> None:
    model, held_out = networks()
    assert (len(set(model)), len(set(held_out))) == (12, 30)
    assert not set(model) & set(held_out)
    assert networks() == (model, held_out)


def test_only_held_out_networks_count() -> None:
    model, held_out = networks()
    used = [*model[:4], *held_out[:2]]

    def seconds(variant: Family) -> float:
        return 1e-9 * variant.cost(32, 32).macs

    times = {v: StepTime((0.9 * seconds(v), seconds(v), 1.2 * seconds(v))) for v in used}
    medians = {v: time.median for v, time in times.items()}
    measured = list(rows(times, Latencies(32, 1000, medians, tuple(model[:4])), 32))
    assert [row["held_out"] for row in measured] == [False] * 4 + [True] * 2
    wrong = [{**row, "error": -0.5} if row["held_out"] else row for row in measured]
    result = summary([*wrong[:-1], {**wrong[-1], "error": 0.05}])
    assert (result["held_out"], result["measured_for_model"]) == (2, 4)
    assert (result["within_10_percent"], result["largest_error"]) == (1, 0.5)
    assert result["tau_of_latency_and_macs"]["tau"] == 1.0
    assert 0.29 < result["median_range_of_repeats"] < 0.31


def test_the_documented_numbers_are_the_stored_ones() -> None:
    stored, torch = (
        json.loads((ROOT / f"studies/results/{name}.json").read_text())
        for name in ("latency", "latency-torch")
    )
    assert summary(stored["rows"]) == stored["summary"]
    assert summary(torch["rows"]) == torch["summary"]
    found = stored["summary"]
    assert (found["held_out"], found["measured_for_model"]) == (30, 12)
    text = (ROOT / "docs/production.md").read_text().replace("\n", " ")
    tau = found["tau_of_latency_and_macs"]
    assert (
        f"{found['within_10_percent']} of the 30 within 10% (median error "
        f"{found['median_error']:.1%}, largest {found['largest_error']:.1%})"
    ) in text
    assert f"{tau['tau']:.2f} ({tau['low']:.2f} to {tau['high']:.2f})" in text
    of_torch = torch["summary"]
    assert (
        f"{of_torch['within_10_percent']} of the 30 are within 10%, with a median error of "
        f"{of_torch['median_error']:.1%}"
    ) in text
    assert stored["processor"].removeprefix("cpu (").partition(")")[0] in text
