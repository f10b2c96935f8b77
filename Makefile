# make run    install into .venv, then run the API and metricd in the foreground until Ctrl-C
# make test   install into .venv with what tests need, then lint, types and all tests
#
# DATA=directory   where `make run` keeps everything; kept between runs
# PORT=number      where `make run` serves the API (HOST=address, 127.0.0.1 by default)
# TEST=arguments   what `make test` hands to pytest
# JOBS=number      how many tests run at a time, each with servers of their own (2); 0 is pytest plain
# PYTHON=program   the Python that .venv is made with

PYTHON ?= python3
VENV ?= .venv
DATA ?= data
HOST ?= 127.0.0.1
PORT ?= 8041
TEST ?=
JOBS ?= 2

BIN = $(VENV)/bin
# What the environment has to be made anew for.
DESCRIPTION = setup.cfg requirements.txt pyproject.toml scripts/gnocchi-api scripts/link-rados

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Where tests install servers that come from PyPI; nothing is written outside this directory.
export GNOCCHI_TESTS_CACHE ?= $(abspath $(VENV))/servers

.PHONY: run test lint types unit docs clean

run: $(VENV)/.run
	@exec $(BIN)/python -m gnocchi.standalone --data "$(DATA)" --host "$(HOST)" --port "$(PORT)"

test: lint types unit

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

unit: $(VENV)/.test
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TEST)

docs: $(VENV)/.doc
	$(BIN)/sphinx-build -W -b html doc doc/_build/html

clean:
	rm -rf $(VENV) build dist *.egg-info doc/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed; $(PYTHON) is" \
	         "$$($(PYTHON) --version 2>&1 || echo not there)." \
	         "Name another one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python $(DESCRIPTION)
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.test: $(BIN)/python $(DESCRIPTION)
	$(BIN)/python -m pip install --quiet -e '.[test]'
	$(BIN)/python scripts/link-rados
	@touch $@ $(VENV)/.run

$(VENV)/.doc: $(BIN)/python $(DESCRIPTION)
	$(BIN)/python -m pip install --quiet -e '.[doc]'
	@touch $@ $(VENV)/.run
