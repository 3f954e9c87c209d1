"""The classes that a trained network sees in image files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from archsearch.deployment.trained import preprocessing_of
from archsearch.evaluation import SavedNetwork
from archsearch.training.decoding import decode
from archsearch.training.images import DataError, read_file, refuse
from internimage.description import Preprocessing, description_of
from internimage.in_chans import RGB

BATCH = 16
"""Images that pass through the network at a time."""


@dataclass(frozen=True)
class Prediction:
    """The most probable class of an image; ``probability`` is that of the softmax, 0 to 1."""

    image: str
    class_name: str
    probability: float


def predict(network: SavedNetwork, images: Sequence[Path]) -> list[Prediction]:
    """Return a prediction per image file, in order.

    Raises:
        ValueError: files are missing or no images (all named), or the network does not know how
            images become inputs.
    """
    preprocessing = preprocessing_of(network)
    channels = getattr(network.model, "in_chans", RGB)
    inputs, problems = [], []
    for path in images:
        try:
            inputs.append(image_input(path, preprocessing, channels))
        except DataError as error:
            problems.append(str(error))
    refuse(problems)
    names = description_of(network.model).class_names
    batches = (inputs[i : i + BATCH] for i in range(0, len(inputs), BATCH))
    probabilities = (row for batch in batches for row in _probabilities(network, batch))
    best = ((float(row.max()), int(row.argmax())) for row in probabilities)
    return [
        Prediction(str(path), names[k] if names else str(k), probability)
        for path, (probability, k) in zip(images, best, strict=True)
    ]


@torch.inference_mode()
def _probabilities(network: SavedNetwork, inputs: Sequence[Tensor]) -> Tensor:
    logits: Tensor = network.model(torch.cat(list(inputs)))
    return logits.softmax(-1)


def image_input(path: Path, preprocessing: Preprocessing, channels: int = RGB) -> Tensor:
    """Return an image file as ``(1, channels, S, S)``; a gray one has equal channels.

    Raises:
        DataError: it cannot be read as an image.
    """
    from PIL import Image

    image = decode(read_file(path), str(path))
    p, side = preprocessing, preprocessing.crop * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    resampling = Image.Resampling[p.interpolation.upper()]
    box = (left, top, left + side, top + side)
    square = image.resize((p.image_size,) * 2, resampling, box, reducing_gap=2.0)
    gray = len(p.mean) == 1
    pixels = np.array(square.convert("L" if gray else "RGB")).reshape(
        p.image_size, p.image_size, -1
    )
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (p.mean, p.std))
    return ((x - mean) / std).expand(-1, channels, -1, -1)
