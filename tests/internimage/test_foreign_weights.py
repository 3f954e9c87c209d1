"""Weights from anywhere: whatever a file holds, the answer is quick, in words, with its name."""

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from internimage.model import InternImage
from internimage.official import load_official
from internimage.weights import CONFIG_KEY, load_weights, save_weights
from tests.internimage.plain_network import released_state
from tests.internimage.test_weights import T_LIKE

DEEP = "[" * 100_000 + "]" * 100_000


def expanded(value: Tensor) -> Tensor:
    """A view with far more numbers than the file holds."""
    return torch.ones(()).expand([2048 * n for n in value.shape])


WRONG_TENSORS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "scalar": (lambda _: torch.tensor(1.0), "wanted 2 sides of 1 or more, got shape ()"),
    "empty": (
        lambda value: value[:0] if value.dim() else value,
        "sides of 1 or more, got shape (0,",
    ),
    "whole numbers": (lambda value: value.long(), "wanted numbers such as torch.float32"),
    "complex": (lambda value: value.to(torch.complex64), "a dense tensor of real numbers"),
    "sparse": (lambda value: value.to_sparse(), "a dense tensor of real numbers"),
    "meta": (lambda value: value.to("meta"), "does not hold the"),
    "expanded": (expanded, "does not hold the"),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")  # 2.14
@pytest.mark.parametrize("name", WRONG_TENSORS)
def test_tensors_that_are_no_weights_are_refused(name: str, tmp_path: Path) -> None:
    change, message = WRONG_TENSORS[name]
    state = {key: change(value) for key, value in released_state(T_LIKE).items()}
    torch.save({"model": state}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=rf"x\.pth.*{re.escape(message)}"):
        load_official(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [[1, 2], {"model": {5: torch.ones(1)}}, torch.ones(3)])
def test_other_contents_are_refused_by_name(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth: (wanted a dict|not an InternImage)"):
        load_official(tmp_path / "x.pth")


CONFIGS: dict[str, tuple[Any, str]] = {
    "list": ([1], "wanted its fields, got list"),
    "number": (5, "wanted its fields, got int"),
    "no JSON": ("{", "Expecting property name"),
    "deep": (DEEP, "recursion"),
    "digits": ('{"num_classes":' + "9" * 5000 + "}", "digits"),
    "wide": ({"channels": [2**40] * 4}, "channels needs a tensor with a side of 1099511627776"),
    "deep network": ({"depths": [1, 1, 10**8, 1]}, "100000003 blocks"),
    "classes": ({"num_classes": 10**15}, "num_classes needs a tensor"),
    "kernel": ({"kernel_size": 2**40 + 1}, "kernel_size needs a tensor"),
    "ratio": ({"mlp_ratio": 1e300}, "mlp_ratio needs a tensor"),
    "NaN": ({"mlp_ratio": float("nan")}, "mlp_ratio: wanted a finite number, got nan"),
    "text": (
        {"channels": "abc", "num_classes": "x"},
        "num_classes: wanted a whole number, got 'x'",
    ),
    "null": ({"depths": None}, "depths: wanted four positive whole numbers, got None"),
    "true": ({"depths": [True, 1, 1, 1]}, "depths: wanted four positive whole numbers"),
    "unknown": ({"evil\x1b[31m": 1}, r"no such field: evil\x1b[31m"),
}


def with_config(path: Path, config: Any) -> None:
    """Replace fields of the configuration in a safetensors file, or all of it."""
    content = path.read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:end])
    metadata = header["__metadata__"]
    if isinstance(config, dict):
        config = json.loads(metadata[CONFIG_KEY]) | config
    metadata[CONFIG_KEY] = config if isinstance(config, str) else json.dumps(config)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[end:])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_cannot_be_is_refused_before_the_network_is_built(
    name: str, tmp_path: Path
) -> None:
    config, message = CONFIGS[name]
    path = tmp_path / "x.safetensors"
    save_weights(InternImage(T_LIKE), path)
    with_config(path, config)
    with pytest.raises(ValueError, match=rf"x\.safetensors.*{re.escape(message)}") as error:
        load_weights(path)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("load", [load_official, load_weights])
def test_what_is_no_file_is_refused_without_waiting(
    load: Callable[[Path], InternImage], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(ValueError, match="wanted a file of weights"):
            load(path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def test_the_reason_for_a_refused_pickle_is_whole_and_without_unsafe_advice(
    tmp_path: Path,
) -> None:
    cases = {"path": tmp_path, "command": Evil()}
    reasons = {"path": "GLOBAL pathlib.PosixPath was not an allowed", "command": "posix.system"}
    for name, value in cases.items():
        torch.save({"model": released_state(T_LIKE), "x": value}, tmp_path / "x.pth")
        with pytest.raises(ValueError, match=reasons[name]) as error:
            load_official(tmp_path / "x.pth")
        text = str(error.value)
        assert text.isprintable()
        assert "weights_only" not in text
        assert text.endswith("because opening it would run its code")
