"""Full training of one network to weights, with its progress on stderr."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.api.families import network_named
from archsearch.api.full_training import Chosen, FullTraining
from archsearch.api.keywords import evaluate_all
from archsearch.api.live import clock, say, value_text
from archsearch.api.options import parse_logs
from archsearch.api.session import RUNS
from archsearch.core.family import Family
from archsearch.core.interrupted import Interrupted
from archsearch.core.task import Data, Task
from archsearch.running.stopping import StopRequest, StudyStopped, stopped_by_storage
from archsearch.space.trainable import check_variant
from archsearch.studies.family_texts import study_name
from archsearch.study import Record
from archsearch.tasks.classification import CLASSIFICATION

if TYPE_CHECKING:
    from torch import nn

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class TrainedNetwork:
    """The result of a full training: its record, and the folder with the weights."""

    record: Record
    folder: Path

    @property
    def weights(self) -> Path:
        """The file of the weights; `internimage.load_weights` reads those of InternImage."""
        from archsearch.running.train_full import WEIGHTS

        return self.folder / WEIGHTS

    @property
    def predictions(self) -> Path:
        """The page of predictions in held-out images, of a detector or segmenter."""
        return self.folder / "predictions.html"

    def model(self) -> "nn.Module":
        """Return the trained network, in evaluation mode."""
        from archsearch.running.weights import read_network

        return read_network(self.weights)


def train_network(network: "str | Family | type[Family]", options: FullTraining) -> TrainedNetwork:
    """Train one network in full; repeat the call to resume a stopped training.

    Raises:
        ValueError: for an unknown network, wrong options, or a folder with another training.
        StudyStopped: on Ctrl-C, SIGTERM or errors of the storage.
    """
    from archsearch.running.preflight import precision_warning
    from archsearch.running.train_full import train_full, training_folder

    variant, chosen, device, logs, _ = evaluate_all(
        lambda: network_named(network, options.family, options.switches),
        lambda: options.chosen(network.upper() if isinstance(network, str) else "T"),
        options.device_name,
        lambda: parse_logs(options.log),
        options.check_seed,
    )
    source = chosen.data.partition(":")[0]
    name = study_name("train", variant)
    head = "" if options.task == "classify" else f"-{chosen.task.to_dict()['head']}"
    folder = Path(options.out) if options.out else RUNS / f"{name}-{variant.name}{head}-{source}"
    if training_folder(folder).record() is None:
        _check_inputs(variant, chosen, device, options.start)
    say(f"Training {variant.name} on {chosen.data}, recipe {chosen.recipe.name}, in {folder}")
    if warning := precision_warning(chosen.recipe, device):
        say(warning)

    def work(stop: Callable[[], bool]) -> Record:
        return train_full(
            variant, chosen.recipe, chosen.data, folder, task=chosen.task,
            seed=options.seed, device=device, start=options.start, stop=stop,
        )  # fmt: skip

    with stopped_by_storage(folder):
        trained = TrainedNetwork(_run_until_stopped(work, folder, chosen.task), folder)
    if logs:
        from archsearch.trackers.live import export_now

        export_now(logs, folder, say)
    is_drawn = _draw(trained, f"{variant.name} on {chosen.data}")
    say(_result_text(trained, chosen.task))
    if is_drawn:
        say(f"predictions in held-out images: {trained.predictions}")
    return trained


def _check_inputs(variant: Family, chosen: Chosen, device: str, start: Path | str | None) -> None:
    """Check network, device, data and the weights to start from, before the folder is made.

    Raises:
        ValueError: with the problems of all of them.
    """
    from archsearch.running.start_file import check_start, read_start
    from archsearch.training.device import check_device

    task, recipe = chosen.task, chosen.recipe

    def check_weights() -> None:
        if start is not None and task == CLASSIFICATION:  # any number of classes fits
            any_data = Data("", "", 1, channels=3, num_train=0, num_val=0, num_test=0)
            check_start(Path(start), variant, recipe, any_data, task)
        elif start is not None:
            read_start(Path(start))

    evaluate_all(
        lambda: check_variant(variant, recipe, task == CLASSIFICATION),
        lambda: check_device(recipe, device),
        lambda: task.describe(chosen.data, recipe),
        check_weights,
    )


def _draw(trained: TrainedNetwork, title: str) -> bool:
    """Write the page of predictions; False if the training kept none."""
    from archsearch.storage.trial_folder import PREDICTIONS

    if not (trained.folder / PREDICTIONS).is_file():
        return False
    from archsearch.reports.predictions import write_page  # loads matplotlib

    write_page(trained.folder / PREDICTIONS, title, trained.predictions)
    return True


def _result_text(trained: TrainedNetwork, task: Task) -> str:
    record = trained.record
    if record.status != "complete":
        return f"{record.status}: {record.error}"
    names = [f"{split}_{name}" for name in _shown(task) for split in ("val", "test")]
    results = ", ".join(f"{name} {value_text(record.metrics.get(name))}" for name in names)
    return f"{results} after {clock(record.seconds)}; weights: {trained.weights}"


def _shown(task: Task) -> tuple[str, ...]:
    """Return the measures that lines of progress show: the one that ranks, and masks' AP."""
    ranking = task.metric(task.ranking_metric).field.removeprefix("val_")
    return tuple(name for name in task.measures if name in (ranking, "mask_ap"))


def _run_until_stopped(
    work: Callable[[Callable[[], bool]], Record], folder: Path, task: Task
) -> Record:
    """Return the record that ``work`` gives; print its progress meanwhile.

    Raises:
        StudyStopped: on Ctrl-C or SIGTERM; a second Ctrl-C stops without saving.
    """
    stopping, record = StopRequest(), None
    with stopping.on_signals(), _progress(folder, task):
        try:
            record = work(lambda: bool(stopping))
        except Interrupted as error:
            code = stopping.reason.exit_code if stopping.reason else 1
            message = f"stopped and saved in {folder}; the same command resumes"
            raise StudyStopped(message, code) from error
    if record is None:
        assert stopping.reason is not None, "only a second Ctrl-C ends the work without a record"
        message = f"{stopping.reason.message}; the same command resumes from the last checkpoint"
        raise StudyStopped(message, stopping.reason.exit_code)
    return record


@contextmanager
def _progress(folder: Path, task: Task) -> Iterator[None]:
    """Print the events of the training as they are written, from another thread."""
    from archsearch.running.progress import EventTail

    tail, done = EventTail(folder / "events.jsonl"), threading.Event()
    tail.read()  # skip the events of earlier runs

    def print_new_events() -> None:
        for event in tail.read():
            say(_event_text(event, task))

    def print_until_done() -> None:
        while not done.wait(POLL_SECONDS):
            print_new_events()
        print_new_events()

    thread = threading.Thread(target=print_until_done, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _event_text(event: dict[str, Any], task: Task) -> str:
    speed = event.get("images_per_second")
    rate = "" if speed is None else f", {speed:.0f} images/s"
    if "epoch" not in event:
        position = f"epoch {event['in_epoch']}/{event['epochs']}, step {event['step']}"
        return f"  {position}/{event['steps']}{rate}"
    left = (event["epochs"] - event["epoch"]) * event["seconds"]
    values = ", ".join(f"val_{name} {value_text(event[f'val_{name}'])}" for name in _shown(task))
    position = f"epoch {event['epoch']}/{event['epochs']}: loss {event['train_loss']:.4f}"
    return f"{position}, {values}{rate}, about {clock(left)} left"
