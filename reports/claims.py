"""The sizes that the paper prints beside our counts, as a table in every format."""

from collections.abc import Sequence
from pathlib import Path

from archsearch.paper.claim import Claim
from archsearch.paper.printed_sizes import SCOPE_NOTE
from archsearch.reports.formats import Table, write_table

MARKS = {"equal": "best", "by another reading": "tied", "not recovered": "missing"}


def claims_table(claims: Sequence[Claim]) -> Table:
    """Return a row per claim, marked as equal, recovered by another reading, or not recovered."""
    columns = {
        "Source": [c.source for c in claims],
        "Model": [c.model for c in claims],
        "Figure": [c.quantity for c in claims],
        "Paper": [c.printed for c in claims],
        "Ours": [c.ours for c in claims],
        "Ours, exact": [exact(c) for c in claims],
        "Verdict": [str(c.verdict) for c in claims],
        "Convention, and readings tried": [
            ". Tried: ".join(filter(None, (c.convention, c.tried))) for c in claims
        ],
    }
    marks = [MARKS[c.verdict] for c in claims]
    note = f"{tally(claims)} {SCOPE_NOTE}"
    rows = [c.to_dict() for c in claims]
    return Table.of(columns, rows, marks, note, title="Printed sizes, recounted", name="claims")


def tally(claims: Sequence[Claim]) -> str:
    """Return ``36 printed figures: 31 equal at printed precision, ...``."""
    verdicts = [c.verdict for c in claims]
    counts = [f"{verdicts.count('equal')} equal at printed precision"]
    counts += [f"{verdicts.count(v)} {v}" for v in MARKS if v != "equal" and v in verdicts]
    return f"{len(verdicts)} printed figures: {', '.join(counts)}."


def exact(claim: Claim) -> str:
    """Return our count with more digits than printed: 1,083,836,420, 182.18G, 61.77%, 1.977."""
    if claim.printed.endswith("%"):
        return f"{100 * claim.computed:.2f}%"
    if claim.computed < 1000:
        return f"{claim.computed:.3f}"
    if claim.printed.endswith("G"):
        return f"{claim.computed / 1e9:.3f}G"
    return f"{claim.computed:,.0f}"


def render(claims: Sequence[Claim], out_dir: Path) -> list[Path]:
    """Write the table in every format into ``out_dir``."""
    out_dir.mkdir(parents=True, exist_ok=True)
    return write_table(claims_table(claims), out_dir)
