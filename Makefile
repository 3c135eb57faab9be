# Two commands on a fresh machine: `make demo` makes a picture, `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test check gpu clean

# Sets up, then shares one picture, 1000 pixels high, between two real ranks on the CPU.
demo: $(VENV)/ready
	$(VENV)/bin/python -m launcher model=flux_tiny cp=ring_anything cp.ring_degree=2 runtime=cpu height=1000

# Sets up, then runs style, types and tests.
test: check
	$(VENV)/bin/python -m pytest

check: $(VENV)/ready-to-test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

# All checks that need a GPU, by PYTHON's own torch, in minutes: no environment is made and nothing is fetched.
gpu:
	PYTHONPATH=$(CURDIR):$$PYTHONPATH $(PYTHON) -m pytest --confcutdir=tests/gpu -rs tests/gpu --report attention_backends/gpu.json

# An environment of its own, with this checkout in it.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

# The same, with what the tests need.
$(VENV)/ready-to-test: $(VENV)/ready
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
