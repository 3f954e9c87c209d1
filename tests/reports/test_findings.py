"""The findings in words have the numbers of the published grid's records."""

import json
import math
from pathlib import Path
from statistics import fmean

import numpy as np

from archsearch.benchmarks.evidence import findings_table
from archsearch.reports.context import Context
from archsearch.reports.formats import as_markdown
from archsearch.reports.main_effects import additive_fit
from archsearch.reports.phrases import p_text
from archsearch.reports.winner import Winner
from archsearch.results import LEVEL, load
from archsearch.stats.rank_agreement import reliability

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


def test_the_table_of_the_four_orderings_is_that_of_the_records() -> None:
    runs = {path.name: load(path) for path in (ROOT / "studies/results").glob("evidence-*")}
    assert len(runs) == 2
    assert as_markdown(findings_table(runs)) in TEXT
