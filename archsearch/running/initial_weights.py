"""Initial weights of a training: of the same network, or of a classifier for its backbone."""

from collections.abc import Mapping

from torch import Tensor

from archsearch.core.start import Start
from archsearch.running.weights import measured_weights
from archsearch.storage import checkpoint
from archsearch.storage.study_folder import StudyFolder
from archsearch.training.images import DataError
from archsearch.training.state import Training
from internimage.weights import CLASSIFIER_BIAS, CLASSIFIER_WEIGHT

CLASSIFIER = {CLASSIFIER_WEIGHT, CLASSIFIER_BIAS}
CLASSIFIER_HEAD = "head."
BACKBONE = "backbone."
"""How the names of weights of a classifier's last layers, and of a detector's backbone, begin."""


def load_trained(training: Training, start: Start) -> None:
    """Load the weights that a trial of another run has kept.

    Raises:
        DataError: the trial has them no longer, or they are damaged.
        ValueError: they do not fit the network.
    """
    folder = StudyFolder(start.run).trial(start.trial).path
    kept = [one for one in checkpoint.stored(folder) if one.sha256 == start.sha256]
    if not kept:
        raise DataError(
            f"{folder} has no file of weights with the sha256 {start.sha256}: copy it there again"
        )
    try:
        state = checkpoint.read(kept[0])
    except ValueError as error:
        raise DataError(f"{kept[0].path} is damaged, {error}: copy it there again") from error
    where = f"the trial {start.trial} (seed {start.seed})"
    load_start(training, measured_weights(state), where)


def load_start(training: Training, weights: Mapping[str, Tensor], where: str) -> None:
    """Load initial weights, except a classifier of another size; ``where`` they are from."""
    own = training.model.state_dict()
    start = fitting(weights, own, where)
    training.model.load_state_dict(start, strict=False)
    if start.keys() < own.keys():
        has_backbone = any(k.startswith(BACKBONE) for k in start)
        what = "only the backbone is" if has_backbone else "classifier not"
        reason = "a classifier's weights" if has_backbone else "other classes"
        training.progress.notes.append(f"{what} taken from {where}: {reason}")


def fitting(
    start: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """The weights of ``start`` that the network takes: all but a classifier of another size.

    A network with a backbone takes the weights of a classifier for its backbone.

    Raises:
        ValueError: other weights do not fit.
    """
    backbone = {k: v for k, v in own.items() if k.startswith(BACKBONE)}
    if backbone and not any(k.startswith(BACKBONE) for k in start):
        named = {BACKBONE + k: v for k, v in start.items() if not k.startswith(CLASSIFIER_HEAD)}
        return fitting(named, backbone, where)
    differing = {k for k in own if k not in start or own[k].shape != start[k].shape}
    if misfits := sorted((differing | (start.keys() - own.keys())) - CLASSIFIER):
        raise ValueError(f"{where} does not fit the network: {', '.join(misfits)}")
    return {k: start[k] for k in own if k not in differing}
