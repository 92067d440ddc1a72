# Everything a person or CI does here; `make` lists it. Python 3.11 or newer and make are all it takes.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

HOST ?= 127.0.0.1
PORT ?= 8000
WORKERS ?= 2
# Tests that run at once; each of these runs a PostgreSQL of its own.
JOBS ?= 2
# What breaks things, or starts the whole of roster for each test: `make faults`.
FAULTS := tests/faults tests/roster/test_servers.py tests/roster/test_startup.py tests/roster/test_workers.py
# Of 250 designs each, in `make fuzz`.
ROUNDS ?= 800
# What `make test` passes on to pytest, such as ARGS="tests/core -k counter", and `make bench`, `soak` and `compare` to what they run.
ARGS ?=

VENV := .venv/bin/python -m
PINS := pyproject.toml examples/roster/pyproject.toml requirements/installer.txt scripts/environment

.PHONY: help
help: ## List what can be done
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/make \1\t\2/p' Makefile | expand -t 20

.PHONY: run
run: export FASTAPI_ENV ?= development
run: .venv/run.stamp ## Run examples/roster on 127.0.0.1:8000, its page at /ops (HOST=, PORT=, WORKERS=)
	@.venv/bin/python scripts/port $(HOST) $(PORT)
	@exec $(VENV) uvicorn roster.main:app --host $(HOST) --port $(PORT) $(if $(filter-out 1,$(WORKERS)),--workers $(WORKERS))

.PHONY: test
test: .venv/dev.stamp .venv/chromium.stamp ## Run the tests but for `make faults`, the documentation's examples too, in twelve minutes (ARGS=, JOBS=)
	@$(VENV) coverage erase
	@$(VENV) coverage run -m pytest --numprocesses $(JOBS) --dist loadfile $(if $(ARGS),$(ARGS),$(addprefix --ignore=,$(FAULTS)))
	@$(VENV) coverage combine --quiet
	@$(VENV) coverage report $(if $(ARGS),--fail-under=0)

.PHONY: faults
faults: .venv/dev.stamp ## Run the tests in which workers, databases and clients are killed, stopped or leave, and roster is started anew; add to the coverage
	@$(VENV) coverage run -m pytest --numprocesses $(JOBS) --dist loadfile $(FAULTS)
	@$(VENV) coverage combine --quiet --append
	@$(VENV) coverage report

.PHONY: docs
docs: .venv/dev.stamp ## Run the examples in README.md and docs/ as tests
	@$(VENV) pytest README.md docs tests/docs

.PHONY: site
site: .venv/dev.stamp ## Build the documentation's site into build/site, to be read as files or put on any server
	@NO_MKDOCS_2_WARNING=1 $(VENV) mkdocs build --strict
	@printf 'file://%s/build/site/index.html\n' '$(CURDIR)'

.PHONY: site-serve
site-serve: .venv/dev.stamp ## Serve the documentation's site on 127.0.0.1:8000, built anew at each change (HOST=, PORT=)
	@NO_MKDOCS_2_WARNING=1 $(VENV) mkdocs serve --dev-addr $(HOST):$(PORT)

.PHONY: pictures
pictures: .venv/dev.stamp ## Draw the pictures of the guide to the command line anew, docs/images/cli-*.svg
	@.venv/bin/python scripts/pictures.py

.PHONY: lint
lint: .venv/dev.stamp ## Check style, format and layers
	@$(VENV) ruff check
	@$(VENV) ruff format --check
	@.venv/bin/lint-imports --no-cache --no-logo

.PHONY: types
types: .venv/dev.stamp ## Check types with mypy and pyright, both strict
	@$(VENV) mypy
	@$(VENV) pyright

.PHONY: compat
compat: .venv/dev.stamp ## Test the core on old and new versions of FastAPI and Python
	@.venv/bin/python tests/compat/run

.PHONY: fuzz
fuzz: .venv/dev.stamp ## Compare bound and unbound apps on 200,000 designs (ROUNDS=, JOBS=)
	@env -u CI TENURE_FUZZ_ROUNDS=$(ROUNDS) $(VENV) pytest tests/core/test_binding_equivalence.py -k unbound_one \
	    --exitfirst --numprocesses $(JOBS) --dist load --timeout=600

.PHONY: bench
bench: .venv-bench/bench.stamp ## Measure beside the peers, and write docs/benchmarks.md anew (ARGS=--quick)
	@.venv-bench/bin/python -m benchmarks $(ARGS)

.PHONY: bench-models
bench-models: .venv-bench/bench.stamp .venv-bench-bentoml/bench.stamp ## Measure models and calls beside the peers, and write their part of docs/benchmarks.md anew (ARGS=--quick)
	@.venv-bench/bin/python -m benchmarks.elsewhere $(ARGS)

.PHONY: bench-check
bench-check: .venv-bench/bench.stamp ## Measure tenure alone, and fail where it misses a bar
	@.venv-bench/bin/python -m benchmarks --check $(ARGS)

.PHONY: soak
soak: .venv/dev.stamp ## Break things under roster for ten minutes, and write what was lost into docs/reliability.md (ARGS="--seconds 60")
	@$(VENV) reliability soak $(ARGS)

.PHONY: compare
compare: .venv/dev.stamp ## Break the same things under two other ways to write an app, and write docs/reliability.md (ARGS="--only silence")
	@$(VENV) reliability compare $(ARGS)

.PHONY: screenshots
screenshots: .venv/dev.stamp .venv/chromium.stamp ## Take the pictures of the page /ops for the documentation anew, of roster as it runs
	@$(VENV) scripts.screenshots

.PHONY: pins
pins: .venv/dev.stamp ## Pin the newest versions of what pyproject.toml asks for
	@scripts/pins

# The larger set contains the smaller.
.venv/dev.stamp: requirements/dev.txt requirements/run.txt $(PINS)
	@scripts/environment dev
	@touch .venv/run.stamp $@

.venv/run.stamp: requirements/run.txt $(PINS)
	@scripts/environment run
	@touch $@

# For the tests of the page.
.venv/chromium.stamp: scripts/chromium .venv/dev.stamp
	@scripts/chromium > $@

.venv-bench/bench.stamp: requirements/bench.txt $(PINS)
	@scripts/environment bench
	@touch $@

.venv-bench-bentoml/bench.stamp: requirements/bench-bentoml.txt $(PINS)
	@scripts/environment bench-bentoml
	@touch $@
