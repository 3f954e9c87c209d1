"""Initial weights of a training: of the same network, or of a classifier for its backbone."""

import re
from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from archsearch.core.start import Start
from archsearch.running.weights import measured_weights
from archsearch.storage import checkpoint
from archsearch.storage.files import log
from archsearch.storage.study_folder import StudyFolder
from archsearch.training.images import DataError
from archsearch.training.state import Training
from internimage.weights import CLASSIFIER_BIAS, CLASSIFIER_WEIGHT, State, misfits

CLASSIFIER = {CLASSIFIER_WEIGHT, CLASSIFIER_BIAS}
CLASSIFIER_HEAD = "head."
BACKBONE = "backbone."
"""How the names of weights of a classifier's last layers, and of a detector's backbone, begin."""

MAX_TEXT = 400
"""Characters of a message about tensors that do not fit."""

_BLOCK = re.compile(r"levels\.(\d+)\.blocks\.\d+\.norm1\.weight$")


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


def load_start(training: Training, weights: State, where: str) -> None:
    """Load initial weights, except a classifier of another size; ``where`` they are from."""
    own = training.model.state_dict()
    start = fitting(weights, own, where)
    training.model.load_state_dict(start, strict=False)
    if start.keys() < own.keys():
        note = _left_out(weights, start, own, where)
        training.progress.notes.append(note)
        if training.group.rank == 0:
            log.warning("%s", note)


def _left_out(weights: State, start: State, own: State, where: str) -> str:
    """What of the network is not taken from the initial weights, and why."""
    if any(k.startswith(BACKBONE) for k in start):
        return f"only the backbone is taken from {where}: a classifier's weights"
    if CLASSIFIER_BIAS not in weights:
        return f"classifier not taken from {where}, which has none: it is new"
    had, has = len(weights[CLASSIFIER_BIAS]), len(own[CLASSIFIER_BIAS])
    reason = f"other classes, {had} there and {has} here"
    return f"classifier not taken from {where}: {reason}. The last layer is new"


def fitting(start: State, own: State, where: str) -> dict[str, Tensor]:
    """The weights of ``start`` that the network takes: all but a classifier of another size.

    A network with a backbone takes the weights of a classifier for its backbone, and a classifier
    those of a backbone.

    Raises:
        ValueError: other weights do not fit.
    """
    backbone = {k: v for k, v in own.items() if k.startswith(BACKBONE)}
    if backbone and not any(k.startswith(BACKBONE) for k in start):
        named = {BACKBONE + k: v for k, v in start.items() if not k.startswith(CLASSIFIER_HEAD)}
        return fitting(named, backbone, where)
    has_head = any(k.startswith(CLASSIFIER_HEAD) for k in start)
    new = {k for k in own if k in CLASSIFIER or (k.startswith(CLASSIFIER_HEAD) and not has_head)}
    differing = {k for k in own if k not in start or own[k].shape != start[k].shape}
    compared = {k: v for k, v in own.items() if k not in new}
    if problems := misfits(compared, {k: v for k, v in start.items() if k not in new}):
        raise ValueError(f"{where} does not fit the network: {_sizes(start, own)}{_few(problems)}")
    return {k: start[k] for k in own if k not in differing}


def _sizes(start: State, own: State) -> str:
    """Channels and blocks per stage if they differ, which explain most other differences."""
    has, wanted = _stages(start), _stages(own)
    return f"it has {has}, wanted {wanted}; " if has and wanted and has != wanted else ""


def _stages(state: State) -> str:
    """``64, 128 channels and 4, 4 blocks`` by stage; empty for a network of other names."""
    blocks = [match for key in state if (match := _BLOCK.search(key))]
    depths = Counter(match[1] for match in blocks)
    widths = {match[1]: state[match.string].numel() for match in blocks}
    channels, counts = (", ".join(str(v[i]) for i in depths) for v in (widths, depths))
    return f"{channels} channels and {counts} blocks" if blocks else ""


def _few(problems: Sequence[str]) -> str:
    text = "; ".join(problems)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ..."
