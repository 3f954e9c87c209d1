"""What stopped work raises."""


class Interrupted(Exception):
    """Raised by the work of a trial that was asked to stop, after it saved its checkpoint."""
