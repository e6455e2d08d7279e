# Everything runs in .venv, which `make setup` fills from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.setup
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fix bench lock build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with the locked dependencies (PYTHON=python3.12 chooses another Python)
	@:

# A stamp, not the folder, is the target: an interrupted installation is taken up again.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "snowledger needs Python 3.11 or newer; choose one with: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing into .venv (a minute the first time) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## watch an event travel from the server to an embedded warehouse
	@$(BIN)/snowledger demo

# Two at a time: many tests wait for processes. A file's tests share what is costly to make.
test: setup ## run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: setup ## check format, lint, types and import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

fix: setup ## format, and mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## measure latency, append rate, ingestion lag, drain rate, contexts and queries
	@for name in latency append lag drain context queries results; do $(BIN)/python bench/$$name.py || missed=1; done; exit $${missed:-0}

# The resolver lives in a throw-away environment: it is no dependency of the project.
lock: ## write requirements.lock anew (LOCKFLAGS=--upgrade for the newest versions)
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp" && \
	"$$tmp/bin/pip" -qq --disable-pip-version-check install 'uv<1' && \
	"$$tmp/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
		--group dev $(LOCKFLAGS) --output-file requirements.lock pyproject.toml

build: setup ## build the wheel and the source archive in dist/
	@$(BIN)/python -m build --no-isolation

clean: ## remove .venv and all that the other targets made
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
