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
    on_cpu = device == "cpu" or (device == "auto" and not machine.gpus())
    if on_cpu and recipe.precision != "fp16":
        return
    machine.in_new_process(_check_device, recipe, device)


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
