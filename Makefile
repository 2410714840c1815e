# `make start` opens the course, `make test` tests all of it. Each needs only make and Python 3.11 or newer.
# Settings, for example `make start PYTHON=python3.12 VENV=~/envs/prefcourse`:
PYTHON ?=# the Python to build the environment with; empty: the first good one found
VENV ?= .venv# where the environment lives
CPU_TORCH ?= https://download.pytorch.org/whl/cpu# tried on Linux without an NVIDIA GPU; empty: never
LAB_OPTIONS ?=# options for prefcourse start, for example --no-browser on a remote machine
CELL_TIMEOUT ?= 300# seconds a notebook cell may take in the tests
WORKERS ?= 2# test processes
NAMES ?=# for shots, parts of the notebooks' names; empty: all

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help start test lint shots clean
BIN := $(VENV)/bin
CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3.14 python3 python)
UV_PYTHON := >=3.11,<3.15
GOOD_PYTHON := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
NOTEBOOKS = $(shell find notebooks solutions -name '*.ipynb' -not -path '*/.*' 2>/dev/null | sort)
OFFLINE := HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1# several threads per process would fight over the cores

help:  ## show this
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' $(MAKEFILE_LIST) | expand -t 14

start: $(VENV)/.course  ## make the environment, open the course in JupyterLab
	$(BIN)/prefcourse start . $(LAB_OPTIONS)

test: $(VENV)/.test lint  ## lint, unit tests, then every notebook and solution
	$(ONE_THREAD) $(OFFLINE) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=12
	$(if $(NOTEBOOKS),$(ONE_THREAD) $(OFFLINE) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	  --nbval --nbval-current-env --nbval-cell-timeout=$(CELL_TIMEOUT) -p prefcourse.grading.nbval_plugin $(NOTEBOOKS),@echo "no notebooks to test yet")

lint: $(VENV)/.test  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

shots: $(VENV)/.test  ## pictures of every notebook in JupyterLab, light and dark, in shots/ (needs Chromium)
	$(OFFLINE) $(BIN)/python tests/browser/shots.py $(NAMES)

clean:  ## remove the environment and what tests leave behind
	rm -rf $(VENV) build dist shots .pytest_cache .ruff_cache .import_linter_cache *.egg-info

# An empty stamp in the environment says what was installed; it is redone when a requirement changes.
$(VENV)/.course: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.)
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[test])
	touch $@ $(VENV)/.course

$(BIN)/python:
	@if command -v uv >/dev/null; then uv venv --seed --python "$(or $(PYTHON),$(UV_PYTHON))" "$(VENV)"; exit; fi; \
	for python in $(CANDIDATES); do \
	  if "$$python" -c "$(GOOD_PYTHON)" 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$python" --version)"; "$$python" -m venv "$(VENV)"; exit; \
	  fi; \
	done; \
	echo "No Python 3.11 or newer with the venv module among: $(CANDIDATES)."; \
	for python in $(CANDIDATES); do command -v "$$python" >/dev/null && echo "  found $$("$$python" --version 2>&1), not usable"; done; \
	echo "Install one (https://www.python.org/downloads; on Debian and Ubuntu also the package python3-venv) or name it:"; \
	echo "  make $(or $(MAKECMDGOALS),start) PYTHON=/path/to/python3"; exit 1

# uv if there is one, else pip. Without a GPU, the CPU build of torch comes first (200 MB instead of several GB) if its
# index can be reached; otherwise torch comes with the rest, from the usual index.
define install
	@installer="$(BIN)/python -m pip install --quiet --disable-pip-version-check"; single="--retries 0 --timeout 15"; \
	if command -v uv >/dev/null; then installer="uv pip install --quiet --python $(BIN)/python"; single=""; fi; \
	if [ -n "$(CPU_TORCH)" ] && [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
	  $$installer $$single --no-deps -c constraints.txt --extra-index-url "$(CPU_TORCH)" torch 2>/dev/null || true; \
	fi; \
	echo "installing the course in $(VENV): about 2 GB on disk, a few minutes the first time"; \
	$$installer -c constraints.txt -e "$(1)"
endef
