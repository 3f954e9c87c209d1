"""Time a network on a target: one repeat of a latency, with random weights, for one image.

A local target with one thread is timed by the CPU time of its thread: what other programs do on the
processor is not in it. Of the calls of a repeat the fastest counts: everything that disturbs a call
(interrupts, caches that another program has filled) only adds. With several threads the clock on
the wall is read, which needs an idle machine.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from archsearch.core.interrupted import Interrupted, Stop
from archsearch.core.plans import Latency
from archsearch.latency.target import Target
from archsearch.running.work import never
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Record, Trial
from archsearch.training.device import settings

FILES = "onnx"
"""The folder, in the study of the measurements, of the ONNX files while they are needed."""

SECONDS, MIN_CALLS, WARM_UP = 0.3, 5, 2
"""A repeat makes calls for so long, and at least so many, after calls that are not timed."""


def time_latency(folder: Path, device: str = "cpu", stop: Stop = never) -> None:
    """Time the network of the trial in ``folder`` once: ``latency_seconds`` of its record.

    A target that fails is a record of the kind ``target``: repeating it at once would not help.

    Raises:
        Interrupted: ``stop()`` returned True.
    """
    del device
    if stop():
        raise Interrupted("stopped before a repeat")
    trial_folder, study = TrialFolder(folder), StudyFolder(folder.parents[1])
    trial, plan = trial_folder.trial(), study.study().plan
    assert isinstance(plan, Latency), "only measurements of latency are timed here"
    began = time.monotonic()
    try:
        seconds = latency(trial, Target(plan.target), study.path / FILES)
    except ValueError as error:
        record = Record(trial.id, "failed", kind="target", error=str(error))
    else:
        record = Record(
            trial.id, "complete", {"latency_seconds": seconds}, device=plan.device,
            seconds=time.monotonic() - began,
        )  # fmt: skip
    trial_folder.write_record(record)


def latency(trial: Trial, target: Target, files: Path) -> float:
    """Return the seconds of one image through the network of a trial; files are kept in ``files``.

    The weights are random, so DCNv3 samples at its grid: the same arithmetic as after a training,
    and measured within 2% of it.

    Raises:
        ValueError: a command fails, or packages are missing.
    """
    threads = trial.recipe.threads
    if target.text == "cpu":
        with settings(trial.recipe, torch.device("cpu")), torch.inference_mode():
            torch.manual_seed(0)
            model = trial.task.build(trial.variant, trial.data, trial.recipe).eval()
            image = torch.randn(1, 3, trial.recipe.image_size, trial.recipe.image_size)
            return fastest(lambda: model(image), threads)
    file = exported(trial, files)
    if target.is_local:
        return fastest(_onnxruntime_call(file, trial.recipe.image_size, threads), threads)
    return target.printed_seconds(file)


def exported(trial: Trial, files: Path) -> Path:
    """Return the ONNX file of a trial's network, for one image; an existing one is used again."""
    from internimage.onnx import export_onnx

    path = files.resolve() / f"{replace(trial, seed=0).id}.onnx"  # one for all repeats
    if not path.exists():
        files.mkdir(exist_ok=True)
        with settings(trial.recipe, torch.device("cpu")):
            torch.manual_seed(0)
            model = trial.task.build(trial.variant, trial.data, trial.recipe).eval()
            export_onnx(model, path, trial.recipe.image_size, dynamic_batch=False)
    return path


def _onnxruntime_call(file: Path, image_size: int, threads: int) -> Callable[[], object]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    shape = (1, 3, image_size, image_size)
    image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return lambda: session.run(None, {"images": image})


def fastest(call: Callable[[], object], threads: int) -> float:
    """Return the seconds of the fastest call; see the module docstring."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    for _ in range(WARM_UP):
        call()
    times, began = list[float](), clock()
    while len(times) < MIN_CALLS or clock() - began < SECONDS:
        start = clock()
        call()
        times.append(clock() - start)
    return min(times)
