"""Plans: how a study chooses trials beyond its cells and seeds.

`archsearch.searching` carries them out.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

Over = Literal["epochs", "image_size", "data_fraction"]
Sampler = Literal["tpe", "random"]
Numbers = Literal["four", "twelve"]


@dataclass(frozen=True)
class MoreSeeds:
    """More seeds for the variants that may be the best, up to ``max_seeds`` each."""

    kind: ClassVar = "more-seeds"
    max_seeds: int


@dataclass(frozen=True)
class Halve:
    """Successive halving over ``rungs`` trainings, each ``factor`` times as costly as the one
    before. ``over`` names what is reduced to make a training cheap. ``force`` prunes even if the
    pilot's rank agreement does not allow it. The pilot trains its cells with ``pilot_seeds`` seeds;
    1 is the earlier rule (one seed, uncorrected tau), for runs that were planned with it."""

    kind: ClassVar = "halving"
    over: Over
    force: bool
    rungs: int = 3
    factor: float = 3.0
    pilot_seeds: int = 2


@dataclass(frozen=True)
class Latency:
    """Networks whose latency is measured on ``target``, for the plan of the run that holds them.

    ``device`` is the processor of a target on this machine; of a command it is empty. A grid was
    solved for ``seconds``; None for a search.
    """

    kind: ClassVar = "latency"
    target: str
    device: str
    seconds: float | None = None


@dataclass(frozen=True)
class PredictedLatency:
    """The latency that a search predicts of its proposals, from ``num_networks`` measured ones.

    ``rates`` are of the features that `archsearch.latency.model` counts, in seconds per unit.
    """

    target: str
    device: str
    rates: tuple[float, ...] = ()
    num_networks: int = 0


@dataclass(frozen=True)
class Search:
    """``num_trials`` variants that Optuna proposes within ``tolerance`` of the study's budget.

    ``over`` is ``four`` (the numbers of ``space`` under the family's rules) or ``twelve`` (all
    hyper-parameters of InternImage, without rules). ``seed`` seeds the sampler of the proposals.
    ``like`` names the family and holds its switches; it is empty for InternImage. ``latency`` is
    of a search that has it as an objective; without rates it is not measured yet.
    """

    kind: ClassVar = "search"
    over: Numbers
    space: Mapping[str, tuple[int, ...]]
    sampler: Sampler
    objectives: tuple[str, ...]
    seed: int
    num_trials: int
    tolerance: float
    like: Mapping[str, Any] = field(default_factory=dict)
    latency: PredictedLatency | None = None


@dataclass(frozen=True)
class Tune:
    """A comparison of families whose cells and their settings pilot trainings have chosen.

    Of ``rates`` each family has the learning rate with the best pilot, a training of one network of
    the family with ``pilot_seed``. ``num_cells`` are the best cells of each family by one more
    pilot per cell; None if all are trained. The pilots are studies in folders of the run, `PILOTS`.
    ``step_seconds`` is the time of a training step per image that all networks were chosen to have,
    by the measurements in the folder `STEP_TIMES`; None for a budget that is counted.
    """

    kind: ClassVar = "tune"
    rates: tuple[float, ...]
    num_cells: int | None
    pilot_seed: int
    step_seconds: float | None = None


PILOT_RATES, PILOT_CELLS = PILOTS = ("pilot-rates", "pilot-cells")
"""Names of the studies that choose rates and cells, and of their folders in the run."""

STEP_TIMES = "step-times"
"""Name and folder of the timings by which networks of one measured time are chosen."""

LATENCIES = "latency"
"""Name and folder of the measurements by which a run has a latency as its budget or objective."""

CLASSIFICATION_RUN = "classification"
"""The folder, in a run of fine-tuned networks, of the records of the run that they start from."""

Plan = MoreSeeds | Halve | Search | Tune | Latency

KINDS: dict[str, type[Plan]] = {
    plan.kind: plan for plan in (MoreSeeds, Halve, Search, Tune, Latency)
}


def plan_to_dict(plan: Plan | None) -> dict[str, Any]:
    """The plan as plain JSON values; empty without a plan."""
    if plan is None:
        return {}
    values = {"kind": plan.kind, **asdict(plan)}
    later = ("like", "latency")
    return {key: value for key, value in values.items() if key not in later or value}
