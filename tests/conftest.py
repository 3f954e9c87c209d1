"""For the whole suite: two workers on two cores compute with one thread each."""

import os

if os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch
