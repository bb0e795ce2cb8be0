# Every command of this repository. `make` alone lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Tests and the demo use what is on this machine. To load from the Hub: make demo HF_HUB_OFFLINE=0
HF_HUB_OFFLINE ?= 1
export HF_HUB_OFFLINE
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check bench format clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

setup: $(STAMP) ## make .venv with everything in it (once; about two minutes)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "maskwright needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1). Name a newer one: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@echo "Installing torch, then maskwright and its tools, into $(VENV); this takes about two minutes ..."
	@$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@
	@echo "Ready: $(BIN)/maskwright"

demo: setup ## compare masking policies on a small task into runs/quick (resumes when rerun)
	$(BIN)/maskwright compare --preset quick --out runs/quick

test: setup ## the fast tests; those of the docs are in check
	$(BIN)/python -m pytest -m "not slow" -n 2 --ignore=tests/docs

test-slow: setup ## the tests that take longer than a few seconds
	$(BIN)/python -m pytest -m slow -n 2

check: setup ## format, lint, types, import rules, and every snippet of the docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/docs

bench: setup ## measure every claim; writes benchmarks/results/*.json (one: make bench NAME=...)
	$(BIN)/python -m benchmarks $(or $(NAME),all)

format: setup ## rewrite the code as ruff wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove caches and builds; keeps .venv and runs
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
