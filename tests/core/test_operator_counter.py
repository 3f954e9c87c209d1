"""Multiply-adds of a built network by hand, and the operators that count as zero in a note."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import flop_registry, register_flop_formula

from archsearch.core import meta_cost
from archsearch.core.meta_cost import Count, NetworkError, count, count_params, training_output


class Net(nn.Module):
    """A network of one layer, with a function of its features before the classifier."""

    def __init__(self, function: Callable[[Tensor], Tensor], layer: nn.Module | None = None):
        super().__init__()
        self.stem, self.layer, self.function = nn.Conv2d(3, 8, 4, 4), layer, function
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        x_NLC = self.stem(images).flatten(2).mT
        x_NLC = x_NLC if self.layer is None else self.layer(x_NLC)
        return self.head(self.function(x_NLC).mean(1))


STEM_AND_HEAD = 16 * 8 * 48 + 80


def counted(function: Callable[[Tensor], Tensor], layer: nn.Module | None = None) -> Count:
    return count(lambda: Net(function, layer), 16, 16)


def attended(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        (lambda x: torch.einsum("nlc,nmc->nlm", x, x) @ x, 2 * 16 * 16 * 8),
        (attended, 2 * 16 * 16 * 8),
        (lambda x: F.layer_norm(F.gelu(x), (8,)), 0),
        (lambda x: F.batch_norm(x.mT, torch.zeros(8), torch.ones(8)).mT * 2 + x, 0),
        (lambda x: torch.cat([x, x.softmax(1).cumsum(1)], 1), 0),
        (lambda x: torch.where(x > 0, x, x.flip(1)).roll(1, 1), 0),
    ],
)
def test_macs_by_hand(function: Callable[[Tensor], Tensor], macs: int) -> None:
    result = counted(function)
    assert (result.cost.macs, result.notes) == (STEM_AND_HEAD + macs, ())
    assert result.is_complete


@pytest.mark.parametrize("layer", [nn.TransformerEncoderLayer, nn.TransformerDecoderLayer])
def test_attention_of_torch_is_counted_without_its_fused_operator(layer: type[nn.Module]) -> None:
    built = layer(8, 2, 32, batch_first=True)
    if layer is nn.TransformerDecoderLayer:
        macs = counted(lambda x: built.to("meta")(x, x)).cost.macs - STEM_AND_HEAD
        assert macs == 16 * (8 * 64 + 2 * 8 * 32) + 4 * 16 * 16 * 8
    else:
        macs = counted(lambda x: x, built).cost.macs - STEM_AND_HEAD
        assert macs == 16 * (4 * 64 + 2 * 8 * 32) + 2 * 16 * 16 * 8


@pytest.mark.usefixtures("mystery")
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: F.bilinear(x, x, torch.zeros(8, 8, 8)), "aten::_trilinear"),
        (lambda x: torch.fft.fft(x, dim=1).real, "aten::_fft_r2c"),
        (lambda x: torch.cdist(x, x) @ x, "aten::_cdist_forward"),
        (lambda x: torch.ops.archsearch_test.mystery(x), "archsearch_test::mystery"),
    ],
)
def test_an_operator_without_a_formula_is_named(
    function: Callable[[Tensor], Tensor], name: str
) -> None:
    result = counted(function)
    assert result.notes == (
        f"the operator {name} (once) has no FLOP formula and counts as zero multiply-adds: give it "
        "one with torch.utils.flop_counter.register_flop_formula",
    )
    assert not result.is_complete


@pytest.mark.usefixtures("mystery")
def test_an_odd_number_of_flops_is_a_note() -> None:
    operator = torch.ops.archsearch_test.mystery
    register_flop_formula(operator)(lambda *_, **__: 7)
    result = counted(lambda x: operator(operator(x) + operator(x)))
    assert result.cost.macs == STEM_AND_HEAD + 11
    assert "archsearch_test::mystery gives an odd number (3 times)" in result.notes[0]
    assert result.is_complete


@pytest.fixture
def mystery() -> Iterator[None]:
    """A user's operator that is known to torch by its name and its shapes."""
    library = torch.library.Library("archsearch_test", "FRAGMENT")
    library.define("mystery(Tensor x) -> Tensor")
    library.impl("mystery", lambda x: x.clone(), "CompositeExplicitAutograd")
    yield
    flop_registry.pop(torch.ops.archsearch_test.mystery, None)
    library._destroy()


class Shared(nn.Sequential):
    """Two layers of one weight, made before either is registered, and a value read in `build`."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 1), nn.Flatten(2), nn.Linear(64, 64), nn.Linear(64, 64))
        rates = [float(rate.item()) for rate in torch.linspace(0, 1, 2)]
        weight = nn.Parameter(torch.zeros(64, 64))
        self[2].weight = weight
        self[3].weight = weight
        self.append(nn.Dropout(rates[1] / 2))


def test_a_shared_weight_counts_once_and_build_may_read_values() -> None:
    state = torch.random.get_rng_state()
    assert count_params(Shared) == 16 + 64 * 64 + 2 * 64
    assert count(Shared, 8, 8).cost.params == 16 + 64 * 64 + 2 * 64
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_network_is_built_without_memory() -> None:
    assert count_params(lambda: nn.Linear(10**6, 10**6, bias=False)) == 10**12


class Reads(nn.Module):
    """A forward pass that reads a value of its input, which the meta device does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        assert float(images.sum().item()) < 1e6
        return self.head(images.mean((2, 3)))


def test_a_forward_pass_that_reads_values_is_counted_on_the_cpu() -> None:
    assert count(Reads, 8, 8).cost.macs == 30
    assert training_output(Reads, 8, 8) == "(2, 10)"


def test_attention_on_the_cpu_is_counted_as_on_the_meta_device() -> None:
    class ReadsAndAttends(Reads):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(3, 1, 12, batch_first=True)

        def forward(self, images: Tensor) -> Tensor:
            y: Tensor = self.layer(images.flatten(2).mT).mean(1)
            return super().forward(attended(y[:, None]).mT[..., None] + images)

    cost = count(ReadsAndAttends, 2, 2).cost
    assert cost.macs == 4 * (4 * 9 + 2 * 36) + 2 * 4 * 4 * 3 + 2 * 3 + 30


def test_lazy_layers_are_counted() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(10))

    assert count_params(build) == 40


def test_training_and_evaluation_may_differ() -> None:
    class Two(Reads):
        def forward(self, images: Tensor) -> Tensor:
            output = super().forward(images)
            return (output, output) if self.training else output  # type: ignore[return-value]

    assert training_output(Two, 8, 8) == "a tuple"


@pytest.mark.parametrize(
    ("build", "stage", "text"),
    [
        (lambda: None, "build", "it returns a NoneType, wanted a torch.nn.Module"),
        (lambda: nn.Linear(3, 2) / 2, "build", "unsupported operand"),
        (lambda: nn.Linear(4, 2), "forward at 8x16 pixels", "mat1 and mat2 shapes"),
    ],
)
def test_the_stage_that_fails_is_named(
    build: Callable[[], nn.Module], stage: str, text: str
) -> None:
    with pytest.raises(NetworkError, match=text) as error:
        count(build, 8, 16)
    assert error.value.stage == stage


def test_a_network_of_too_many_tensors_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_cost, "MAX_TENSORS", 10)
    with pytest.raises(NetworkError, match="more than 10 parameter tensors"):
        count_params(lambda: nn.Sequential(*(nn.Linear(2, 2) for _ in range(6))))
