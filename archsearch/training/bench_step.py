"""`python -m archsearch.training.bench_step`: a training step with the native operator and without.

The step is the one that trials take (`archsearch.training.loop`), on digits enlarged to the image
size. Both sides take turns in one run, so that noise meets them alike, and the best of several
rounds counts.
The shares say where the native side's time goes, by torch's profiler.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import internimage.dcnv3
from archsearch.recipe import QUICK, trained_config
from archsearch.training.data import load
from archsearch.training.loop import Training
from archsearch.training.train import device_name, device_of, settings
from internimage import PRESETS

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
CONVOLUTIONS = ("aten::mkldnn_convolution", "aten::cudnn_convolution", "aten::convolution_backward")
OPERATOR = "archsearch::dcnv3"


@contextmanager
def operator(backend: str | None) -> Iterator[None]:
    """The network's operator by one backend; None is what it takes by itself."""
    layer: Any = internimage.dcnv3
    kept = layer.dcnv3
    layer.dcnv3 = kept if backend is None else partial(kept, backend=backend)
    try:
        yield
    finally:
        layer.dcnv3 = kept


def seconds_of_step(training: Training, batch: tuple[Tensor, Tensor], backend: str | None) -> float:
    with operator(backend):
        synchronize(training.device)
        before = time.perf_counter()
        training.step(*batch)
        synchronize(training.device)
        return time.perf_counter() - before


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def shares(training: Training, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Share of the native side's time in matrix products, convolutions, the operator, the rest."""
    gpu = training.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as seen:
        training.step(*batch)
        synchronize(training.device)
    times = {"products": 0.0, "convolutions": 0.0, "operator": 0.0, "rest": 0.0}
    for event in seen.key_averages():
        own = event.self_device_time_total if gpu else event.self_cpu_time_total
        times[_part(event.key)] += own
    total = sum(times.values())
    return {part: value / total for part, value in times.items()}


def _part(name: str) -> str:
    if name in PRODUCTS or "gemm" in name:
        return "products"
    if name in CONVOLUTIONS or "conv" in name:
        return "convolutions"
    return "operator" if OPERATOR in name or "dcnv3" in name else "rest"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Best seconds per step of both sides, their ratio, and the native side's shares."""
    device = device_of(options.device)
    recipe = replace(
        QUICK,
        batch_size=options.batch,
        image_size=options.image_size,
        precision=options.precision,
        threads=options.threads,
    )
    with settings(recipe, device):
        config = trained_config(PRESETS[options.model].config, recipe, 10)
        training = Training(config, recipe, load("digits"), 0, device)
        batch = next(iter(training.remaining_batches()))
        backends = {"native": None, "reference": "torch"}
        rounds = [
            {name: seconds_of_step(training, batch, b) for name, b in backends.items()}
            for _ in range(options.rounds + 1)
        ][1:]  # the first builds and warms up
        best = {name: min(r[name] for r in rounds) for name in backends}
        return {
            "model": options.model,
            "device": device_name(device),
            "batch": len(batch[0]),
            "image_size": recipe.image_size,
            "precision": recipe.precision,
            "threads": recipe.threads,
            "torch": torch.__version__,
            "seconds": best,
            "times_faster": best["reference"] / best["native"],
            "shares": shares(training, batch),
        }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m archsearch.training.bench_step", description=__doc__
    )
    parser.add_argument("--model", choices=tuple(PRESETS), default="T")
    parser.add_argument("--batch", type=int, default=QUICK.batch_size)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's notes to itself
    found = measure(options)
    if options.json:
        print(json.dumps(found))
        return
    print(
        f"InternImage-{found['model']}, {found['batch']} images of {found['image_size']} x "
        f"{found['image_size']}, {found['precision']}, {found['threads']} thread(s), "
        f"{found['device']}, torch {found['torch']}"
    )
    for name, seconds in found["seconds"].items():
        rate = found["batch"] / seconds
        print(f"  {name:10} {seconds * 1e3:9.1f} ms per step  {rate:8.1f} images/s")
    print(f"  the native operator makes the step {found['times_faster']:.2f} times as fast")
    parts = ", ".join(f"{part} {share:.0%}" for part, share in found["shares"].items())
    print(f"  where it goes: {parts}")


if __name__ == "__main__":
    main()
