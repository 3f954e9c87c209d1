"""How a comparison of families was tuned: its pilot trainings, and what one recipe cannot show."""

from collections.abc import Iterator
from typing import Any

from archsearch.core.plans import PILOT_CELLS, PILOT_RATES, Tune
from archsearch.core.plans import PILOTS as PILOT_STUDIES
from archsearch.reports.card import Card, unless
from archsearch.reports.context import Context
from archsearch.reports.formats import Table
from archsearch.reports.phrases import duration, paragraph, plural
from archsearch.results import Results
from archsearch.results.pilots import RateChoice, cells_by_family, rate_choices

EDGES = {"lowest": "the lowest rate tried: a lower one may be better",
         "highest": "the highest rate tried: a higher one may be better"}  # fmt: skip


def pilots_table(context: Context) -> Table:
    """Return a row per family: its network, its value at every rate, and the rate chosen."""
    tune, choices = _tune(context), rate_choices(context.results.pilots[PILOT_RATES])
    metric = context.results.pilots[PILOT_RATES].metric(context.results.study.metric)
    columns = {
        "Family": [*choices],
        "Network": [choice.network for choice in choices.values()],
        **{
            f"{metric.axis} at {rate:g}": [
                metric.text(choice.values.get(rate)) for choice in choices.values()
            ]
            for rate in tune.rates
        },
        "Chosen": [f"{choice.rate:g}" for choice in choices.values()],
        "Pilots": [str(number) for number in _num_pilots(context, choices)],
        "Remarks": [EDGES.get(choice.at_edge, "") for choice in choices.values()],
    }
    return Table.of(columns, [*_rows(choices)], note=_note(context))


def _tune(context: Context) -> Tune:
    tune = context.results.study.plan
    assert isinstance(tune, Tune), "a comparison of families has this plan"
    return tune


def _num_pilots(context: Context, families: dict[str, RateChoice]) -> Iterator[int]:
    """Yield the number of distinct pilot trainings of each family."""
    groups = [cells_by_family(pilots) for pilots in _trained(context.results)]
    for name in families:
        cells = (cell for group in groups for cell in group.get(name, ()))
        yield len({t.trial.id for cell in cells for t in cell.trials})


def _rows(choices: dict[str, RateChoice]) -> Iterator[dict[str, Any]]:
    for name, choice in choices.items():
        for rate, value in choice.values.items():
            row = {"family": name, "network": choice.network, "lr": rate, "value": value}
            yield {**row, "chosen": rate == choice.rate, "edge": choice.at_edge}


def _note(context: Context) -> str:
    tune, pilots = _tune(context), context.results.pilots
    rule = (
        f"The rule, the same for all families: of {len(tune.rates)} learning rates the one with "
        "the best pilot, a training of the family's network with the median number of "
        f"multiply-adds, with the study's recipe and the seed {tune.pilot_seed:,}. Of equal "
        "values the lower rate is taken. One pilot per rate is a noisy choice."
    )
    cells = ""
    if PILOT_CELLS in pilots:
        cells = (
            "Then every cell was trained once with its family's rate and that seed, and of each "
            f"family the best were chosen, at most {plural(tune.num_cells or 0, 'cell')}; families "
            "with more cells had more pilots in this part."
        )
    return paragraph(rule, cells, pilots_text(context.results))


def _trained(results: Results) -> list[Results]:
    """Return the pilots that were trained, and not only timed."""
    return [pilots for name, pilots in results.pilots.items() if name in PILOT_STUDIES]


def pilots_text(results: Results) -> str:
    """Return how many pilot trainings a run had, and their time; empty without pilots."""
    records = {t.trial.id: t.record for pilots in _trained(results) for t in pilots.trials}
    if not records:
        return ""
    seconds = sum(record.seconds for record in records.values() if record)
    return f"{plural(len(records), 'pilot training')}, {duration(seconds)} together."


LIMITS = {
    "The recipe is one": "All families train with the same epochs, augmentation, weight decay and "
    "schedule. Only the learning rate is tuned, on few pilots. Another recipe may suit another "
    "family better.",
    "Published recipes differ": "The networks that papers print were trained with recipes of their "
    "own, for longer, and often at a larger size. This table does not repeat their results.",
    "One budget": "The order of families may change at another budget, and with the measure that "
    "the budget counts.",
    "Short training, small data": "Families that need more data or epochs are at a disadvantage in "
    "a short training; the accuracies here are not those of converged networks.",
    "The grids are choices": "Each family is represented by the cells that were planned. More "
    "cells, or better ones, may change its best.",
    "Time is of this machine": "The time of a step depends on the device, on the implementation of "
    "each operator and on what ran beside it.",
}


def limits_table(context: Context) -> Table:
    """Return a row per limit of a comparison under one recipe."""
    recipe = context.results.study.recipe
    rows = [{"limit": name, "meaning": text} for name, text in LIMITS.items()]
    columns = {"Limit": [*LIMITS], "What it means": [*LIMITS.values()]}
    here = f"{plural(recipe.epochs, 'epoch')} of the recipe {recipe.name}"
    return Table.of(columns, rows, note=f"Here: {here}, on {context.results.data.name}.")


PILOTS = Card(
    name="pilots",
    title="How the learning rates were chosen",
    skip_reason=unless(
        lambda c: PILOT_RATES in c.results.pilots, "no pilot trainings chose learning rates"
    ),
    table=pilots_table,
)
LIMITS_OF_ONE_RECIPE = Card(
    name="one-recipe",
    title="What one recipe cannot show",
    skip_reason=unless(
        lambda c: isinstance(c.results.study.plan, Tune), "the study compares no families"
    ),
    table=limits_table,
)
