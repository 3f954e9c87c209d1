"""Weights of trained networks of any family: from a checkpoint, to a file and back.

InternImage's files are those of `internimage.save_weights`. The file of another network names its
family, numbers and recipe in its metadata; the file of a user's family lies beside it in
``families/``.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from archsearch.core.family import Family, variant_to_dict
from archsearch.core.recipe import Recipe
from archsearch.core.task import Data, Task
from archsearch.families import variant_from_dict
from archsearch.families.internimage import InternImageFamily
from archsearch.storage.family_sources import read_sources, write_sources
from archsearch.tasks import task_from_dict
from archsearch.tasks.classification import CLASSIFICATION
from internimage import ModelConfig, load_weights, save_weights
from internimage.description import UNKNOWN, Description, from_metadata, to_metadata
from internimage.official import read_released
from internimage.weights import CONFIG_KEY, assemble, is_safetensors, regular_file

NETWORK_KEY = "archsearch.network"


@dataclass(frozen=True)
class Built:
    """What a trained network is built from."""

    variant: Family
    recipe: Recipe
    num_classes: int
    task: Task = CLASSIFICATION
    description: Description = UNKNOWN

    @property
    def is_plain(self) -> bool:
        """Whether it is an InternImage that classifies, which `internimage.save_weights` writes."""
        return isinstance(self.variant, InternImageFamily) and self.task == CLASSIFICATION

    def network(self, state: Mapping[str, Tensor], where: Path) -> nn.Module:
        """The network with these weights, in evaluation mode; ``where`` they are from.

        Raises:
            ValueError: they do not fit the network.
        """
        model = self._network(state, where)
        model.description = self.description  # type: ignore[assignment]
        return model

    def _network(self, state: Mapping[str, Tensor], where: Path) -> nn.Module:
        if isinstance(self.variant, InternImageFamily) and self.is_plain:
            config = self.variant.config_for(self.num_classes, self.recipe)
            return assemble(config, dict(state), False, where)
        data = Data("", "", self.num_classes, channels=3, num_train=0, num_val=0, num_test=0)
        model = self.task.build(self.variant, data, self.recipe)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{where} does not fit the network: {error}") from error
        return model.eval()


def measured_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in a checkpoint's state that were measured: the averaged ones, if any.

    Raises:
        ValueError: the state holds no weights.
    """
    average, prefix = state.get("average"), "module."
    weights = state.get("model") if average is None else average
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ValueError("the checkpoint holds no weights: train again in another folder")
    if average is None:
        return dict(weights)
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def write_weights(built: Built, state: Mapping[str, Tensor], path: Path) -> None:
    """Write the weights of a network in one step, with what `read_network` needs.

    Raises:
        ValueError: they do not fit the network.
    """
    model = built.network(state, path.parent)
    if built.is_plain:
        save_weights(model, path)  # type: ignore[arg-type]
        return
    write_sources(path.parent, [type(built.variant)])
    stored = {
        "variant": variant_to_dict(built.variant),
        "recipe": built.recipe.to_dict(),
        "num_classes": built.num_classes,
        "task": built.task.to_dict(),
    }
    tensors = {key: value.clone().contiguous() for key, value in model.state_dict().items()}
    partial = path.with_name(f"{path.name}.partial")
    known = to_metadata(built.description)
    save_file(tensors, partial, {"format": "pt", NETWORK_KEY: json.dumps(stored)} | known)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read_network(path: Path) -> nn.Module:
    """The network that `write_weights` wrote, in evaluation mode.

    Raises:
        ValueError: it is no such file, or its weights do not fit its network.
    """
    return read_built(path)[1]


def read_built(path: Path) -> tuple[Built | None, nn.Module]:
    """`read_network`, and what the network is built from; None for an InternImage that classifies,
    whose file holds no recipe."""
    metadata, state = _read(path)
    if NETWORK_KEY not in metadata:
        return None, load_weights(path).eval()
    stored = json.loads(metadata[NETWORK_KEY])
    read_sources(path.parent, [stored["variant"]])
    built = Built(
        variant_from_dict(stored["variant"]),
        msgspec.convert(stored["recipe"], Recipe),
        msgspec.convert(stored["num_classes"], int),
        task_from_dict(stored.get("task", {})),
        from_metadata(metadata),
    )
    return built, built.network(state, path)


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a file by name, of any family; a released InternImage's under our names.

    Raises:
        ValueError: it is no file of weights.
    """
    if not is_safetensors(path):
        return read_released(path)[0]
    metadata, state = _read(path)
    return dict(load_weights(path).state_dict()) if CONFIG_KEY in metadata else state


def stored_config(path: Path) -> ModelConfig | None:
    """The configuration in a file of an InternImage that classifies; other files have none."""
    is_ours = is_safetensors(path) and CONFIG_KEY in _read(path)[0]
    return load_weights(path).config if is_ours else None


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(regular_file(path), "pt") as file:
            names = file.keys()
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error
