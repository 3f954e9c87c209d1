"""Training tasks: labels, batches, loss and the measurement of a split."""

from collections.abc import Mapping
from typing import Any

from archsearch.core.by_path import class_at
from archsearch.core.task import Task
from archsearch.tasks.classification import CLASSIFICATION


def task_from_dict(values: Mapping[str, Any]) -> Task:
    """The task that `archsearch.core.task.Task.to_dict` wrote; empty values mean classification.

    Raises:
        ValueError: the task cannot be imported, or does not have these options.
    """
    if not values:
        return CLASSIFICATION
    path = str(values.get("task", ""))
    try:
        options = {name: value for name, value in values.items() if name != "task"}
        return class_at(path, Task)(**options)
    except TypeError as error:
        raise ValueError(f"invalid options for {path}: {error}") from None
