"""The layers of the library transformers that Mask2Former and DINO are built from.

The library is needed for these two heads only, and imported when one is built. Importing this
module does not import torch.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

INSTALL = "pip install 'archsearch[transformers]'"


class MissingTransformersError(ValueError):
    """Raised if transformers is not installed; the message has the command that installs it."""


def check_installed(head: str) -> None:
    """Check that a head of this name can be built, before anything trains.

    Raises:
        MissingTransformersError: transformers is not installed.
    """
    if find_spec("transformers") is None:
        raise MissingTransformersError(
            f"{head} is built from layers of the library transformers, which is not installed: "
            f"{INSTALL}"
        )


def modeling(name: str) -> Any:
    """The module of transformers with the layers and the configuration of this network.

    Raises:
        MissingTransformersError: transformers is not installed.
    """
    check_installed(name)
    return import_module(f"transformers.models.{name}.modeling_{name}")


def initialize(part: "nn.Module", network: Any) -> None:
    """Draw the weights as the network of transformers (without its parts) draws those of its own.

    Modules are visited from the innermost outwards, so that a layer's rule overrides those of the
    modules inside.
    """
    part.apply(network._init_weights)
