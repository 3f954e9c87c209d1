"""Whether the state in a checkpoint fits a training, before any of it is loaded.

A checkpoint may be undamaged and still have another structure, from another version or another
hand. Loading a part of it would leave the training in a state that is neither.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

MAX_NAMES = 5
"""How many wrong tensors a message names."""


def tensor_problems(part: str, wanted: Mapping[str, Any], got: object) -> list[str]:
    """What differs between a state dict and the ``wanted`` one, in names, shapes or types."""
    if not isinstance(got, Mapping):
        return [f"{part}: wanted tensors by name, got {type(got).__name__}"]
    if wanted.keys() != got.keys():
        names = sorted(map(str, wanted.keys() ^ got.keys()))
        return [f"{part}: missing or unexpected {_some(names)}"]
    wrong = [name for name, value in wanted.items() if _form(value) != _form(got[name])]
    return [f"{part}: another shape or type of {_some(wrong)}"] if wrong else []


def _form(value: object) -> object:
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.layout
    return type(value)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def optimizer_problems(optimizer: torch.optim.Optimizer, got: object) -> list[str]:
    """Why the optimizer cannot continue from the state ``got``; empty if it can."""
    groups = got.get("param_groups") if isinstance(got, Mapping) else None
    moments = got.get("state") if isinstance(got, Mapping) else None
    if not isinstance(groups, list) or not isinstance(moments, Mapping):
        return ["optimizer: wanted param_groups and state"]
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if sizes != [_num_params(group) for group in groups]:
        return [f"optimizer: wanted groups of {sizes} parameters"]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not moments.keys() <= set(range(len(parameters))):
        return ["optimizer: moments of parameters that the network does not have"]
    wrong = [i for i, values in moments.items() if not _fits(values, parameters[i])]
    return [f"optimizer: moments of another shape for parameters {wrong}"] if wrong else []


def _num_params(group: object) -> int | None:
    params = group.get("params") if isinstance(group, Mapping) else None
    return len(params) if isinstance(params, list) else None


def _fits(moments: object, parameter: Tensor) -> bool:
    """Whether AdamW's moments of one parameter are complete and have its shape."""
    if not isinstance(moments, Mapping) or not {"step", "exp_avg", "exp_avg_sq"} <= moments.keys():
        return False
    averages = (moments["exp_avg"], moments["exp_avg_sq"])
    return all(isinstance(a, Tensor) and a.shape == parameter.shape for a in averages)
