.PHONY: setup check test slow cluster format bench

PYTHON ?= python

setup:          ## install the project and all it needs into the current environment
	$(PYTHON) -m pip install -e '.[dev]'

check:          ## lint, format, types and layers
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	lint-imports --no-cache

test:           ## the test suite (README's second command)
	$(PYTHON) -m pytest -n 2

slow:           ## the long fault, coverage and simulation tests
	$(PYTHON) -m pytest -m slow

cluster:        ## a Ray cluster of three hosts in network namespaces, which fails in many ways (root)
	$(PYTHON) -m pytest -m cluster

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

bench:          ## the operator beside the vectorized PyTorch reference, in one run
	$(PYTHON) -m cuda_ops.bench
