"""Time a training step by operator: ``python -m archsearch.benchmarks.train_step``.

The step is the one that trials take (`archsearch.training.loop`): forward, backward and optimizer,
on random images, so that nothing but torch, numpy and safetensors is needed. Every side has a
network of its own; all take turns in one run, so that noise meets them alike, and the best of
several rounds counts. The shares say where the native side's time goes, by torch's profiler.

A side that fails, the native one apart, has no seconds, and the reason is told. A GPU's memory may
hold fewer images than the batch: then they go through the network in parts, and
``images_at_a_time`` says so.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import internimage.dcnv3
from archsearch.core.recipe import QUICK, Recipe
from archsearch.core.task import Batch, Data, Splits
from archsearch.families.internimage import parse_network
from archsearch.tasks.classification import Classification, LabelledSplits
from archsearch.training.augmentation import Pipeline
from archsearch.training.device import DTYPES, device_name, device_of, settings
from archsearch.training.images import Dataset, Images, in_memory
from archsearch.training.loader import indices, reader
from archsearch.training.loop import Training
from cuda_ops.baselines import as_dcnv3, find_baselines
from cuda_ops.bench import write_json
from internimage import PRESETS

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
CONVOLUTIONS = ("aten::mkldnn_convolution", "aten::cudnn_convolution", "aten::convolution_backward")
OPERATOR = "archsearch::dcnv3"
NUM_CLASSES = 10

Operator = Callable[..., Tensor]
"""With the arguments of `cuda_ops.dcnv3`."""

SIDES: dict[str, str | Operator | None] = {"native": None, "reference": "torch"}


@contextmanager
def operator(side: str | Operator | None) -> Iterator[None]:
    """The network's operator: another one, or by a backend; None is what it takes by itself."""
    layer: Any = internimage.dcnv3
    kept = layer.dcnv3
    named = partial(kept, backend=side) if isinstance(side, str) else side
    layer.dcnv3 = named or kept
    try:
        yield
    finally:
        layer.dcnv3 = kept


def seconds_of_step(training: Training, batch: Batch, side: str | Operator | None) -> float:
    with operator(side):
        synchronize(training.device)
        before = time.perf_counter()
        training.step(batch)
        synchronize(training.device)
        return time.perf_counter() - before


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def shares(training: Training, batch: Batch) -> dict[str, float | None]:
    """Share of the native side's time in matrix products, convolutions, the operator, the rest.

    None where the profiler saw nothing: on a GPU it may lack the right to look.
    """
    gpu = training.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as seen:
        training.step(batch)
        synchronize(training.device)
    times = {"products": 0.0, "convolutions": 0.0, "operator": 0.0, "rest": 0.0}
    for event in seen.key_averages():
        own = event.self_device_time_total if gpu else event.self_cpu_time_total
        times[_part(event.key)] += own
    total = sum(times.values())
    return {part: value / total if total else None for part, value in times.items()}


def _part(name: str) -> str:
    if name in PRODUCTS or "gemm" in name:
        return "products"
    if name in CONVOLUTIONS or "conv" in name:
        return "convolutions"
    return "operator" if OPERATOR in name or "dcnv3" in name else "rest"


class RandomImages(Classification):
    """Classification of one batch of noise, so that no data set is needed."""

    def prepare(self, data: Data, recipe: Recipe, device: torch.device) -> Splits:
        dataset = random_images(data.num_train, recipe.image_size)
        read, every = (
            reader(dataset.train, recipe.image_size, device),
            indices(range(data.num_train)),
        )
        return LabelledSplits(
            every, every[:0], every[:0], read, read, Pipeline(recipe, dataset, device)
        )


def random_images(count: int, image_size: int) -> Dataset:
    """`count` images of noise in color, of as many classes as there are images, up to ten."""
    source = np.random.default_rng(0)
    pixels = source.integers(0, 256, (count, 3, image_size, image_size), dtype=np.uint8)
    images = Images(pixels, (), np.arange(count) % NUM_CLASSES)
    classes = tuple(str(label) for label in range(NUM_CLASSES))
    return in_memory("random", "noise", classes, images, images)


