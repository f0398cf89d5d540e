# make demo    a whole study on this machine, from simulated recordings to a report, in ./demo
# make test    all tests
# make lint    ruff, mypy, import-linter
# make bench   every benchmark; writes benchmarks/RESULTS.md
# make clean   remove what these made
#
# Needs GNU make and Python 3.11 or later; all else goes into ./.venv. PYTHON=python3.12 uses another one.

# Git's own variables would point wav2bold's records at the wrong folder when make runs inside a hook.
unexport GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE

PYTHON ?= python3
BIN := .venv/bin
# Relative on purpose: a clone in a folder whose name has spaces works too.
PIP := $(BIN)/python -m pip
INSTALL := $(PIP) install --quiet --progress-bar=on --disable-pip-version-check -c constraints.txt
BENCHMARKS := $(sort $(wildcard benchmarks/bench_*.py))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint bench clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: .venv/installed-demo
	$(BIN)/wav2bold demo --out demo

test: .venv/installed-test
	$(BIN)/python -m pytest $(PYTEST)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-test
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis demo
	find wav2bold tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "wav2bold needs Python 3.11 or later; $(PYTHON) is `$(PYTHON) --version 2>&1`. Try: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

# torch first and alone: the exact version is chosen before anything else asks for a looser one.
.venv/torch: .venv/python constraints.txt
	@echo "Installing torch and the rest into ./.venv (once; a few minutes)"
	@$(INSTALL) "$$(sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)"
	@touch $@

.venv/installed-demo: .venv/torch pyproject.toml constraints.txt
	@$(INSTALL) -e '.[demo]'
	@touch $@

.venv/installed-test: .venv/torch pyproject.toml constraints.txt
	@$(INSTALL) -e '.[demo,test]'
	@touch $@

.venv/installed-dev: .venv/torch pyproject.toml constraints.txt
	@$(INSTALL) -e '.[demo,test,dev]'
	@touch $@
