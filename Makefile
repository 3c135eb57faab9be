# Two commands on a fresh machine: `make demo` makes a picture, `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
# The versions that were tested. `make CONSTRAINTS=/dev/null ...` takes what pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
# Tests of a file stay in one process: they share ranks. One process more than cores, for tests wait for ranks and faults.
CORES = --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile
QUICK = -m "not slow and not gpu" --numprocesses auto --dist worksteal
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: demo test quick check hooks gpu clean

# Sets up, then shares one picture, 1000 pixels high, between two real ranks on the CPU.
demo: $(VENV)/ready
	$(VENV)/bin/python -m launcher model=flux_tiny cp=ring_anything cp.ring_degree=2 runtime=cpu height=1000

# Sets up, then runs style, types and tests, and prints the line coverage of launcher/.
# Several processes share the cores, where threads that spin while they wait starve each other.
test quick: export OMP_WAIT_POLICY = PASSIVE
# Hundreds of processes share what one has compiled, whatever the caller's environment says.
test quick gpu: export PYTHONDONTWRITEBYTECODE =
test: export COVERAGE_FOLDER = $(abspath $(VENV))/coverage
test: check
	rm -rf $(COVERAGE_FOLDER) && mkdir $(COVERAGE_FOLDER)
	PYTHONPATH=$(CURDIR)/tests/line_coverage $(VENV)/bin/python -m pytest $(QUICK)
	PYTHONPATH=$(CURDIR)/tests/line_coverage $(VENV)/bin/python -m pytest -m "slow or gpu" $(CORES)
	$(VENV)/bin/python tests/line_coverage/report.py $(COVERAGE_FOLDER)

# What is neither slow nor needs a GPU, on all cores at once: about a minute on 2.
quick: $(VENV)/ready-to-test
	$(VENV)/bin/python -m pytest $(QUICK)

check: $(VENV)/ready-to-test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

# Has git run the checks before each commit.
hooks: $(VENV)/ready-to-test
	$(PIP) pre-commit
	$(VENV)/bin/pre-commit install

# All checks that need a GPU, by PYTHON's own torch, in minutes: no environment is made and nothing is fetched.
gpu:
	PYTHONPATH=$(CURDIR):$$PYTHONPATH $(PYTHON) -m pytest --confcutdir=tests/gpu --tb=short tests/gpu --report attention_backends/gpu.json

# An environment of its own, with this checkout in it.
$(VENV)/ready: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

# The same, with what the tests need.
$(VENV)/ready-to-test: $(VENV)/ready
	$(PIP) --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
