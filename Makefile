# minet: everything a developer types. Needs python3 (3.11 or newer, with venv); choose another by PYTHON=...
PYTHON ?= python3
BIN := .venv/bin
# Tests on all cores; one that hangs, in Python or outside, is ended and named.
SPREAD := -n auto --dist worksteal --timeout 900 --timeout-method thread

.PHONY: help demo test test-all test-gpu cuda bench docs lint types clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 18

demo: .venv/ready ## train a small net on handwritten digits, in seconds
	$(BIN)/minet train digits

test: .venv/ready ## run the tests, but those marked slow
	$(BIN)/python -m pytest $(SPREAD) -m "not slow"

test-all: .venv/ready ## run all tests
	$(BIN)/python -m pytest $(SPREAD)

test-gpu: cuda ## run the tests that need a GPU
	$(BIN)/python -m pytest -m gpu

cuda: .venv/cuda ## add PyCUDA, built with the toolkit on PATH or in /usr/local/cuda

bench: .venv/bench ## time minet beside PyTorch on this machine
	$(BIN)/minet bench --json bench.json --plot bench.png

docs: .venv/docs ## build the documentation site into site/; a broken link fails
	$(BIN)/mkdocs build --quiet

lint: .venv/ready ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready ## check types, by mypy and by Pyright
	$(BIN)/mypy
	$(BIN)/pyright

clean: ## remove the environment, caches, builds and runs
	rm -rf .venv build dist site runs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/ready: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'minet needs Python 3.11 or newer: make PYTHON=python3.11 ...' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.venv/cuda: .venv/ready
	PATH="/usr/local/cuda/bin:$$PATH" $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cuda]'
	@touch $@

.venv/bench: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

.venv/mpi: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[mpi]'
	@touch $@

.venv/docs: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@
