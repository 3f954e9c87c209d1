"""The file of weights that a full training starts from, and whether they fit its network."""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from archsearch.core.family import Family
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data, Task
from archsearch.families.internimage import InternImageFamily
from archsearch.running.initial_weights import fitting
from archsearch.running.weights import read_state, stored_config
from internimage.config import ModelConfig
from internimage.in_chans import RGB, with_in_chans
from internimage.weights import regular_file

FREE = ("num_classes", "drop_path", "layer_scale")
"""Fields that initial weights leave free: the tensors of gamma show whether there is one."""


@dataclass(frozen=True)
class StartFile:
    """A file of weights; only ``sha256`` is part of a training's identity, so the file may move.

    It is None if the file is gone, which a finished training does not need.
    """

    path: str
    sha256: str | None

    @classmethod
    def of(cls, path: Path) -> "StartFile":
        if not path.is_file():
            return cls(str(path), None)
        with path.open("rb") as file:
            return cls(str(path), hashlib.file_digest(file, "sha256").hexdigest())


def read_start(path: Path) -> dict[str, Tensor]:
    """The weights in the file, for images of three channels.

    Raises:
        ValueError: there is no such file, or it holds no weights.
    """
    if not path.is_file():
        raise ValueError(f"start must be a file of weights, and {path} is not a file")
    state = read_state(regular_file(path))
    with_in_chans(state, RGB)
    return state


def check_start(path: Path, variant: Family, recipe: Recipe, data: Data, task: Task) -> None:
    """Check that the file holds weights of the network, before anything is written.

    Raises:
        ValueError: as `read_start`, or the weights do not fit.
    """
    state = read_start(path)
    with torch.device("meta"):
        model = task.build(variant, data, recipe)
    fitting(state, model.state_dict(), str(path))
    if isinstance(variant, InternImageFamily) and (config := stored_config(path)):
        _check_switches(config, variant.config_for(data.num_classes, recipe), path)


def _check_switches(stored: ModelConfig, own: ModelConfig, path: Path) -> None:
    """Check what no tensor shows, such as the scale of offsets."""
    known = asdict(replace(stored, **{name: getattr(own, name) for name in FREE}))
    differing = [
        f"{name} {known[name]} there and {value} here"
        for name, value in asdict(own).items()
        if value != known[name]
    ]
    if differing:
        raise ValueError(f"{path} is of another network: {', '.join(differing)}")
