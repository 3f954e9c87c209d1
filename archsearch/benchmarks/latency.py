"""How well is latency predicted from 12 measurements? ``python -m archsearch.benchmarks.latency``.

The networks are InternImages, drawn at random from the product of `NUMBERS`. Twelve of them, spread
over the space, are measured for the model; thirty others, which the model has not seen, are
predicted and measured. All take turns, five times, and their medians count. A repeat is the time of
the fastest call (`archsearch.latency.timing`).
"""

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from archsearch.benchmarks.quotes import processor
from archsearch.core.family import Family
from archsearch.core.recipes import QUICK
from archsearch.core.task import Data
from archsearch.core.versions import versions
from archsearch.families.internimage import Variant
from archsearch.latency.design import MAX_MEASURED, spread
from archsearch.latency.known import Latencies
from archsearch.latency.target import Target
from archsearch.latency.timing import latency
from archsearch.results.step_times import StepTime
from archsearch.stats.intervals import kendall_tau
from archsearch.study import Trial

NUMBERS = {"c1": (16, 32, 48, 64), "group_channels": (8, 16), "l1": (1, 2, 3, 4)}
LARGEST_L3 = 16
NUM_CANDIDATES, NUM_HELD_OUT = 100, 30
REPEATS = 5
WITHIN = 0.1
"""Predictions within this share of the measured latency are counted."""

CLASSES = 1000


def networks() -> tuple[list[Family], list[Family]]:
    """Return the networks of the model, and those that are held out."""
    rng = random.Random(0)
    drawn = list[Family]()
    numbers = list(product(*NUMBERS.values()))
    while len(drawn) < NUM_CANDIDATES:
        c1, group_channels, l1 = rng.choice(numbers)
        variant = Variant(c1, group_channels, l1, rng.randint(l1, LARGEST_L3))
        drawn += [variant] if variant not in drawn else []
    model = spread(drawn, MAX_MEASURED)
    others = [variant for variant in drawn if variant not in model]
    return model, rng.sample(others, NUM_HELD_OUT)


def measure(
    variants: Sequence[Family], target: Target, image_size: int, files: Path
) -> dict[Family, StepTime]:
    """Measure every network several times, all in turn."""
    recipe = replace(QUICK, image_size=image_size)
    data = Data("none", "0" * 16, CLASSES, 3, 1, 1, 1)
    repeats: dict[Family, list[float]] = {variant: [] for variant in variants}
    for number in range(REPEATS):
        for variant in variants:
            repeats[variant].append(latency(Trial(variant, recipe, data, 0), target, files))
        print(f"repeat {number + 1} of {REPEATS} is done", flush=True)
    return {variant: StepTime(tuple(times)) for variant, times in repeats.items()}


def rows(
    times: Mapping[Family, StepTime], known: Latencies, image_size: int
) -> Iterator[dict[str, Any]]:
    """Return a row per network; the model's own are predicted from its others."""
    for variant, time in times.items():
        is_held_out = variant not in known.fitted
        predicted = known.predicted(variant) if is_held_out else known.left_out[variant]
        yield {
            "network": variant.name,
            "held_out": is_held_out,
            "macs": variant.cost(image_size, image_size, CLASSES).macs,
            "predicted_ms": round(1e3 * predicted, 4),
            "measured_ms": round(1e3 * time.median, 4),
            "low_ms": round(1e3 * min(time.repeats), 4),
            "high_ms": round(1e3 * max(time.repeats), 4),
            "error": round(predicted / time.median - 1, 4),
        }


def summary(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the errors of the held-out networks, and how latency and multiply-adds agree."""
    errors = [abs(row["error"]) for row in measured if row["held_out"]]
    tau = kendall_tau([r["macs"] for r in measured], [r["measured_ms"] for r in measured])
    spreads = [(r["high_ms"] - r["low_ms"]) / r["measured_ms"] for r in measured]
    return {
        "held_out": len(errors),
        "measured_for_model": len(measured) - len(errors),
        "within_10_percent": sum(error <= WITHIN for error in errors),
        "median_error": statistics.median(errors),
        "largest_error": max(errors),
        "tau_of_latency_and_macs": {"tau": tau.mean, "low": tau.low, "high": tau.high},
        "median_range_of_repeats": statistics.median(spreads),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--target", default="onnxruntime", help="cpu, onnxruntime or a command")
    parser.add_argument("--image-size", type=int, default=224, help="the side of the image")
    parser.add_argument("--files", type=Path, help="keep the ONNX files in this folder")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    model, held_out = networks()
    with tempfile.TemporaryDirectory() as folder:
        times = measure(
            [*model, *held_out],
            Target.parse(options.target),
            options.image_size,
            options.files or Path(folder),
        )
    medians = {variant: time.median for variant, time in times.items()}
    known = Latencies(options.image_size, CLASSES, medians, tuple(model))
    measured = list(rows(times, known, options.image_size))
    for row in measured:
        kind = "held out" if row["held_out"] else "model"
        print(
            f"{row['network']:12} {kind:8} {row['macs'] / 1e6:8.0f}M macs "
            f"{row['predicted_ms']:8.2f} ms predicted {row['measured_ms']:8.2f} ms "
            f"({row['low_ms']:.2f} to {row['high_ms']:.2f}) {row['error']:+.1%}"
        )
    result = {
        "processor": processor(), "target": options.target, "image_size": options.image_size,
        "versions": versions(), "summary": summary(measured), "rows": measured,
    }  # fmt: skip
    print(result["summary"])
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
