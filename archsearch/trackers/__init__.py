"""A run in an experiment tracker: TensorBoard, Weights & Biases or MLflow.

Everything is written from the records, after the trainings, so a tracker never delays or stops one;
`archsearch.trackers.live` does it while other trainings run. The packages of the trackers are
optional, and imported when they are used.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from archsearch.results import load
from archsearch.trackers.trainings import (
    Training,
    full_training,
    is_full_training,
    trainings_of,
)

TRACKERS = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases", "mlflow": "MLflow"}
"""Name of the package, of its option and of our module -> the tracker."""

Write = Callable[[Sequence[Training], str], int]


def export_to(tracker: str, run_dir: str | Path, target: str, name: str = "") -> tuple[int, int]:
    """Write the finished trainings of a run, failed and diverged ones too, to a tracker.

    ``run_dir`` may also be the folder of `archsearch train`. ``name`` replaces the run's name.
    Repeat the call to add what the run has had since, or to complete an interrupted export; nothing
    is written twice. A training that failed and was trained again is another run of the tracker.

    Returns:
        The numbers of trainings that were written and that have no result yet.

    Raises:
        ValueError: the package is not installed, the run has no study, or MLflow has no such URI.
    """
    folder = Path(run_dir)
    if is_full_training(folder):
        trainings, num_unfinished = full_training(folder)
    else:
        trainings, num_unfinished = trainings_of(load(folder), name)
    return _writer(tracker)(trainings, target), num_unfinished


def check_package(tracker: str) -> None:
    """Check that the package is installed, without importing it.

    Raises:
        ValueError: it is not.
    """
    if find_spec(tracker) is None:
        raise ValueError(_needs(tracker, "found"))


def _needs(tracker: str, lacking: str) -> str:
    return (
        f"an export to {TRACKERS[tracker]} needs the package {tracker}, which cannot be {lacking}: "
        "pip install 'archsearch[trackers]'"
    )


def _writer(tracker: str) -> Write:
    check_package(tracker)
    try:
        import_module(tracker)
    except ImportError as error:
        raise ValueError(_needs(tracker, f"imported ({error})")) from error
    write: Write = import_module(f"archsearch.trackers.to_{tracker}").write
    return write
