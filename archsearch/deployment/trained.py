"""The trained classifiers that are deployed, with their classes and preprocessing."""

from dataclasses import replace
from pathlib import Path

from archsearch.evaluation import SavedNetwork, open_saved
from archsearch.running.described import describe_weights, recipe_digest
from archsearch.running.train_full import data_and_recipe
from archsearch.storage.files import log
from archsearch.tasks.classification import CLASSIFICATION
from archsearch.training.images import DataError
from internimage.description import Preprocessing, description_of


def open_classifier(name: str) -> SavedNetwork:
    """The classifier of a file of weights, ``RUN:best`` or ``RUN:TRIAL``, with its description.

    Raises:
        ValueError: there is no such network, or it is no classifier.
    """
    saved = open_described(name)
    if saved.task != CLASSIFICATION:
        raise ValueError(f"{name} was not trained as a classifier, and only those are deployed")
    return saved


def open_described(name: str) -> SavedNetwork:
    """As `open_saved`; a network of a run gets its description.

    The classes and the preprocessing are those of its data. Without the data they stay unknown,
    with a warning in the log. The weights of a full training get the recipe and the data of the
    training, if they lie in its folder.
    """
    saved = open_saved(name)
    if saved.trained_on is None:
        return _with_training(saved, Path(name))
    if saved.result is not None:
        trial, record = saved.result.trial, saved.result.record
        try:
            known = describe_weights(trial.variant, trial.recipe, trial.data, trial.task, record)
        except DataError as error:
            log.warning("The classes and the preprocessing of %s are not known: %s", name, error)
            return saved
        saved.model.description = known  # type: ignore[assignment]
    return saved


def _with_training(saved: SavedNetwork, weights: Path) -> SavedNetwork:
    """The network with data and recipe; as it is if these are not those of its description."""
    stored = data_and_recipe(weights)
    if stored is None or description_of(saved.model).recipe != recipe_digest(stored[1]):
        return saved
    return replace(saved, trained_on=stored[0], recipe=stored[1])


def preprocessing_of(network: SavedNetwork) -> Preprocessing:
    """How images become inputs.

    Raises:
        ValueError: the weights do not know it.
    """
    known = description_of(network.model).preprocessing
    if known is None:
        raise ValueError(
            f"{network.label} does not say how images become inputs: its file is a released one, "
            "or earlier than files that say it, or the data of its run is missing. Give RUN:best"
        )
    return known
