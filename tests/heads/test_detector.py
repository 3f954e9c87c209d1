"""Detectors as a whole: sizes, losses of any annotation, predictions, stages."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from archsearch.heads import cascade_mask_rcnn, mask_rcnn
from archsearch.heads.detector import Detector, next_proposals
from archsearch.heads.instances import Detections, Instances
from archsearch.heads.losses import joined, total, total_of_images
from archsearch.heads.matching import Target
from archsearch.heads.stage import Sample, Stage
from internimage.model import create_model
from tests.heads.small import BUILDERS, annotated, small_detector

PRINTED = {"T": "49M", "S": "69M", "B": "115M", "L": "277M", "XL": "387M"}
"""Parameters of Table 3."""

ANNOTATIONS = {
    "objects": annotated([[8, 8, 40, 40], [30, 10, 90, 60]], [0, 2]),
    "none": Instances(torch.zeros(0, 4), torch.zeros(0).long(), None, torch.zeros(0).bool()),
    "without area": annotated([[8, 8, 8, 40], [30, 10, 30, 10]], [0, 1]),
    "a crowd everywhere": annotated([[0, 0, 96, 64]], [1], crowd=[True]),
    "outside the image": annotated([[300, 300, 340, 340]], [1]),
}


@pytest.mark.parametrize("name", PRINTED)
def test_parameters_are_the_printed_ones(name: str) -> None:
    build = cascade_mask_rcnn if name in ("L", "XL") else mask_rcnn
    with torch.device("meta"):
        backbone = create_model(name, features_only=True)
        detector = build(backbone, channels=backbone.config.channels)
    params = sum(p.numel() for p in detector.parameters())
    assert f"{params / 1e6:.0f}M" == PRINTED[name]
    if name == "T":
        assert params == 48_905_696


@pytest.mark.parametrize("annotation", ANNOTATIONS)
@pytest.mark.parametrize("name", BUILDERS)
def test_every_parameter_has_a_finite_gradient(name: str, annotation: str) -> None:
    """DistributedDataParallel waits for all of them, also where an image teaches nothing."""
    detector = small_detector(name)
    losses = detector(torch.randn(1, 3, 64, 96), [ANNOTATIONS[annotation]])
    loss = total(losses)
    assert loss.isfinite()
    loss.backward()
    for parameter in detector.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    weights = [weight.item() for key, (_, weight) in losses.items() if key.startswith("classes")]
    assert any(weights) == (annotation != "a crowd everywhere")


@pytest.mark.parametrize("name", BUILDERS)
def test_predictions_are_inside_the_image_and_scaled_to_the_original(name: str) -> None:
    detector = small_detector(name).eval()
    for stage in detector.stages:
        torch.nn.init.normal_(stage.box_head.logits.weight, std=2)
    images = torch.zeros(2, 3, 64, 96)
    images[0, :, :40, :50] = torch.randn(3, 40, 50)
    sizes = [(40, 50), (64, 96)]
    one, other = detector.predict(images, sizes)
    assert len(one) > 3
    assert other.masks is not None
    assert one.masks is not None
    assert one.masks.shape[1:] == (40, 50)
    assert other.masks.shape[1:] == (64, 96)
    assert (one.boxes >= 0).all()
    assert (one.boxes <= torch.tensor([50, 40, 50, 40])).all()
    assert (one.scores.diff() <= 0).all()
    (large, _) = detector.predict(images, sizes, [(80, 150), (64, 96)])
    torch.testing.assert_close(large.boxes, one.boxes * torch.tensor([3, 2, 3, 2]))
    assert large.masks is not None
    assert large.masks.shape[1:] == (80, 150)
    shares = [m.float().mean((1, 2)) for m in (large.masks, one.masks)]
    torch.testing.assert_close(*shares, rtol=0.2, atol=0.03)


def test_the_first_stage_of_a_cascade_learns_as_mask_rcnn() -> None:
    single, other = small_detector(), small_detector("cascade").stages
    cascade = Detector(single.backbone, single.fpn, single.rpn, [single.stages[0], *other])
    images, targets = torch.randn(2, 3, 64, 96), [ANNOTATIONS["objects"], ANNOTATIONS["none"]]
    losses = []
    for detector in (single, cascade):
        torch.manual_seed(3)
        losses.append(detector.losses(images, targets))
    for name in ("classes", "boxes", "masks"):
        torch.testing.assert_close(losses[1][f"{name}_1"], losses[0][name])
    assert losses[1].keys() > {"rpn_objects", "rpn_boxes", "masks_4"}


def test_stages_that_move_no_box_predict_as_one_stage() -> None:
    single = small_detector().eval()
    torch.nn.init.normal_(single.stages[0].box_head.logits.weight, std=2)
    for parameter in single.stages[0].box_head.deltas.parameters():
        torch.nn.init.zeros_(parameter)
    cascade = Detector(single.backbone, single.fpn, single.rpn, [single.stages[0]] * 3).eval()
    images = torch.randn(1, 3, 64, 96)
    (expected,), (got,) = single.predict(images), cascade.predict(images)
    assert len(expected) > 3
    for name, values in expected.tensors().items():
        torch.testing.assert_close(got.tensors()[name], values, rtol=1e-4, atol=1e-4)


def test_scores_are_those_of_the_mean_logits() -> None:
    detector = small_detector("cascade").eval()
    for stage, objectness in zip(detector.stages, (0.0, 3.0, 6.0), strict=True):
        for parameter in stage.box_head.logits.parameters():
            torch.nn.init.zeros_(parameter)
        stage.box_head.logits.bias.data[1] = objectness
    (found,) = detector.predict(torch.randn(1, 3, 64, 96))
    expected = torch.tensor([0.0, 3, 0, 0]).softmax(0)[1].expand(len(found))
    torch.testing.assert_close(found.scores, expected)
    assert found.labels.unique().tolist() == [1]


def test_a_box_moves_by_the_deltas_of_its_class() -> None:
    stage = small_detector().stages[0]
    proposals = torch.tensor([[0.0, 0, 32, 32], [16, 16, 48, 48]])
    deltas = torch.zeros(2, 3, 4)
    deltas[:, 1, :2] = torch.tensor([[0.25], [-0.25]]) * 10  # of 32 pixels
    (moved,) = stage.refined([proposals], deltas, torch.tensor([1, 1]), [(64, 96)])
    torch.testing.assert_close(moved, torch.tensor([[8.0, 8, 40, 40]]).repeat(2, 1))
    (kept,) = stage.refined([proposals], deltas, torch.tensor([0, 2]), [(64, 96)])
    torch.testing.assert_close(kept, proposals)


def one_sample(stage: Stage) -> Sample:
    """A proposal that overlaps the object by two thirds, the object, and background, in any order
    of the first two."""
    target = Target.of(annotated([[8, 8, 40, 40]], [1]))
    return stage.sample(torch.tensor([[8.0, 8, 40, 56], [60, 8, 90, 40]]), target)


def test_objects_are_no_proposals_of_the_next_stage() -> None:
    """The positive moves by the deltas of its object's class, the other by its likeliest's."""
    stage = small_detector().stages[0]
    sample = one_sample(stage)
    logits, deltas = torch.zeros(3, 4), torch.zeros(3, 3, 4)
    logits[:, 2] = 1
    deltas[:, 1, 0], deltas[:, 2, 1] = 10 * 4 / 32, -10 * 4 / 32
    (boxes,) = next_proposals(stage, [sample], logits, deltas, [(64, 96)])
    expected = torch.tensor([[12.0, 8, 44, 56], [60, 4, 90, 36]])
    torch.testing.assert_close(boxes, expected)


def test_each_stage_samples_what_the_previous_one_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = small_detector("cascade")
    first, second, _ = detector.stages
    for parameter in first.box_head.deltas.parameters():
        torch.nn.init.zeros_(parameter)
    first.box_head.deltas.bias.data.view(3, 4)[:, 2] = first.coder[2] * math.log(0.5)
    samples, proposals = [], []

    def recorded(boxes: Tensor, target: Target) -> Sample:
        proposals.append(boxes)
        return Stage.sample(second, boxes, target)

    def recorded_first(boxes: Tensor, target: Target) -> Sample:
        samples.append(Stage.sample(first, boxes, target))
        return samples[0]

    monkeypatch.setattr(first, "sample", recorded_first)
    monkeypatch.setattr(second, "sample", recorded)
    detector.losses(torch.randn(1, 3, 64, 96), [ANNOTATIONS["none"]])
    widths = [boxes[:, 2] - boxes[:, 0] for boxes in (samples[0].boxes, proposals[0])]
    torch.testing.assert_close(widths[1], widths[0] / 2, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("generalized", [False, True])
def test_the_losses_of_a_sample_are_those_computed_by_hand(generalized: bool) -> None:
    stage = small_detector().stages[0]
    stage.generalized, stage.weight = generalized, 0.5
    sample = one_sample(stage)
    assert sorted(sample.added.tolist()) == [False, False, True]
    assert sample.labels(3).tolist() == [1, 1, 3]
    levels = [torch.zeros(1, 16, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    losses = stage.losses(levels, [sample], torch.zeros(3, 4), torch.zeros(3, 3, 4))
    # deltas: the center moves by -8 of 48 pixels, and the height shrinks to two thirds
    difference = 10 * 8 / 48 + 5 * math.log(1.5)
    values = {"classes": 3 * math.log(4), "boxes": 10 / 3 if generalized else difference,
              "masks": 2 * math.log(2)}  # fmt: skip
    weights = {"classes": 3, "boxes": 3, "masks": 2}
    for name, (value, weight) in losses.items():
        assert value.item() == pytest.approx(values[name] / 2, rel=1e-5)
        assert weight.item() == weights[name]


def test_stages_of_a_cascade_are_the_published_ones() -> None:
    stages = small_detector("cascade").stages
    assert [(stage.iou, stage.weight) for stage in stages] == [(0.5, 1), (0.6, 0.5), (0.7, 0.25)]


def test_means_of_parts_of_a_batch_add_up() -> None:
    first = {"a": (torch.tensor([3.0]), torch.tensor([2.0])), "b": (torch.zeros(1), torch.zeros(1))}
    second = {"a": (torch.tensor([5.0]), torch.tensor([2.0])), "b": (torch.ones(1), torch.ones(1))}
    assert total(joined([first, second])).item() == 2 + 1
    assert total(first).item() == 1.5
    assert total_of_images(joined([first, second])).tolist() == [1.5, 3.5]


def test_wrong_targets_are_refused() -> None:
    detector, images = small_detector(), torch.zeros(2, 3, 64, 96)
    objects = ANNOTATIONS["objects"]
    with pytest.raises(ValueError, match="wanted targets for 2 images, got 1"):
        detector.losses(images, [objects])
    wrong = replace(objects, masks=None, labels=objects.labels + 1)
    with pytest.raises(ValueError, match=r"image 1 has no masks; image 1 has the labels \[1, 3\]"):
        detector.losses(images, [objects, wrong])
    with pytest.raises(ValueError, match="wanted sizes for 2 images, got 3"):
        detector.predict(images, [(64, 96)] * 3)


def test_a_network_of_nan_detects_nothing() -> None:
    detector = small_detector("cascade").eval()
    torch.nn.init.constant_(detector.fpn.output[0].bias, torch.nan)
    (none,) = detector.predict(torch.zeros(1, 3, 64, 96))
    assert isinstance(none, Detections)
    assert detector.train().losses(torch.zeros(1, 3, 64, 96), [ANNOTATIONS["objects"]])


def test_losses_and_scores_are_in_float32_under_autocast() -> None:
    detector, images = small_detector(), torch.randn(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector.losses(images, [ANNOTATIONS["objects"]])
        (found,) = detector.eval().predict(images)
    assert {value.dtype for value, _ in losses.values()} == {torch.float32}
    assert total(losses).isfinite()
    assert found.scores.dtype == found.boxes.dtype == torch.float32
