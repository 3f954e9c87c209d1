"""Pre-flight checks: errors that would fail every trial are found before anything is written."""

from archsearch.core.recipe import Recipe
from archsearch.training import machine
from cuda_ops.check_mode import check_mode


def preflight_device(recipe: Recipe, device: str) -> None:
    """Run `archsearch.training.device.check_device` in a new process.

    In this process torch would take time to load and keep a GPU's memory. The check is skipped if
    the device is a CPU and the recipe's precision is one that every CPU has.

    Raises:
        ValueError: this machine does not have the device, or it lacks the recipe's precision, or
            ARCHSEARCH_CUDA_CHECK has a wrong value.
    """
    check_mode()
    on_cpu = device == "cpu" or (device == "auto" and not machine.gpus())
    if on_cpu and recipe.precision != "fp16":
        return
    machine.in_new_process(_check_device, recipe, device)


def _check_device(recipe: Recipe, device: str) -> None:
    from archsearch.training.device import check_device

    check_device(recipe, device)
