"""Networks as ONNX files, for onnxruntime and other runtimes."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.export import ExportedProgram

import cuda_ops.ops  # noqa: F401  registers the operator
from internimage.description import description_of, to_metadata
from internimage.lowering import deform_conv
from internimage.model import InternImage
from internimage.program import (
    ImageSize,
    by_grid_sample,
    export_program,
    exporting,
    known_size,
)

OPSET = 20
"""The first with GELU as one operator; ``DeformConv`` is of opset 19."""

Operator = Literal["DeformConv", "GridSample"]


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    image_size: ImageSize | None = None,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
    *,
    operator: Operator = "DeformConv",
) -> None:
    """Write a network as ONNX (opset 20), completely or not at all.

    The input ``images`` is ``(N, 3, S, S)``, normalized as in training (C for a network of C
    channels). The output is ``logits``
    ``(N, classes)``, or ``stage1`` ... ``stage4`` for an InternImage with ``features_only``. The
    metadata hold, each as JSON, ``image_size``, and what `InternImage.description` knows:
    ``class_names``, ``mean`` and ``std`` (`Preprocessing` says how they are used), and more.

    Args:
        model: an InternImage, or another network of images that torch can export. One with a
            method ``for_export``, such as a detector, is written as the network that it returns.
        path: the file. Weights beyond 2 GB lie beside it, in ``path.data``.
        image_size: S, or height and width, in pixels; by default what the network knows, else 224.
        dynamic_batch: the file takes any N; else one image.
        dynamic_size: the file takes images of any height and width.
        operator: what computes DCNv3. ``GridSample`` is for runtimes without ``DeformConv``; it
            needs more memory and is slower.

    Raises:
        ValueError: a wrong argument, or packages of the extra ``[onnx]`` are not installed.
    """
    if operator not in get_args(Operator):
        raise ValueError(f"operator: wanted DeformConv or GridSample, got {operator!r}")
    require("onnx", "onnxscript")
    if (for_export := getattr(model, "for_export", None)) is not None:
        if dynamic_batch or dynamic_size:
            raise ValueError(
                f"{type(model).__name__} is written for one image of one size: give "
                "dynamic_batch=False, and no dynamic_size"
            )
        model = for_export()
    program = export_program(
        model, image_size, dynamic_batch=dynamic_batch, dynamic_size=dynamic_size
    )
    if dynamic_size and _has_fixed_windows(program):
        raise ValueError(
            "dynamic_size: the network pools to several windows (adaptive pooling), and a file has "
            "those of one image size: leave out dynamic_size"
        )
    if operator == "GridSample":
        program = by_grid_sample(program)
    dcnv3: Any = torch.ops.archsearch.dcnv3.default
    with exporting():
        written = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=_output_names(model),
            custom_translation_table={dcnv3: deform_conv, **getattr(model, "onnx_operators", {})},
            verbose=False,
        )
    assert written is not None, "the exporter returns a program when it is given no file"
    written.model.metadata_props.update(_metadata(model, image_size))
    with staged(Path(path)) as partial:
        written.save(partial)


def require(*packages: str) -> None:
    """Check that packages of the extra ``[onnx]`` are installed.

    Raises:
        ValueError: some are not; the message names them and the extra.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise ValueError(f"ONNX needs {' and '.join(missing)}: pip install 'archsearch[onnx]'")


def _has_fixed_windows(program: ExportedProgram) -> bool:
    """Whether torch's exporter would compute windows of pooling for the traced size only."""
    pool = torch.ops.aten.adaptive_avg_pool2d.default
    sizes = [node.args[1] for node in program.graph.nodes if node.target is pool]
    return any(set(size) != {1} for size in sizes)


def _output_names(model: nn.Module) -> list[str]:
    if isinstance(model, InternImage) and model.head is None:
        return [f"stage{i}" for i in range(1, 5)]
    return list(getattr(model, "onnx_outputs", ("logits",)))


def _metadata(model: nn.Module, image_size: ImageSize | None) -> dict[str, str]:
    """What a program that runs the file must know, each as JSON."""
    known = to_metadata(description_of(model))
    return known | {"image_size": json.dumps(image_size or known_size(model))}


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A path of the same name in a new folder; what is written there moves beside ``path`` at last.

    After an error nothing moves. The file itself moves after its data. Folders that a killed export
    has left are removed; the lock of a folder shows that its export still runs.
    """
    prefix = f".{path.name}.partial-"
    for leftover in path.parent.glob(f"{escape(prefix)}*"):
        with suppress(OSError), _locked(leftover):
            shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as name:
        folder = Path(name)
        with _locked(folder):
            yield folder / path.name
            for file in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
                file.replace(path.with_name(file.name))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    Raises:
        OSError: another process holds it.
    """
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
