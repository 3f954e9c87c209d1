"""ONNX files compute what the network computes, for other numbers and sizes of images too.

The error is relative to the largest number of an output.
"""

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import internimage.onnx
from internimage.config import PRESETS, Head, ModelConfig, Norm, Operator
from internimage.dcnv3 import DCNv3
from internimage.description import Description, Preprocessing
from internimage.model import InternImage
from internimage.onnx import Operator as OnnxOperator
from internimage.onnx import export_onnx, staged
from internimage.program import export_program, known_size

SMALL = ModelConfig((8, 16, 32, 64), (1, 1, 1, 1), (2, 4, 8, 16), num_classes=5)
GATED = replace(
    SMALL, norm="res-post", remove_center=True, center_feature_scale=True, offset_scale=2.0
)
TOLERANCE = 1e-5


def network(config: ModelConfig, **options: bool) -> InternImage:
    """With offsets, masks and gates that depend on the image, and moving averages of its own.

    Offsets are about a pixel. With much larger ones H amplifies rounding: its float32 logits then
    differ from float64 by 7%, with these by 5e-7.
    """
    torch.manual_seed(0)
    model = InternImage(config, **options).eval()
    for module in model.modules():
        if isinstance(module, DCNv3):
            for linear in (module.offset, module.mask, module.center_gate):
                if linear is not None:
                    nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
                    nn.init.normal_(linear.bias, std=0.2)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


def file(model: nn.Module, path: Path, **options: Any) -> Any:
    """The session of an exported network, which onnx finds valid."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export_onnx(model, path, **options)
    onnx.checker.check_model(str(path), full_check=True)
    return onnxruntime.InferenceSession(path)


def images(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, height, width, generator=generator)


def error(model: nn.Module, session: Any, x: Tensor) -> float:
    """The largest difference of any output, relative to the largest number of that output."""
    with torch.no_grad():
        expected = model(x)
    expected = (expected,) if isinstance(expected, Tensor) else expected
    got = [torch.from_numpy(array) for array in session.run(None, {"images": x.numpy()})]
    assert [array.shape for array in got] == [tensor.shape for tensor in expected]
    pairs = zip(got, expected, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def errors(model: nn.Module, session: Any, shapes: Iterable[tuple[int, int, int]]) -> float:
    return max(error(model, session, images(*shape)) for shape in shapes)


def test_a_file_takes_any_number_and_size_of_images(tmp_path: Path) -> None:
    model = network(GATED).train()
    model.description = Description(tuple("äbcde"), Preprocessing(32, (0.5,), (0.25,)))
    session = file(model, tmp_path / "m.onnx", image_size=64, dynamic_size=True)
    assert model.training
    assert errors(model.eval(), session, [(1, 32, 32), (3, 50, 71)]) < TOLERANCE
    assert [output.name for output in session.get_outputs()] == ["logits"]
    stored = session.get_modelmeta().custom_metadata_map
    assert {key: json.loads(text) for key, text in stored.items()} == {
        "class_names": ["ä", "b", "c", "d", "e"],
        "image_size": 64,
        "channels": 1,
        "mean": [0.5],
        "std": [0.25],
        "crop": 1.0,
        "interpolation": "bilinear",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_wrong_argument_and_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = InternImage(SMALL), tmp_path / "m.onnx"
    with pytest.raises(ValueError, match="wanted DeformConv or GridSample, got 'Conv'"):
        export_onnx(model, path, operator="Conv")  # type: ignore[arg-type]
    monkeypatch.setattr(internimage.onnx, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"onnx and onnxscript: pip install 'archsearch\[onnx\]'"):
        export_onnx(model, path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("windows", [1, 3])
def test_pooling_to_windows_is_exported_at_one_size_only(windows: int, tmp_path: Path) -> None:
    """torch's exporter would write the windows of the traced size for all sizes."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(windows)).eval()
    session = file(model, tmp_path / "m.onnx", image_size=64, dynamic_size=windows == 1)
    size = (50, 95) if windows == 1 else (64, 64)
    assert error(model, session, images(3, *size)) < TOLERANCE
    if windows > 1:
        with pytest.raises(ValueError, match="dynamic_size: the network pools to several windows"):
            export_onnx(model, tmp_path / "x.onnx", dynamic_size=True)
        assert not (tmp_path / "x.onnx").exists()


def test_what_a_killed_export_left_is_removed_but_nothing_of_one_that_runs(tmp_path: Path) -> None:
    (tmp_path / ".m.onnx.partial-x").mkdir()
    (tmp_path / ".m.onnx.partial-x/m.onnx").write_text("a half")
    (tmp_path / ".other.onnx.partial-x").mkdir()
    path = tmp_path / "m.onnx"
    with staged(path) as first, staged(path) as second:
        assert len({".m.onnx.partial-x", first.parent.name, second.parent.name}) == 3
        assert not (tmp_path / ".m.onnx.partial-x").exists()
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"  # which ended last
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", ".other.onnx.partial-x"}


