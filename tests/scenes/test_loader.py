"""Batches: padding, what depends on a seed, and what travels between processes."""

import numpy as np
import pytest
import torch

from archsearch.scenes.data import load
from archsearch.scenes.loader import reader, scene_splits
from archsearch.scenes.scene import IGNORED
from archsearch.scenes.views import DetectionView, SegmentationView
from archsearch.training.images import IMAGENET_MEAN, IMAGENET_STD
from tests.scenes.examples import rectangles, scene_of

CPU = torch.device("cpu")
SCENES = [
    scene_of(rectangles(40, 50, (0, 0, 20, 10), (30, 20, 50, 40))),
    scene_of(rectangles(70, 30, (10, 10, 20, 30))),
    scene_of(np.zeros((0, 33, 33), bool)),
]


class AsIs:
    least = 1

    def __call__(self, scene, _):
        return scene


def batches(*indices):
    return [torch.tensor(batch) for batch in indices]


def test_a_batch_is_padded_to_a_multiple_of_32_with_masks_and_label_maps():
    (images, targets), (last, _) = reader(SCENES, AsIs(), CPU, False)(batches([0, 1, 2], [0]))
    assert (images.shape, images.dtype) == ((3, 3, 96, 64), torch.uint8)
    assert last.shape == (1, 3, 64, 64)
    for image, target, scene in zip(images, targets, SCENES, strict=True):
        height, width = scene.size
        assert target.size == scene.size
        assert np.array_equal(image[:, :height, :width].permute(1, 2, 0), scene.pixels)
        assert image.sum() == scene.pixels.sum()
        assert np.array_equal(target.instances.masks[:, :height, :width], scene.objects.masks)
        assert target.instances.masks.shape[1:] == images.shape[2:]
        assert target.instances.masks.sum() == scene.objects.masks.sum()
        assert np.array_equal(target.instances.boxes, scene.objects.boxes)
        assert np.array_equal(target.label_map[:height, :width], scene.label_map)
        assert (target.label_map == IGNORED).sum() == 96 * 64 - height * width
        assert target.original is scene


def test_boxes_without_masks_and_images_without_objects_are_read():
    boxes_only = scene_of(rectangles(40, 50, (0, 0, 20, 10)), masked=False)
    ((_, (target,)),) = reader([boxes_only], AsIs(), CPU, False)(batches([0]))
    assert target.instances.masks is None
    ((_, (target,)),) = reader(SCENES, AsIs(), CPU, False)(batches([2]))
    assert (len(target.instances), target.instances.masks.shape) == (0, (0, 64, 64))


def seen(read, order, seed):
    """By index: the pixels and boxes of each image."""
    return {
        index: (image[:, : t.size[0], : t.size[1]].numpy().tobytes(), t.instances.boxes.tolist())
        for batch in order
        for images, targets in read(batches(batch), seed)
        for index, image, t in zip(batch, images, targets, strict=True)
    }


@pytest.mark.parametrize(
    "view", [DetectionView((96, 128), 200, crop=True, distort=True), SegmentationView(64, 128)]
)
def test_augmentation_depends_on_the_seed_and_the_image_alone(view):
    read = reader(load("pasted:images=50").train, view, CPU, False)
    once = seen(read, [[0, 1, 2], [3, 4, 5]], 7)
    assert once == seen(read, [[5, 3], [0], [4, 2, 1]], 7), "another order, as after a resume"
    other = seen(read, [[0, 1, 2, 3, 4, 5]], 8)
    assert all(once[index] != other[index] for index in once)


def test_images_of_one_epoch_are_augmented_apart():
    same = scene_of(rectangles(40, 50, (0, 0, 20, 10)))
    ((images, _),) = reader([same] * 20, DetectionView((40,)), CPU, False)(batches([*range(20)]), 5)
    mirrored = (images[:, 0, 0, 0] == 0).sum()
    assert 3 < mirrored < 17


def test_evaluation_is_without_augmentation_and_has_the_original():
    scenes = load("pasted:images=50")
    read = reader(scenes.test, DetectionView((64,), 500, 256), CPU, False)
    for _ in range(2):
        ((images, (target,)),) = read(batches([3]))
        assert images.shape == (1, 3, 256, 320)
        assert np.array_equal(target.original.pixels, scenes.test[3].pixels)
        assert np.allclose(target.instances.boxes, 2 * scenes.test[3].objects.boxes)
    ((_, (target,)),) = read(batches([3]), seed=1)
    assert target.original is None


def test_normalized_images_are_zero_in_the_padding():
    scenes = load("pasted:images=50")
    splits = scene_splits(scenes, DetectionView((100,), 150, 100), 0.2, 1.0, CPU)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (40, 10, 10)
    (batch,) = splits.read([splits.train[:2]], 0)
    images, targets = splits.augmented(batch)
    height, width = targets[0].size
    assert (height, width, *images.shape[2:]) == (100, 125, 128, 128)
    assert not images[:, :, height:].any()
    assert not images[:, :, :, width:].any()
    pixel = batch[0][0, :, 5, 5].double() / 255
    mean, std = (torch.tensor(v).double() for v in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(images[0, :, 5, 5].double(), (pixel - mean) / std)
    (whole,) = splits.read_test([splits.test[:5]])
    parts = splits.parts(whole, 2)
    assert [(len(images), len(targets)) for images, targets in parts] == [(3, 3), (2, 2)]
    assert [t for _, targets in parts for t in targets] == whole[1]


@pytest.mark.slow  # a process of its own imports torch
def test_processes_decode_what_one_process_decodes(monkeypatch):
    monkeypatch.setattr("archsearch.training.loader.cores", lambda: 1)
    train = load("pasted:images=50").train
    view, order = DetectionView((96, 128), 200, crop=True), [[0, 1], [2, 3]]
    expected = seen(reader(train, view, CPU, False), order, 3)
    read = reader(train, view, CPU, True)
    assert seen(read, order, 3) == expected
    ((_, (target,)),) = read(batches([1]))
    assert np.array_equal(target.original.objects.masks, train[1].objects.masks)
