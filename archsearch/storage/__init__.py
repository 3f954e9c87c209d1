"""A study on disk: crash-safe files, locks, checkpoints, and the state of every trial."""
