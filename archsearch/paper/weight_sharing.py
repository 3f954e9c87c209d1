"""Parameters and memory that sharing weights among convolution neurons saves (Fig. 4)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from archsearch.core.numbers import ImageSize, parse_image_size
from archsearch.families.internimage_cost import count
from archsearch.paper.step_memory import StepMemory, step_memory
from archsearch.training import machine
from internimage.config import PRESETS, ModelConfig

BATCH_SIZE, IMAGE_SIZE = 32, 224
"""The batch and image size of Fig. 4."""

PRINTED_RATIOS: Mapping[str, Mapping[str, float]] = {
    "T": {"more_params": 66.1},
    "H": {"saved_params": 42.0, "saved_memory": 84.2},
}
"""Percent, as printed (Table 6 for T, Fig. 4 for H); the bars of Fig. 4 have no labels."""

DESCRIBED_H = replace(PRESETS["H"].config, head="plain", center_feature_scale=False)
"""H as Sections 3.1 and 3.2 describe it. The paper mentions neither the gate per group nor the
attention pooling of the released H, and only without them does H have the printed 1.08B."""

MODELS: dict[str, ModelConfig] = {n: p.config for n, p in PRESETS.items()} | {"H": DESCRIBED_H}
"""H as described: with the released model's gate the weights cannot be unshared."""

NOTE = (
    "Unshared: a projection for each of the nine points instead of the one output projection. "
    "Predicted: an AdamW step in fp32, four numbers per parameter and every tensor kept for the "
    "backward pass. H is the paper's: plain head, no gate. The paper states neither the precision "
    "nor which memory it means, and prints ratios for T and H only. archsearch verify shows a "
    "reading of unshared weights that gives its parameter ratios. Its 84.2% of memory is not "
    "recovered: a step that keeps nine samples instead of one sum is not six times as large."
)


@dataclass(frozen=True)
class Sharing:
    """One model with shared and with unshared weights; bytes are those of one training step.

    ``measured`` and ``measured_unshared`` are None if they were not measured.
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
        return PRINTED_RATIOS.get(self.model, {})

    @property
    def more_params(self) -> float:
        """Percent of parameters that the unshared model has more (Table 6's ratio)."""
        return 100 * (self.params_unshared / self.params - 1)

    @property
    def saved_params(self) -> float:
        """Percent of the unshared model's parameters that sharing saves (Fig. 4's ratio)."""
        return 100 * (1 - self.params / self.params_unshared)

    @property
    def saved_memory(self) -> float:
        """Percent of the unshared model's predicted peak memory that sharing saves."""
        return 100 * (1 - self.memory.peak_bytes / self.memory_unshared.peak_bytes)

    @property
    def saved_measured(self) -> float | None:
        """Percent of the unshared model's measured peak memory that sharing saves."""
        if self.measured is None or self.measured_unshared is None:
            return None
        return 100 * (1 - self.measured / self.measured_unshared)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: counts, bytes per step, ratios in percent; the paper's as ``paper_...``."""
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


def sharing_rows(
    models: Iterable[str] = tuple(MODELS),
    batch_size: int = BATCH_SIZE,
    image_size: ImageSize = IMAGE_SIZE,
) -> tuple[Sharing, ...]:
    """Parameters and predicted memory of every model, in closed form.

    Raises:
        ValueError: a model is not in `MODELS`, or a size is below 1.
    """
    names = list(models)
    if unknown := [name for name in names if name not in MODELS]:
        raise ValueError(f"no model is called {', '.join(unknown)}; known: {', '.join(MODELS)}")
    rows = []
    for name in names:
        shared, unshared = shared_and_unshared(name)
        rows.append(
            Sharing(
                name,
                count(shared).params,
                count(unshared).params,
                step_memory(shared, batch_size, image_size),
                step_memory(unshared, batch_size, image_size),
            )
        )
    return tuple(rows)


def shared_and_unshared(model: str) -> tuple[ModelConfig, ModelConfig]:
    """The configuration with shared weights, and with a projection per sampling point."""
    shared = MODELS[model]
    return shared, replace(shared, operator="dcnv3-unshared")


def extra_params(model: str, second_modulation: bool = False) -> int:
    """The number of parameters that the unshared model has more.

    The plain reading of Section 4.4 has nine projections instead of the output projection: 9 C^2
    for C^2, so 8 C^2 more per layer. ``second_modulation`` adds 9 (C + 1) G per layer, a second
    Linear for the modulation. Of 1,620 readings tried, only this one gives both printed ratios.
    The paper does not state it, and it may be chance.
    """
    shared, unshared = shared_and_unshared(model)
    extra = count(unshared).params - count(shared).params
    if second_modulation:
        layers = zip(shared.channels, shared.groups, shared.depths, strict=True)
        extra += sum(depth * 9 * (c + 1) * g for c, g, depth in layers)
    return extra


def with_measured_peaks(
    row: Sharing, image_size: ImageSize = IMAGE_SIZE, device: str = "auto"
) -> Sharing:
    """``row`` with the peak memory of real training steps, each run in a separate process.

    Raises:
        ValueError: the device does not exist.
        RuntimeError: the step does not fit in memory.
    """
    shared, unshared = (
        machine.in_new_process(peak_step_bytes, c, row.memory.batch_size, image_size, device)
        for c in shared_and_unshared(row.model)
    )
    return replace(row, measured=shared, measured_unshared=unshared)


def peak_step_bytes(
    config: ModelConfig, batch_size: int, image_size: ImageSize, device: str = "auto"
) -> int | None:
    """Peak bytes of the second AdamW step in fp32; the first allocates moments and caches.

    On a GPU: the peak of its tensors. On a CPU: the peak of this process, minus its memory before
    the model was built. None if the system does not report it.
    """
    import torch

    from archsearch.training.device import device_of
    from archsearch.training.memory import PeakMemory
    from internimage import InternImage

    torch_device = device_of(device)
    images = torch.randn(batch_size, 3, *parse_image_size(image_size), device=torch_device)
    before = PeakMemory(torch_device).bytes() if torch_device.type == "cpu" else 0
    model = InternImage(config).to(torch_device).train()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        peak = PeakMemory(torch_device)
        model(images).logsumexp(-1).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    peak_bytes = peak.bytes()
    return None if peak_bytes is None or before is None else peak_bytes - before
