"""Initial weights of a training: those of a finished trial. No torch, no disk access."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """The weights that a finished trial of another run has kept.

    ``run`` is the folder of that run and may be another one on resume: only ``sha256``, that of the
    file of the weights, is part of a trial's identity. ``seed`` is the seed of that trial.
    """

    run: str
    trial: str
    seed: int
    sha256: str


def start_of(starts: Mapping[str, Start], seed: int) -> Start | None:
    """Return the weights that a training with this seed starts from; None without any.

    They are those with the same seed. A seed without weights of its own takes those of the others
    in turn, so several of its seeds may start from the same weights.
    """
    if not starts:
        return None
    seeds = sorted(starts, key=int)
    return starts.get(str(seed)) or starts[seeds[seed % len(seeds)]]
