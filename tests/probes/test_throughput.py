"""Ratios are within rounds, counts agree with the models, the paper has its own columns."""

import json
import sys
from dataclasses import asdict
from types import ModuleType

import pytest
import torch

from archsearch.families.internimage_cost import count
from archsearch.paper import cost_check
from archsearch.probes import throughput
from archsearch.probes.throughput import Row, config_of, interleaved, measure
from archsearch.reports import throughput as report

MACHINE = {"rounds": 3, "device": "cpu", "precision": "fp32", "threads": 1}


class Clock:
    """Time that passes only in calls; a call takes its seconds times ``slow``."""

    def __init__(self):
        self.now, self.slow, self.order = 0.0, 1.0, []

    def __call__(self):
        return self.now

    def call(self, name, seconds):
        def run():
            self.now += seconds * self.slow
            self.order.append(name)

        return run


def test_calls_take_turns_and_the_first_of_each_is_not_timed():
    clock = Clock()
    calls = {"a": clock.call("a", 2.0), "b": clock.call("b", 4.0)}
    timing = interleaved(calls, batch=8, rounds=3, clock=clock)
    assert "".join(clock.order) == "ab" + "ab" * 3
    assert timing["a"] == {"images_per_second": 4, "ratio": 1, "ratio_low": 1, "ratio_high": 1}
    assert timing["b"] == {
        "images_per_second": 2,
        "ratio": 0.5,
        "ratio_low": 0.5,
        "ratio_high": 0.5,
    }


def test_a_slowdown_between_rounds_does_not_change_the_ratio():
    clock = Clock()

    def last():
        clock.now += 4.0 * clock.slow
        clock.slow *= 3

    timing = interleaved({"a": clock.call("a", 2.0), "b": last}, 8, 4, clock)
    assert timing["b"]["ratio"] == pytest.approx(0.5)
    assert timing["b"]["images_per_second"] != pytest.approx(2)


def test_a_ratio_is_the_median_over_rounds_not_of_medians():
    """Rounds of 1:1, 2:8 and 9:9 seconds: in two of three both are equally fast."""
    timing = throughput._timing([1.0, 8.0, 9.0], first=[1.0, 2.0, 9.0], batch=4)
    assert (timing["ratio"], timing["ratio_low"], timing["ratio_high"]) == (1, 0.25, 1)
    assert timing["images_per_second"] == 0.5


def test_unshared_is_one_group_and_the_papers_146M():
    config = config_of("B:unshared")
    assert config is not None
    assert config.groups == (1, 1, 1, 1)
    assert round(count(config).params / 1e6) == 146
    assert config_of("convnext_base") is None
    with pytest.raises(ValueError, match="unshared"):
        config_of("B:other")


def test_our_networks_are_measured_and_missing_timm_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    messages = []
    names = ("8-8-1-1", "8-8-1-1:unshared", "convnext_base")
    monkeypatch.setattr(throughput, "peak_memory", lambda *_: 7)
    ours, unshared, absent = measure(names, 32, 1, "cpu", rounds=1, report=messages.append)
    config = config_of("8-8-1-1")
    assert config is not None
    assert (ours.params, ours.macs) == (count(config, 32).params, count(config, 32).macs)
    assert ours.counted_by == unshared.counted_by == "fvcore, closed form"
    assert ours.ratio == 1
    assert unshared.params > ours.params
    assert unshared.ratio is not None
    assert absent.ratio is None
    assert "timm cannot be imported" in absent.note
    assert len(messages) == 1
    assert "convnext_base is left out" in messages[0]
    with pytest.raises(ValueError, match="ratios are to this network"):
        measure(("convnext_base", "8-8-1-1"), 32, 1, "cpu", report=messages.append)


def test_a_network_of_timm_is_counted_in_our_convention(monkeypatch):
    """3x3 convolution, 3 to 4 channels, on 8x8 without padding: 3*4*9 weights, 36 positions. Its
    norm has parameters; its operations are not counted."""
    timm = ModuleType("timm")
    timm.list_models = lambda name: [name]
    timm.create_model = lambda name, pretrained: torch.nn.Sequential(  # noqa: ARG005
        torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4)
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    row = throughput.counted(Row("net", 8, 1), throughput.build("net", 8))
    assert (row.params, row.macs, row.counted_by) == (3 * 4 * 9 + 8, 3 * 4 * 9 * 36, "fvcore")
    assert row.uncounted == ""


def test_uncounted_operators_are_in_the_remarks():
    row = asdict(Row("net", 8, 1, counted_by="fvcore", uncounted="aten::fft 2", note="alone"))
    content = report.throughput_table([row, {**row, "uncounted": ""}], MACHINE)
    remarks = [line[content.header.index("Remarks")] for line in content.body]
    assert remarks == ["alone; not counted: aten::fft 2", "alone"]


def test_a_count_that_fvcore_does_not_confirm_is_an_error(monkeypatch):
    """Here the operator's samples are left out, as fvcore does for an operator without a handle."""
    monkeypatch.setitem(cost_check._HANDLES, "archsearch::dcnv3", lambda *_: 0)
    with pytest.raises(AssertionError, match="macs: closed form"):
        throughput.counted(Row("8-8-1-1", 32, 1), throughput.build("8-8-1-1", 32))


def test_peak_memory_includes_the_weights():
    config = config_of("192-16-1-1")
    assert config is not None
    weights = 4 * count(config).params
    peak = throughput.peak_memory("192-16-1-1", 32, 1, torch.device("cpu"), "fp32")
    # None if the system does not report it.
    assert peak is None or 0.7 * weights < peak < 5 * weights


def test_the_papers_figures_have_their_own_columns(tmp_path):
    rows = [
        asdict(Row(name, 224, 2, params=p, macs=16_000_000_000, ratio=r, ratio_low=r, ratio_high=r,
                   images_per_second=r, paper=throughput.PAPER[name, 224]))
        for name, p, r in (("B", 97_461_832, 1.0), ("B:unshared", 146_300_000, 0.25))
    ]  # fmt: skip
    json_path, md = report.render(rows, MACHINE, tmp_path)
    content = report.throughput_table(rows, MACHINE)
    line = dict(zip(content.header, content.body[1], strict=True))
    assert line["Speed"] == "0.25×"
    assert line["Paper: speed"] == "0.40×"  # 311 over 775
    assert line["Paper: images/s"] == "311"
    assert line["#params"] == "146.3 M"
    assert "Peak memory" not in line  # it was not measured
    assert json.loads(json_path.read_text())["rows"][1]["paper"]["flops"] == "24G"
    assert "0.25×" in md.read_text()
    assert "of 3 rounds in" in content.note
    assert "of 1 round in" in report.throughput_table(rows, MACHINE | {"rounds": 1}).note
