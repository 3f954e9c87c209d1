"""The share of each part in the time of a training step, by torch's profiler."""

from torch.profiler import ProfilerActivity, profile

from archsearch.core.task import Batch
from archsearch.training.device import synchronize
from archsearch.training.state import Training
from archsearch.training.step import take_step

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
CONVOLUTIONS = ("aten::mkldnn_convolution", "aten::cudnn_convolution", "aten::convolution_backward")
OPERATOR = "archsearch::dcnv3"


def step_shares(training: Training, batch: Batch) -> dict[str, float | None]:
    """Return the share of the step in matrix products, convolutions, the operator and the rest.

    None if the profiler measured nothing: on a GPU it may lack the permission.
    """
    gpu = training.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as profiler:
        take_step(training, batch)
        synchronize(training.device)
    times = {"products": 0.0, "convolutions": 0.0, "operator": 0.0, "rest": 0.0}
    for event in profiler.key_averages():
        own = event.self_device_time_total if gpu else event.self_cpu_time_total
        times[_part(event.key)] += own
    total = sum(times.values())
    return {part: value / total if total else None for part, value in times.items()}


def _part(name: str) -> str:
    if name in PRODUCTS or "gemm" in name:
        return "products"
    if name in CONVOLUTIONS or "conv" in name:
        return "convolutions"
    return "operator" if OPERATOR in name or "dcnv3" in name else "rest"
