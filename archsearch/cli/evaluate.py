"""The command that measures trained networks."""

from functools import partial
from typing import Annotated, Any

from typer import Argument

from archsearch.api.evaluate import Evaluate, evaluate_weights, opened
from archsearch.api.keywords import evaluate_all, from_options
from archsearch.cli.options import AsFormat, Format, with_options
from archsearch.cli.output import print_json, print_rows
from archsearch.cli.probe import MaxImages, OutFolder, new_folder, print_values, say_written


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


@with_options(Evaluate, leave_out=("scales", "flip"))
def scale_invariance(
    networks: Annotated[
        list[str],
        Argument(help="Compare these detectors: files of weights, RUN:best or RUN:TRIAL."),
    ],
    images: MaxImages = 1000,
    out: OutFolder = None,
    output: AsFormat = Format.table,
    **options: Any,
) -> None:
    """Test detectors on scaled images.

    The plot shows the box mAP at factors 0.25 to 3, against the boxes at factor 1 and against the
    annotated ones, as in row 3 of Fig. C.
    """
    from archsearch.probes.scale_invariance import check_detector
    from archsearch.probes.scale_invariance import scale_invariance as measure
    from archsearch.reports import scale_invariance as report

    request = from_options(Evaluate, options)
    *loaded, device = evaluate_all(
        *(partial(opened, name, request) for name in networks), request.check_device
    )
    evaluate_all(*(partial(check_detector, saved) for saved, _, _ in loaded))
    points = [
        point
        for saved, recipe, data in loaded
        for point in measure(saved, data, recipe, request.split, device, images)
    ]
    paths = report.render(points, new_folder(out, "scale-invariance"))
    print_values([vars(point) for point in points], output)
    say_written(paths)


COMMANDS = (evaluate, scale_invariance)
