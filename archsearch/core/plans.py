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
class Search:
    """``num_trials`` variants that Optuna proposes within ``tolerance`` of the study's budget.

    ``over`` is ``four`` (the numbers of ``space`` under the family's rules) or ``twelve`` (all
    hyper-parameters of InternImage, without rules). ``seed`` seeds the sampler of the proposals.
    ``like`` names the family and holds its switches; it is empty for InternImage.
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

CLASSIFICATION_RUN = "classification"
"""The folder, in a run of fine-tuned networks, of the records of the run that they start from."""

Plan = MoreSeeds | Halve | Search | Tune

KINDS: dict[str, type[Plan]] = {plan.kind: plan for plan in (MoreSeeds, Halve, Search, Tune)}


def plan_to_dict(plan: Plan | None) -> dict[str, Any]:
    """The plan as plain JSON values; empty without a plan."""
    if plan is None:
        return {}
    values = {"kind": plan.kind, **asdict(plan)}
    return {key: value for key, value in values.items() if key != "like" or value}
