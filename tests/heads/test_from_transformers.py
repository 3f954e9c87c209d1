"""Heads from the library transformers, where it is not installed, and their sizes."""

import pytest
from torch import nn

from archsearch.core.recipes import QUICK
from archsearch.heads import from_transformers, mask2former
from archsearch.heads.dino_cost import Sizes as DINOSizes
from archsearch.heads.mask2former_cost import Sizes
from archsearch.tasks.detection import Detection
from archsearch.tasks.segmentation import Segmentation


def test_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_transformers, "find_spec", lambda _: None)
    missing = r"mask2former is built .* not installed: pip install 'archsearch\[transformers\]'"
    with pytest.raises(ValueError, match=missing):
        mask2former(nn.Identity(), channels=(1, 1, 1, 1))
    with pytest.raises(ValueError, match=missing):
        Segmentation("mask2former").describe("pasted", QUICK)
    with pytest.raises(ValueError, match=r"dino is built .*archsearch\[transformers\]"):
        Detection("dino").describe("pasted", QUICK)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be from 2 to 255, got 1"):
        mask2former(nn.Identity(), 1, channels=(1, 1, 1, 1))
    with pytest.raises(
        ValueError, match=r"multiple of 64 .* and of its attention heads \(3\), got 64"
    ):
        Sizes(width=64, heads=3)
    with pytest.raises(ValueError, match=r"multiple of 64 .* got 48"):
        Segmentation("mask2former", 48)
    with pytest.raises(ValueError, match=r"width of DINO must be a multiple of 64 .* got 8"):
        Detection("dino", 8)


def test_widths_are_the_published_ones_by_default() -> None:
    assert Sizes.of_width(1024) == Sizes()
    assert Segmentation("mask2former") == Segmentation("mask2former", 1024)
    assert Segmentation().width == 512
    assert DINOSizes.of_width(256) == DINOSizes()
    assert Detection("dino") == Detection("dino", 256)
