"""Detectors of fixed outputs: the detections of `predict`, also in onnxruntime."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from archsearch.heads.detector import Detector
from archsearch.heads.masks import pasted
from archsearch.heads.onnx_operators import kept
from internimage.onnx import export_onnx
from tests.heads.small import small_detector

SIZE = (32, 48)


CASES = {
    "many of Mask R-CNN": ("mask_rcnn", 0.0, (100, 100)),
    "some of Mask R-CNN": ("mask_rcnn", 3.0, (1, 99)),
    "none of Mask R-CNN": ("mask_rcnn", 50.0, (0, 0)),
    "many of a cascade": ("cascade", 0.0, (100, 100)),
}
"""A builder, the bias of the background's logit, and the lowest and highest number of objects."""


def detector(name: str, background: float) -> Detector:
    """Some of its proposals are outside the image, so they are empty when they are cut."""
    model = small_detector(name).eval()
    nn.init.normal_(model.rpn.deltas.weight, std=1.0)
    for stage in model.stages:
        nn.init.normal_(stage.box_head.logits.weight, std=0.15)
        nn.init.constant_(stage.box_head.logits.bias[-1:], background)
    return model


def fixed(model: Detector) -> Callable[[Tensor], tuple[Tensor, ...]]:
    network: Callable[[Tensor], tuple[Tensor, ...]] = model.for_export()
    return network


def image(seed: int) -> Tensor:
    return torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_detections_are_those_of_the_detector_filled_up_by_zeros(case: str) -> None:
    name, background, (fewest, most) = CASES[case]
    model = detector(name, background)
    (expected,) = model.predict(image(0))
    boxes, scores, labels, masks = fixed(model)(image(0))
    found = len(expected)
    assert fewest <= found <= most
    assert (boxes.shape, masks.shape) == ((100, 4), (100, 28, 28))
    torch.testing.assert_close(boxes[:found], expected.boxes)
    torch.testing.assert_close(scores[:found], expected.scores)
    assert torch.equal(labels[:found], expected.labels)
    assert not scores[found:].any()
    assert not boxes[found:].any()
    assert expected.masks is not None
    assert torch.equal(pasted(masks[:found], boxes[:found], SIZE), expected.masks)


def test_boxes_without_a_finite_score_neither_remain_nor_suppress() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 0, 30, 9]]).expand(2, 3, 4)
    scores = torch.tensor([[3.0, 2, -1], [-torch.inf, 2, 1]])
    expected = torch.tensor([[True, False, True], [False, True, True]])
    assert torch.equal(kept(boxes, scores, 0.5), expected)


def test_a_detector_is_exported_for_one_image_of_one_size(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    for options in ({}, {"dynamic_batch": False, "dynamic_size": True}):
        with pytest.raises(ValueError, match="Detector is written for one image of one size"):
            export_onnx(small_detector(), tmp_path / "m.onnx", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers
@pytest.mark.parametrize("name", ["test_dino", "test_mask2former"])
@torch.no_grad()
def test_heads_of_transformers_compute_the_same_in_onnxruntime(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, path = import_module(f"tests.heads.{name}").small().eval(), tmp_path / "m.onnx"
    export_onnx(model, path, image_size=64, dynamic_batch=False)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    got = onnxruntime.InferenceSession(path).run(None, {"images": x.numpy()})
    expected = [model(x)]
    if name == "test_dino":
        (found,) = model.predict(x)
        expected = [found.boxes, found.scores, found.labels]
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_onnxruntime_finds_the_same_objects(case: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    name, background, (fewest, most) = CASES[case]
    model, path = detector(name, background), tmp_path / "m.onnx"
    export_onnx(model, path, image_size=SIZE, dynamic_batch=False)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path)
    assert [o.name for o in session.get_outputs()] == ["boxes", "scores", "labels", "masks"]
    for seed in range(3):
        expected = fixed(model)(image(seed))
        got = [torch.from_numpy(a) for a in session.run(None, {"images": image(seed).numpy()})]
        assert fewest <= int((expected[1] > 0).sum()) <= most
        assert torch.equal(got[2], expected[2])
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
