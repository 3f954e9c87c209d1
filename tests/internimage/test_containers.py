"""Checkpoints as people have them: any container, any prefix, averaged weights, a detector's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from internimage.config import ModelConfig
from internimage.official import load_official
from tests.internimage.plain_network import State, released_state

SMALL = ModelConfig((8, 16, 32, 64), (1, 1, 1, 1), (2, 4, 8, 16), num_classes=3)
CONTAINERS = [
    None, "model", "model_ema", "state_dict", "state_dict_ema", "ema_state_dict", "teacher", "net"
]  # fmt: skip
PREFIXES = ["", "module.", "backbone.", "model.", "encoder.", "_orig_mod.", "module._orig_mod."]


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def stem(path: Path, **options: bool) -> float:
    """A number by which checkpoints of different seeds differ."""
    return load_official(path, **options).patch_embed.conv1.weight.flatten()[0].item()


def first(state: State) -> float:
    return state["patch_embed.conv1.weight"].flatten()[0].float().item()


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_weights_load_from_every_container_with_every_prefix(
    container: str | None, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = prefixed(released_state(SMALL), prefix)
    torch.save({container: state, "epoch": 3} if container else state, tmp_path / "x.pth")
    assert load_official(tmp_path / "x.pth").config == SMALL
    assert not caplog.messages


@pytest.mark.parametrize("averaged", ["model_ema", "state_dict_ema", "ema_state_dict", "teacher"])
def test_the_log_says_which_of_two_networks_is_taken(
    averaged: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, average = released_state(SMALL), released_state(SMALL, seed=1)
    path = tmp_path / "x.pth"
    torch.save({averaged: prefixed(average, "module."), "model": plain}, path)
    assert stem(path) == first(plain)
    assert stem(path, ema=True) == first(average)
    for message, taken in zip(caplog.messages, ("model", f"{averaged}.module"), strict=True):
        assert message.startswith(f"{path}: took {taken} of {2 * len(plain)} tensors: ")
        assert f"model.levels ({sum(key.startswith('levels') for key in plain)})" in message


def test_averaged_weights_are_taken_if_there_are_no_others_and_missed_if_requested(
    tmp_path: Path,
) -> None:
    state, path = released_state(SMALL), tmp_path / "x.pth"
    torch.save({"model_ema": state}, path)
    assert stem(path) == stem(path, ema=True) == first(state)
    torch.save({"schemata": state}, path)
    with pytest.raises(ValueError, match=r"x\.pth has no averaged weights.*schemata\.levels \("):
        load_official(path, ema=True)


def test_a_detector_gives_its_backbone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = replace(SMALL, norm="post", layer_scale=1e-5, stage_end_norm=False)
    state = released_state(config)
    backbone = {key: state[key] for key in state if key.startswith(("levels", "patch_embed"))}
    detector = prefixed(backbone, "backbone.") | {
        "neck.conv.weight": torch.zeros(2), "bbox_head.fc.bias": torch.zeros(2)
    }  # fmt: skip
    path = tmp_path / "detector.pth"
    torch.save({"state_dict": detector, "optimizer": {"state": {0: {"step": 1}}}}, path)
    model = load_official(path, features_only=True)
    assert [m.shape[1] for m in model(torch.randn(1, 3, 32, 32))] == list(SMALL.channels)
    assert "took state_dict.backbone of" in caplog.text
    assert "state_dict.neck (1), state_dict.bbox_head (1)" in caplog.text
    with pytest.raises(ValueError, match=r"detector\.pth has no classifier: pass features"):
        load_official(path)


def test_another_file_is_named_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    layers = {f"layer{i}.0.conv1.weight": torch.zeros(1) for i in range(9)}
    torch.save({"model": {**layers, "fc\x1b.weight": torch.zeros(1)}, "epoch": 3}, path)
    with pytest.raises(ValueError, match=r"resnet\.pth: not an InternImage checkpoint") as error:
        load_official(path)
    assert "the file holds 10 tensors: model.layer0 (1), model.layer1 (1)" in str(error.value)
    assert str(error.value).endswith("and 2 more names")
    assert str(error.value).isprintable()
    torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match="the file holds no tensors"):
        load_official(path)
