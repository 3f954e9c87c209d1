"""The trained classifiers that are deployed, with their classes and preprocessing."""

from archsearch.evaluation import SavedNetwork, open_saved
from archsearch.running.described import describe_weights
from archsearch.tasks.classification import CLASSIFICATION
from internimage.description import Preprocessing, description_of


def open_classifier(name: str) -> SavedNetwork:
    """The classifier of a file of weights, ``RUN:best`` or ``RUN:TRIAL``, with its description.

    Raises:
        ValueError: there is no such network, it is no classifier, or the data of its run is
            missing.
    """
    saved = open_saved(name)
    if saved.task != CLASSIFICATION:
        raise ValueError(f"{name} was not trained as a classifier, and only those are deployed")
    if saved.result is not None:
        trial, record = saved.result.trial, saved.result.record
        known = describe_weights(trial.variant, trial.recipe, trial.data, trial.task, record)
        saved.model.description = known  # type: ignore[assignment]
    return saved


def preprocessing_of(network: SavedNetwork) -> Preprocessing:
    """How images become inputs.

    Raises:
        ValueError: the weights do not know it.
    """
    known = description_of(network.model).preprocessing
    if known is None:
        raise ValueError(
            f"{network.label} does not say how images become inputs: its file is a released one, "
            "or earlier than files that say it. Give RUN:best, or train again"
        )
    return known
