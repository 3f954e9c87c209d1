"""One network, trained in full to weights, with its progress told."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.api.keywords import option, together
from archsearch.api.live import clock, value_text
from archsearch.api.options import Training
from archsearch.api.session import RUNS, say
from archsearch.core.interrupted import Interrupted
from archsearch.networks import variant_named
from archsearch.running.stopping import Stopping, StudyStopped
from archsearch.study import Record
from archsearch.tasks.classification import CLASSIFICATION

if TYPE_CHECKING:
    from internimage.model import InternImage

LOOK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class FullTraining:
    """How one network is trained in full."""

    data: str = option("digits", "Use digits, cifar10[:PATH] or imagefolder:PATH.", metavar="NAME")
    recipe: str = option(
        "quick", "Train by quick, cifar, table-b or one of its columns.", metavar="NAME"
    )
    epochs: int | None = option(None, "Train for this many epochs, in place of the recipe's.")
    set: Mapping[str, Any] | Sequence[str] | None = option(
        None, "Change one field of the recipe; repeatable.", text=list[str], metavar="KEY=VALUE"
    )
    seed: int = option(0, "Seed of the training.")
    gpus: int | None = option(None, "Train over so many GPUs, at the recipe's batch size.")
    device: str = option("auto", "Use auto, cpu, cuda, or several: cuda*4, cpu*2.")
    start: Path | None = option(
        None, "Weights to begin from, such as those of a pre-training.", text=Path
    )
    out: Path | str | None = option(None, "Folder of the training.", text=Path)

    def device_name(self) -> str:
        """The device, or as many GPUs as asked for.

        Raises:
            ValueError: a number of GPUs, and a device that is none.
        """
        if self.gpus is None:
            return self.device
        if self.gpus < 1:
            raise ValueError(f"gpus wants at least 1, got {self.gpus}")
        if self.device not in ("auto", "cuda"):
            words = f"gpus {self.gpus} is on GPUs, got device {self.device}: choose one of the two"
            raise ValueError(words)
        return f"cuda*{self.gpus}"


@dataclass(frozen=True)
class Trained:
    """What a full training gave: its record, and its folder with the weights."""

    record: Record
    folder: Path

    @property
    def weights(self) -> Path:
        """The file of the weights, for `internimage.load_weights`."""
        from archsearch.running.train_full import WEIGHTS

        return self.folder / WEIGHTS

    def model(self) -> "InternImage":
        """The trained network, in evaluation mode."""
        from internimage import load_weights

        return load_weights(self.weights).eval()


def train_network(network: str, options: FullTraining) -> Trained:
    """Train one network in full; the same call goes on where it was stopped.

    Raises:
        ValueError: no such network, options that are wrong, or a folder with another training.
        StudyStopped: by Ctrl-C or SIGTERM.
    """
    from archsearch.running.train_full import train_full

    training = Training(
        data=options.data, recipe=options.recipe, epochs=options.epochs, set=options.set
    )
    variant, resolved, device = together(
        lambda: variant_named(network),
        lambda: training.resolved(model=network.upper()),
        options.device_name,
    )
    source = options.data.partition(":")[0]
    folder = Path(options.out) if options.out else RUNS / f"train-{variant.name}-{source}"
    say(f"Training {variant.name} on {options.data}, recipe {resolved.recipe.name}, in {folder}")

    def work(stop: Callable[[], bool]) -> Record:
        return train_full(
            variant, resolved.recipe, options.data, folder,
            seed=options.seed, device=device, start=options.start, stop=stop,
        )  # fmt: skip

    trained = Trained(_until_stopped(work, folder), folder)
    say(_outcome(trained))
    return trained


def _outcome(trained: Trained) -> str:
    record = trained.record
    if record.status != "complete":
        return f"{record.status}: {record.error}"
    chooses = CLASSIFICATION.chooses
    names = (chooses, chooses.replace("val_", "test_"))
    results = ", ".join(f"{name} {value_text(record.metrics.get(name))}" for name in names)
    return f"{results} after {clock(record.seconds)}; weights: {trained.weights}"


def _until_stopped(work: Callable[[Callable[[], bool]], Record], folder: Path) -> Record:
    """What ``work`` gives, its progress told.

    Raises:
        StudyStopped: Ctrl-C or SIGTERM; by a second Ctrl-C without saving.
    """
    stopping, record = Stopping(), None
    with stopping.on_signals(), _progress(folder):
        try:
            record = work(lambda: bool(stopping))
        except Interrupted as error:
            code = stopping.reason.exit_code if stopping.reason else 1
            words = f"stopped, and saved in {folder}; the same command goes on"
            raise StudyStopped(words, code) from error
    if record is None:
        assert stopping.reason is not None, "only a second Ctrl-C ends the work without a record"
        words = f"{stopping.reason.words}; the same command goes on from what was last saved"
        raise StudyStopped(words, stopping.reason.exit_code)
    return record


@contextmanager
def _progress(folder: Path) -> Iterator[None]:
    """Tell the events of the training as they come, from another thread."""
    from archsearch.running.progress import Tail

    tail, done = Tail(folder / "events.jsonl"), threading.Event()
    tail.read()  # what earlier sittings told

    def tell() -> None:
        while not done.wait(LOOK_SECONDS):
            for event in tail.read():
                print(_line(event), file=sys.stderr, flush=True)
        for event in tail.read():
            print(_line(event), file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _line(event: dict[str, Any]) -> str:
    speed = event.get("images_per_second")
    rate = "" if speed is None else f", {speed:.0f} images/s"
    if "epoch" not in event:
        where = f"epoch {event['in_epoch']}/{event['epochs']}, step {event['step']}"
        return f"  {where}/{event['steps']}{rate}"
    left = (event["epochs"] - event["epoch"]) * event["seconds"]
    chooses = CLASSIFICATION.chooses
    return (
        f"epoch {event['epoch']}/{event['epochs']}: loss {event['train_loss']:.4f}, "
        f"{chooses} {value_text(event[chooses])}{rate}, about {clock(left)} left"
    )
