"""The objects of an image: shapes are checked together, and all fields move together."""

import pytest
import torch

from archsearch.heads.instances import Detections, Instances


def two_objects() -> Instances:
    boxes = torch.tensor([[0.0, 0, 2, 3], [1, 1, 4, 2]])
    masks = torch.arange(2 * 3 * 5).reshape(2, 3, 5) % 2 == 0
    return Instances(boxes, torch.tensor([4, 7]), masks, torch.tensor([False, True]))


def test_objects_are_selected_in_every_field() -> None:
    objects = two_objects()
    kept = objects[~objects.crowd]
    assert len(objects) == 2
    assert len(kept) == 1
    assert kept.labels.tolist() == [4]
    assert kept.boxes.tolist() == [[0, 0, 2, 3]]
    assert torch.equal(kept.masks, objects.masks[:1])


def test_an_image_may_have_no_objects_and_no_masks() -> None:
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), None)
    assert len(none.to("cpu")) == 0
    assert none[:0].masks is None


def test_every_wrong_shape_is_in_one_message() -> None:
    with pytest.raises(ValueError, match="objects of one image") as error:
        Instances(torch.zeros(2, 5), torch.zeros(3), torch.zeros(2, 4), torch.zeros(2))
    message = str(error.value)
    assert "boxes must be (M, 4), got (2, 5)" in message
    assert "labels must be (M,), got (3,)" in message
    assert "masks must be (M, H, W), got (2, 4)" in message
    assert "crowd" not in message
