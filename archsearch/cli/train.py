"""`archsearch train`: one network, in full, to weights."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option

from archsearch.cli import options as o
from archsearch.cli.live import clock, value_text
from archsearch.cli.session import RUNS, say
from archsearch.core.study import Interrupted, Record
from archsearch.families.internimage import AnyVariant, parse_variant
from archsearch.running.stopping import Stopping, StudyStopped
from internimage.config import PRESETS, ModelConfig

LOOK_SECONDS = 1.0


def train(
    network: Annotated[
        str, Argument(help="RUN:best, RUN:64-16-4-18, T, S, B, L, XL, H, or 64-16-4-18.")
    ],
    data: o.DataName = "digits",
    recipe: o.RecipeName = "quick",
    epochs: o.Epochs = None,
    set_: o.Set = None,
    seed: Annotated[int, Option(min=0)] = 0,
    gpus: Annotated[
        int | None, Option(min=1, help="Train over so many GPUs, at the recipe's batch size.")
    ] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda, or several: cuda*4, cpu*2.")] = "auto",
    start: Annotated[
        Path | None, Option(help="Weights to begin from, such as those of a pre-training.")
    ] = None,
    out: Annotated[Path | None, Option(help="Folder of the training.")] = None,
) -> None:
    """Train one network in full, to weights one can load.

    A run's winner for instance: RUN:best. The weights load anywhere.
    """
    from archsearch.training.full import WEIGHTS, train_full

    (name, chosen), training = o.together(
        lambda: _network(network),
        lambda: o.training(data, recipe, epochs, "1", set_, model=network.upper()),
    )
    if gpus and device not in ("auto", "cuda"):
        raise ValueError(f"--gpus {gpus} is on GPUs, got --device {device}: choose one of the two")
    folder = out or RUNS / f"train-{name}-{data.partition(':')[0]}"
    say(f"Training {name} on {data}, recipe {training.recipe.name}, in {folder}")

    def work(stop: Callable[[], bool]) -> Record:
        place = f"cuda*{gpus}" if gpus else device
        recipe = training.recipe
        return train_full(
            chosen, recipe, data, folder, seed=seed, device=place, start=start, stop=stop
        )

    record = _until_stopped(work, folder)
    if record.status != "complete":
        say(f"{record.status}: {record.error}")
        raise Exit(1)
    accuracies = (
        f"{k} {value_text(record.metrics.get(k))}" for k in ("val_accuracy", "test_accuracy")
    )
    say(f"{', '.join(accuracies)} after {clock(record.seconds)}; weights: {folder / WEIGHTS}")


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


def _network(text: str) -> tuple[str, AnyVariant | ModelConfig]:
    """A name fit for a folder, and what is trained.

    Raises:
        ValueError: nothing is called so.
    """
    run, colon, cell = text.rpartition(":")
    if colon:
        from archsearch.reproduce import cell_of
        from archsearch.results import load

        variant = cell_of(load(run), cell).cell.variant
        assert variant is not None, "cell_of gives cells that can be trained"
        return variant.name, variant
    if text.upper() in PRESETS:
        return text.upper(), PRESETS[text.upper()].config
    variant = parse_variant(text)
    return variant.name, variant


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
    return (
        f"epoch {event['epoch']}/{event['epochs']}: loss {event['train_loss']:.4f}, val_accuracy "
        f"{value_text(event['val_accuracy'])}{rate}, about {clock(left)} left"
    )


COMMANDS = (train,)
