"""Time and count a recipe's augmentation: ``python -m archsearch.benchmarks.augmentation``.

The same augmentation by kornia runs beside ours, where kornia is installed. Both take turns on the
same random images, and the best of several rounds counts. Operations and waits are those that torch
dispatches for one batch: a wait reads a value of a tensor, for which a GPU must first finish.
"""

import argparse
import importlib.util
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from archsearch.benchmarks import kornia_augmentation
from archsearch.benchmarks.output import print_measured
from archsearch.benchmarks.random_images import random_images
from archsearch.core.recipe import Recipe
from archsearch.core.recipes import resolve
from archsearch.training.augmentation import Pipeline
from archsearch.training.device import device_name, device_of, synchronize

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that torch dispatches, and those that wait for a device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = self.waits = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        del types
        self.count += 1
        self.waits += _waits(func.overloadpacket.__name__, args)
        return func(*args, **(kwargs or {}))


def _waits(name: str, args: Any) -> bool:
    """Whether an operation reads values of a tensor: to the host, or to know its output's shape."""
    if name in ("index", "index_put", "index_put_"):
        return any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
    return name in WAITS


def pipelines(recipe: Recipe, device: torch.device) -> dict[str, Pipeline]:
    """Our augmentation of images in memory, and kornia's if it is installed."""
    dataset = random_images(1, recipe.image_size)
    ours = {"ours": Pipeline(recipe, dataset, device)}
    if importlib.util.find_spec("kornia") is None:
        return ours
    kornia = Pipeline(recipe, dataset, device)
    both = kornia_augmentation.transforms(recipe, cropped=False)
    kornia.before_normalization, kornia.after_normalization = both
    return {**ours, "kornia": kornia}


def measure(recipe: Recipe, device: torch.device, rounds: int) -> dict[str, Any]:
    """Seconds, operations and waits of one batch for each of `pipelines`."""
    size = (recipe.batch_size, 3, recipe.image_size, recipe.image_size)
    pixels = torch.randint(256, size, dtype=torch.uint8, device=device)
    labels = torch.arange(recipe.batch_size, device=device) % 10
    candidates = pipelines(recipe, device)
    counts = {name: _count(pipeline, pixels, labels) for name, pipeline in candidates.items()}
    seconds = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, pipeline in candidates.items():
            seconds[name] = min(seconds[name], _seconds(pipeline, pixels, labels))
    return {
        "recipe": recipe.name,
        "batch": recipe.batch_size,
        "image_size": recipe.image_size,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "operations": {name: count.count for name, count in counts.items()},
        "waits": {name: count.waits for name, count in counts.items()},
    }


def _count(pipeline: Pipeline, pixels: Tensor, labels: Tensor) -> Operations:
    torch.manual_seed(0)
    operations = Operations()
    with operations:
        pipeline.augmented(pixels, labels)
    return operations


def _seconds(pipeline: Pipeline, pixels: Tensor, labels: Tensor) -> float:
    synchronize(pixels.device)
    start = time.perf_counter()
    pipeline.augmented(pixels, labels)
    synchronize(pixels.device)
    return time.perf_counter() - start


def line(row: Mapping[str, Any]) -> str:
    """A result of `measure` as text."""
    ours = row["seconds"]["ours"]
    lines = [
        f"{row['recipe']}, {row['batch']} images of {row['image_size']} x {row['image_size']}, "
        f"{row['threads']} thread(s), {row['device']}"
    ]
    for name, seconds in row["seconds"].items():
        lines.append(
            f"  {name:7} {seconds * 1e3:9.1f} ms  {row['operations'][name]:5} operations  "
            f"{row['waits'][name]:3} waits  {seconds / ours:5.2f} times our time"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m archsearch.benchmarks.augmentation", description=__doc__
    )
    parser.add_argument("--recipes", default="table-b,cifar", help="use these recipes")
    parser.add_argument("--batch", type=int, default=256, help="augment this many images")
    parser.add_argument("--image-size", default="32,224", help="use these sides in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="time each this many times")
    parser.add_argument("--threads", type=int, default=1, help="compute with this many threads")
    parser.add_argument("--device", default="auto", help="run on auto, cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    recipes = [
        replace(resolve(name), batch_size=options.batch, image_size=int(size))
        for name in options.recipes.split(",")
        for size in options.image_size.split(",")
    ]
    device = device_of(options.device)
    print_measured((measure(r, device, options.rounds) for r in recipes), line, options.json)


if __name__ == "__main__":
    main()
