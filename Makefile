# Everything runs in .venv, which is made on first use and again when the dependencies change: first what running needs,
# then, for the targets that check the code, the tools for that beside it.

PYTHON ?= python3
PYTEST ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check bench clip smoke clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: $(READY) ## watch, try, learn: from nothing to a table and runs/demo/report.html
	$(BIN)/wtl demo
	@echo "for more: source $(VENV)/bin/activate, then wtl --help"

test: check ## check, then all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

check: $(TOOLS) ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY) ## overheads and speeds, as ratios measured in one run (FULL=1: the whole main job too)
	@for script in benchmarks/bench_*.py; do echo "$$script"; $(BIN)/python $$script || exit 1; done

clip: $(READY) ## docs/loop.webp, the picture that the README opens with
	$(BIN)/python benchmarks/clip.py

smoke: $(READY) ## the built wheel, without MuJoCo, in a clean environment
	$(BIN)/python tests/smoke.py

clean: ## remove .venv, caches and builds (not runs/)
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "watchtrylearn needs Python 3.11 or newer, and $(PYTHON) is not; choose one with: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV), which takes a minute or two the first time"
	$(PIP) -e '.[sim]'
	@touch $@

$(TOOLS): $(READY)
	$(PIP) -e '.[sim,dev]'
	@touch $@
