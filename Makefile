# The verbs of this house. Each installs and builds what it needs first, and only what is missing or out of date.
#
#   make serve ARGS='--http-port=9000'      ARGS are handed to the program behind serve, test and bench
#   make dev PYTHON=/opt/python/bin/python  any Python from 3.11 on

PYTHON ?= $(shell command -v python3.11 || command -v python3)
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip
DIGITS := examples/digits/repository

# Stamps: what is installed, which modules the installed package is made of, which example models are built.
INSTALLED := .venv/.installed
LINKED := .venv/.linked
BUILT := $(DIGITS)/.built
PEERS := .peers/versions.json
NODE := .peers/node/node_modules/.package-lock.json

FLOORS := service actors backends proto
MODULES := $(sort __init__.py $(shell find $(FLOORS) -name '*.py' -o -name '*.pyi' -o -name '*.proto'))
DIGITS_SOURCES := $(shell find examples/digits -path $(DIGITS) -prune -o -type f -not -name '*.pyc' -not -name client.py -print)

# How mypy looks at programs that import their neighbours, from their directory; a name for its memory follows.
MYPY_AS_SCRIPTS = $(CURDIR)/$(BIN)/mypy --explicit-package-bases --config-file=$(CURDIR)/pyproject.toml \
	--cache-dir=$(CURDIR)/.mypy_cache

say = printf '\n\033[1m%s\033[0m\n' '$(1)'
# Two verbs started at once in two shells must not install into one environment at the same time.
locked := $(if $(shell command -v flock),flock pyproject.toml,)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve dev test differential check bench example clean FORCE

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s%s\n", $$1, $$2 }' Makefile

serve: $(LINKED) $(BUILT) ## serve the example models on ports 8000 (HTTP), 8001 (gRPC) and 8002 (metrics)
	exec $(BIN)/deuteron serve --model-repository=$(DIGITS) $(ARGS)

dev: $(LINKED) ## make .venv, with everything it takes to work here

test: $(LINKED) $(PEERS) $(NODE) ## run all tests
	@$(call say,Tests)
	$(BIN)/python -m pytest $(ARGS)

differential: $(LINKED) $(PEERS) ## send random requests to deuteron and to the real Triton, and compare the answers
	@$(call say,Differential test)
	$(BIN)/python -m tests.differential $(ARGS)

check: $(LINKED) ## look for faults without running the code: format, lint, floors, types, pins
	@$(call say,Format)
	$(BIN)/ruff format --check --output-format concise
	@$(call say,Lint)
	$(BIN)/ruff check
	@$(call say,Floors)
	$(BIN)/lint-imports
	@$(call say,Types)
	$(BIN)/mypy
	cd bench && $(MYPY_AS_SCRIPTS)/bench
	cd examples/digits && $(MYPY_AS_SCRIPTS)/digits
	@$(call say,Installed distributions)
	$(PIP) check

bench: $(LINKED) ## measure against the real Triton, with the real perf_analyzer
	@$(call say,Benchmark)
	$(BIN)/python bench/run.py $(ARGS)

example: $(BUILT) ## build the example models

clean: ## remove what was built and cached; .venv and .peers stay
	rm -rf build dist *.egg-info $(DIGITS) $(LINKED) .coverage .coverage.* htmlcov .hypothesis
	rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(FLOORS) tests examples bench tools -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/pip:
	@$(call say,Making .venv with $(PYTHON))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "deuteron needs Python 3.11 or later")'
	$(locked) $(PYTHON) -m venv .venv

# torch comes first and by its exact version: a resolver left to choose downloads several, each of the size of all the rest.
$(INSTALLED): pyproject.toml constraints.txt | .venv/bin/pip
	@$(call say,Installing: a few minutes the first time)
	$(locked) $(PIP) install -c constraints.txt pip setuptools wheel
	$(locked) $(PIP) install -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(locked) $(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]' --config-settings editable_mode=strict
	@touch $@

# An editable installation links the modules that existed when it was made; a new one is linked by installing again.
# mypy takes installed packages for immutable: its memory of the old set has to go.
ifneq ($(MODULES),$(shell cat $(LINKED) 2>/dev/null))
$(LINKED): FORCE
endif
$(LINKED): $(INSTALLED)
	@echo 'Linking the modules of deuteron into .venv'
	@rm -rf .mypy_cache
	@PYTHONWARNINGS=ignore $(locked) $(PIP) install --quiet --no-deps --no-build-isolation -e . --config-settings editable_mode=strict
	@echo '$(MODULES)' > $@

# Tests ask the server with the real perf_analyzer. Where it does not exist, or cannot be had now, they say so and are skipped.
$(PEERS): | $(LINKED)
	@$(call say,Installing the real perf_analyzer and Triton into .peers: a few minutes the first time)
	-$(BIN)/python bench/peers.py

# So do they with gRPC for Node, where there is an npm to install it.
$(NODE):
	@$(call say,Installing gRPC for Node into .peers)
	-npm install --no-audit --no-fund --ignore-scripts --prefix .peers/node @grpc/grpc-js@1.14.7 @grpc/proto-loader@0.8.1

$(BUILT): $(DIGITS_SOURCES) | $(LINKED)
	@$(call say,Building the example models)
	$(BIN)/python examples/digits/build.py
	@touch $@
