"""ARCHSEARCH_CUDA_CHECK: when the CUDA kernels check themselves. Without torch."""

import os

VARIABLE = "ARCHSEARCH_CUDA_CHECK"
MODES = ("once", "always", "off")


def check_mode() -> str:
    """When the self-check runs: "once" per GPU and build, "always" (in each process) or "off".

    Raises:
        ValueError: the environment variable has another value.
    """
    mode = os.environ.get(VARIABLE) or MODES[0]
    if mode not in MODES:
        raise ValueError(
            f"the environment variable {VARIABLE} is {mode!r}; set it to {', '.join(MODES[:-1])} "
            f"or {MODES[-1]}, or remove it"
        )
    return mode
