"""Commands on trained networks: export, predict."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from archsearch.api.live import say
from archsearch.api.search_request import parse_metrics
from archsearch.api.session import write_reports
from archsearch.cli.options import AsFormat, Format
from archsearch.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from archsearch.deployment.onnx_export import Check


def export(
    run: Annotated[
        str,
        Argument(
            help="Export the run in this folder; for --onnx and --pt2 RUN:best, RUN:TRIAL or a "
            "file of weights."
        ),
    ],
    optuna: Annotated[
        str | None,
        Option(help="Write to this database for optuna-dashboard, such as sqlite:///runs.db."),
    ] = None,
    records: Annotated[
        Path | None,
        Option(help="Copy the run without its weights to this folder, and report on it."),
    ] = None,
    objectives: Annotated[
        str | None, Option(help="Export these metrics instead of the study's own.")
    ] = None,
    onnx: Annotated[
        Path | None, Option(help="Write the network to this file, such as model.onnx.")
    ] = None,
    int8: Annotated[
        bool, Option("--int8", help="Quantize the ONNX file to 8 bits, and check it.")
    ] = False,
    check: Annotated[
        bool,
        Option(
            "--check",
            help="Run the ONNX file on the held-out images; write it only if it equals the "
            "network.",
        ),
    ] = False,
    pt2: Annotated[
        Path | None,
        Option(help="Write the network to this file of torch.export, such as model.pt2."),
    ] = None,
    tensorboard: Annotated[
        str | None, Option(help="Write the trainings to this folder for TensorBoard.")
    ] = None,
    wandb: Annotated[
        str | None,
        Option(help="Write the trainings to this folder for Weights & Biases, offline."),
    ] = None,
    mlflow: Annotated[
        str | None,
        Option(help="Write the trainings to this URI of MLflow, such as sqlite:///mlflow.db."),
    ] = None,
    output: AsFormat = Format.table,
) -> None:
    """Export a run, or a network as ONNX or a torch program.

    Pending trials are enqueued in the Optuna study, and trackers get every finished training;
    repeat the command to add what is new. A run without weights is small enough to publish. ONNX
    files hold class names and preprocessing.
    """
    trackers = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}
    if not any((optuna, records, onnx, pt2, *trackers.values())):
        raise ValueError(
            "give a target: --optuna sqlite:///runs.db, --records FOLDER, --onnx FILE, --pt2 FILE, "
            "--tensorboard FOLDER, --wandb FOLDER or --mlflow URI"
        )
    if (int8 or check) and onnx is None:
        raise ValueError("--int8 and --check belong to --onnx FILE")
    if optuna is not None:
        _to_optuna(Path(run), optuna, objectives)
    if records is not None:
        from archsearch.storage.publish import publish

        number = publish(Path(run), records)
        say(f"Copied {number} trials of {run} to {records}, without their weights")
        write_reports([records])
    for tracker, target in trackers.items():
        if target is not None:
            _to_tracker(tracker, Path(run), target)
    if onnx is not None or pt2 is not None:
        _to_files(run, onnx, pt2, int8, check, output)


def _to_optuna(run: Path, target: str, objectives: str | None) -> None:
    from archsearch.optuna_export import export_optuna

    num = export_optuna(run, target, parse_metrics(objectives) if objectives else ())
    say(f"Wrote {num} new or changed trials of {run} to {target}")


def _to_tracker(tracker: str, run: Path, target: str) -> None:
    from archsearch.trackers import export_to

    num, num_unfinished = export_to(tracker, run, target)
    say(f"Wrote {num} new trainings of {run} to {target}")
    if num_unfinished:
        noun = "training has" if num_unfinished == 1 else "trainings have"
        say(f"{num_unfinished} {noun} no result yet: repeat the command later to add them")


def _to_files(
    name: str, onnx: Path | None, pt2: Path | None, int8: bool, check: bool, output: Format
) -> None:
    from archsearch.deployment.onnx_export import write_onnx
    from archsearch.deployment.trained import open_classifier
    from internimage.program import write_program

    network = open_classifier(name)
    if onnx is not None:
        result = write_onnx(network, onnx, int8=int8, check=check)
        say(f"Wrote {name} to {onnx}")
        if result is not None:
            _print_check(result, onnx, output)
    if pt2 is not None:
        write_program(network.model, pt2)
        say(f"Wrote {name} to {pt2}")


def _print_check(result: "Check", path: Path, output: Format) -> None:
    row = {"file": str(path), **asdict(result)}
    if output is Format.json:
        print_json(row)
        return
    accuracies = {key: f"{row[key]:.2f}%" for key in ("accuracy_before", "accuracy_after")}
    print_rows([row | accuracies | {"error": f"{result.error:.1e}"}])


def predict(
    weights: Annotated[
        str, Argument(help="Use this network: a file of weights, RUN:best or RUN:TRIAL.")
    ],
    images: Annotated[list[Path], Argument(help="Classify these image files.")],
    output: AsFormat = Format.table,
) -> None:
    """Print the class that a network sees in each image."""
    from archsearch.deployment.predict import predict as classify
    from archsearch.deployment.trained import open_classifier

    predictions = classify(open_classifier(weights), images)
    rows = [
        {"image": p.image, "class": p.class_name, "probability": p.probability} for p in predictions
    ]
    if output is Format.json:
        print_json(rows)
    else:
        print_rows([row | {"probability": f"{row['probability']:.3f}"} for row in rows])


COMMANDS = (export, predict)
