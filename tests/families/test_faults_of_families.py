"""A family that cannot be planned or trained is one message each, before anything trains."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

import archsearch
from archsearch.core import counted_cost
from archsearch.core.budget import Budget
from archsearch.core.recipes import resolve
from archsearch.space import search_space
from archsearch.space.grid import Space, plan
from archsearch.space.search_space import domain_of
from archsearch.space.trainable import check_cells, check_variant
from tests.families.test_family_by_file import NET, net, write

COST = """
    def cost(self, height=224, width=None, num_classes=1000):
        from archsearch.core.cost import Cost, conv, linear
        side = height // 4
        stem, layer = conv(3, self.width, 4, side**2), conv(self.width, self.width, 3, side**2)
        total = stem + layer * self.depth + linear(self.width, num_classes)
        return Cost(total.params, total.macs, total.activations, height)
"""
RIGHT = NET + COST


def also(method: str, text: str = NET) -> str:
    return f"{text}\n    {method}\n"


def with_forward(body: str, text: str = NET) -> str:
    """The network with this function of its features, as a module before its head."""
    module = f"""
import torch
class Between(torch.nn.Module):
    def forward(self, x):
        {body}

"""
    return text.replace("\n@dataclass", module + "@dataclass").replace("*head", "Between(), *head")


TWO_OUTPUTS = (
    with_forward("return x")
    .replace(
        "class Between",
        """class Two(torch.nn.Sequential):
    def forward(self, x):
        return (super().forward(x), 0) if self.training else super().forward(x)

