"""Check a family: ``python -m archsearch.testing my_net.py:Net`` (exit code 1 if a check fails)."""

import argparse
import sys
from collections.abc import Sequence

from archsearch.testing.contract import Check, Outcome, contract_of


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The family, and the options of `contract_of`."""
    parser = argparse.ArgumentParser(
        prog="python -m archsearch.testing",
        description="Check that a family of networks keeps the contract: its numbers are solved, "
        "counted and stored, its networks are built, trained, killed, resumed, reported and "
        "exported. Prints a line per check; exits with 1 if one fails.",
    )
    parser.add_argument("family", help="FILE.py:Class, package.module:Class, or convnext")
    parser.add_argument("numbers", nargs="?", help="check this network, such as 32-5")
    parser.add_argument("--budget", help="solve the network for this size, such as 50K")
    parser.add_argument("--image-size", type=int, default=32, help="train at this side in pixels")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line per check and return the exit code."""
    options = parse(arguments)
    try:
        checks = contract_of(
            options.family, options.numbers, budget=options.budget, image_size=options.image_size
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    outcomes = [_printed(check) for check in checks]
    counts = {status: sum(o.status == status for o in outcomes) for status in ("fail", "skip")}
    seconds = sum(outcome.seconds for outcome in outcomes)
    print(
        f"{options.family}: {counts['fail']} of {len(outcomes)} checks failed, {counts['skip']} "
        f"skipped, in {seconds:.0f} s"
    )
    return int(counts["fail"] > 0)


def _printed(check: Check) -> Outcome:
    outcome = check.outcome()
    print(
        f"{outcome.status}  {outcome.name:<15} {outcome.seconds:5.1f} s  {outcome.text}", flush=True
    )
    return outcome


if __name__ == "__main__":
    sys.exit(main())
