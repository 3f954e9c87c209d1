"""The processes that train one network together, and BatchNorm over the images of all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """Rank of this process and number of processes; with one process every method is a no-op.

    With several, torch's process group must be initialized, with gloo for CPU tensors.
    """

    rank: int = 0
    size: int = 1

    def share(self, indices: Tensor) -> Tensor:
        """This process's share of ``indices``; shares differ by one at most."""
        return indices.tensor_split(self.size)[self.rank]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes, on the device of ``values``."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """The values of all processes in the order of their ranks; they must be picklable."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in any process; all processes get the same answer."""
        return bool(self.sum(torch.tensor(int(flag)))) if self.size > 1 else flag

    def first_process_first(self, task: Callable[[], T]) -> T:
        """``task()`` in every process; the first process finishes before the others begin."""
        if self.size == 1:
            return task()
        if self.rank == 0:
            result = task()
            dist.barrier()
            return result
        dist.barrier()
        return task()

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """``model`` with gradients averaged and BatchNorm computed over all processes."""
        if self.size == 1:
            return model
        _share_batch_norm(model)
        return DistributedDataParallel(model, [device] if device.type == "cuda" else None)


SINGLE_PROCESS = ProcessGroup()


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes together, on any device.

    torch's `SyncBatchNorm` refuses CPU tensors, but tests compare with one process on the CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._shared(x.float()).to(x.dtype)

    def _shared(self, x: Tensor) -> Tensor:
        shape = (1, -1, 1, 1)
        count = _sum(x.new_tensor(x.numel() / x.shape[1]))
        mean = _sum(x.sum((0, 2, 3))) / count
        # A second pass: E[x^2] - E[x]^2 would cancel if the mean is a hundred deviations.
        var = _sum((x - mean.view(shape)).square().sum((0, 2, 3))) / count
        self._update_running(mean.detach(), var.detach() * count / (count - 1))
        y = (x - mean.view(shape)) * torch.rsqrt(var + self.eps).view(shape)
        return y * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, unbiased_var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = self.momentum or 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased_var, momentum)


class _Sum(torch.autograd.Function):
    """The sum over processes, whose gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _sum(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total


def _share_batch_norm(model: nn.Module) -> None:
    norms = [(name, m) for name, m in model.named_modules() if type(m) is nn.BatchNorm2d]
    for name, norm in norms:
        shared = SharedBatchNorm2d(norm.num_features, norm.eps, norm.momentum)
        shared.load_state_dict(norm.state_dict())
        shared.to(norm.weight.device)
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, shared)
