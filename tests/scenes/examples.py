"""Small scenes with known objects."""

import numpy as np

from archsearch.scenes.scene import Objects, Scene, tight_boxes


def scene_of(masks, labels=None, masked=True):
    """A scene whose red channel shows the number of each object, from 1, with its label map."""
    masks = np.asarray(masks, bool)
    labels = np.arange(len(masks)) if labels is None else np.asarray(labels)
    numbers = np.zeros(masks.shape[1:], np.uint8)
    for i, mask in enumerate(masks):
        numbers[mask] = i + 1
    crowd, areas = np.zeros(len(masks), bool), masks.sum((1, 2)).astype(np.float32)
    objects = Objects(tight_boxes(masks), labels, masks if masked else None, crowd, areas)
    return Scene(np.stack([numbers * 20] * 3, -1), objects, numbers)


def rectangles(height, width, *boxes):
    """Masks of x1, y1, x2, y2."""
    masks = np.zeros((len(boxes), height, width), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks
