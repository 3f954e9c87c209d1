"""ONNX files of trained networks, in int8 if requested, checked on held-out images."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from archsearch.evaluation import SavedNetwork
from archsearch.training.loader import even_parts
from internimage.onnx import export_onnx, require, staged

BATCH = 64
CALIBRATION_IMAGES = 256
"""Training images from which the ranges of int8 activations are taken."""

MAX_ERROR = 1e-4
"""The largest difference of a logit in float32, relative to the largest logit of the batch."""

MAX_LOSS, MAX_LOSS_INT8 = 0.1, 1.0
"""Percentage points of accuracy that an exported network may lose."""


@dataclass(frozen=True)
class Check:
    """A file compared with its network on held-out images; accuracies are in percent.

    ``error`` is the largest difference of a logit, relative to the largest logit of its batch.
    """

    images: int
    accuracy_before: float
    accuracy_after: float
    error: float

    def problems(self, int8: bool) -> list[str]:
        """What is beyond tolerance; int8 has none for single logits."""
        loss, most = self.accuracy_before - self.accuracy_after, MAX_LOSS_INT8 if int8 else MAX_LOSS
        problems = []
        if loss > most:
            problems.append(f"accuracy fell by {loss:.2f} points, allowed are {most}")
        if not int8 and not self.error <= MAX_ERROR:
            problems.append(
                f"logits differ by {self.error:.1e} of the largest, allowed {MAX_ERROR}"
            )
        return problems


def write_onnx(
    network: SavedNetwork, path: Path, *, int8: bool = False, check: bool = False
) -> Check | None:
    """Write a trained network as ONNX, and compare it with the network on its held-out images.

    Args:
        network: one that knows its data, if it is checked or quantized.
        path: the file; it is written only if it passes the check.
        int8: quantize weights and activations (static, by training images); implies the check.
        check: run the file with onnxruntime; the result is returned.

    Raises:
        ValueError: packages are missing, the network has no data, or the file differs from it.
    """
    require("onnx", "onnxscript", *(["onnxruntime"] if int8 or check else []))
    if not (int8 or check):
        export_onnx(network.model, path)
        return None
    with staged(path) as partial:
        if int8:
            _write_int8(network, partial)
        else:
            export_onnx(network.model, partial)
        result = compare(network, partial)
        if problems := result.problems(int8):
            raise ValueError(f"{path} is not written: {'; '.join(problems)} ({_numbers(result)})")
    return result


def _numbers(result: Check) -> str:
    accuracies = f"{result.accuracy_before:.2f}% before, {result.accuracy_after:.2f}% after"
    return f"accuracy {accuracies}, on {result.images:,} held-out images"


@torch.inference_mode()
def compare(network: SavedNetwork, path: Path) -> Check:
    """Compare a file, run by onnxruntime on the CPU, with its network on the held-out images.

    Raises:
        ValueError: the network is not one of a run, or its training held out no images.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    correct, errors, num_images = np.zeros(2, dtype=int), [0.0], 0
    for images, labels in _batches(network, "val"):
        expected = network.model(images)
        got = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        correct += [int((logits.argmax(-1) == labels).sum()) for logits in (expected, got)]
        errors.append(float((got - expected).abs().max() / expected.abs().max()))
        num_images += len(labels)
    if not num_images:
        raise ValueError(f"{network.label} was trained without held-out images to check it with")
    before, after = (100 * correct / num_images).tolist()
    return Check(num_images, before, after, max(errors))


def _batches(
    network: SavedNetwork, split: str, most: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels of the training (``train``) or held-out (``val``) images."""
    if network.trained_on is None or network.recipe is None:
        raise ValueError(
            f"{network.label} does not know its data: to check it, give RUN:best, RUN:TRIAL, or "
            "the weights in the folder of their training"
        )
    cpu = torch.device("cpu")
    splits = network.task.prepare(network.trained_on, network.recipe, cpu)
    indices = getattr(splits, split)[:most]
    for batch in splits.read(even_parts(indices, BATCH)):
        yield splits.plain(batch)


class _Calibration:
    """The training images, as onnxruntime's quantization reads them."""

    def __init__(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, Any] | None:
        images, _ = next(self.batches, (None, None))
        return None if images is None else {"images": images.numpy()}


def _write_int8(network: SavedNetwork, path: Path) -> None:
    """Write with 8-bit weights per channel, and activations with ranges of the training images."""
    from onnxruntime.quantization import quant_pre_process, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        export_onnx(network.model, full := Path(folder) / "float.onnx")
        shaped = Path(folder) / "shaped.onnx"
        quant_pre_process(full, shaped, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            shaped,
            path,
            _Calibration(_batches(network, "train", CALIBRATION_IMAGES)),
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
        )
