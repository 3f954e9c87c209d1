"""timm's interface: the numbers of `InternImage`, and what timm's own contract tests require."""

import pytest
import torch
from torch import Tensor

from internimage.config import PRESETS
from internimage.model import create_model

timm = pytest.importorskip("timm")
optim = pytest.importorskip("timm.optim")
pytest.importorskip("internimage.timm")

FIELDS = {"channels": (8, 16, 32, 64), "depths": (1, 2, 1, 1), "groups": (1, 2, 4, 8)}
"""A small network in the place of T."""

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def small(name: str = "internimage_t", **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, **FIELDS, **options).eval()


@pytest.mark.parametrize("preset", ["T", "H"])
def test_weights_and_logits_are_those_of_the_network(preset: str) -> None:
    ours = create_model(preset, **FIELDS, num_classes=5).eval()
    model = small(f"internimage_{preset.lower()}", num_classes=5)
    model.load_state_dict(ours.state_dict())
    assert torch.equal(model(IMAGES), ours(IMAGES))
    maps = ours.forward_features(IMAGES)
    last, intermediates = model.forward_intermediates(IMAGES)
    assert torch.equal(last, maps[3])
    assert all(torch.equal(a, b) for a, b in zip(intermediates, maps, strict=True))


def test_all_presets_are_registered_with_their_parameters() -> None:
    names = {f"internimage_{name.lower()}": preset for name, preset in PRESETS.items()}
    assert set(timm.list_models("internimage_*")) == set(names)
    for name, preset in names.items():
        with torch.device("meta"):
            model = timm.create_model(name)
        assert sum(p.numel() for p in model.parameters()) == preset.params
        state = model.state_dict()
        assert model.default_cfg["first_conv"] + ".weight" in state
        assert model.default_cfg["classifier"] + ".weight" in state


def test_a_classifier_is_reset_as_timm_does_it() -> None:
    model = small()
    assert model.forward_features(IMAGES).shape == (2, model.num_features, 2, 2)
    before = model.forward_head(model.forward_features(IMAGES), pre_logits=True)
    model.reset_classifier(0)
    assert torch.equal(model(IMAGES), before)
    assert before.shape == (2, model.head_hidden_size)
    model.reset_classifier(0, "")
    assert model(IMAGES).shape == (2, model.head_hidden_size, 2, 2)
    model.reset_classifier(3, "avg")
    assert model(IMAGES).shape == (2, 3)
    assert small(num_classes=0)(IMAGES).shape == (2, 96)


def test_features_have_the_channels_and_strides_of_their_description() -> None:
    model = small(features_only=True, out_indices=(1, 2), in_chans=1)
    maps = model(IMAGES[:, :1])
    assert model.feature_info.channels() == [m.shape[1] for m in maps] == [16, 32]
    assert model.feature_info.reduction() == [64 // m.shape[-1] for m in maps] == [8, 16]
    assert len(model.state_dict()) < len(small(features_only=True).state_dict())


def test_every_parameter_learns_with_checkpointing_and_has_a_layer() -> None:
    model = small(num_classes=2, drop_rate=0.1, drop_path_rate=0.1).train()

    def loss() -> Tensor:
        torch.manual_seed(1)
        return model(IMAGES).square().sum()

    plain = loss()
    model.set_grad_checkpointing()
    assert torch.equal(loss(), plain)
    loss().backward()
    assert all(p.grad is not None for p in model.parameters())
    groups = optim.param_groups_layer_decay(model, layer_decay=0.5)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    parts = (
        model.patch_embed, model.levels[0].blocks[0], model.levels[0].downsample,
        model.levels[1].blocks[0], model.levels[1].blocks[1], model.levels[3].blocks[0], model.head,
    )  # fmt: skip
    order = [{scales[id(p)] for p in part.parameters()} for part in parts]
    assert all(len(values) == 1 for values in order)
    flat = [next(iter(values)) for values in order]
    assert flat == sorted(flat)
    assert flat[0] < flat[1] < flat[3] < flat[4] < flat[5] <= flat[6] == 1


@pytest.mark.parametrize("training", [False, True])
def test_timm_can_trace_it(training: bool) -> None:
    features = pytest.importorskip("timm.models._features_fx")
    model = small(num_classes=2, drop_path_rate=0.0).train(training)
    traced = features.GraphExtractNet(model, ["head.linear"])
    torch.testing.assert_close(traced(IMAGES), model(IMAGES))


def test_what_the_head_of_h_cannot_do_is_refused() -> None:
    model = small("internimage_h")
    with pytest.raises(ValueError, match="reads two maps"):
        model.forward_head(model.forward_features(IMAGES))
    with pytest.raises(ValueError, match="pools by attention, got global_pool ''"):
        model.reset_classifier(0, "")
    with pytest.raises(ValueError, match="wanted NCHW, got 'NHWC'"):
        model.forward_intermediates(IMAGES, output_fmt="NHWC")


@pytest.mark.filterwarnings("ignore")  # torch deprecates tracing
def test_a_traced_network_takes_other_numbers_of_images() -> None:
    model = small(num_classes=5)
    traced = torch.jit.trace(model, IMAGES[:1])  # type: ignore[no-untyped-call]
    torch.testing.assert_close(traced(IMAGES), model(IMAGES))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers
def test_transformers_takes_it_as_a_backbone_of_upernet() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.TimmBackboneConfig(
        backbone="internimage_t", out_indices=(0, 1, 2, 3), use_pretrained_backbone=False
    )
    backbone = transformers.AutoBackbone.from_config(config)
    maps = backbone(IMAGES).feature_maps
    assert backbone.channels == [m.shape[1] for m in maps] == [64, 128, 256, 512]
    config = transformers.UperNetConfig(
        backbone_config=config, hidden_size=16, num_labels=7, auxiliary_in_channels=256,
        auxiliary_channels=16,
    )  # fmt: skip
    segmenter = transformers.UperNetForSemanticSegmentation(config).train()
    output = segmenter(IMAGES, labels=torch.randint(0, 7, (2, 64, 64)))
    assert output.logits.shape == (2, 7, 64, 64)
    output.loss.backward()
    assert all(p.grad is not None for p in segmenter.parameters())
