"""The findings in words have the numbers of the published grid's records."""

from pathlib import Path

import pytest

from archsearch.reports.context import Context
from archsearch.reports.main_effects import additive_fit
from archsearch.reports.phrases import p_text
from archsearch.reports.winner import Winner
from archsearch.results import LEVEL, load

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "studies/results/grid-2.2M-cifar10"
TEXTS = [ROOT / "docs/findings.md", ROOT / "studies/results/README.md"]


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


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_the_findings_have_the_numbers_of_the_records(path: Path) -> None:
    words = " ".join(path.read_text().split())
    assert [part for part in numbers() if part not in words] == []


def test_the_single_steps_and_c_are_as_the_findings_say() -> None:
    fit = additive_fit(of("val_accuracy"))
    assert all(step.holm_p_value > 0.05 for step in fit.steps)
    assert [s.factor for s in fit.trends if s.holm_p_value > 0.05] == ["group_channels"]
    assert [m.factor for m in fit.main_effects if m.clustered] == ["c1"]
