"""Time a training step by operator: ``python -m archsearch.benchmarks.train_step``.

The step is that of the trials (`archsearch.training.step`): forward, backward and optimizer. Images
are random, so only torch, numpy and safetensors are needed. Every operator has its own network; all
take turns in one run, so that noise affects all of them, and the best of several rounds counts. The
shares of the native operator's step are from torch's profiler.

An operator that fails has no seconds, and the reason is reported; if the native one fails, the
benchmark stops. If a GPU's memory holds fewer images than the batch, the batch goes through the
network in parts of ``images_at_a_time``.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import internimage.dcnv3
from archsearch.benchmarks import networks
from archsearch.benchmarks.random_images import NUM_CLASSES, RandomImages
from archsearch.benchmarks.step_shares import step_shares
from archsearch.core.recipe import Recipe
from archsearch.core.recipes import QUICK
from archsearch.core.task import Batch, Data
from archsearch.families.internimage import parse_network
from archsearch.training.device import DTYPES, device_name, device_of, settings, synchronize
from archsearch.training.state import Training
from archsearch.training.step import take_step
from cuda_ops.baselines import as_dcnv3, find_baselines
from cuda_ops.bench import write_json
from internimage import PRESETS

Operator = Callable[..., Tensor]
"""Has the arguments of `cuda_ops.dcnv3`."""

OPERATORS: dict[str, str | Operator | None] = {"native": None, "reference": "torch"}
"""Name -> operator: a backend of ours, a function, or None for the network's default."""


@contextmanager
def use_operator(operator: str | Operator | None) -> Iterator[None]:
    """Replace the network's operator: by a backend's name, by a function, or not at all (None)."""
    layer: Any = internimage.dcnv3
    original = layer.dcnv3
    layer.dcnv3 = (
        partial(original, backend=operator) if isinstance(operator, str) else operator or original
    )
    try:
        yield
    finally:
        layer.dcnv3 = original


def seconds_of_step(training: Training, batch: Batch, operator: str | Operator | None) -> float:
    """Return the seconds of one training step with this operator."""
    with use_operator(operator):
        synchronize(training.device)
        start = time.perf_counter()
        take_step(training, batch)
        synchronize(training.device)
        return time.perf_counter() - start


