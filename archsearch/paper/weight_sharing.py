"""What sharing weights among convolution neurons saves, in parameters and memory (Fig. 4)."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

from archsearch.families.internimage_cost import count
from archsearch.paper.step_memory import StepMemory, step_memory
from archsearch.paper.unshared_weights import DESCRIBED_H, MORE_AT_T, SAVED_AT_H
from internimage.config import PRESETS, ModelConfig

BATCH_SIZE, IMAGE_SIZE = 32, 224
"""As Fig. 4 says."""

PAPER: Mapping[str, Mapping[str, float]] = {
    "T": {"more_params": MORE_AT_T},
    "H": {"saved_params": SAVED_AT_H, "saved_memory": 84.2},
}
"""Percent, as printed (Table 6 and Fig. 4); the bars themselves are not labelled."""

MODELS: dict[str, ModelConfig] = {n: p.config for n, p in PRESETS.items()} | {"H": DESCRIBED_H}
"""H as the paper describes it: with the released model's gate the weights cannot be unshared."""


NOTE = (
    "Unshared: a projection for each of the nine points in place of the one output projection. "
    "Predicted: an AdamW step in fp32, four numbers per parameter and every tensor kept for the "
    "backward pass. H is the paper's: plain head, no gate. The paper states neither precision nor "
    "what its memory is of, and prints ratios for T and H only. archsearch verify says which "
    "reading of unshared weights gives its parameter ratios; its 84.2% of memory is not "
    "recovered: keeping nine samples where one sum was kept does not make a step six times as "
    "large."
)


@dataclass(frozen=True)
class Sharing:
    """One model with shared weights and without; bytes are of one training step of the batch.

    ``measured`` and ``measured_unshared`` are None where nothing was measured.
    """

    model: str
    params: int
    params_unshared: int
    memory: StepMemory
    memory_unshared: StepMemory
    measured: int | None = None
    measured_unshared: int | None = None

    @property
    def paper(self) -> Mapping[str, float]:
        """The printed ratios of this model, in percent."""
        return PAPER.get(self.model, {})

    @property
    def more_params(self) -> float:
        """Percent that the unshared model has more (Table 6's ratio)."""
        return 100 * (self.params_unshared / self.params - 1)

    @property
    def saved_params(self) -> float:
        """Percent of the unshared model that sharing saves (Fig. 4's ratio)."""
        return 100 * (1 - self.params / self.params_unshared)

    @property
    def saved_memory(self) -> float:
        """Percent of the unshared model's predicted peak."""
        return 100 * (1 - self.memory.peak_bytes / self.memory_unshared.peak_bytes)

    @property
    def saved_measured(self) -> float | None:
        if self.measured is None or self.measured_unshared is None:
            return None
        return 100 * (1 - self.measured / self.measured_unshared)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: counts, bytes of the batch, ratios in percent, the print under paper_."""
        return {
            "model": self.model,
            "batch_size": self.memory.batch_size,
            "params": self.params,
            "params_unshared": self.params_unshared,
            "more_params": self.more_params,
            "saved_params": self.saved_params,
            "predicted_bytes": self.memory.peak_bytes,
            "predicted_bytes_unshared": self.memory_unshared.peak_bytes,
            "saved_memory": self.saved_memory,
            "measured_bytes": self.measured,
            "measured_bytes_unshared": self.measured_unshared,
            "saved_measured": self.saved_measured,
            **{f"paper_{name}": value for name, value in self.paper.items()},
        }


def sharing(
    models: Iterable[str] = tuple(MODELS),
    batch_size: int = BATCH_SIZE,
    image_size: int = IMAGE_SIZE,
) -> tuple[Sharing, ...]:
    """Every model counted and predicted, in closed form.

    Raises:
        ValueError: for a model that is none of `MODELS`, or a size below 1.
    """
    names = list(models)
    if unknown := [name for name in names if name not in MODELS]:
        raise ValueError(f"no model is called {', '.join(unknown)}: there are {', '.join(MODELS)}")
    found = []
    for name in names:
        shared, unshared = pair(name)
        found.append(
            Sharing(
                name,
                count(shared).params,
                count(unshared).params,
                step_memory(shared, batch_size, image_size),
                step_memory(unshared, batch_size, image_size),
            )
        )
    return tuple(found)


def pair(model: str) -> tuple[ModelConfig, ModelConfig]:
    """The model with shared weights and with a projection per sampling point."""
    shared = MODELS[model]
    return shared, replace(shared, operator="dcnv3-unshared")


def measured(row: Sharing, image_size: int = IMAGE_SIZE, device: str = "auto") -> Sharing:
    """``row`` with the peaks of real steps, each in a process of its own.

    Raises:
        ValueError: for a device that is not there.
        RuntimeError: when it does not fit.
    """
    batch_size = row.memory.batch_size
    peaks = []
    for config in pair(row.model):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as own:
            peaks.append(own.submit(peak_of_step, config, batch_size, image_size, device).result())
    return replace(row, measured=peaks[0], measured_unshared=peaks[1])


def peak_of_step(
    config: ModelConfig, batch_size: int, image_size: int, device: str = "auto"
) -> int | None:
    """Peak bytes of the second AdamW step in fp32: the first makes the moments and what is cached.

    On a GPU of its tensors; on a CPU of this process, less what it held before the model. None
    where the system does not tell.
    """
    import torch

    from archsearch.training.device import device_of
    from archsearch.training.memory import PeakMemory
    from internimage import InternImage

    place = device_of(device)
    images = torch.randn(batch_size, 3, image_size, image_size, device=place)
    before = PeakMemory(place).bytes() if place.type == "cpu" else 0
    model = InternImage(config).to(place).train()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        peak = PeakMemory(place)
        model(images).logsumexp(-1).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    found = peak.bytes()
    return None if found is None or before is None else found - before
