# make demo    a whole study on this machine, from simulated recordings to a report, in ./demo
# make test    all tests
# make lint    ruff, mypy, import-linter
# make bench   every benchmark; writes benchmarks/RESULTS.md
# make clean   remove what these made
#
# Needs GNU make and Python 3.11 or later; all else goes into ./.venv. PYTHON=python3.12 uses another one,
# PYTEST='-k config' hands options to pytest; AT_ONCE=1 runs tests one after the other.

PYTHON ?= python3
# Relative on purpose: a clone in a folder whose name has spaces works too.
BIN := .venv/bin
AT_ONCE ?= 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test lint bench clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: .venv/installed-demo
	$(BIN)/wav2bold demo --out demo

# What starts Ray comes after what doesn't, so that no process of a test holds a Ray it didn't ask for; what
# has to be done within seconds runs by itself. pytest ends with 5 where no test was chosen.
# One thread a process: threads that wait for a core which another test holds make small sums ten times slower.
test: export OMP_NUM_THREADS = 1
test: .venv/installed-test
	$(BIN)/python -m pytest -m 'not ray and not alone' -n $(AT_ONCE) --dist loadfile $(PYTEST) || [ $$? = 5 ]
	$(BIN)/python -m pytest -m ray -n $(AT_ONCE) --dist loadfile $(PYTEST) || [ $$? = 5 ]
	$(BIN)/python -m pytest -m alone $(PYTEST) || [ $$? = 5 ]

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: .venv/installed-test
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis demo
	find wav2bold tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs $(WHAT) and names each package as it comes; all that pip says is in .venv/pip.log.
define install
@{ $(BIN)/python -m pip install --disable-pip-version-check --log .venv/pip.log -c constraints.txt $(WHAT) 2>&1; \
   echo "pip ended with $$?"; } | awk '\
  /^Collecting / { sub(/[^A-Za-z0-9_.-].*/, "", $$2); printf "%s ", $$2; fflush() } \
  /^Installing collected/ { printf "\nUnpacking\n"; fflush() } \
  /^ERROR/ { print "\n" $$0 } \
  /^pip ended with / { code = $$4 } \
  END { if (code) print "\nSee .venv/pip.log"; exit code }'
endef

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "wav2bold needs Python 3.11 or later, and $(PYTHON) is not; try make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

# torch first and alone: its exact version is settled before anything asks for a looser one.
.venv/torch: WHAT = "$$(grep '^torch==' constraints.txt)"
.venv/torch: constraints.txt | .venv/python
	@echo "Installing into ./.venv, once; a few minutes"
	$(install)
	@touch $@

.venv/installed-demo: WHAT = -e '.[demo]'
.venv/installed-demo: pyproject.toml constraints.txt .venv/torch
	$(install)
	@touch $@

.venv/installed-test: WHAT = -e '.[demo,test]'
.venv/installed-test: pyproject.toml constraints.txt .venv/torch
	$(install)
	@touch $@

.venv/installed-dev: WHAT = -e '.[demo,test,dev]'
.venv/installed-dev: pyproject.toml constraints.txt .venv/torch
	$(install)
	@touch $@
