"""What would fail every trial alike, found out before anything is written."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from archsearch.core.recipe import Recipe
from archsearch.training import machine


def check_device(recipe: Recipe, device: str) -> None:
    """Whether this machine has ``device``, and that can compute as ``recipe`` asks.

    torch is asked in a process of its own: it is slow to load and keeps memory of a GPU for good.

    Raises:
        ValueError: it is not here, or has not the recipe's precision.
    """
    on_cpu = device == "cpu" or (device == "auto" and not machine.gpus())
    if on_cpu and recipe.precision != "fp16":
        return  # any CPU does: torch need not be asked
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(_check, recipe, device).result()


def _check(recipe: Recipe, device: str) -> None:
    from archsearch.training.device import check_device as check

    check(recipe, device)
