# `make` prints this help: a target with "##" behind it is for people.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
BIN := .venv/bin
# What was compiled once is kept, whatever the shell says: half of test-fast is imports.
unexport PYTHONDONTWRITEBYTECODE
SOURCES := $(wildcard libs/*/src services/*/src) deploy/lab tests
DISTRIBUTIONS := $(wildcard libs/* services/*)

.PHONY: help
help: ## this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- the lab ------------------------------------------------------------------------------------

# make up COPIES=2 NODES=3 FENCING=0; what is not given stays as it was the last time.
UP = $(COPIES:%=--copies %) $(NODES:%=--nodes %) $(if $(FENCING),$(if $(filter 0 no,$(FENCING)),--no-fencing,--fencing))

.PHONY: up
up: ## the whole site on this machine (root); up COPIES=2 NODES=3 FENCING=0 changes it
	@deploy/lab/up $(UP)

.PHONY: down
down: ## stop it and leave nothing behind
	@deploy/lab/down

.PHONY: status
status: ## every part of it
	@deploy/lab/status

# --- the environment ----------------------------------------------------------------------------

# Rules below may name it: the script does nothing where nothing has changed.
VENV := venv

.PHONY: venv
venv: ## the Python environment in .venv
	@deploy/lab/venv

.PHONY: requirements
requirements: ## pin every dependency again
	uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-emit-index-url \
	  --no-annotate --custom-compile-command "make requirements" --no-emit-package roost-common \
	  --group pyproject.toml:dev $(DISTRIBUTIONS:%=%/pyproject.toml) -o requirements.txt

# --- tests and rules ----------------------------------------------------------------------------

# They read the screens of emulated guests, which need a processor each for themselves.
GUESTS := tests/integration/guest
LAB := tests/e2e
# With ARGS one of these runs may have nothing to do; pytest ends with 5 then.
NOTHING_OR = $(if $(ARGS),|| [ $$? -eq 5 ])
SHARED := tests/unit tests/contract $(filter-out $(GUESTS), $(wildcard tests/integration/*))

.PHONY: test
test: $(VENV) ## the tests, on real servers, guests and screens (the long failures: make chaos)
	@deploy/lab/packages
	$(PY) -m pytest -q -n 5 --dist worksteal $(SHARED) $(ARGS) $(NOTHING_OR)
	$(PY) -m pytest -q -n 2 $(GUESTS) $(ARGS) $(NOTHING_OR)
	$(PY) -m pytest -q -m "not chaos" $(LAB) $(ARGS) $(NOTHING_OR)

.PHONY: chaos
chaos: $(VENV) ## every way in which hosts and managers fail, on the lab: half an hour
	@deploy/lab/packages
	$(PY) -m pytest -q -m chaos $(LAB) $(ARGS)

.PHONY: test-fast
test-fast: $(VENV) ## the tests that need no server
	$(PY) -m pytest -q -n auto -m "not long" tests/unit tests/contract $(ARGS)

.PHONY: e2e
e2e: $(VENV) ## the tests on the lab's real desktops alone
	$(PY) -m pytest -q $(LAB) $(ARGS)

.PHONY: bench
bench: $(VENV) ## speed, as ratios to the bare work in the same run
	$(PY) -m tests.bench

.PHONY: rules
rules: lint types imports contracts-check migrations-check ## every rule that runs as a command

.PHONY: lint
lint: $(VENV) ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: $(VENV) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: $(VENV) ## mypy, strict
	$(BIN)/mypy $(SOURCES)

.PHONY: imports
imports: $(VENV) ## import-linter: who may know whom
	$(BIN)/lint-imports

.PHONY: contracts
contracts: $(VENV) ## write the documents of the message classes
	$(PY) -m roost_common.contracts.documents docs

.PHONY: contracts-check
contracts-check: $(VENV)
	$(PY) -m roost_common.contracts.documents docs --check

.PHONY: migrations-check
migrations-check: $(VENV) ## models and migrations agree (a scratch PostgreSQL)
	$(PY) -m pytest -q tests/integration -k "models_and_migrations or migrations_lead"

.PHONY: migrate
migrate: ## bring the lab's database up to date
	@deploy/lab/migrate
