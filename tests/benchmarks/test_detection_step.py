"""Timing of a detector's step: seconds belong to the innermost part, and all parts are called."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from archsearch.benchmarks import detection_step, region_twins
from archsearch.benchmarks.detection_step import PARTS, Stopwatch, images_and_objects
from archsearch.heads import mask_rcnn
from archsearch.heads.stage import Stage
from internimage.config import ModelConfig
from internimage.model import InternImage

SMALL = ModelConfig((8, 16, 32, 64), (1, 1, 1, 1), (1, 2, 4, 8))


def test_seconds_belong_to_the_innermost_part() -> None:
    ticks = count()
    watch = Stopwatch(lambda: float(next(ticks)))
    inner = watch.timed("inner", lambda: 5)
    with watch.part("outer"):
        assert inner() == 5
        inner()
    assert watch.seconds == {"outer": 3.0, "inner": 2.0}


def test_objects_are_inside_the_image_with_their_masks() -> None:
    images, targets = images_and_objects(2, (64, 96))
    assert images.shape == (2, 3, 64, 96)
    for boxes, masks in ((target.boxes, target.masks) for target in targets):
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        assert boxes.min() >= 0
        assert (boxes[:, 2:] <= torch.tensor([96, 64])).all()
        torch.testing.assert_close(masks.sum((1, 2)).float(), areas, rtol=0.2, atol=0)


def test_a_step_is_timed_by_part_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(detection_step.internimage, "create_model", _small_backbone)
    monkeypatch.setattr(detection_step, "mask_rcnn", lambda net: mask_rcnn(net, width=8, hidden=8))
    monkeypatch.setattr(detection_step, "twins", lambda *_: None)
    sample, threads = Stage.sample, torch.get_num_threads()
    out = tmp_path / "step.json"
    try:
        detection_step.main(["--image-size", "64x96", "--rounds", "1", "--out", str(out)])
    finally:
        torch.set_num_threads(threads)
    row = json.loads(out.read_text())
    assert tuple(row["parts"]) == PARTS
    assert row["seconds"] == pytest.approx(sum(row["parts"].values()))
    assert "torchvision does not import" in capsys.readouterr().out
    assert Stage.sample is sample, "nothing stays patched"


def _small_backbone(name: str, features_only: bool) -> InternImage:
    del name
    return InternImage(SMALL, features_only=features_only)


def test_twins_compute_the_same_where_torchvision_imports() -> None:
    torchvision = pytest.importorskip("torchvision")
    with patch.object(region_twins, "CANDIDATES", 50):
        calls = region_twins._calls((64, 96))
    for name, pair in calls.items():
        if name.startswith("suppression"):
            assert torch.equal(pair["ours"](), pair["torchvision"]())
    assert torchvision
    assert len(region_twins.twins((64, 96), 1, 1)) == len(calls) == 6


def test_ratios_are_of_ours_to_torchvisions() -> None:
    lines = [*region_twins.ratios({"RoIAlign": {"ours": 0.003, "torchvision": 0.002}})]
    assert lines == ["  RoIAlign: 3.0 ms, torchvision 2.0 ms, ratio 1.50"]
