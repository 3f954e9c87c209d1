"""The command that compares families of networks."""

from typing import Any

from typer import Exit

from archsearch.api.compare import compare_and_report
from archsearch.api.compare_request import Compare
from archsearch.api.keywords import evaluate_all, from_options
from archsearch.api.live import say
from archsearch.api.options import Launch, Training
from archsearch.cli.launch import print_plan
from archsearch.cli.options import AsFormat, Format, PlanOnly, command_line, with_options
from archsearch.searching.planned_networks import check_networks
from archsearch.space.step_budget import StepBudget
from archsearch.studies.compare import Families


@with_options(Compare, Training, Launch, leave_out=("prune", "prune_over"))
def compare(plan: PlanOnly = False, output: AsFormat = Format.table, **options: Any) -> None:
    """Compare families of networks at one budget.

    All have one recipe; the learning rate of each is chosen on the same number of pilot trainings.
    """
    families, launch = evaluate_all(
        lambda: from_options(Compare, options).plan(from_options(Training, options)),
        from_options(Launch, options).checked,
    )
    if plan and isinstance(families.budget, StepBudget):
        raise ValueError("a budget of time has no plan before it is measured: leave out --plan")
    if plan:
        study = families.final(families.first_rates)
        check_networks(study)
        print_plan(study, output)
        say(trainings_text(families))
    elif "failed" in compare_and_report(families, launch, command_line()).states().values():
        raise Exit(1)


def trainings_text(families: Families) -> str:
    """Return how many trainings each stage takes: ``6 pilots for the rates, ...``."""
    networks = {n: len({c.variant for c in cells} - {None}) for n, cells in families.cells.items()}
    number = families.num_cells
    chosen = [n if number is None else min(n, number) for n in networks.values()]
    parts = [f"{sum(chosen)} networks x {len(families.seeds)} seed(s)"]
    if families.pilot_rates():
        rates = len(families.rates)
        parts.insert(0, f"{rates} pilots of each family for its learning rate")
    if number is not None:
        pilots = ", ".join(f"{n} of {name}" for name, n in networks.items())
        parts.insert(-1, f"one pilot per network ({pilots}) for its best {number}")
    return f"Trainings: {', then '.join(parts)}."


COMMANDS = (compare,)
