"""The closed form against the paper's printed sizes and the released models."""

from dataclasses import replace

import pytest

from archsearch.core.cost import Tally
from archsearch.families.internimage_cost import (
    count,
    count_parts,
    count_row,
    map_pixels,
    operator_macs,
)
from internimage.config import PRESETS, ModelConfig

T = PRESETS["T"].config
H = PRESETS["H"].config


def test_parameters_of_h_without_its_head() -> None:
    parts = count_parts(H)
    body = [part for name, part in parts.items() if name not in ("head", "classifier")]
    assert sum(body, Tally()).params == 1_073_122_480


@pytest.mark.parametrize(
    ("name", "image_size", "gmacs"),
    [
        ("T", 224, "4.89"),
        ("S", 224, "8.31"),
        ("B", 224, "16.2"),
        ("B", 800, "206"),
        ("L", 384, "108"),
        ("XL", 384, "163"),
    ],
)
def test_macs_round_to_the_printed_figures(name: str, image_size: int, gmacs: str) -> None:
    preset = PRESETS[name]
    counted = count(preset.config, image_size).macs / 1e9
    assert f"{counted:.3g}" == gmacs
    assert f"{counted:.0f}G" == preset.printed_gmacs[image_size]


@pytest.mark.parametrize(("image_size", "low", "high"), [(224, 181, 184), (640, 1480, 1494)])
def test_macs_of_h_are_within_the_range_of_its_heads(image_size: int, low: int, high: int) -> None:
    """The two printed figures, 188 G and 1478 G, contradict each other by the pixel ratio."""
    for head in ("plain", "attention"):
        assert low < count(replace(H, head=head), image_size).macs / 1e9 < high


@pytest.mark.parametrize(
    ("kernel", "params", "printed_macs"),
    [(3, 29_918_424, "5"), (5, 36_989_912, "6"), (7, 47_597_144, "8")],
)
def test_kernel_sizes_of_table_d(kernel: int, params: int, printed_macs: str) -> None:
    cost = count(replace(T, kernel_size=kernel))
    assert cost.params == params
    assert f"{cost.macs / 1e9:.0f}" == printed_macs


def test_dcnv2_style_weights_of_table_f() -> None:
    """One C x C projection per point, one group: the printed 146M and 24 G at 224."""
    config = replace(PRESETS["B"].config, operator="dcnv3-unshared", groups=(1, 1, 1, 1))
    cost = count(config)
    assert f"{cost.params / 1e6:.1f}" == "146.3"
    assert f"{cost.macs / 1e9:.0f}" == "24"


@pytest.mark.parametrize("config", [T, H, replace(T, operator="dcnv3-unshared")])
def test_parts_add_up(config: ModelConfig) -> None:
    parts, cost = count_parts(config, 96), count(config, 96)
    total = sum(parts.values(), Tally())
    assert (total.params, total.macs, total.activations) == (
        cost.params, cost.macs, cost.activations,
    )  # fmt: skip
    assert list(parts) == [
        "stem", "stage1", "downsample1", "stage2", "downsample2", "stage3", "downsample3", "stage4",
        "head", "classifier",
    ]  # fmt: skip


def test_the_classifier_is_only_the_last_linear() -> None:
    """1.5 * 512 features in T, 768 in H: weights and a bias for every class."""
    for config in (T, H):
        assert count_parts(config)["classifier"] == Tally(769_000, 768_000, 1000, mmcv=768_000)


def test_operator_macs_are_five_per_sampled_element() -> None:
    """T at 224, computed by hand: 5 * 9 * C * pixels * blocks of each stage."""
    by_hand = 5 * 9 * (64 * 56**2 * 4 + 128 * 28**2 * 4 + 256 * 14**2 * 18 + 512 * 7**2 * 4)
    assert operator_macs(T) == by_hand == 99_348_480
    assert operator_macs(replace(T, remove_center=True)) * 9 == by_hand * 8
    assert operator_macs(replace(T, operator="depthwise")) == 0


@pytest.mark.parametrize("kernel", [3, 7])
def test_a_depthwise_convolution_saves_offsets_masks_samples_and_a_norm(kernel: int) -> None:
    """T by hand: the side branch's convolution becomes the operator, the rest of it leaves."""
    dcnv3 = replace(T, kernel_size=kernel)
    saved, plain = count(dcnv3), count(replace(dcnv3, operator="depthwise"))
    stages = list(zip(T.channels, T.groups, T.depths, map_pixels(224)[1:], strict=True))
    points = kernel**2
    norm_and_linears = sum(d * (2 * c + 3 * points * g * (c + 1)) for c, g, d, _ in stages)
    assert saved.params - plain.params == norm_and_linears
    macs = sum(d * n * points * (3 * g * c + 5 * c) for c, g, d, n in stages)
    assert saved.macs - plain.macs == macs
    assert count(replace(dcnv3, operator="depthwise", groups=(1, 1, 1, 1))) == plain


@pytest.mark.parametrize(
    ("image_size", "sides"),
    [(224, (56, 28, 14, 7)), (1, (1, 1, 1, 1)), (33, (9, 5, 3, 2)), (97, (25, 13, 7, 4))],
)
def test_maps_are_halved_rounding_up(image_size: int, sides: tuple[int, ...]) -> None:
    assert map_pixels(image_size)[1:] == tuple(side**2 for side in sides)


def test_an_image_without_pixels_is_rejected() -> None:
    with pytest.raises(ValueError, match="image size must be at least 1 pixel, got 0"):
        count(T, 0)


def test_row_for_scripts() -> None:
    row = count_row(T, 32)  # test_commands checks the other columns
    assert (row["image_size"], row["params"], row["macs"]) == (32, 29_918_424, count(T, 32).macs)


def test_row_of_a_network_without_one_group_width() -> None:
    assert count_row(replace(T, groups=(1, 1, 1, 1)))["group_channels"] is None
