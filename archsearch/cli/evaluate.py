"""The command that measures trained networks."""

from typing import Annotated, Any

from typer import Argument

from archsearch.api.evaluate import Evaluate, evaluate_weights
from archsearch.api.keywords import from_options
from archsearch.cli.options import AsFormat, Format, with_options
from archsearch.cli.output import print_json, print_rows


@with_options(Evaluate)
def evaluate(
    weights: Annotated[
        str,
        Argument(
            help="Measure the network of this file of weights, RUN:best, or RUN:TRIAL with the "
            "start of a trial's id."
        ),
    ],
    output: AsFormat = Format.table,
    **options: Any,
) -> None:
    """Measure a trained network on held-out images.

    A classifier's accuracy, a detector's box and mask AP, a segmenter's mIoU, which may be averaged
    over several scales and mirror images.
    """
    row = evaluate_weights(weights, from_options(Evaluate, options))
    if output is Format.json:
        print_json(row)
    else:
        print_rows([row])


COMMANDS = (evaluate,)
