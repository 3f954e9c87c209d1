"""Layers that the network computes without calling them: hooks, adapters, wrappers, counters."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune
from torch.profiler import profile
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from internimage.config import ModelConfig
from internimage.conv import conv_nhwc
from internimage.dcnv3 import DCNv3
from internimage.model import MLP, InternImage

SMALL = ModelConfig((8, 16, 32, 64), (1, 1, 1, 1), (2, 4, 8, 16), num_classes=3)
X = torch.randn(2, 5, 7, 12, generator=torch.Generator().manual_seed(3))
TINY = X[:, :2, :2]


def layer() -> DCNv3:
    torch.manual_seed(0)
    dcn = DCNv3(12, 3)
    for linear in (dcn.offset, dcn.mask):
        nn.init.normal_(linear.weight, std=0.5)
    return dcn


def network() -> InternImage:
    torch.manual_seed(0)
    return InternImage(SMALL).eval()


def images(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(5))


class Adapter(nn.Module):
    """Adds to a layer's output, and shows its weights, as the wrappers of adapter libraries do."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.shift = nn.Parameter(torch.ones(()))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.base, name)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.shift  # type: ignore[no-any-return]


class Wrapped(torch.Tensor):
    """A weight that stands for another one, as the weights of quantization libraries do."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Wrapped":
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)  # type: ignore[no-any-return, attr-defined]

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> "Wrapped":
        return Wrapped(inner["inner"])

    @classmethod
    def __torch_dispatch__(cls, function: Any, _types: Any, args: Any, kwargs: Any = None) -> Any:
        if function is torch.ops.aten.detach.default:
            return Wrapped(args[0].inner)
        if function is torch.ops.aten.cat.default:
            raise NotImplementedError("this kind of weight cannot be concatenated")
        args = tree_map(lambda a: a.inner if isinstance(a, Wrapped) else a, args)
        return function(*args, **(kwargs or {}))


def shift_output(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output + 1


def with_hook(linear: nn.Linear) -> nn.Module:
    linear.register_forward_hook(shift_output)
    return linear


def with_pre_hook(linear: nn.Linear) -> nn.Module:
    linear.register_forward_pre_hook(lambda _, inputs: (inputs[0] + 1,))
    return linear


def with_own_forward(linear: nn.Linear) -> nn.Module:
    original = linear.forward
    linear.forward = lambda x: original(x) + 1  # type: ignore[method-assign, assignment]
    return linear


def with_weight_norm(linear: nn.Linear) -> nn.Module:
    parametrizations.weight_norm(linear)
    with torch.no_grad():
        linear.parametrizations.weight.original0.mul_(2)  # type: ignore[union-attr, operator]
    return linear


def without_bias(linear: nn.Linear) -> nn.Module:
    other = nn.Linear(linear.in_features, linear.out_features, bias=False)
    other.weight = linear.weight
    nn.init.constant_(linear.bias, 1)
    return other


CHANGES: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "forward hook": with_hook,
    "forward pre-hook": with_pre_hook,
    "adapter": Adapter,
    "own forward": with_own_forward,
    "weight norm": with_weight_norm,
    "pruning": lambda linear: prune.l1_unstructured(linear, "weight", 0.5),  # type: ignore[no-untyped-call]
    "no bias": without_bias,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["offset", "mask"])
def test_a_changed_offset_or_mask_layer_is_called(name: str, change: str) -> None:
    dcn, changed = layer(), layer()
    setattr(changed, name, CHANGES[change](getattr(changed, name)))
    wanted = getattr(changed, name)(X)
    got = dict(zip(("offset", "mask"), changed.offset_and_mask(X), strict=True))
    torch.testing.assert_close(got[name], wanted)
    assert not torch.allclose(changed(X), dcn(X)) or change == "no bias"
    changed(X).sin().sum().backward()
    assert all(p.grad is not None for p in getattr(changed, name).parameters())


def test_backward_hooks_of_offset_and_mask_see_their_gradients() -> None:
    dcn = layer()
    seen: list[str] = []
    for name in ("offset", "mask"):
        linear = getattr(dcn, name)
        linear.register_full_backward_hook(lambda *_, name=name: seen.append(name))
        linear.register_full_backward_pre_hook(lambda *_, name=name: seen.append(name))
    dcn(X.clone().requires_grad_()).sum().backward()
    assert sorted(seen) == ["mask", "mask", "offset", "offset"]


@pytest.fixture
def called() -> Iterator[set[nn.Module]]:
    """The modules that a hook on all modules sees."""
    modules: set[nn.Module] = set()
    handle = register_module_forward_hook(lambda module, *_: modules.add(module))
    yield modules
    handle.remove()


@pytest.mark.parametrize("training", [False, True])
def test_hooks_on_all_modules_see_every_layer(training: bool, called: set[nn.Module]) -> None:
    model = network().train(training)
    model(images())
    layers = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.BatchNorm2d)
    expected = [(n, m) for n, m in model.named_modules() if isinstance(m, layers)]
    assert [name for name, module in expected if module not in called] == []


def test_a_counter_attributes_flops_to_offset_and_mask() -> None:
    model = network()
    with FlopCounterMode(display=False) as counter:
        model(images())
    flops = counter.get_flop_counts()
    stage1 = "InternImage.levels.0.blocks.0.dcn"
    products = [sum(flops[f"{stage1}.{name}"].values()) for name in ("offset", "mask")]
    assert products == [2 * 2 * 64 * 8 * 2 * 9 * n for n in (2, 1)]


def test_a_weight_of_a_special_kind_is_left_to_its_layer() -> None:
    dcn, changed = layer(), layer().requires_grad_(False)
    changed.offset.weight = nn.Parameter(Wrapped(changed.offset.weight.data), requires_grad=False)
    torch.testing.assert_close(changed(X), dcn(X))


@pytest.mark.filterwarnings("ignore")  # torch deprecates its own quantization
def test_a_network_can_be_quantized() -> None:
    model = network()
    quantized = torch.ao.quantization.quantize_dynamic(
        copy.deepcopy(model), {nn.Linear}, torch.qint8
    )
    assert type(quantized.levels[0].blocks[0].dcn.offset) is not nn.Linear
    torch.testing.assert_close(quantized(images()), model(images()), rtol=0.2, atol=0.05)


@pytest.mark.parametrize("change", ["forward hook", "forward pre-hook", "adapter", "own forward"])
def test_a_changed_convolution_is_called_on_tiny_maps_in_training(change: str) -> None:
    conv = nn.Conv2d(12, 12, 3, padding=1, groups=12)
    changed = CHANGES[change](conv)  # type: ignore[arg-type]
    wanted = changed(TINY.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(conv_nhwc(changed.train(), TINY), wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"dilation": 2, "padding": 2},
        {"padding": 1, "padding_mode": "circular"},
        {"padding": "same"},
        {"kernel_size": (3, 1), "padding": (1, 0)},
        {"stride": (2, 1), "padding": 1},
    ],
    ids=str,
)
def test_a_convolution_that_the_network_never_builds_is_computed_plainly(
    options: dict[str, Any],
) -> None:
    conv = nn.Conv2d(12, 12, **{"kernel_size": 3, **options})
    wanted = conv(TINY.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(conv_nhwc(conv, TINY), wanted)


def test_an_adapter_in_the_whole_network_learns() -> None:
    model = network().requires_grad_(False)
    before = model(images())
    adapters = []
    for dcn in [module for module in model.modules() if isinstance(module, DCNv3)]:
        for name in ("offset", "mask", "dw_conv"):
            adapters.append(Adapter(getattr(dcn, name)))
            setattr(dcn, name, adapters[-1])
    model.train()
    logits = model(images(64))
    logits.sum().backward()
    assert all(adapter.shift.grad is not None for adapter in adapters)
    assert not torch.equal(model.eval()(images()), before)


def test_the_plain_network_still_merges_offset_and_mask() -> None:
    """One matrix product: its parts share memory."""
    offset, mask = layer().offset_and_mask(X)
    assert offset.untyped_storage().data_ptr() == mask.untyped_storage().data_ptr()


def test_compiling_a_network_with_a_hook_calls_it() -> None:
    model = InternImage(replace(SMALL, depths=(1, 1, 1, 1))).eval()
    dcn = next(module for module in model.modules() if isinstance(module, DCNv3))
    dcn.offset.register_forward_hook(shift_output)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images()), model(images()))


SIDE_CHANGES = ["forward hook", "forward pre-hook", "adapter", "own forward", "weight norm"]


def fused_operators(call: Callable[[], object]) -> set[str]:
    """The names of the fused operators that ``call`` runs."""
    with profile() as profiler:
        call()
    names = {event.key for event in profiler.key_averages()}
    return names & {"archsearch::side_branch", "archsearch::bias_gelu"}


def test_the_plain_network_runs_the_fused_operators() -> None:
    model = network()
    both = {"archsearch::side_branch", "archsearch::bias_gelu"}
    assert fused_operators(lambda: model(images())) == both
    with torch.autocast("cpu", torch.bfloat16):
        assert fused_operators(lambda: model(images())) == set()


@pytest.mark.parametrize("change", SIDE_CHANGES)
@pytest.mark.parametrize("name", ["dw_conv", "dw_norm"])
def test_a_changed_layer_of_the_side_branch_is_called(name: str, change: str) -> None:
    dcn, changed = layer(), layer()
    setattr(changed, name, CHANGES[change](getattr(changed, name)))
    assert fused_operators(lambda: changed.side_branch(X)) == set()
    norm, conv = changed.dw_norm, changed.dw_conv
    wanted = F.gelu(norm(conv(X.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))
    torch.testing.assert_close(changed.side_branch(X), wanted)
    assert not torch.allclose(changed.side_branch(X), dcn.side_branch(X))


@pytest.mark.parametrize("change", SIDE_CHANGES)
def test_a_changed_first_layer_of_the_mlp_is_called(change: str) -> None:
    mlp = MLP(12, 24)
    plain = mlp(X)
    mlp.fc1 = CHANGES[change](mlp.fc1)  # type: ignore[assignment]
    assert fused_operators(lambda: mlp(X)) == set()
    torch.testing.assert_close(mlp(X), mlp.fc2(F.gelu(mlp.fc1(X))))
    assert not torch.allclose(mlp(X), plain)


def test_exported_and_compiled_networks_hold_no_fused_operator() -> None:
    model = network()
    program = torch.export.export(model, (images(),))
    assert "side_branch" not in str(program.graph)
    assert "bias_gelu" not in str(program.graph)
    torch.testing.assert_close(program.module()(images()), model(images()), rtol=1e-4, atol=1e-5)
