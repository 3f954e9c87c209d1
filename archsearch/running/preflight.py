"""Pre-flight checks: errors that would fail every trial are found before anything is written."""

from pathlib import Path

from archsearch.core.recipe import Recipe
from archsearch.running.runners import RunnerName, RunnerOptions, choose_runner
from archsearch.study import Study
from archsearch.training import machine
from cuda_ops.check_mode import check_mode


def preflight_runner(name: RunnerName, options: RunnerOptions, folder: Path, study: Study) -> None:
    """Check that the runner exists and its options fit; a cluster is connected to once.

    Raises:
        ValueError: wrong options, or as `preflight_cluster`.
    """
    choose_runner(name, options, None)
    if options.ray_address is not None:
        preflight_cluster(options, folder, study)


def preflight_device(recipe: Recipe, device: str) -> None:
    """Run `archsearch.training.device.check_device` in a new process.

    In this process torch would take time to load and keep a GPU's memory. The check is skipped if
    the device is a CPU and the recipe's precision is one that every CPU has.

    Raises:
        ValueError: this machine does not have the device, or it lacks the recipe's precision, or
            ARCHSEARCH_CUDA_CHECK or ARCHSEARCH_CUDA_GRAPHS has a wrong value.
    """
    check_mode()
    machine.cuda_graphs_requested()
    if _is_cpu(device) and recipe.precision != "fp16":
        return
    machine.in_new_process(_check_device, recipe, device)


def precision_warning(recipe: Recipe, device: str) -> str:
    """What is slow about the recipe's precision on this machine, and what to do; empty if nothing.

    Emulated bf16 took 9.1 times as long as fp32 (a step of InternImage-T at 32x32, AVX2).
    """
    if recipe.precision != "bf16" or not _is_cpu(device) or not machine.lacks_bf16():
        return ""
    return (
        f"Warning: the recipe {recipe.name} trains in bf16, and this processor has no bf16 "
        "instructions: a step takes up to 9 times as long as in fp32. Stop with Ctrl-C and add "
        "--set precision=fp32, unless the precision is what you study."
    )


def _is_cpu(device: str) -> bool:
    name = device.partition("*")[0]
    return name == "cpu" or (name == "auto" and not machine.gpus())


def _check_device(recipe: Recipe, device: str) -> None:
    from archsearch.training.device import check_device

    check_device(recipe, device)


def preflight_cluster(options: RunnerOptions, folder: Path, study: Study) -> None:
    """Check the Ray cluster before ``folder`` is created: every node must see where it will lie.

    Raises:
        ValueError: no cluster answers, it is too small for a trial, or its nodes cannot train
            this study; the message has the problems of all nodes.
    """
    from archsearch.running.runners.on_ray import RayRunner

    folder = folder.absolute()
    runner = RayRunner(options)
    try:
        runner.check(next(path for path in (folder, *folder.parents) if path.is_dir()), study)
    finally:
        runner.close()
