"""The rungs of successive halving: complete trainings of growing cost."""

from dataclasses import dataclass, replace

from archsearch.core.plans import Over
from archsearch.core.recipe import Recipe


@dataclass(frozen=True)
class Rung:
    """One fidelity: its recipe, and its cost as a share of a full training."""

    recipe: Recipe
    share: float

    @property
    def name(self) -> str:
        return self.recipe.name


def rungs(recipe: Recipe, num: int = 3, factor: float = 3.0, over: Over = "epochs") -> list[Rung]:
    """Return the rungs from cheap to full, each about ``factor`` times the work of the one before.

    Every rung is a complete training with its own schedule: a long schedule cut short would judge
    cells before their learning rate has decayed. Warm-up shrinks with the epochs; image sizes are
    multiples of 32, the network's stride. Rungs that round to the same recipe become one.

    Raises:
        ValueError: for fewer than two rungs, or a factor of 1 or less.
    """
    if num < 2 or factor <= 1:
        raise ValueError(
            f"halving needs at least two rungs and a factor above 1, got {num} and {factor}"
        )
    cheap = [_reduced(recipe, factor**-i, over) for i in range(num - 1, 0, -1)]
    distinct = {rung.recipe: rung for rung in cheap if rung.share < 1}
    return [*distinct.values(), Rung(recipe, 1.0)]


def _reduced(recipe: Recipe, share: float, over: Over) -> Rung:
    if over == "image_size":
        side = max(32, 32 * round(recipe.image_size * share**0.5 / 32))
        name = f"{recipe.name}, {side} pixels"
        return Rung(replace(recipe, image_size=side, name=name), (side / recipe.image_size) ** 2)
    if over == "data_fraction":
        fraction = recipe.data_fraction * share
        name = f"{recipe.name}, {fraction:.3g} of the data"
        return Rung(replace(recipe, data_fraction=fraction, name=name), share)
    epochs = max(1, round(recipe.epochs * share))
    share = epochs / recipe.epochs
    warmup = recipe.warmup_epochs * share
    name = f"{recipe.name}, {epochs} of {recipe.epochs} epochs"
    return Rung(replace(recipe, epochs=epochs, warmup_epochs=warmup, name=name), share)
