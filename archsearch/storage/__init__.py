"""A study on disk: files that survive crashes, locks, checkpoints, and where trials stand."""
