"""mIoU: cases that are known by hand, sums over parts, and scales."""

import numpy as np
import pytest
import torch

from archsearch.scenes.data import load
from archsearch.scenes.loader import one_image
from archsearch.scenes.mean_iou import (
    RATIOS,
    annotated_map,
    confusion,
    mean_iou,
    multi_scale,
    to_original,
)
from archsearch.scenes.scene import IGNORED, Scene
from archsearch.scenes.views import SegmentationView

CPU = torch.device("cpu")


def of(predicted, annotated, num_classes=3):
    return confusion(torch.tensor(predicted), torch.tensor(annotated), num_classes)


def test_a_confusion_matrix_by_hand():
    matrix = of([0, 1, 1, 2, 0], [0, 0, 1, 2, IGNORED])
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    numbers = mean_iou(matrix)
    assert numbers["miou"] == pytest.approx(100 * (1 / 2 + 1 / 2 + 1) / 3)
    assert numbers["pixel_accuracy"] == pytest.approx(75)


def test_perfect_wrong_and_absent_classes():
    assert mean_iou(of([0, 2], [0, 2]))["miou"] == 100, "class 1 occurs nowhere"
    assert mean_iou(of([1, 0], [0, 1]))["miou"] == 0
    assert mean_iou(of([0, 0], [0, 1]))["miou"] == pytest.approx(25)
    assert mean_iou(of([0, 1], [IGNORED, IGNORED])) == {"miou": None, "pixel_accuracy": None}


def test_the_sum_over_parts_is_the_matrix_of_all():
    generator = torch.Generator().manual_seed(0)
    predicted, annotated = torch.randint(0, 5, (2, 6, 9, 7), generator=generator)
    annotated[0, :3] = IGNORED
    parts = [confusion(p, a, 5) for p, a in zip(predicted, annotated, strict=True)]
    assert torch.equal(sum(parts), confusion(predicted, annotated, 5))


def colors(images):
    """A segmenter without weights: classes are red, green and blue, whichever is strongest."""
    return 10 * images


def scene(height, width):
    """Red at the left, green at the top right, blue at the bottom right; one row is ignored."""
    label_map = np.zeros((height, width), np.uint8)
    label_map[:, width // 4 :] = 1
    label_map[height // 2 :, width // 4 :] = 2
    pixels = 255 * (label_map[..., None] == np.arange(3)).astype(np.uint8)
    label_map[0] = IGNORED
    return Scene(pixels, None, label_map)


@pytest.mark.parametrize("size", [(60, 100), (41, 33)])
def test_predictions_return_to_the_original_size(size):
    original = scene(*size)
    images, (target,) = one_image(original, SegmentationView(64, 50, 80), CPU)
    logits = to_original(colors(images[0].float()), target)
    assert logits.shape == (3, *size)
    numbers = mean_iou(confusion(logits.argmax(0), annotated_map(target), 3))
    assert numbers["pixel_accuracy"] > 95


def test_an_image_is_padded_to_the_stride_and_not_to_the_square_of_training():
    images, (target,) = one_image(scene(30, 200), SegmentationView(64, 64, 128), CPU)
    assert (target.size, images.shape) == ((19, 128), (1, 3, 32, 128))


@pytest.mark.parametrize("size", [(60, 100), (41, 33)])
def test_several_scales_and_directions_are_averaged(size):
    original, seen = scene(*size), []

    def predict(images):
        seen.append(tuple(images.shape))
        return colors(images)

    probabilities = multi_scale(predict, original, SegmentationView(32, 64, 128), CPU)
    assert [shape[0] for shape in seen] == [2] * len(RATIOS)
    assert len(set(seen)) > 3
    torch.testing.assert_close(probabilities.sum(0), torch.ones(size))
    annotated = torch.from_numpy(original.label_map)
    assert mean_iou(confusion(probabilities.argmax(0), annotated, 3))["pixel_accuracy"] > 95


def test_a_mirrored_prediction_is_mirrored_back():
    """A segmenter that marks the left half of what it is given as class 0 sees no side at all."""
    original = scene(64, 64)

    def left(images):
        logits = torch.zeros(len(images), 2, *images.shape[2:])
        logits[:, 0, :, : images.shape[3] // 2] = 4
        return logits

    probabilities = multi_scale(left, original, SegmentationView(32, 64, 64), CPU)
    torch.testing.assert_close(probabilities, probabilities.flip(-1))


def test_pasted_label_maps_match_themselves():
    original = load("pasted:images=50").test[0]
    _, (target,) = one_image(original, SegmentationView(128, 128, 160), CPU)
    truth = annotated_map(target)
    assert mean_iou(confusion(truth, truth, 11))["miou"] == 100
    assert torch.equal(target.label_map[:128, :160], truth.long())