def best_of_rounds(
    trainings: Mapping[str, Training],
    batch: Batch,
    sides: Mapping[str, str | Operator | None],
    rounds: int,
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Least seconds of a step by side, after one untimed step, and why some have none."""
    best: dict[str, float | None] = dict.fromkeys(sides)
    failures: dict[str, str] = {}
    for turn in range(rounds + 1):
        for name, training in trainings.items():
            if name in failures:
                continue
            try:
                taken = seconds_of_step(training, batch, sides[name])
            except (RuntimeError, TypeError) as error:
                if name == "native":
                    raise
                failures[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                best[name] = None
                continue
            if turn > 0:
                best[name] = min(taken, best[name] or taken)
    return best, failures


def measure(
    options: argparse.Namespace, recipe: Recipe, baselines: Mapping[str, Operator]
) -> dict[str, Any]:
    """Best seconds per step of all sides, ratios to the native one's, and its shares."""
    sides = SIDES | dict(baselines)
    device = device_of(options.device)
    network, task = parse_network(options.model), RandomImages()
    data = Data("random", "noise", NUM_CLASSES, 3, recipe.batch_size, 0, 0)
    with settings(recipe, device):
        trainings = {name: Training(network, recipe, data, 0, task, device) for name in sides}
        native = trainings["native"]
        batch = next(iter(native.remaining_batches()))
        best, failures = best_of_rounds(trainings, batch, sides, options.rounds)
        faster = {
            name: seconds and best["native"] and seconds / best["native"]
            for name, seconds in best.items()
        }
        return {
            "model": options.model,
            "device": device_name(device),
            "batch": recipe.batch_size,
            "image_size": recipe.image_size,
            "precision": recipe.precision,
            "threads": recipe.threads,
            "torch": torch.__version__,
            "seconds": best,
            "times_faster": faster["reference"],
            "times_faster_than_baselines": {name: faster[name] for name in baselines},
            "images_at_a_time": {n: t.progress.micro_batch for n, t in trainings.items()},
            "failures": failures,
            "shares": shares(native, batch),
        }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m archsearch.benchmarks.train_step", description=__doc__
    )
    parser.add_argument("--model", choices=tuple(PRESETS), default="T")
    parser.add_argument("--batch", type=int, default=QUICK.batch_size)
    parser.add_argument("--image-size", default="32", help="one or several, such as 224,32")
    parser.add_argument(
        "--precision", default="fp32", help="of fp32, bf16, fp16, such as fp32,bf16"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--baselines", type=Path, help="folder with the sources of the official DCNv3 (GPU only)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON, by line")
    parser.add_argument("--out", type=Path, help="write the numbers there too, size by size")
    options = parser.parse_args(arguments)
    sizes, precisions = options.image_size.split(","), options.precision.split(",")
    wrong = [size for size in sizes if not size.isdecimal() or int(size) == 0]
    wrong += [name for name in precisions if name not in DTYPES]
    if wrong:
        parser.error(f"wanted sizes in pixels and fp32, bf16 or fp16, got {', '.join(wrong)}")
    options.recipes = [
        replace(
            QUICK,
            batch_size=options.batch,
            image_size=int(size),
            precision=precision,
            threads=options.threads,
            val_fraction=0.0,
        )
        for size in sizes
        for precision in precisions
    ]
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's notes to itself
    folder = options.baselines
    makers, left_out = find_baselines(folder, ("DCNv3",)) if folder else ({}, {})
    baselines = {name: as_dcnv3(make) for name, make in makers.items()}
    rows = []
    for recipe in options.recipes:
        rows.append(measure(options, recipe, baselines))
        if options.json:
            print(json.dumps(rows[-1]), flush=True)
        else:
            tell(rows[-1])
        if options.out:
            write_json(options.out, {"left_out": left_out, "rows": rows})


def tell(found: Mapping[str, Any]) -> None:
    """What `measure` found, for people."""
    print(
        f"InternImage-{found['model']}, {found['batch']} images of {found['image_size']} x "
        f"{found['image_size']}, {found['precision']}, {found['threads']} thread(s), "
        f"{found['device']}, torch {found['torch']}"
    )
    for name, seconds in found["seconds"].items():
        if seconds is None:
            print(f"  {name:10} failed: {found['failures'][name]}", file=sys.stderr)
            continue
        rate, parts = found["batch"] / seconds, found["images_at_a_time"][name]
        print(
            f"  {name:10} {seconds * 1e3:9.1f} ms per step  {rate:8.1f} images/s"
            + (f"  in parts of {parts} images" if parts < found["batch"] else "")
        )
    against = {"reference": found["times_faster"], **found["times_faster_than_baselines"]}
    for name, ratio in against.items():
        if ratio is not None:
            print(f"  the native operator makes the step {ratio:.2f} times as fast as {name}")
    parts = ", ".join(f"{n} {'-' if s is None else f'{s:.0%}'}" for n, s in found["shares"].items())
    print(f"  where it goes: {parts}", flush=True)


if __name__ == "__main__":
    main()
