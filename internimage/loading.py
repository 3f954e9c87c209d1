"""Loading of a network from any file of its weights."""

import os

from internimage.model import InternImage
from internimage.official import load_official
from internimage.weights import is_safetensors, load_weights


def load(
    path: str | os.PathLike[str],
    *,
    num_classes: int | None = None,
    features_only: bool = False,
    in_chans: int | None = None,
) -> InternImage:
    """The network of a file, in eval mode: one of ours, or a released checkpoint.

    A file of ours knows ``class_names`` and ``preprocessing``, if it was trained by archsearch.

    Args:
        path: what `save_weights` or `archsearch train` wrote, or what `load_official` reads.
        num_classes: of another number than the file's, the last layer is new and random.
        features_only: leave out the classifier and return a backbone.
        in_chans: channels of the images, by default the file's. The weights of the first
            convolution are summed over its channels for one channel, else repeated in turn and
            scaled by the file's channels over ``in_chans``, as timm does it.

    Raises:
        ValueError: it is no such file, or its weights do not fit its network.
    """
    read = load_weights if is_safetensors(path) else load_official
    return read(path, num_classes=num_classes, features_only=features_only, in_chans=in_chans)