class Between""",
    )
    .replace("return nn.Sequential", "return Two")
)

FAULTS = {
    "a rule raises": (
        also("def rules(self): return [str(1 // (self.width - 16))]"),
        r"^Net 16-1: rules fails: my_net.py, line 16: ZeroDivisionError: .*by zero$",
    ),
    "a rule is no list": (
        also("def rules(self): return 'width is odd'"),
        r"^Net.rules returns 'width is odd', wanted a list of texts, one for each broken rule$",
    ),
    "a rule forbids all": (
        also("def rules(self): return [f'width is at most 8, got {self.width}']"),
        r"^no cell can be trained, .*:\n  width = 16: width is at most 8, got 16\n  width = 24: ",
    ),
    "the closed form raises": (
        also("def cost(self, height, width, num_classes): return self.size"),
        r"^Net 16-1: cost fails: my_net.py, line 16: AttributeError: .* no attribute 'size'$",
    ),
    "the closed form is no cost": (
        also("def cost(self, height, width, num_classes): return 16"),
        r"^Net.cost returns 16, wanted an archsearch.core.cost.Cost$",
    ),
    "the closed form is wrong": (
        RIGHT.replace("stem + layer", "layer"),
        r"^Net 16-14: cost\(8, 8, 1000\) gives 49,480 params and 145,024 macs, but the built "
        r"network has 50,264 params and 148,096 macs: correct cost, or delete it, and costs are "
        r"counted$",
    ),
    "the build raises": (
        NET.replace("stride=4", "stride=4, color=3"),
        r"^no cell can be trained.*budget:\n  width = 16: Net 16-1: build fails: my_net.py, "
        r"line 14: TypeError: .*'color'\n  width = 24: Net 24-1: build fails: .*'color'$",
    ),
    "the build returns nothing": (
        NET.replace("return nn", "nn"),
        r"Net 16-1: build fails: .*it returns a NoneType, wanted a torch.nn.Module",
    ),
    "the forward pass raises": (
        with_forward("return x @ torch.zeros(3, 3)"),
        r"\n  width = 16: Net 16-14: forward at 224x224 pixels fails: my_net.py, line 7: Runtime",
    ),
    "it returns other classes": (
        NET.replace("num_classes)]", "10)]"),
        r"^Net 24-9 returns \(2, 10\) for 2 images and 1000 classes, wanted \(2, 1000\), a value "
        r"per image and class$",
    ),
    "it returns two outputs in training": (TWO_OUTPUTS, r"^Net 16-14 returns a tuple for 2 images"),
    "the number does not matter": (
        NET.replace("range(self.depth)", "range(3)"),
        r"width = 16: depth cannot be solved: depth = 1 gives 24.7K params and depth = \d+ gives "
        r"24.7K params: the size does not depend on it",
    ),
    "the number makes it smaller": (
        NET.replace("range(self.depth)", "range(40 // self.depth)"),
        r"width = 16: depth cannot be solved: depth = 1 gives 111K params and depth = 2 gives "
        r"64.2K params: the size must never shrink",
    ),
    "the budget is too small": (
        NET.replace("4, stride=4", "64, stride=4"),
        r"width = 16: the smallest legal model with width = 16 has depth = 1: 216K params is 331.9%"
        r" over",
    ),
}

OPTIONS = "--family my_net.py:Net --budget 50K --set image_size=8 --set-axis width=16,24"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_message_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Any, fault: str
) -> None:
    text, message = FAULTS[fault]
    monkeypatch.chdir(tmp_path)
    write(tmp_path, text)
    for plan_only in (["--plan", "--format", "json"], []):
        code, out, err = run_cli("grid", *OPTIONS.split(), *plan_only)
        assert (code, out) == (2, "")
        assert re.search(message, err.removeprefix("archsearch: ").strip()), err
    assert [path.name for path in tmp_path.iterdir()] == ["my_net.py"]


def test_a_cell_whose_build_fails_is_infeasible_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, NET.replace("head = ", "assert self.width != 24, 'no 24'; head = "))
    code, out, _ = run_cli("grid", *OPTIONS.split(), "--plan", "--format", "json")
    assert code == 0
    ok, failed = json.loads(out)
    reason = "Net 24-1: build fails: my_net.py, line 13: AssertionError: no 24"
    assert [ok[key] for key in ("width", "depth", "params", "macs", "status", "reason")] == [
        16, 14, 50_264, 103_579_264, "exact", "",
    ]  # fmt: skip
    assert [failed[key] for key in ok] == [24, None, None, None, "infeasible", reason, 24]


def test_a_right_closed_form_is_no_problem(tmp_path: Path) -> None:
    family, recipe = net(tmp_path, RIGHT), resolve("quick", {})
    cells = plan(Space(family.template(), {"width": (16, 24)}), Budget(50_000))
    check_cells(cells, recipe, classifies=True)
    assert [cell.variant for cell in cells] == [family(16, 14), family(24, 5)]


def test_an_operator_without_a_formula_is_a_warning_and_no_difference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = "return x + 0 * torch.fft.fft2(x).real"
    family = net(tmp_path, with_forward(body, NET).replace("padding=1", "padding=1, bias=False"))
    counted_cost._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        plan(Space(family.template(), {"width": (16, 24)}), Budget(50_000))
    (message,) = caplog.messages
    assert message.startswith("Net: the operator aten::_fft_c2c (once) has no FLOP formula")
    own = "gemm = self.depth * 9 * self.width**2 * (height // 4)**2; "
    text = RIGHT.replace("return Cost", f"{own}return Cost").replace("total.macs", "gemm")
    with pytest.raises(ValueError, match="macs, but"):
        check_variant(net(tmp_path, text)(16, 2), resolve("quick", {}))
    check_variant(net(tmp_path, with_forward(body, text))(16, 2), resolve("quick", {}))


def test_a_network_without_parameters_is_refused(tmp_path: Path) -> None:
    body = "return x.mean((1, 2, 3))[:, None].expand(-1, 1000)"
    text = with_forward(body, NET).replace("nn.Sequential(nn", "Between(); (nn")
    with pytest.raises(ValueError, match="Net 16-2 has no parameters: there is nothing to train"):
        check_variant(net(tmp_path, text)(16, 2), resolve("quick", {}))


def test_a_network_to_train_or_count_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, NET.replace("num_classes)]", "10)]"))
    code, _, err = run_cli("train", "16-2", "--family", "my_net.py:Net")
    assert (code, err.count("\n")) == (2, 1)
    assert "Net 16-2 returns (2, 10)" in err
    write(tmp_path, FAULTS["the build raises"][0])
    for call in (archsearch.count, archsearch.train):
        with pytest.raises(ValueError, match="Net 16-2: build fails: my_net"):
            call("my_net.py:Net", "16-2")
    assert [path.name for path in tmp_path.iterdir()] == ["my_net.py"]


@pytest.mark.parametrize("command", ["search --trials 2 --set-axis width=16,24",
                                     "scale --origin 8-2 --alpha 1.4 --beta 1.4"])  # fmt: skip
def test_a_search_and_a_ladder_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Any, command: str
) -> None:
    grow = (
        "def grow(self, a, b, phi, rounding): return Net(round(8 * b**phi), round(2 * a**phi)), ''"
    )
    monkeypatch.chdir(tmp_path)
    write(tmp_path, also(grow, NET.replace("num_classes)]", "10)]")))
    options = ("--family", "my_net.py:Net", "--budget", "50K", "--plan")
    code, out, err = run_cli(*command.split(), *options)
    assert (code, out) == (2, "")
    assert re.search(r"Net .* returns \(2, 10\)", err)
    write(tmp_path, also("def grow(self, a, b, phi, rounding): return self.x", NET))
    code, _, err = run_cli(*command.split(), *options)
    wanted = "" if "search" in command else "my_net.py, line 16: AttributeError"
    assert code == (2 if wanted else 0)
    assert wanted in err


def test_a_search_says_which_networks_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    family = net(tmp_path, NET.replace("head = ", "assert self.width != 24, 'no 24'; head = "))
    domain = domain_of(Space(family.template(), {"width": (16, 24)}), Budget(50_000))
    search_space._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        variants = list(domain.variants()) + list(domain.variants())
    assert {variant.width for variant in variants} == {16}  # type: ignore[attr-defined]
    (message,) = caplog.messages
    assert message.startswith("the search leaves out {'width': 24}: Net 24-1: build fails: ")
