"""Evaluation of trained networks: the options, what fits a network, and the results as a row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from archsearch.api.keywords import InputErrors, evaluate_all, option
from archsearch.api.live import say
from archsearch.core.numbers import quoted
from archsearch.core.recipe import Precision, Recipe
from archsearch.core.recipes import QUICK
from archsearch.core.task import Data

if TYPE_CHECKING:
    import torch

    from archsearch.evaluation import SavedNetwork

MAX_SCALE = 8.0


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """On what a trained network is measured, and how."""

    data: str | None = option(
        None,
        "Measure on this data, of the kinds that `archsearch train` takes; the default is the data "
        "of the run.",
        metavar="NAME",
    )
    split: Literal["val", "test"] = option(
        "val",
        "Measure on the images that were held out of training (val), or on the official validation "
        "images (test), which choose nothing.",
    )
    scales: str | Sequence[float] | None = option(
        None,
        "Average a segmenter's predictions at these multiples of the image size, such as "
        "0.5,0.75,1,1.25,1.5,1.75.",
        text=str,
        metavar="NUMBERS",
    )
    flip: bool = option(
        False, "Average a segmenter's predictions with those of the mirror image.", flag="--flip"
    )
    size: int | None = option(
        None, "Resize images to this size; the default is that of the training."
    )
    precision: Precision | None = option(
        None, "Compute in this precision; the default is that of the training."
    )
    device: str = option("auto", "Measure on auto, cpu, cuda, or one GPU such as cuda:1.")

    def ratios(self) -> tuple[float, ...]:
        """Return the scales as numbers; none for the one scale of the recipe.

        Raises:
            ValueError: they are no numbers above 0.
        """
        if self.scales is None:
            return ()
        parts = self.scales.split(",") if isinstance(self.scales, str) else self.scales
        try:
            ratios = tuple(float(part) for part in parts)
        except ValueError:
            ratios = ()
        if not ratios or not all(0 < ratio <= MAX_SCALE for ratio in ratios):
            raise ValueError(
                f"scales must be numbers above 0 and up to {MAX_SCALE:g}, such as 0.5,1,1.5, got "
                f"{quoted(self.scales)}"
            )
        return ratios

    def check_device(self) -> "torch.device":
        """Return the device.

        Raises:
            ValueError: this machine does not have it.
        """
        from archsearch.training.device import device_of

        return device_of(self.device)

    def recipe(self, saved: "SavedNetwork") -> Recipe:
        """Return the recipe that the network is measured with.

        Raises:
            ValueError: the image size is not known, or an option is out of range.
        """
        size = saved.image_size if self.size is None else self.size
        if size is None:
            raise ValueError(f"{saved.label} does not say the image size of its training: give one")
        recipe = saved.recipe or _UNKNOWN
        return replace(recipe, image_size=size, precision=self.precision or recipe.precision)

    def described(self, saved: "SavedNetwork") -> Data:
        """Return the data that the network is measured on.

        Raises:
            ValueError: it is not named or cannot be read, does not fit the network, or the split
                has no images.
        """
        name = self.data or saved.data
        if name is None:
            raise ValueError("a file of weights does not say on which data to measure: give data")
        data, problems = saved.task.describe(name, saved.recipe or _UNKNOWN), []
        if data.num_classes != saved.num_classes:
            problems.append(
                f"{saved.label} has {saved.num_classes} classes, {name} {data.num_classes}"
            )
        if saved.recipe is None and self.split == "val":
            problems.append(
                f"{saved.label} does not say which images were held out: give the split test"
            )
        elif not self.num_images(data):
            problems.append(f"{name} has no images in the split {self.split}")
        if problems:
            raise InputErrors(problems)
        return data

    def num_images(self, data: Data) -> int:
        """Return the number of images of the split."""
        return data.num_val if self.split == "val" else data.num_test

    def check_scales(self, saved: "SavedNetwork") -> None:
        """Check that only a segmenter is measured at several scales.

        Raises:
            ValueError: another network is.
        """
        if (self.scales is not None or self.flip) and not saved.has_scales:
            raise ValueError(f"scales and flip are of segmenters, and {saved.label} is none")


_UNKNOWN = replace(QUICK, name="unknown", val_fraction=0.0)
"""The recipe of a file that holds none."""


def evaluate_weights(weights: str, options: Evaluate) -> dict[str, Any]:
    """Measure the network of a file of weights, ``RUN:best`` or ``RUN:TRIAL``.

    Returns a row with the measures in percent, as ``val_NAME`` or ``test_NAME``.

    Raises:
        ValueError: naming every wrong option, and everything that does not fit the network.
    """
    from archsearch.evaluation import measure

    (saved, recipe, data), ratios, device = evaluate_all(
        lambda: opened(weights, options), options.ratios, options.check_device
    )
    for note in data.notes:
        say(f"Data: {note}")
    values = measure(saved, data, recipe, options.split, device, ratios, options.flip)
    return {
        "network": saved.label,
        "data": data.name,
        "split": options.split,
        "images": options.num_images(data),
        **({"scales": list(ratios or (1.0,)), "flip": options.flip} if saved.has_scales else {}),
        **values,
    }


def opened(weights: str, options: Evaluate) -> "tuple[SavedNetwork, Recipe, Data]":
    """Return the network, and the recipe and the data that it is measured with."""
    from archsearch.evaluation import open_saved

    saved = open_saved(weights)
    recipe, data, _ = evaluate_all(
        lambda: options.recipe(saved),
        lambda: options.described(saved),
        lambda: options.check_scales(saved),
    )
    return saved, recipe, data
