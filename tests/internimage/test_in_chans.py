"""Networks of images with other numbers of channels, from the weights of a network of RGB."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from internimage.config import ModelConfig
from internimage.description import Description, Preprocessing
from internimage.loading import load
from internimage.model import InternImage, create_model
from internimage.program import export_program
from internimage.weights import save_weights
from tests.internimage.plain_network import released_state

SMALL = ModelConfig((8, 16, 32, 64), (1, 1, 1, 1), (2, 4, 8, 16), num_classes=3)
IMAGES = torch.randn(2, 1, 40, 33, generator=torch.Generator().manual_seed(1))
CONV = "patch_embed.conv1.weight"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save({"model": released_state(SMALL)}, tmp_path / "x.pth")
    return tmp_path / "x.pth"


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_a_gray_image_has_the_logits_of_equal_channels(channels: int, path: Path) -> None:
    model = load(path, in_chans=channels)
    torch.testing.assert_close(
        model(IMAGES.expand(-1, channels, -1, -1)),
        load(path)(IMAGES.expand(-1, 3, -1, -1)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_further_channels_repeat_red_green_and_blue(path: Path) -> None:
    conv = released_state(SMALL)[CONV]
    four = load(path, in_chans=4, features_only=True).state_dict()[CONV]
    assert torch.equal(four, conv[:, [0, 1, 2, 0]] * 0.75)


def test_a_file_says_how_many_channels_its_network_has(path: Path, tmp_path: Path) -> None:
    save_weights(load(path, in_chans=1), tmp_path / "gray.safetensors")
    gray = load(tmp_path / "gray.safetensors")
    assert gray.in_chans == 1
    assert torch.equal(gray(IMAGES), load(path, in_chans=1)(IMAGES))
    with pytest.raises(ValueError, match=r"wanted \(N, 1, H, W\), got \(2, 3, 40, 33\)"):
        gray(IMAGES.expand(-1, 3, -1, -1))
    back = load(tmp_path / "gray.safetensors", in_chans=3)
    assert torch.allclose(back.state_dict()[CONV].sum(1), gray.state_dict()[CONV][:, 0])
    assert export_program(gray, (32, 64)).example_inputs[0][0].shape == (2, 1, 32, 64)


@pytest.mark.parametrize(("mean", "kept"), [((0.5,), True), ((0.5, 0.4, 0.3), False)])
def test_a_preprocessing_of_three_numbers_is_not_that_of_gray_images(
    mean: tuple[float, ...], kept: bool, tmp_path: Path
) -> None:
    model = InternImage(SMALL)
    model.description = Description(("a", "b", "c"), Preprocessing(32, mean, mean))
    save_weights(model, tmp_path / "x.safetensors")
    gray = load(tmp_path / "x.safetensors", in_chans=1)
    assert (gray.preprocessing is not None) is kept
    assert gray.class_names == ("a", "b", "c")


@pytest.mark.parametrize("channels", [0, -1, 2.5, True])
def test_a_wrong_number_of_channels_is_refused(channels: Any, path: Path) -> None:
    for make in (
        lambda: load(path, in_chans=channels),
        lambda: InternImage(SMALL, in_chans=channels),
    ):
        with pytest.raises(ValueError, match="in_chans: wanted a whole number, 1 or more, got"):
            make()


def test_a_network_is_created_for_any_number_of_channels() -> None:
    model = create_model("T", in_chans=2, **vars(replace(SMALL, num_classes=4))).eval()
    assert model(torch.randn(1, 2, 32, 32)).shape == (1, 4)
    assert [m.shape[1] for m in InternImage(SMALL, in_chans=5, features_only=True)(
        torch.randn(1, 5, 32, 32)
    )] == list(SMALL.channels)  # fmt: skip
