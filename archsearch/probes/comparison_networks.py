"""The networks of the throughput comparison: ours, their DCNv2-like variants, and timm's."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archsearch.families.internimage import parse_network
from internimage.config import PRESETS, ModelConfig

if TYPE_CHECKING:
    from torch import nn

UNSHARED = "unshared"
"""``B:unshared`` is B with a projection for every sampling point and one group, as in DCNv2."""


def config_of(name: str) -> ModelConfig | None:
    """Return the configuration of one of our networks; None if the name must be timm's.

    Raises:
        ValueError: for a suffix other than ``:unshared``.
    """
    base, colon, operator = name.partition(":")
    if colon and operator != UNSHARED:
        raise ValueError(f"{name}: the only variant is {base}:{UNSHARED}")
    if base.upper() not in PRESETS and not base.replace("-", "").isdigit():
        return None
    config = parse_network(base).config()
    if not colon:
        return config
    return replace(config, operator="dcnv3-unshared", groups=(1, 1, 1, 1))


def build(name: str, image_size: int | tuple[int, int]) -> "nn.Module":
    """Return the network in evaluation mode, with random weights.

    Raises:
        ImportError: if it is timm's and timm cannot be imported.
        ValueError: if no network has that name.
    """
    from internimage.model import InternImage

    config = config_of(name)
    if config is not None:
        return InternImage(config).eval()
    timm = import_timm()
    if name not in timm.list_models(name):
        raise ValueError(f"{name!r} is neither our network (T, B:unshared, ...) nor one of timm's")
    # Only networks with windows or position embeddings take the image size.
    sized = {"img_size": image_size} if "swin" in name or "vit" in name else {}
    return timm.create_model(name, pretrained=False, **sized).eval()  # type: ignore[no-any-return]


def import_timm() -> Any:
    """Return the package timm, which needs a torchvision that fits the installed torch.

    Raises:
        ImportError: with the cause and what to install.
    """
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision for another torch
        raise ImportError(
            f"timm cannot be imported ({error}): pip install 'archsearch[baselines]', with the "
            "torchvision that fits your torch"
        ) from error
    return timm
