"""The Python interface: studies, trainings and runs as calls. `cli` is built on it."""
