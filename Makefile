# Everything runs in .venv, which `make setup` fills from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.setup
FAKE := tests/fake_snowflake
FAKE_STAMP := .venv-fake/.setup
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

# Where the caller's environment forbids bytecode every process would compile all anew, the tests' hundreds too.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup fake demo test test-thorough torture fuzz test-live check fix bench lock build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

fake: $(FAKE_STAMP) ## create .venv-fake, which the fake Snowflake server of the tests runs in
	@:

$(FAKE_STAMP): $(FAKE)/requirements.lock
	@echo "Installing into .venv-fake (half a minute the first time) ..."
	@$(PYTHON) -m venv .venv-fake
	@.venv-fake/bin/python -m pip -qq --disable-pip-version-check install --require-hashes -r $(FAKE)/requirements.lock
	@touch $@

demo: setup ## watch an event travel from the server to an embedded warehouse
	@$(BIN)/snowledger demo

# Three at a time: many tests wait for processes. A file's tests share what is costly to make. In the order of the names,
# for by the number of tests the files with the longest ones would come last, with nothing beside them.
test: setup fake ## run the tests
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-thorough: setup fake ## run them in all variants, with ten times as many examples of each property (takes half an hour)
	@SNOWLEDGER_THOROUGH=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -o timeout=900 -o faulthandler_timeout=1000

# What cannot be tried on this machine fails here, where the suite skips it.
torture: setup ## kill servers and uploaders KILLS=1000 times, cut the power LOSSES=200 times, fill disks (root on Linux)
	@SNOWLEDGER_TORTURE_REQUIRED=1 SNOWLEDGER_TORTURE_KILLS=$(or $(KILLS),1000) \
		SNOWLEDGER_TORTURE_POWER_LOSSES=$(or $(LOSSES),200) $(BIN)/python -m pytest -v -s -o faulthandler_timeout=0 tests/torture

test-live: setup fake ## try it on a Snowflake account (CONNECTION=name of an entry in connections.toml)
	@test -n "$(CONNECTION)" || { echo "say which entry of connections.toml: make test-live CONNECTION=name" >&2; exit 1; }
	@SNOWLEDGER_LIVE_CONNECTION="$(CONNECTION)" $(BIN)/python -m pytest -v -o faulthandler_timeout=0 tests/live

fuzz: setup ## 100,000 inputs for each surface (INPUTS=…; SEED=… tries the same again), some 25 minutes
	@FUZZ_INPUTS=$(or $(INPUTS),100000) FUZZ_SEED=$(SEED) \
		$(BIN)/python -m pytest -q -rP -n 2 --dist worksteal --timeout 7200 -o faulthandler_timeout=0 tests/fuzz

check: setup ## check format, lint, types, import rules and the Snowflake SQL
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/sqlfluff lint --disable-progress-bar ddl/snowledger_ddl/snowflake
	@$(BIN)/python tests/project/sql_gate.py

fix: setup ## format, and mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup fake ## measure latency, HTTP, append rate, ingestion lag, drain rate, contexts, queries, Snowflake loads, an outage and a soak
	@for name in latency http append lag drain context queries results snowflake_load outage soak; do $(BIN)/python bench/$$name.py || missed=1; done; exit $${missed:-0}

# The resolver lives in a throw-away environment: it is no dependency of the project.
lock: ## write both requirements.lock anew (LOCKFLAGS=--upgrade for the newest versions)
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp" && \
	"$$tmp/bin/pip" -qq --disable-pip-version-check install 'uv<1' && \
	compile() { "$$tmp/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
		$(LOCKFLAGS) "$$@"; } && \
	compile --group dev --output-file requirements.lock pyproject.toml && \
	compile --output-file $(FAKE)/requirements.lock $(FAKE)/requirements.in

build: setup ## build the wheel and the source archive in dist/
	@$(BIN)/python -m build --no-isolation

clean: ## remove .venv, .venv-fake and all that the other targets made
	@rm -rf .venv .venv-fake build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
