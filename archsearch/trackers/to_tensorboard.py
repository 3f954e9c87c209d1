"""Event files for TensorBoard: scalars by epoch, and the settings for its tab HPARAMS.

The messages are TensorBoard's own (``hparams/plugin_data.proto``); neither torch nor TensorFlow is
needed. Times count from the start of the training; its end is the time of the export, because
records hold durations and no dates.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from archsearch.trackers.folders import write_folders
from archsearch.trackers.trainings import Training, file_name


def write(trainings: Sequence[Training], target: str) -> int:
    """Write each new training to ``target/RUN/CELL/seed-S-KEY``; return their number."""
    return write_folders(trainings, Path(target), "*/*/seed-*", _write, _folder_of)


def _folder_of(training: Training, _: Path) -> str:
    seed = f"seed-{training.seed}-{training.key}"
    return f"{file_name(training.run)}/{file_name(training.cell)}/{seed}"


def _write(training: Training, temporary: Path) -> Path:
    folder = temporary / training.key
    writer = EventFileWriter(str(folder))
    for event in _events(training, time.time() - training.seconds):
        writer.add_event(event)
    writer.close()
    return folder


def _events(training: Training, start: float) -> Iterator[Event]:
    end, last = start + training.seconds, training.last_epoch
    yield Event(wall_time=start, step=0, summary=_begin(training, start))
    for epoch, elapsed, values in training.curve:
        yield Event(wall_time=start + elapsed, step=epoch, summary=_scalars(values))
    yield Event(wall_time=end, step=last, summary=_scalars(training.final))
    yield Event(wall_time=end, step=last, summary=_end(training, end))


def _scalars(values: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()])


def _begin(training: Training, start: float) -> Summary:
    """Return the settings, the cell and the outcome.

    Each training is a row of the tab HPARAMS. In a group, which has one row, a seed that failed
    would be hidden behind the others: the row shows the settings of one seed and the mean of those
    that have a value.
    """
    info = SessionStartInfo(group_name=training.key, start_time_secs=start)
    for name, value in {**training.settings, **training.outcome, "cell": training.cell}.items():
        entry = info.hparams[name]
        if isinstance(value, bool):
            entry.bool_value = value
        elif isinstance(value, str):
            entry.string_value = value
        else:
            entry.number_value = value
    return _of_hparams(metadata.SESSION_START_INFO_TAG, session_start_info=info)


def _end(training: Training, end: float) -> Summary:
    status = STATUS_SUCCESS if training.complete else STATUS_FAILURE
    info = SessionEndInfo(status=status, end_time_secs=end)
    return _of_hparams(metadata.SESSION_END_INFO_TAG, session_end_info=info)


def _of_hparams(tag: str, **info: Any) -> Summary:
    content = HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **info).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=content)
    value = Summary.Value(
        tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=metadata.NULL_TENSOR
    )
    return Summary(value=[value])
