"""Full training of one network to weights, with its progress on stderr."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.api.families import FamilyOptions, network_named
from archsearch.api.keywords import evaluate_all, option
from archsearch.api.live import clock, say, value_text
from archsearch.api.options import DATA_HELP, EPOCHS_HELP, RECIPE_HELP, SET_HELP, Training
from archsearch.api.session import RUNS
from archsearch.core.family import Family
from archsearch.core.interrupted import Interrupted
from archsearch.core.numbers import LARGEST, quoted
from archsearch.running.stopping import StopRequest, StudyStopped, stopped_by_storage
from archsearch.space.trainable import check_variant
from archsearch.studies.family_texts import study_name
from archsearch.study import Record
from archsearch.tasks.classification import CLASSIFICATION

if TYPE_CHECKING:
    from torch import nn

POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class FullTraining(FamilyOptions):
    """How one network is trained in full."""

    data: str = option("digits", DATA_HELP, metavar="NAME")
    recipe: str = option("quick", RECIPE_HELP, metavar="NAME")
    epochs: int | None = option(None, EPOCHS_HELP)
    set: Mapping[str, Any] | Sequence[str] | None = option(
        None, SET_HELP, text=list[str], metavar="KEY=VALUE"
    )
    seed: int = option(0, "Train with this seed.")
    gpus: int | None = option(None, "Share the recipe's batch between this many GPUs.")
    device: str = option("auto", "Train on auto, cpu, cuda, or several devices: cuda*4, cpu*2.")
    start: Path | None = option(
        None, "Start from the weights in this file, such as those of a pre-training.", text=Path
    )
    out: Path | str | None = option(
        None,
        "Write the training to this folder; the default is runs/train-NETWORK-DATA.",
        text=Path,
    )

    def device_name(self) -> str:
        """Return the device, or as many GPUs as requested.

        Raises:
            ValueError: for less than one GPU, or GPUs together with another device.
        """
        if self.gpus is None:
            return self.device
        if not 1 <= self.gpus <= LARGEST:
            raise ValueError(f"gpus must be from 1 to {LARGEST:,}, got {quoted(self.gpus)}")
        if self.device not in ("auto", "cuda"):
            raise ValueError(
                f"gpus {self.gpus} needs the device cuda, got {self.device}: give one of the two"
            )
        return f"cuda*{self.gpus}"

    def check_seed(self) -> None:
        """Check the seed.

        Raises:
            ValueError: it is negative or too large.
        """
        if not 0 <= self.seed <= LARGEST:
            raise ValueError(f"seed must be from 0 to {LARGEST:,}, got {quoted(self.seed)}")


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
    from archsearch.running.train_full import train_full

    training = Training(
        data=options.data, recipe=options.recipe, epochs=options.epochs, set=options.set
    )
    variant, resolved, device, _ = evaluate_all(
        lambda: network_named(network, options.family, options.switches),
        lambda: training.resolved(model=network.upper() if isinstance(network, str) else "T"),
        options.device_name,
        options.check_seed,
    )
    check_variant(variant, resolved.recipe)
    source = options.data.partition(":")[0]
    name = study_name("train", variant)
    folder = Path(options.out) if options.out else RUNS / f"{name}-{variant.name}-{source}"
    say(f"Training {variant.name} on {options.data}, recipe {resolved.recipe.name}, in {folder}")
    if warning := precision_warning(resolved.recipe, device):
        say(warning)

    def work(stop: Callable[[], bool]) -> Record:
        return train_full(
            variant, resolved.recipe, options.data, folder,
            seed=options.seed, device=device, start=options.start, stop=stop,
        )  # fmt: skip

    with stopped_by_storage(folder):
        trained = TrainedNetwork(_run_until_stopped(work, folder), folder)
    say(_result_text(trained))
    return trained


def _result_text(trained: TrainedNetwork) -> str:
    record = trained.record
    if record.status != "complete":
        return f"{record.status}: {record.error}"
    ranking_metric = CLASSIFICATION.ranking_metric
    names = (ranking_metric, ranking_metric.replace("val_", "test_"))
    results = ", ".join(f"{name} {value_text(record.metrics.get(name))}" for name in names)
    return f"{results} after {clock(record.seconds)}; weights: {trained.weights}"


def _run_until_stopped(work: Callable[[Callable[[], bool]], Record], folder: Path) -> Record:
    """Return the record that ``work`` gives; print its progress meanwhile.

    Raises:
        StudyStopped: on Ctrl-C or SIGTERM; a second Ctrl-C stops without saving.
    """
    stopping, record = StopRequest(), None
    with stopping.on_signals(), _progress(folder):
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
def _progress(folder: Path) -> Iterator[None]:
    """Print the events of the training as they are written, from another thread."""
    from archsearch.running.progress import EventTail

    tail, done = EventTail(folder / "events.jsonl"), threading.Event()
    tail.read()  # skip the events of earlier runs

    def print_new_events() -> None:
        for event in tail.read():
            say(_event_text(event))

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


def _event_text(event: dict[str, Any]) -> str:
    speed = event.get("images_per_second")
    rate = "" if speed is None else f", {speed:.0f} images/s"
    if "epoch" not in event:
        position = f"epoch {event['in_epoch']}/{event['epochs']}, step {event['step']}"
        return f"  {position}/{event['steps']}{rate}"
    left = (event["epochs"] - event["epoch"]) * event["seconds"]
    ranking_metric = CLASSIFICATION.ranking_metric
    return (
        f"epoch {event['epoch']}/{event['epochs']}: loss {event['train_loss']:.4f}, "
        f"{ranking_metric} {value_text(event[ranking_metric])}{rate}, about {clock(left)} left"
    )
