"""A run in an experiment tracker: TensorBoard, Weights & Biases or MLflow.

Everything is written from the records, after the trainings, so a tracker never delays or stops one.
The packages of the trackers are optional, and imported when they are used.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from archsearch.results import load
from archsearch.trackers.trainings import Training, trainings_of

TRACKERS = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases", "mlflow": "MLflow"}
"""Name of the package, of its option and of our module -> the tracker."""

Write = Callable[[Sequence[Training], str], int]


def export_to(tracker: str, run_dir: str | Path, target: str) -> tuple[int, int]:
    """Write the finished trainings of a run, failed and diverged ones too, to a tracker.

    Repeat the call to add what the run has had since, or to complete an interrupted export; nothing
    is written twice. A training that failed and was trained again is another run of the tracker.

    Returns:
        The numbers of trainings that were written and that have no result yet.

    Raises:
        ValueError: the package is not installed, the run has no study, or MLflow has no such URI.
    """
    trainings, num_unfinished = trainings_of(load(run_dir))
    return _writer(tracker)(trainings, target), num_unfinished


def _writer(tracker: str) -> Write:
    try:
        import_module(tracker)
    except ImportError as error:
        raise ValueError(
            f"an export to {TRACKERS[tracker]} needs the package {tracker}, which cannot be "
            f"imported ({error}): pip install 'archsearch[trackers]'"
        ) from error
    write: Write = import_module(f"archsearch.trackers.to_{tracker}").write
    return write
