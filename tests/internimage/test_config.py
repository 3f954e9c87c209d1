"""Configurations: refused ones and derived values."""

import json
from dataclasses import asdict, replace

import pytest

import internimage
from internimage.config import PRESETS, config_from_dict, preset_config

T = PRESETS["T"].config


def test_one_error_names_every_problem() -> None:
    with pytest.raises(ValueError, match="not an InternImage configuration") as error:
        replace(
            T,
            channels=(65, 130, 260, 520),
            kernel_size=4,
            dw_kernel_size=0,
            norm="before",
            head="none",
            operator="conv",
            num_classes=0,
            drop_path=1.0,
            mlp_ratio=0.0,
        )
    for problem in (
        "stage 1: 65 channels cannot be split into 4 groups",
        "C1 must be even, got 65",
        "kernel_size: wanted a positive odd number, got 4",
        "dw_kernel_size: wanted a positive odd number, got 0",
        "norm: wanted one of pre, post, res-post, got 'before'",
        "head: wanted one of plain, attention, got 'none'",
        "operator: wanted one of dcnv3, ",
        "num_classes: wanted at least 1, got 0",
        "drop_path: wanted 0 <= rate < 1, got 1.0",
        "mlp_ratio: wanted a positive number, got 0.0",
    ):
        assert problem in str(error.value)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"depths": (4, 4, 18)}, "depths: wanted four positive whole numbers"),
        ({"depths": (4, 4, 0, 4)}, "depths: wanted four positive whole numbers"),
        ({"groups": 4}, "groups: wanted four positive whole numbers, got 4"),
        (
            {"kernel_size": 1, "remove_center": True},
            "remove_center leaves no point of a 1x1 kernel",
        ),
        ({"norm": "res-post", "layer_scale": 1e-5}, "residual-post-norm has no layer scale"),
        (
            {"operator": "dcnv3-unshared", "center_feature_scale": True},
            "needs an operator with C outputs; dcnv3-unshared has",
        ),
        (
            {"operator": "depthwise", "remove_center": True, "center_feature_scale": True},
            "remove_center=False; center_feature_scale changes sampling, and depthwise does not",
        ),
        ({"kernel": 5}, "no such field: kernel; there are channels, depths"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        preset_config("T", **fields)


def test_an_unknown_model_and_an_unknown_field_are_named_together() -> None:
    with pytest.raises(ValueError, match=r"no such field: width.*no model is called 'XXL'") as e:
        preset_config("XXL", width=3)
    assert "there are T, S, B, L, XL, H" in str(e.value)


def test_a_preset_changes_only_the_given_fields() -> None:
    assert preset_config("T") == T
    assert preset_config("T", num_classes=10) == replace(T, num_classes=10)


def test_a_configuration_is_unchanged_by_json() -> None:
    for preset in PRESETS.values():
        assert config_from_dict(json.loads(json.dumps(asdict(preset.config)))) == preset.config


def test_a_dictionary_with_missing_fields_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no such field: stages.*missing: depths, groups"):
        config_from_dict({"channels": [8, 16, 32, 64], "stages": 4})


def test_derived_values() -> None:
    h = PRESETS["H"].config
    assert h.extra_norm_blocks == (5, 11, 17, 23, 29)
    assert (h.side_kernel_size, h.kernel_size, h.points) == (5, 3, 9)
    assert replace(T, remove_center=True).points == 8
    assert replace(T, kernel_size=7).side_kernel_size == 7
    assert T.hidden == (256, 512, 1024, 2048)
    assert T.extra_norm_blocks == ()


def test_every_public_name_exists() -> None:
    for name in internimage.__all__:
        assert getattr(internimage, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = internimage.nothing
