"""Count a network that has no closed form, by one forward pass on the meta device.

Parameters are moved to the meta device as modules register them, so that a network takes no more
memory than a layer; other tensors stay on the CPU, so that ``build`` may read their values. If that
fails, everything is built on the meta device; if that fails too, because the forward pass reads
values, the network is counted on the CPU.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import UninitializedParameter

from archsearch.core.cost import Cost, image_size
from archsearch.core.operator_counter import OperatorCounter, WholeAttention

MAX_TENSORS = 50_000
"""A network of more parameter tensors is not built for counting; building this many takes about
five seconds."""

Build = Callable[[], nn.Module]
T = TypeVar("T")


class NetworkError(Exception):
    """Raised if a network cannot be built or run; the cause is the error of the user's code."""

    def __init__(self, stage: str, cause: Exception) -> None:
        super().__init__(f"{stage}: {cause}")
        self.stage, self.cause = stage, cause


class TooLarge(Exception):
    """Raised for a network of more than `MAX_TENSORS` parameter tensors."""


@dataclass(frozen=True)
class Count:
    """The cost of a network, whether that has all its multiply-adds, and a note on each doubt.

    ``layers`` is as of `OperatorCounter`.
    """

    cost: Cost
    is_complete: bool
    notes: tuple[str, ...]
    layers: Mapping[str, tuple[int, int, int]]


def count_module(build: Build, height: int, width: int) -> Cost:
    """Parameters, multiply-adds and activations of a network for one image of three channels.

    Raises:
        NetworkError: the network cannot be built or run.
    """
    return count(build, height, width).cost


def count(build: Build, height: int, width: int) -> Count:
    """As `count_module`, with notes; raises as that."""
    return _first_that_works(build, lambda model, device: _count(model, device, height, width))


def count_params(build: Build) -> int:
    """The number of parameters, without a forward pass unless some are lazy; raises as `count`."""

    def num_params(model: nn.Module, device: str) -> int:
        if _is_lazy(model):
            return _count(model, device, 224, 224).cost.params
        return _num_params(model)

    return _first_that_works(build, num_params)


def training_output(build: Build, height: int, width: int) -> str:
    """What a network in training returns for two images: the shape as ``(2, 1000)``, or the type.

    Raises:
        NetworkError: as `count`.
    """

    def output(model: nn.Module, device: str) -> str:
        images = torch.zeros(2, 3, height, width, device=device)
        value = _forward(_moved(model, device).train(), images)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return f"a {type(value).__name__}"
        return str(tuple(value.shape))

    return _first_that_works(build, output)


def _first_that_works(build: Build, use: Callable[[nn.Module, str], T]) -> T:
    """What ``use`` returns for the network on the meta device, else for the one on the CPU.

    If all fail, the error on the CPU is raised: it is what a training would raise.
    """
    with torch.random.fork_rng(devices=[]):  # building draws the weights
        for network in (_network_on_meta, _network_made_on_meta):
            try:
                return use(network(build), "meta")
            except Exception as error:
                if isinstance(error, NetworkError) and isinstance(error.cause, TooLarge):
                    raise
        return use(_built(build), "cpu")


@lru_cache(maxsize=2)
def _network_on_meta(build: Build) -> nn.Module:
    """The network; the last two are kept, because one of them is often counted next."""
    with _parameters_on_meta():
        return _built(build)


def _network_made_on_meta(build: Build) -> nn.Module:
    with torch.device("meta"):
        return _built(build)


def _built(build: Build) -> nn.Module:
    try:
        model = build()
        if not isinstance(model, nn.Module):
            raise TypeError(f"it returns a {type(model).__name__}, wanted a torch.nn.Module")
    except Exception as error:
        raise NetworkError("build", error) from error
    return model


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """A context in which every parameter that a module registers is moved to the meta device."""
    num = 0

    def on_meta(module: nn.Module, name: str, parameter: Any) -> Any:
        nonlocal num
        num += 1
        if num > MAX_TENSORS:
            raise TooLarge(f"it has more than {MAX_TENSORS:,} parameter tensors")
        del module, name
        return _on_meta(parameter)

    handle = register_module_parameter_registration_hook(on_meta)
    try:
        with _without_initial_values():
            yield
    finally:
        handle.remove()


@contextmanager
def _without_initial_values() -> Iterator[None]:
    """A context in which torch's initial values of parameters on the meta device are not drawn.

    There is nothing to write them to, and torch takes as long for them as for the modules.
    """
    functions = {n: f for n, f in vars(init).items() if n.endswith("_") and n[0] != "_"}
    try:
        for name, function in functions.items():
            setattr(init, name, _skipping_meta(function))
        yield
    finally:
        for name, function in functions.items():
            setattr(init, name, function)


def _skipping_meta(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(function)
    def skipping(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor if tensor.is_meta else function(tensor, *args, **kwargs)

    return skipping


def _on_meta(parameter: Any) -> Any:
    """The parameter on the meta device, the same one for modules that share it."""
    if type(parameter) is not nn.Parameter or parameter.is_meta:
        return parameter
    if (known := getattr(parameter, "_on_meta", None)) is None:
        empty = torch.empty_like(parameter, device="meta", requires_grad=False)
        known = nn.Parameter(empty, requires_grad=parameter.requires_grad)
        parameter._on_meta = known  # type: ignore[attr-defined]
    return known


def _count(model: nn.Module, device: str, height: int, width: int) -> Count:
    image = torch.zeros(1, 3, height, width, device=device)
    model = _moved(model, device).eval()
    with OperatorCounter() as counter, WholeAttention(counter):
        _forward(model, image)
    size = image_size(height, width)
    cost = Cost(_num_params(model), counter.macs, counter.activations, size)
    return Count(cost, counter.is_complete, counter.notes(), counter.layers)


def _is_lazy(model: nn.Module) -> bool:
    """Whether a parameter gets its shape in the first forward pass."""
    return any(isinstance(p, UninitializedParameter) for p in model.parameters())


def _moved(model: nn.Module, device: str) -> nn.Module:
    """The network with its buffers, too, on the device."""
    if device == "meta" and _is_lazy(model):
        raise TypeError("lazy parameters cannot be moved before they have a shape")
    return model.to(device)


def _num_params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _forward(model: nn.Module, images: Tensor) -> Any:
    """The output; attention is split into matrix products, which have formulas everywhere."""
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), images.device:
            return model(images)
    except Exception as error:
        height, width = images.shape[2:]
        raise NetworkError(f"forward at {height}x{width} pixels", error) from error
