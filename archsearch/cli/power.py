"""The command on a planned study: what it can decide."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument

from archsearch.api.keywords import from_options
from archsearch.api.live import say
from archsearch.api.power import Power, PowerAnswer
from archsearch.cli.options import AsFormat, Format, with_options
from archsearch.cli.output import print_json, print_rows


@with_options(Power)
def power(
    run: Annotated[
        Path | None, Argument(help="Use the noise, the plan and the times of this run.")
    ] = None,
    output: AsFormat = Format.table,
    **options: Any,
) -> None:
    """Print what a planned study can decide.

    For each contrast it prints the smallest effect that is found with 80% probability.
    """
    answer = from_options(Power, options).answer(run)
    if output is Format.json:
        print_json(answer.to_dict())
        return
    print_rows(_effect_rows(answer), title="Smallest effect found with 80% power, in points")
    if answer.effect is not None:
        print_rows(_design_rows(answer), title=f"\nCheapest design for {answer.effect:g} points")
    say(_note(answer))


def _effect_rows(answer: PowerAnswer) -> list[dict[str, Any]]:
    """Return a row per contrast with a column per number of seeds, then trainings and hours."""
    table: dict[str, dict[str, Any]] = {}
    trainings: dict[str, Any] = {"contrast": "trainings"}
    hours: dict[str, Any] = {"contrast": "hours on one worker"}
    for row in answer.rows():
        column = f"{row['seeds']} seeds"
        text = f"{row['smallest_effect']:.2f} ({row['alone']:.2f})"
        table.setdefault(row["contrast"], {"contrast": row["contrast"]})[column] = text
        trainings[column] = str(row["trainings"])
        hours[column] = "" if row["hours"] is None else f"{row['hours']:.1f}"
    return [*table.values(), trainings, *([hours] if any(list(hours.values())[1:]) else [])]


def _design_rows(answer: PowerAnswer) -> list[dict[str, Any]]:
    return [
        {**row, "hours": None if row["hours"] is None else f"{row['hours']:.1f}"}
        | ({"seeds": "more than 1,000"} if row["seeds"] is None else {})
        for row in answer.designs()
    ]


def _note(answer: PowerAnswer) -> str:
    return (
        f"The deviation of the noise is {answer.noise.deviation:.2f} points "
        f"({answer.noise.source}). The error of 5% is shared by {answer.tests} test(s) (Holm); in "
        "parentheses: a single test."
    )


COMMANDS = (power,)
