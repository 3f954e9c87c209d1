"""How running work is requested to stop, and what it raises then."""

from collections.abc import Callable

Stop = Callable[[], bool]
"""Work calls it at every step; True requests it to save a checkpoint and raise `Interrupted`."""


class Interrupted(Exception):
    """Raised by work that was requested to stop, after it saved its checkpoint."""
