# All that a newcomer needs. Python 3.11 or newer and make are enough: everything else is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := uv==0.13.9

# A shop of your own: make demo CONFIG=examples/online_retail.toml DATA=folder
CONFIG ?=
DATA ?=
# A larger synthetic shop: make demo SCALE=500k, 5m or 50m (events)
SCALE ?=
PORT ?= 3000
# Of the tests: on 2 cores one more than those, since each waits for servers now and then.
PROCESSES ?= 3
export SHOP_CONFIG := $(or $(CONFIG),$(SHOP_CONFIG))
export SHOP_DATA := $(or $(DATA),$(SHOP_DATA))
export SHOP_SCALE := $(or $(SCALE),$(SHOP_SCALE))
# Each of the processes that are started would compile all that it imports: some seconds each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage test-faults check bench bench-scale format ui down clean sbom audit lock

help: ## Show what can be asked for.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(VENV)/ready ## Install the locked packages into .venv.

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=python3.11 or so.")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import uv' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check '$(UV)'
	@echo "Installing the locked packages; the first time this downloads about 3.5 GB, most of it PyTorch."
	@$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: setup ## Run the whole platform and print what it found.
	@$(BIN)/shop-platform demo

test: setup ## Run every test against real servers.
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist loadscope --no-loadscope-reorder

coverage: setup ## Run every test and count the lines that they reach; takes half as long again.
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist loadscope --no-loadscope-reorder --cov --cov-report=term:skip-covered

test-faults: setup ## Inject every fault that something is promised about; some 20 minutes.
	$(BIN)/pytest -m fault --numprocesses $(PROCESSES) --dist worksteal

check: setup ## Format, lint and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup ## Measure what is promised about speed and memory; half an hour, 15 GB of disk.
	@$(BIN)/python -m benchmarks

bench-scale: setup ## Measure Spark against PostgreSQL, and one worker against two, on 50 million events; needs Java.
	@$(BIN)/python -m benchmarks.scale --size 50m

format: setup ## Put the code into its format.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ui: setup ## Open Dagster's UI on 127.0.0.1, port PORT.
	@$(BIN)/shop-platform ui --port $(PORT)

down: ## Stop the embedded servers.
	@if test -x $(BIN)/shop-platform; then $(BIN)/shop-platform down; fi

clean: down ## Stop the servers and remove .venv, .shop and caches.
	rm -rf $(VENV) .shop .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

sbom: setup ## Write the bill of materials, CycloneDX, of all locked packages to dist/sbom.cdx.json.
	@mkdir -p dist
	@$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-format JSON --output-file dist/sbom.cdx.json requirements.lock
	@echo "dist/sbom.cdx.json"

audit: setup ## Ask the advisory database whether a locked package has a known vulnerability; needs the internet.
	$(BIN)/python -m uv tool run pip-audit --requirement requirements.lock --require-hashes --disable-pip

lock: setup ## Resolve pyproject.toml into requirements.lock again.
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group dev pyproject.toml -o requirements.lock
