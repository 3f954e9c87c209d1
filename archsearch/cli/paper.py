"""The paper's studies beyond grid, ladder and search, and its printed figures recounted."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Exit, Option

from archsearch.cli.options import AsFormat, Format
from archsearch.cli.show import print_json, print_rows

if TYPE_CHECKING:
    from archsearch.claims import Claim


def verify(
    out: Annotated[Path | None, Option(help="Write the table here too, in every format.")] = None,
    output: AsFormat = Format.table,
) -> None:
    """Recount every size the paper prints; exit 1 when one that should come out does not."""
    from archsearch.claims import claims
    from reports.claims import render, tally

    found = claims()
    if output is Format.json:
        print_json([claim.to_dict() for claim in found])
    else:
        _print_claims(found)
    if out is not None:
        render(found, out)
    print(tally(found), file=sys.stderr)
    if broken := [claim for claim in found if claim.broken]:
        names = "; ".join(f"{c.source}, {c.model}, {c.quantity}" for c in broken)
        print(f"{len(broken)} should have come out and did not: {names}", file=sys.stderr)
        raise Exit(1)


def _print_claims(found: "tuple[Claim, ...]") -> None:
    from archsearch.claims import NOT_COUNTED
    from reports.claims import exact

    rows: list[dict[str, Any]] = [
        {
            "source": c.source, "model": c.model, "figure": c.quantity, "paper": c.printed,
            "ours": c.ours, "exact": exact(c), "verdict": c.verdict,
        }
        for c in found
    ]  # fmt: skip
    print_rows(rows, title="Printed sizes, recounted")
    for claim in found:
        if claim.verdict != "equal":
            print(f"\n{claim.source}, {claim.model}, {claim.quantity} {claim.printed}:")
            print(f"  {claim.verdict}. {claim.tried}.")
    print(f"\n{NOT_COUNTED}")


COMMANDS = (verify,)
