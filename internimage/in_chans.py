"""The channels of the images: how the first convolution is adapted to another number of them."""

from typing import Any

from torch import Tensor

CONV = "patch_embed.conv1.weight"
"""The weights of the first convolution ``(C1/2, in_chans, 3, 3)``."""

RGB = 3


def checked_in_chans(in_chans: Any) -> int:
    """The number of channels.

    Raises:
        ValueError: it is no number of channels.
    """
    if type(in_chans) is not int or in_chans < 1:
        raise ValueError(f"in_chans: wanted a whole number, 1 or more, got {in_chans!r}")
    return in_chans


def in_chans_of(state: dict[str, Tensor]) -> int:
    """The channels that the first convolution reads; 3 if the weights do not say it."""
    conv = state.get(CONV)
    return RGB if conv is None or conv.dim() != 4 else max(conv.shape[1], 1)


def with_in_chans(state: dict[str, Tensor], in_chans: int | None) -> bool:
    """Adapt the first convolution in ``state`` to this number of channels; whether it differed.

    For one channel the weights are summed over their channels, else these are repeated in turn and
    scaled by their number over ``in_chans``. So an image whose channels are equal has the same
    logits as before, if ``in_chans`` is 1 or a multiple of the number before.

    Raises:
        ValueError: it is no number of channels.
    """
    had = in_chans_of(state)
    if in_chans is None or checked_in_chans(in_chans) == had or CONV not in state:
        return False
    conv = state[CONV]
    turns = [i % had for i in range(in_chans)]
    repeated = conv[:, turns] * (had / in_chans)
    state[CONV] = conv.sum(1, keepdim=True) if in_chans == 1 else repeated
    return True
