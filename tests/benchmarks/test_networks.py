"""Timing of whole networks: what is compared, and that the documented table is the stored one."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from archsearch.benchmarks import networks, train_step
from archsearch.benchmarks.networks import Call, build, computed_as
from internimage import DCNv3

ROOT = Path(__file__).parents[2]
SMALL = Call("T", 2, 32, 32, "step", 1)


@pytest.mark.slow
def test_all_ways_to_compute_our_network_give_the_same_logits() -> None:
    network, (images, _) = build("ours", SMALL).eval(), SMALL.inputs()
    for layer in network.modules():
        if isinstance(layer, DCNv3):  # else every offset is zero and every weight equal
            torch.nn.init.normal_(layer.offset.weight, std=0.1)
            torch.nn.init.normal_(layer.mask.weight, std=0.1)
    wanted = network(images)
    before = DCNv3.forward
    for name in ("composed", "official"):
        with computed_as(name), torch.no_grad():
            logits = network(images)
        assert not torch.equal(logits, wanted)
        torch.testing.assert_close(logits, wanted, rtol=1e-3, atol=1e-4)
    assert DCNv3.forward is before


@pytest.mark.slow
def test_convnext_gives_logits_of_square_images_and_maps_of_others() -> None:
    images = torch.zeros(1, 3, 64, 96)
    shapes = [tuple(x.shape) for x in build("ConvNeXt", replace(SMALL, width=96))(images)]
    assert shapes == [(1, 96, 16, 24), (1, 192, 8, 12), (1, 384, 4, 6), (1, 768, 2, 3)]
    assert build("ConvNeXt", SMALL)(images).shape == (1, 1000)


def test_convnext_is_timed_as_plain_torch_computes_it() -> None:
    network, (images, _) = build("ConvNeXt", SMALL).train(), SMALL.inputs()
    with (
        patch("internimage.conv._conv_tiny") as tiny,
        patch("internimage.model.bias_gelu") as fused,
        computed_as("ConvNeXt"),
    ):
        network(images)
    assert not tiny.called
    assert not fused.called


def test_networks_are_timed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(networks, "best_seconds", lambda *_: dict.fromkeys(networks.NETWORKS, 0.5))
    path = tmp_path / "networks.json"
    arguments = ["--networks", "--image-size", "32x64", "--batch", "1", "--out", str(path)]
    train_step.main(arguments)
    (row,) = json.loads(path.read_text())["rows"]  # no step of a map that is not square
    assert row["direction"] == "forward"
    assert row["image_size"] == [32, 64]
    assert all(count > 0 for count in row["peak_bytes"].values())
    assert set(row["times_faster"].values()) == {1.0}
    capsys.readouterr()
    train_step.main(["--table", str(path)])
    assert "| T, 1 of 32x64, 1 | forward | 500 ms | 1.00x | 1.00x | 1.00x |" in (
        capsys.readouterr().out
    )


def test_the_networks_take_turns_and_the_best_timed_round_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, calls = [0.0], []
    monkeypatch.setattr(networks.time, "process_time", lambda: now[0])

    def run(name: str) -> None:
        calls.append(name)
        now[0] += [1.0, 9.0, 5.0][calls.count(name) - 1]  # the first round does not count

    runs = {name: partial(run, name) for name in networks.NETWORKS}
    best = networks.best_seconds(runs, rounds=2, one_thread=True)
    assert best == dict.fromkeys(networks.NETWORKS, 5.0)
    assert calls == [*networks.NETWORKS] * 3


def test_peak_memory_is_that_of_the_tensors_alive_together() -> None:
    def run() -> None:
        for _ in range(3):  # one after the other
            torch.empty(1 << 20, dtype=torch.uint8)
        both = [torch.empty(1 << 20, dtype=torch.uint8) for _ in range(2)]
        assert len(both) == 2

    assert networks.peak_bytes(run) == 2 << 20


@pytest.mark.parametrize("arguments", [["--model", "S"], ["--image-size", "0,224"]])
def test_networks_that_cannot_be_compared_are_named(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train_step.main(["--networks", *arguments])
    wrong = "S" if "--model" in arguments else "0"
    assert f"wanted T or B, and sizes such as 224,800x1333; got {wrong}" in capsys.readouterr().err


@pytest.mark.parametrize("processor", ["xeon", "epyc-zen4"])
def test_the_table_in_the_documentation_is_that_of_the_results(processor: str) -> None:
    results = sorted((ROOT / "cuda_ops/results").glob(f"networks-{processor}-*.json"))
    assert results
    assert networks.table(results) in (ROOT / "docs/operator.md").read_text()
