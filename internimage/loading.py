"""Loading of a network from any file of its weights."""

import os

from internimage.model import InternImage
from internimage.official import load_official
from internimage.weights import load_weights, regular_file


def load(
    path: str | os.PathLike[str], *, num_classes: int | None = None, features_only: bool = False
) -> InternImage:
    """The network of a file, in eval mode: one of ours, or a released checkpoint.

    A file of ours knows ``class_names`` and ``preprocessing``, if it was trained by archsearch.

    Args:
        path: what `save_weights` or `archsearch train` wrote, or what `load_official` reads.
        num_classes: of another number than the file's, the last layer is new and random.
        features_only: leave out the classifier and return a backbone.

    Raises:
        ValueError: it is no such file, or its weights do not fit its network.
    """
    with regular_file(path).open("rb") as file:
        start = file.read(9)
    # A safetensors file begins with the length of its header, which is JSON.
    read = load_weights if start[8:] == b"{" else load_official
    return read(path, num_classes=num_classes, features_only=features_only)
