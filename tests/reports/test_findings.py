"""The findings in words have the numbers of the published grid's records."""

import json
import math
import re
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from archsearch.benchmarks.evidence import findings_table
from archsearch.reports.context import Context
from archsearch.reports.formats import as_markdown
from archsearch.reports.main_effects import additive_fit
from archsearch.reports.phrases import p_text
from archsearch.reports.winner import Winner
from archsearch.results import LEVEL, Results, load
from archsearch.stats.rank_agreement import reliability
from archsearch.studies.evidence_verdicts import findings

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "studies/results/grid-2.2M-cifar10"
TEXT = (ROOT / "docs/findings.md").read_text()
WORDS = " ".join(TEXT.split())


def of(metric: str) -> Context:
    return Context.of(load(PUBLISHED), metric)


def numbers() -> list[str]:
    """Return the parts of sentences that follow from the records."""
    context, test = of("val_accuracy"), of("test_accuracy")
    fit, of_test = additive_fit(context), additive_fit(test)
    trends = {s.factor: s for s in fit.trends}
    test_trends = {s.factor: s for s in of_test.trends}
    steps = {(s.factor, s.low): s for s in fit.steps}

    def text(contrast, digits: int = 1) -> str:
        half = contrast.interval(LEVEL, 0).half_width
        return f"{abs(contrast.estimate):.{digits}f} ± {half:.{digits}f}"

    winner = Winner.of(context, "(24, 8, 1, 9)")
    return [
        f"adds {text(trends['c1'])} points",
        f"p = {p_text(trends['c1'].holm_p_value)} adjusted for three trends",
        f"on the test split {text(test_trends['c1'])}",
        f"12 → 16 gives +{text(steps['c1', 12])}",
        f"16 → 20 gives +{text(steps['c1', 16])}",
        f"4 → 8: −{text(trends['group_channels'])} (test −{text(test_trends['group_channels'])})",
        f"costs {text(trends['l1'], 2)} points (p = {p_text(trends['l1'].holm_p_value)} adjusted",
        f"on the test split {text(test_trends['l1'], 2)}, "
        f"p = {p_text(test_trends['l1'].holm_p_value)})",
        f"lack of fit p = {p_text(fit.lack_of_fit)}",
        f"with {winner.value_text}",
        f"to be {winner.selection_bias:.1f} points too high; on the test split it has "
        f"{winner.test_text}",
    ]


def test_the_findings_have_the_numbers_of_the_records() -> None:
    assert [part for part in numbers() if part not in WORDS] == []


def test_the_single_steps_and_c_are_as_the_findings_say() -> None:
    fit = additive_fit(of("val_accuracy"))
    assert all(step.holm_p_value > 0.05 for step in fit.steps)
    assert [s.factor for s in fit.trends if s.holm_p_value > 0.05] == ["group_channels"]
    assert [m.factor for m in fit.main_effects if m.clustered] == ["c1"]


def test_what_the_stored_taus_of_short_trainings_say() -> None:
    """The correlation of one seed is reliability * corrected + shared * (1 - reliability)."""
    results = load(PUBLISHED)
    metric = results.study.task.metric("val_accuracy")
    values = {
        c.label: [c.values(metric)[seed] for seed in range(3)] for c in results.cells if c.trials
    }
    of_full = reliability(np.array(list(values.values()), dtype=float).T)
    rows = json.loads((ROOT / "studies/results/halving.json").read_text())["tau"]

    def corrected(rung: str, shared: float) -> float:
        r = fmean(math.sin(math.pi * row["mean"] / 2) for row in rows if row["rung"] == rung)
        without_noise = (r - shared * (1 - of_full)) / of_full
        return 2 / math.pi * math.asin(min(1.0, without_noise))

    none, most = ([corrected(r, s) for r in sorted({x["rung"] for x in rows})] for s in (0, 0.8))
    assert f"a reliability of {of_full:.2f} over three seeds" in WORDS
    assert [f"{tau:.2f}" for tau in none] == ["1.00", "1.00"]
    assert f"share 80% of it, {most[0]:.2f} and {most[1]:.2f}" in WORDS


@pytest.fixture(scope="module")
def evidence() -> dict[str, Results]:
    return {path.name: load(path) for path in (ROOT / "studies/results").glob("evidence-*")}


def test_the_table_of_the_four_orderings_is_that_of_the_records(
    evidence: dict[str, Results],
) -> None:
    assert {name: len(run.trials) for name, run in evidence.items()} == {
        "evidence-stacking": 168, "evidence-table-c": 120,
    }  # fmt: skip
    assert as_markdown(findings_table(evidence)) in TEXT


def test_the_verdicts_in_words_have_the_numbers_of_the_records(
    evidence: dict[str, Results],
) -> None:
    all_findings = findings(evidence)
    assert [f.seeds_left_out for f in all_findings] == [()] * len(all_findings)
    ours = {f.ordering.name: f for f in all_findings if f.metric == "val_accuracy"}
    signs = {"C1": "above", "C'": "above", "L1": "below", "(alpha, beta)": "above"}
    for name, finding in ours.items():
        assert f"**{'Width' if name == 'C1' else name}: {finding.verdict}.**" in WORDS
        low, high = finding.interval()
        effect = f"{abs(finding.test.estimate):.2f} points {signs[name]}"
        interval = f"({low:.2f} to {high:.2f}, p = {finding.adjusted_p_value:.3f})"
        interval = interval.replace("-", "−")
        assert (finding.test.estimate > 0) == (signs[name] == "above")
        assert re.search(rf"{re.escape(effect)} [^.]*?{re.escape(interval)}", WORDS), interval
    deviations = [f.deviation for f in ours.values()]
    assert f"was {min(deviations):.2f} to {max(deviations):.2f} points" in WORDS


def test_loss_and_test_accuracy_confirm_what_the_words_say(evidence: dict[str, Results]) -> None:
    verdicts = {(f.ordering.name, f.metric): f.verdict for f in findings(evidence)}
    confirmed = {key for key, verdict in verdicts.items() if verdict == "confirmed"}
    assert "contradicted" not in verdicts.values()
    assert confirmed == {
        ("C'", "val_loss"), ("C'", "test_accuracy"),
        ("C1", "val_accuracy"), ("C1", "val_loss"), ("C1", "test_accuracy"),
    }  # fmt: skip


def test_the_pairs_rank_as_the_words_say(evidence: dict[str, Results]) -> None:
    run = evidence["evidence-table-c"]
    comparison = run.compare()
    ranked = sorted(run.cells, key=lambda cell: -comparison.estimates[cell.index].mean)
    first, second, *others = (comparison.estimates[cell.index] for cell in ranked)
    assert [cell.cell.requested["alpha"] for cell in ranked[:2]] == [1.03, 1.09]
    assert set(comparison.ranking.tied) == {cell.label for cell in ranked[:2]}
    for pair, estimate in (("(1.03, 1.40)", first), ("(1.09, 1.36)", second)):
        assert f"{pair} has {estimate.mean:.1f} ± {estimate.half_width:.1f}%" in WORDS
    a, b, c = (f"{estimate.mean:.1f}" for estimate in others)
    assert f"with {a}, {b} and {c}%" in WORDS