def test_a_network_is_exported_at_the_size_that_it_knows() -> None:
    model = InternImage(SMALL)
    assert known_size(model) == 224
    model.description = Description(preprocessing=Preprocessing(48, (0.5,), (0.25,)))
    assert known_size(model) == 48


@pytest.mark.parametrize("side", [0, -1, 2.5, "224", True, (32, 0), (32, 32, 32), [32, 32]])
def test_a_wrong_size_is_refused(side: Any) -> None:
    with pytest.raises(ValueError, match="image_size: wanted a whole number of pixels"):
        export_program(InternImage(SMALL), side)


SWITCHES: dict[str, dict[str, Any]] = {
    "5x5": {"kernel_size": 5},
    "1x1": {"kernel_size": 1},
    "side branch of 5x5": {"dw_kernel_size": 5},
    "post-norm, layer scale": {"norm": "post", "layer_scale": 0.5, "stage_end_norm": False},
    "res-post-norm": {"norm": "res-post"},
    "extra norms": {"depths": (1, 1, 7, 1), "stage3_extra_norms": True},
    "offset scale": {"offset_scale": 2.0},
    "without center": {"remove_center": True},
    "center feature scale": {"center_feature_scale": True},
    "attention head": {"head": "attention"},
    "mlp ratio": {"mlp_ratio": 2.5},
    **{operator: {"operator": operator} for operator in get_args(Operator) if operator != "dcnv3"},
}
SHAPES = [(1, 64, 64), (3, 64, 64), (1, 50, 95), (3, 50, 95)]


@pytest.mark.slow
@pytest.mark.parametrize("operator", get_args(OnnxOperator))
@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_is_exported(name: str, operator: Any, tmp_path: Path) -> None:
    model = network(replace(SMALL, **SWITCHES[name]))
    session = file(model, tmp_path / "m.onnx", dynamic_size=True, operator=operator)
    assert errors(model, session, SHAPES) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("operator", get_args(OnnxOperator))
def test_a_backbone_has_four_outputs(operator: Any, tmp_path: Path) -> None:
    model = network(GATED, features_only=True)
    session = file(model, tmp_path / "m.onnx", dynamic_size=True, operator=operator)
    assert [output.name for output in session.get_outputs()] == [f"stage{i}" for i in range(1, 5)]
    assert errors(model, session, SHAPES) < TOLERANCE


def variant(seed: int) -> ModelConfig:
    """A small network with every number and switch drawn at random."""
    draw = random.Random(seed)
    group_channels = draw.choice((4, 6, 8))  # norms over 2 channels amplify rounding
    channels = tuple(group_channels * 2**i * draw.choice((1, 2, 3)) for i in range(1, 5))
    norm = draw.choice(get_args(Norm))
    return ModelConfig(
        channels,  # type: ignore[arg-type]
        tuple(draw.choice((1, 2)) for _ in range(4)),  # type: ignore[arg-type]
        tuple(c // group_channels for c in channels),  # type: ignore[arg-type]
        kernel_size=draw.choice((3, 3, 5)),
        dw_kernel_size=draw.choice((None, 3, 5)),
        num_classes=draw.randint(1, 20),
        mlp_ratio=draw.choice((2.0, 3.5, 4.0)),
        norm=norm,
        layer_scale=None if norm == "res-post" else draw.choice((None, 0.3)),
        stage_end_norm=draw.random() < 0.5,
        offset_scale=draw.choice((0.5, 1.0, 2.0)),
        remove_center=draw.random() < 0.5,
        center_feature_scale=draw.random() < 0.5,
        head=draw.choice(get_args(Head)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_variants_are_exported(seed: int, tmp_path: Path) -> None:
    model = network(variant(seed))
    session = file(model, tmp_path / "m.onnx", dynamic_size=True)
    assert errors(model, session, SHAPES) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_the_published_models_are_exported(name: str, tmp_path: Path) -> None:
    """H has 4.4 GB of weights; the test holds three copies of them at once."""
    model = network(PRESETS[name].config)
    session = file(model, tmp_path / "m.onnx", dynamic_size=True)
    assert errors(model, session, [(1, 224, 224), (2, 192, 256)]) < TOLERANCE


@pytest.mark.slow
def test_a_segmenter_is_exported(tmp_path: Path) -> None:
    from archsearch.heads import upernet

    model = upernet(network(SMALL, features_only=True), num_classes=7).eval()
    session = file(model, tmp_path / "m.onnx", image_size=64)
    assert errors(model, session, [(1, 64, 64), (3, 64, 64)]) < TOLERANCE
    with pytest.raises(ValueError, match="pools to several windows"):
        export_onnx(model, tmp_path / "x.onnx", dynamic_size=True)
