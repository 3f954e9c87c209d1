"""Released checkpoints reproduce their logits; our own files restore the saved network."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from internimage.config import PRESETS, ModelConfig
from internimage.description import Description, Preprocessing
from internimage.loading import load
from internimage.model import InternImage
from internimage.official import infer_config, load_official
from internimage.weights import load_weights, save_weights
from tests.internimage.plain_network import plain_logits, released_state

SMALL = ModelConfig((8, 16, 32, 64), (1, 2, 2, 1), (2, 4, 8, 16), num_classes=7)
T_LIKE = replace(SMALL, depths=(1, 1, 3, 2))
S_LIKE = replace(SMALL, norm="post", layer_scale=1e-5, stage_end_norm=False)
L_LIKE = replace(
    S_LIKE, channels=(20, 40, 80, 160), groups=(5, 10, 20, 40), offset_scale=2.0, num_classes=3
)
H_LIKE = replace(
    SMALL,
    depths=(1, 1, 13, 1),
    groups=(1, 2, 4, 8),
    dw_kernel_size=5,
    norm="res-post",
    stage3_extra_norms=True,
    center_feature_scale=True,
    head="attention",
)
LIKE = {
    "T": T_LIKE,
    "S": S_LIKE,
    "L": L_LIKE,
    "H": H_LIKE,
    "T with gamma": replace(T_LIKE, layer_scale=1e-5),
    "T of 5x5": replace(T_LIKE, kernel_size=5),
    "T without center": replace(T_LIKE, remove_center=True),
    "H without center": replace(H_LIKE, remove_center=True, depths=(1, 1, 6, 1)),
}


def checkpoint(path: Path, config: ModelConfig, container: str | None = "model") -> Path:
    state = released_state(config)
    torch.save(state if container is None else {container: state, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("name", LIKE)
def test_a_released_checkpoint_is_recognized_and_gives_the_same_logits(
    name: str, tmp_path: Path
) -> None:
    config = LIKE[name]
    given = {"offset_scale": 2.0} if config.offset_scale == 2 else {}
    model = load_official(checkpoint(tmp_path / "x.pth", config), **given)
    assert model.config == config
    images = torch.randn(2, 3, 50, 71, generator=torch.Generator().manual_seed(1)).double()
    expected = plain_logits(released_state(config), config, images)
    assert expected.std() > 0.1
    torch.testing.assert_close(model.double()(images), expected, rtol=1e-8, atol=1e-8)


def test_given_fields_override_inferred_ones(tmp_path: Path) -> None:
    # 72 mask scalars are nine points for 8 groups as well as eight points for 9.
    groups = (9, 18, 36, 72)
    config = replace(SMALL, channels=(72, 144, 288, 576), groups=groups, remove_center=True)
    path = checkpoint(tmp_path / "x.pth", config)
    assert load_official(path).config.groups == (8, 16, 32, 64)
    model = load_official(path, remove_center=True, drop_path=0.1)
    assert model.config == replace(config, drop_path=0.1)


@pytest.mark.parametrize("name", PRESETS)
def test_every_published_configuration_is_inferred_from_its_shapes(name: str) -> None:
    config = PRESETS[name].config
    with torch.device("meta"):
        state = InternImage(config).state_dict()
    assert infer_config(state) == replace(config, drop_path=0.0)


def test_a_backbone_loads_a_checkpoint_without_its_classifier(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.pth", H_LIKE)
    model = load_official(path, features_only=True)
    assert model.head is None
    assert [m.shape[1] for m in model(torch.randn(1, 3, 32, 32))] == list(H_LIKE.channels)


def test_one_error_names_every_key_that_does_not_fit(tmp_path: Path) -> None:
    state = released_state(T_LIKE)
    del state["levels.1.norm.0.bias"], state["head.bias"]
    state["levels.9.surplus"] = torch.zeros(1)
    state["levels.2.blocks.1.mlp.fc2.weight"] = torch.zeros(3, 4)
    torch.save({"model": state}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="does not fit") as error:
        load_official(tmp_path / "x.pth")
    for word in ("levels.1.norm.bias", "head.linear.bias", "levels.9.surplus", "got (3, 4)"):
        assert word in str(error.value)


def test_another_network_is_refused_with_the_keys_it_lacks(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(ValueError, match=r"not an InternImage.*levels\.3\.blocks\.0\.mlp\.fc1"):
        load_official(tmp_path / "resnet.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="wanted a dict of weights, got list"):
        load_official(tmp_path / "list.pth")


def test_a_file_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    torch.save({"model": released_state(T_LIKE), "path": tmp_path}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="not opened"):
        load_official(tmp_path / "x.pth")


@pytest.mark.parametrize("cut", [0, 100, 2000, -100])
def test_an_incomplete_file_is_refused_by_name(cut: int, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.pth", T_LIKE)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"x\.pth: not a torch file"):
        load_official(path)


@pytest.mark.parametrize("text", ["hello world\n", "<html>404</html>", "version https://git-lfs"])
def test_a_text_file_is_refused_by_name_and_a_missing_file_as_missing(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "x.pth").write_text(text)
    with pytest.raises(ValueError, match=r"x\.pth: not a torch file"):
        load_official(tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match=r"y\.pth"):
        load_official(tmp_path / "y.pth")


def test_mask_scalars_that_fit_no_kernel_are_an_error(tmp_path: Path) -> None:
    state = released_state(replace(SMALL, kernel_size=11, dw_kernel_size=3))
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="pass the kernel_size"):
        load_official(tmp_path / "x.pth")


def test_saved_weights_are_restored_with_their_configuration(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = InternImage(replace(S_LIKE, drop_path=0.2))
    save_weights(model, tmp_path / "x.safetensors")
    loaded = load_weights(tmp_path / "x.safetensors")
    images = torch.randn(2, 3, 32, 32)
    assert loaded.config == model.config
    assert not loaded.training
    strides = [[p.stride() for p in m.parameters()] for m in (loaded, model)]
    assert strides[0] == strides[1]
    assert torch.equal(loaded(images), model.eval()(images))
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert json.loads(file.metadata()["internimage.config"])["drop_path"] == 0.2


def test_loaded_weights_can_be_trained(tmp_path: Path) -> None:
    save_weights(InternImage(T_LIKE), tmp_path / "x.safetensors")
    model = load_weights(tmp_path / "x.safetensors").train()
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"not this")
    with pytest.raises(ValueError, match=r"x\.safetensors: not a safetensors file"):
        load_weights(tmp_path / "x.safetensors")


DESCRIPTION = Description(
    tuple("abcdefg"), Preprocessing(32, (0.4,), (0.2,), 0.875, "bicubic"), "8-4-1-2", "r", "c+"
)


def test_weights_know_their_classes_and_preprocessing(tmp_path: Path) -> None:
    model = InternImage(T_LIKE)
    model.description = DESCRIPTION
    save_weights(model, tmp_path / "x.safetensors")
    loaded = load(tmp_path / "x.safetensors")
    assert loaded.description == DESCRIPTION
    assert loaded.class_names == tuple("abcdefg")
    assert loaded.preprocessing == DESCRIPTION.preprocessing
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        stored = {k: json.loads(v) for k, v in file.metadata().items() if k != "format"}
    assert stored.pop("internimage.config")["num_classes"] == 7
    assert stored == {
        "class_names": list("abcdefg"),
        "image_size": 32,
        "channels": 1,
        "mean": [0.4],
        "std": [0.2],
        "crop": 0.875,
        "interpolation": "bicubic",
        "variant": "8-4-1-2",
        "recipe": "r",
        "commit": "c+",
    }


def test_weights_of_an_earlier_version_know_nothing_but_their_configuration(tmp_path: Path) -> None:
    model = InternImage(T_LIKE)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    metadata = {"format": "pt", "internimage.config": json.dumps(asdict(T_LIKE))}
    save_file(state, tmp_path / "x.safetensors", metadata)
    loaded = load(tmp_path / "x.safetensors")
    assert loaded.config == T_LIKE
    assert loaded.description == Description()
    assert loaded.class_names == ()
    assert loaded.preprocessing is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"class_names": "[1]"}, "Expected `str`"),
        ({"class_names": "["}, "Expecting value"),
        ({"image_size": "32"}, "missing required field `mean`"),
        ({"image_size": "0", "mean": "[1, 2]", "std": "[0]"}, "1 or more, got 0; mean and std"),
        ({"image_size": "9", "mean": "[1]", "std": "[0]", "crop": "2"}, "positive std.*; crop"),
    ],
)
def test_a_wrong_description_is_refused_by_name(
    entry: dict[str, str], message: str, tmp_path: Path
) -> None:
    state = {key: value.contiguous() for key, value in InternImage(T_LIKE).state_dict().items()}
    metadata = {"format": "pt", "internimage.config": json.dumps(asdict(T_LIKE))}
    save_file(state, tmp_path / "x.safetensors", metadata | entry)
    with pytest.raises(ValueError, match=rf"x\.safetensors: not a description.*{message}"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["T", "H"])
def test_other_classes_start_a_new_last_layer_and_say_so(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, released = tmp_path / "x.safetensors", checkpoint(tmp_path / "x.pth", LIKE[name])
    model = load(released)
    model.description = DESCRIPTION
    save_weights(model, ours)
    for path in (ours, released):
        assert load(path, num_classes=7).config.num_classes == 7
        assert not caplog.messages
        changed = load(path, num_classes=3)
        assert caplog.messages == [f"{path} has 7 classes; the last layer is new, for 3"]
        caplog.clear()
        assert changed.class_names == ()
        same = dict(model.named_parameters())
        for key, value in changed.named_parameters():
            assert torch.equal(value, same[key]) != key.startswith("head.linear"), key
        assert changed(torch.randn(1, 3, 32, 32)).shape == (1, 3)
    with pytest.raises(ValueError, match="num_classes: wanted at least 1, got 0"):
        load(ours, num_classes=0)