def best_of_rounds(
    trainings: Mapping[str, Training],
    batch: Batch,
    operators: Mapping[str, str | Operator | None],
    rounds: int,
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return the least seconds of a step by operator, after one untimed step, and the failures."""
    best: dict[str, float | None] = dict.fromkeys(operators)
    failures: dict[str, str] = {}
    for round_ in range(rounds + 1):
        for name, training in trainings.items():
            if name in failures:
                continue
            try:
                seconds = seconds_of_step(training, batch, operators[name])
            except (RuntimeError, TypeError) as error:
                if name == "native":
                    raise
                failures[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                best[name] = None
                continue
            if round_ > 0:
                best[name] = min(seconds, best[name] or seconds)
    return best, failures


def measure(
    options: argparse.Namespace, recipe: Recipe, baselines: Mapping[str, Operator]
) -> dict[str, Any]:
    """Return the best seconds per step of all operators, ratios to the native one, its shares."""
    operators = OPERATORS | dict(baselines)
    device = device_of(options.device)
    network, task = parse_network(options.model), RandomImages()
    data = Data("random", "noise", NUM_CLASSES, 3, recipe.batch_size, 0, 0)
    with settings(recipe, device):
        trainings = {name: Training(network, recipe, data, 0, task, device) for name in operators}
        native = trainings["native"]
        batch = next(iter(native.remaining_batches()))
        best, failures = best_of_rounds(trainings, batch, operators, options.rounds)
        ratios = {
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
            "times_faster": ratios["reference"],
            "times_faster_than_baselines": {name: ratios[name] for name in baselines},
            "images_at_a_time": {n: t.progress.micro_batch for n, t in trainings.items()},
            "failures": failures,
            "shares": step_shares(native, batch),
        }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options, with a recipe for every size and precision."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.networks or options.table:
        _check_networks(parser, options)
    else:
        options.recipes = _recipes(parser, options)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m archsearch.benchmarks.train_step", description=__doc__
    )
    parser.add_argument("--model", choices=tuple(PRESETS), default="T", help="time this network")
    parser.add_argument(
        "--batch", type=int, default=QUICK.batch_size, help="use this many images per step"
    )
    parser.add_argument("--image-size", default="32", help="use these sides, such as 224,32")
    parser.add_argument(
        "--precision", default="fp32", help="use these of fp32, bf16 and fp16, such as fp32,bf16"
    )
    parser.add_argument("--threads", type=int, default=1, help="compute with this many threads")
    parser.add_argument("--rounds", type=int, default=5, help="time each operator this many times")
    parser.add_argument("--device", default="auto", help="run on auto, cpu or cuda")
    parser.add_argument(
        "--baselines",
        type=Path,
        help="also time the official DCNv3, whose sources are in this folder (GPU only)",
    )
    parser.add_argument(
        "--networks",
        action="store_true",
        help="instead time whole networks on the CPU: ours with and without fused operators, the "
        "official PyTorch code, ConvNeXt (T or B; sizes such as 224,800x1333)",
    )
    parser.add_argument(
        "--table", type=Path, nargs="+", help="only print the table of files from --networks --out"
    )
    parser.add_argument("--json", action="store_true", help="print a line of JSON per measurement")
    parser.add_argument("--out", type=Path, help="also write the measurements to this file")
    return parser


def _recipes(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Recipe]:
    sizes, precisions = options.image_size.split(","), options.precision.split(",")
    wrong = [size for size in sizes if not size.isdecimal() or int(size) == 0]
    wrong += [name for name in precisions if name not in DTYPES]
    if wrong:
        parser.error(f"sizes are in pixels, precisions fp32, bf16 or fp16; got {', '.join(wrong)}")
    recipe = replace(QUICK, batch_size=options.batch, threads=options.threads, val_fraction=0.0)
    return [
        replace(recipe, image_size=int(size), precision=precision)
        for size in sizes
        for precision in precisions
    ]


def _check_networks(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    wrong = [s for s in options.image_size.split(",") if not re.fullmatch(r"[1-9]\d*(x\d+)?", s)]
    wrong += [] if options.model in networks.SIZES else [options.model]
    if wrong:
        parser.error(
            f"--networks: wanted T or B, and sizes such as 224,800x1333; got {', '.join(wrong)}"
        )


def time_networks(options: argparse.Namespace) -> None:
    """Time whole networks, print each measurement, and write them all to ``--out``."""
    rows: list[dict[str, Any]] = []
    for size in options.image_size.split(","):
        for call in networks.calls(options.model, options.batch, size, options.threads):
            rows.append(networks.measure(call, options.rounds))
            print(json.dumps(rows[-1]) if options.json else networks.line(rows[-1]), flush=True)
            if options.out:
                write_json(options.out, {"rows": rows})


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # silences the profiler's internal messages
    if options.table:
        print(networks.table(options.table))
        return
    if options.networks:
        time_networks(options)
        return
    folder = options.baselines
    makers, left_out = find_baselines(folder, ("DCNv3",)) if folder else ({}, {})
    baselines = {name: as_dcnv3(make) for name, make in makers.items()}
    rows = []
    for recipe in options.recipes:
        rows.append(measure(options, recipe, baselines))
        if options.json:
            print(json.dumps(rows[-1]), flush=True)
        else:
            print_measurement(rows[-1])
        if options.out:
            write_json(options.out, {"left_out": left_out, "rows": rows})


def print_measurement(row: Mapping[str, Any]) -> None:
    """Print a result of `measure` as text."""
    print(
        f"InternImage-{row['model']}, {row['batch']} images of {row['image_size']} x "
        f"{row['image_size']}, {row['precision']}, {row['threads']} thread(s), "
        f"{row['device']}, torch {row['torch']}"
    )
    for name, seconds in row["seconds"].items():
        if seconds is None:
            print(f"  {name:10} failed: {row['failures'][name]}", file=sys.stderr)
            continue
        rate, parts = row["batch"] / seconds, row["images_at_a_time"][name]
        print(
            f"  {name:10} {seconds * 1e3:9.1f} ms per step  {rate:8.1f} images/s"
            + (f"  in parts of {parts} images" if parts < row["batch"] else "")
        )
    against = {"reference": row["times_faster"], **row["times_faster_than_baselines"]}
    for name, ratio in against.items():
        if ratio is not None:
            print(f"  the native operator makes the step {ratio:.2f} times as fast as {name}")
    parts = (f"{n} {'-' if s is None else f'{s:.0%}'}" for n, s in row["shares"].items())
    print(f"  share of the time: {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
