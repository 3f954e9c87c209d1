"""Forward and backward pass of a step as one CUDA graph: thousands of launches become one.

Off unless ARCHSEARCH_CUDA_GRAPHS=1, and only on one GPU, where the whole batch fits at a time. The
tests run this code with an imitation of a graph on a CPU; **it has not run on a GPU yet.**

Augmentation, clipping, optimizer and averages stay outside. A graph reads and writes fixed memory:
batches are copied into it, and the gradients that it writes are put back after the optimizer has
dropped them. Drop path draws from the generator's seed at each replay, as without a graph.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

EAGER_CALLS = 3
"""Passes of a batch size before its graph: they make workspaces, which a capture cannot."""

Output = tuple[Tensor, Tensor | int]
"""Loss and weight of a batch."""

Compute = Callable[[Any], Output]
"""Computes loss and weight of a batch, and adds its gradients to those of the parameters."""


class Graph(Protocol):
    """Work that is recorded once, without being done, and then repeated on the same memory."""

    def capture(self, work: Callable[[], Output]) -> Output: ...

    def replay(self) -> None: ...


class CudaGraph:
    """A `Graph` of torch."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, work: Callable[[], Output]) -> Output:
        with torch.cuda.graph(self._graph):
            return work()

    def replay(self) -> None:
        self._graph.replay()


@dataclass
class _Captured:
    graph: Graph
    batch: Sequence[Tensor]
    output: Output
    gradients: list[Tensor | None]


class GraphedPasses:
    """Calls a `Compute`, from the fourth batch of the same shapes on by a graph.

    If a capture fails, ``note`` gets the reason, and all passes are computed as without graphs, as
    are batches of other things than tensors.
    """

    def __init__(
        self,
        model: nn.Module,
        note: Callable[[str], None],
        new_graph: Callable[[], Graph] = CudaGraph,
    ) -> None:
        self._parameters, self._note, self._new_graph = list(model.parameters()), note, new_graph
        self._captured: dict[Any, _Captured] = {}
        self._calls: Counter[Any] = Counter()
        self._failed = False

    def __call__(self, compute: Compute, batch: Sequence[Tensor]) -> Output:
        if not all(isinstance(tensor, Tensor) for tensor in batch):
            return compute(batch)
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in batch)
        self._calls[shapes] += 1
        if self._calls[shapes] > EAGER_CALLS and shapes not in self._captured and not self._failed:
            self._try_capture(shapes, compute, batch)
        if shapes not in self._captured:
            return compute(batch)
        return self._replay(self._captured[shapes], batch)

    def _try_capture(self, shapes: Any, compute: Compute, batch: Sequence[Tensor]) -> None:
        graph, fixed = self._new_graph(), [tensor.clone() for tensor in batch]
        try:
            output = graph.capture(lambda: compute(fixed))
            gradients = [parameter.grad for parameter in self._parameters]
            self._captured[shapes] = _Captured(graph, fixed, output, gradients)
        except RuntimeError as error:
            self._failed = True
            self._note(f"no CUDA graphs: {str(error).partition(chr(10))[0]}")
            for parameter in self._parameters:
                parameter.grad = None

    def _replay(self, captured: _Captured, batch: Sequence[Tensor]) -> Output:
        for fixed, tensor in zip(captured.batch, batch, strict=True):
            fixed.copy_(tensor)
        captured.graph.replay()
        for parameter, gradient in zip(self._parameters, captured.gradients, strict=True):
            parameter.grad = gradient
        return captured.output
