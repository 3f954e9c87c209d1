"""Families by file: a small network that keeps the contract, and faults that break one check."""

from collections.abc import Mapping
from pathlib import Path

GOOD = """\
from dataclasses import dataclass

import torch
from archsearch import Family
from archsearch.core.cost import Cost
from torch import nn


class Network(nn.Module):
    def __init__(self, width, depth, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, stride=4)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, num_classes)
        self.calls = 0

    def forward(self, images):
        x = self.stem(images).mean((2, 3))
        for layer in self.layers:
            x = x + torch.relu(layer(x))
        return self.head(x)


@dataclass(frozen=True)
class Net(Family):
    width: int
    depth: int
    solved = "depth"

    def rules(self):
        return ["width must be even"] if self.width % 2 else []

    def repaired(self):
        return self.unchecked(width=self.width + 1), "width is rounded up"

    def grow(self, alpha, beta, phi, rounding):
        width, depth = round(self.width * beta**phi / 2) * 2, round(self.depth * alpha**phi)
        return (self.with_numbers(width, depth), "rounded") if phi else (self, "")

    def cost(self, height=224, width=None, num_classes=1000):
        w, d, pixels = self.width, self.depth, (height // 4) * ((width or height) // 4)
        params = 49 * w + d * w * (w + 1) + num_classes * (w + 1)
        macs = 48 * w * pixels + d * w * w + w * num_classes
        activations = w * pixels + d * w + num_classes
        return Cost(params, macs, activations, height)

    def build(self, num_classes):
        return Network(self.width, self.depth, num_classes)
"""

METHOD = "    def build(self"
"""Where a method of `Net` can be added."""

NAME = f"""\
    @property
    def name(self):
        return str(self.width)

{METHOD}"""

FAULTS: Mapping[str, tuple[str, str, str, str]] = {
    "no small network": (
        "self.width % 2 else", "self.width != 20 else",
        "numbers", r"no network of Net with numbers of 16, 8.* is legal: give the numbers",
    ),
    "a rule that raises": (
        "if self.width % 2", "if self.width % 2 or 1 / (self.depth - 3) == 7",
        "refuse", r"Net 4-3: rules fails: .*ZeroDivisionError",
    ),
    "a rule that is no list": (
        '["width must be even"]', '"width must be even"',
        "refuse", r"Net.rules returns 'width must be even', wanted a list of texts",
    ),
    "rules that are not checked": (
        METHOD, f"    def __post_init__(self):\n        pass\n\n{METHOD}",
        "refuse", r"0-0 must raise a ValueError: width; depth",
    ),
    "a repair that is not legal": (
        "self.width + 1", "self.width + 2", "refuse", r"the repair 3-1 of 1-1 is not legal",
    ),
    "a repair without its rule": (
        '"width is rounded up"', "None", "refuse", r"the repair of 1-1 must name its rule",
    ),
    "a smallest solved number of 0": (
        METHOD, f"    def min_solved(self):\n        return 0\n\n{METHOD}",
        "refuse", r"min_solved\(\) of 1-1 must be a whole number >= 1, got 0",
    ),
    "a switch that JSON changes": (
        "depth: int", 'depth: int\n    kernel: tuple = (3, 3)\n    switch_names = ("kernel",)',
        "store", r"kernel=\(3, 3\)\) stored as JSON comes back as .*kernel=\[3, 3\]\)",
    ),
    "a name of some numbers": (METHOD, NAME, "store", r"wanted the numbers width-depth, got '16'"),
    "a solved number without effect": (
        "params = 49 * w + d *", "params = 49 * w +",
        "solve", r"params must increase with depth from 1 to 8, got 18,056, 18,056,",
    ),
    "a wrong closed form": (
        "48 * w * pixels", "49 * w * pixels", "count",
        r"16-1 at 32², 10 classes: macs by cost\(\) 50592, of the built network 49568",
    ),
    "a wrong number of activations": (
        "+ d * w + num", "+ d + num", "count", r"activations by cost\(\) 1035, .* 1050",
    ),
    "a cost that is no Cost": (
        "return Cost(params, macs, activations, height)", "return None",
        "numbers", r"cost\(\) of 16-1 must return a Cost, got None",
    ),
    "growth at phi 0": (
        'if phi else (self, "")', "", "grow", r"16-1 at phi = 0 became \(Net\(.*'rounded'\)",
    ),
    "growth that shrinks": ("beta**phi", "beta**-phi", "grow", r"sizes must rise .*got 18.1K"),
    "a wrong shape": (
        ".mean((2, 3))", ".mean(3)",
        "build", r"mat1 and mat2 shapes|must have the shape \(2, 10\), got",
    ),
    "the classes of ImageNet": (
        "self.depth, num_classes)", "self.depth, 1000)", "build",
        r"images \(2, 3, 32, 32\) in training mode must have the shape \(2, 10\), got \(2, 1000\)",
    ),
    "two outputs": ("return self.head(x)", "return self.head(x), x", "build", r"got a tuple"),
    "logits that are not finite": (
        "return self.head(x)", "return self.head(x) / 0", "build", "must be finite",
    ),
    "dropout in evaluation": (
        "return self.head(x)", "return nn.functional.dropout(self.head(x))",
        "build", r"change from call to call in eval\(\)",
    ),
    "weights without a seed": (
        "self.calls = 0", "self.stem.bias.data.fill_(next(SEEDS))", "build",
        r"two networks of one seed \(torch.manual_seed\) differ in stem.bias",
    ),
    "a parameter without a gradient": (
        "self.calls = 0", "self.unused = nn.Parameter(torch.ones(3))",
        "gradients", r"the loss does not depend on unused: no gradient",
    ),
    "a gradient that is not finite": (
        "return self.head(x)", "return self.head((x - x).sqrt())", "gradients",
        "the gradients of stem.weight, stem.bias, .* are not finite",
    ),
    "no parameter": (
        "return Network(self.width, self.depth, num_classes)",
        "return Network(self.width, self.depth, num_classes).requires_grad_(False)",
        "gradients", "the network has no parameter to train",
    ),
    "a network of small batches": (
        "return self.head(x)", "assert len(x) < 9, 'too many images'\n        return self.head(x)",
        "train", "a training failed: AssertionError: too many images",
    ),
}  # fmt: skip
"""What is replaced in `GOOD`, by what, the check that fails, and its message."""

UNSAVED_STATE = (
    "return self.head(x)",
    "self.calls += self.training\n        return self.head(x) * (1 + self.calls / 100)",
)
"""A network that computes with a number that no checkpoint holds."""


def write(folder: Path, old: str = "", new: str = "") -> str:
    """Write `GOOD` with ``old`` replaced, and return the name of the family."""
    assert old in GOOD
    head = "from itertools import count\n\nSEEDS = count()\n"
    path = folder / "my_net.py"
    path.write_text(head + GOOD.replace(old, new) if old else head + GOOD)
    return f"{path}:Net"
