"""What a network predicts in images, and a file of it. Does not import torch.

The file holds the images and their annotations too, so that it can be drawn without the data.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from archsearch.scenes.scene import Objects, Pixels, Scene

NUM_IMAGES = 4
"""Held-out images whose predictions are kept with a training."""

MAX_OBJECTS = 30
"""Predicted objects of an image that are kept: those with the highest scores."""

_CLASSES = "classes"


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a network predicts in an image: objects with scores, or a label map, in its pixels."""

    scene: Scene
    objects: Objects | None = None
    scores: NDArray[np.float32] | None = None
    label_map: Pixels | None = None

    def best(self) -> "Predicted":
        """The same with at most `MAX_OBJECTS` objects, by rising score."""
        if self.objects is None or self.scores is None:
            return self
        order = np.argsort(self.scores, kind="stable")[-MAX_OBJECTS:]
        return Predicted(self.scene, self.objects[order], self.scores[order], self.label_map)


def to_bytes(images: Sequence[Predicted], classes: Sequence[str]) -> bytes:
    """A file of predictions; ``classes`` are the names of the labels."""
    arrays: dict[str, Any] = {_CLASSES: np.array(classes)}
    for i, image in enumerate(images):
        arrays |= {f"{i}.{name}": values for name, values in _arrays(image.best())}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read(path: Path) -> tuple[list[Predicted], tuple[str, ...]]:
    """The predictions in a file and the names of their labels.

    Raises:
        ValueError: it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        images = [_image(arrays, f"{i}.") for i in range(_num_images(arrays))]
        return images, tuple(arrays[_CLASSES].tolist())
    except (BadZipFile, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of predictions: {error}") from error


def _num_images(arrays: Mapping[str, Any]) -> int:
    return sum(name.endswith(".pixels") for name in arrays)


def _arrays(image: Predicted) -> Iterator[tuple[str, Any]]:
    """The arrays of one image by name, without those that it has not."""
    scene = image.scene
    values: dict[str, Any] = {"pixels": scene.pixels, "annotated_map": scene.label_map}
    values |= {"scores": image.scores, "predicted_map": image.label_map}
    for kind, objects in (("annotated", scene.objects), ("predicted", image.objects)):
        if objects is not None:
            values |= {f"{kind}.{name}": array for name, array in vars(objects).items()}
    yield from ((name, array) for name, array in values.items() if array is not None)


def _image(arrays: Mapping[str, Any], prefix: str) -> Predicted:
    own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    scene = Scene(own["pixels"], _objects(own, "annotated."), own.get("annotated_map"))
    objects = _objects(own, "predicted.")
    return Predicted(scene, objects, own.get("scores"), own.get("predicted_map"))


def _objects(arrays: Mapping[str, Any], prefix: str) -> Objects | None:
    own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    return Objects(**{"masks": None, **own}) if own else None
