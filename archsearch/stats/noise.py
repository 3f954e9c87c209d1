"""The noise of training: what the means of the networks and the effects of the seeds leave."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from archsearch.stats.paired_model import Array, design_of, paired_model


def noise_residuals(table: Mapping[Any, Mapping[int, float | None]]) -> tuple[Array, float]:
    """Return residuals (N,) whose mean square is the variance of the noise, and its freedom.

    ``table`` maps a network to seed -> value; a missing value is None. The residuals are those of
    least squares, enlarged for the degrees of freedom that these take. There are none, and 0
    degrees of freedom, if networks and seeds leave nothing.
    """
    values = [
        (key, seed, float(value))
        for key, row in table.items()
        for seed, value in row.items()
        if value is not None and math.isfinite(value)
    ]
    if len({key for key, _, _ in values}) < 2:
        return np.empty(0), 0.0
    networks, seeds, y = zip(*values, strict=True)
    model = paired_model(design_of(networks, seeds))
    freedom = float(model.degrees_of_freedom.sum())
    if freedom < 0.5:
        return np.empty(0), 0.0
    return model.enlarged(model.fit(np.array([y]))[1])[0], freedom


def noise_deviation(table: Mapping[Any, Mapping[int, float | None]]) -> tuple[float, float]:
    """Return the pooled standard deviation of the noise, and its degrees of freedom.

    ``table`` is that of `noise_residuals`; (0, 0) if networks and seeds leave nothing.
    """
    residuals, freedom = noise_residuals(table)
    return (float(np.sqrt((residuals**2).mean())), freedom) if freedom else (0.0, 0.0)
