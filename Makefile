# joulemark's commands. `make help` lists them; each works on a fresh machine
# with Python 3.11-3.13, make and a C compiler, and nothing else.

.DEFAULT_GOAL := help
SHELL := /bin/bash

# The first of these that exists and is new enough makes the environment.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,14))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Debian packages that tests use: the real Prometheus tools, a store to write to, a browser.
APT := prometheus prometheus-pushgateway victoria-metrics chromium fonts-dejavu-core
APT_COMMANDS := promtool prometheus-pushgateway victoria-metrics chromium

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/joulemark: pyproject.toml
	@test -n "$(PYTHON)" || { echo "joulemark needs Python 3.11, 3.12 or 3.13, and none is on PATH" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
		&& apt-get install -y -qq --no-install-recommends python3-venv >/dev/null \
		&& $(PYTHON) -m venv --clear $(VENV); } || { \
		echo "make: $(PYTHON) cannot make environments; install python3-venv" >&2; exit 2; }
	@echo "make: installing joulemark into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/joulemark
	@echo "make: installing the developers' tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,report,production,deploy]'
	@touch $@

.PHONY: install
install: $(BIN)/joulemark ## Make the environment .venv with joulemark in it

.PHONY: model
model: $(BIN)/joulemark ## Fetch the small model that the demo runs
	@$(BIN)/joulemark model fetch smollm2-135m

.PHONY: demo
demo: model ## Run a real model here and say what its tokens cost
	@$(BIN)/joulemark run quickstart

.PHONY: apt
apt: $(BIN)/joulemark # Debian packages for tests; tests that need them are skipped with a reason elsewhere
	@if command -v apt-get >/dev/null && ! { $(foreach tool,$(APT_COMMANDS),command -v $(tool) &&) true; } >/dev/null; then \
		if [ "$$(id -u)" = 0 ]; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
				--no-install-recommends $(APT) >/dev/null; \
		else echo "make: to run every test, install: $(APT)" >&2; fi; fi

.PHONY: test
test: $(VENV)/.dev model apt ## Run the tests
	@$(BIN)/python -m pytest -q

.PHONY: lint
lint: $(VENV)/.dev ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

.PHONY: check
check: lint test reproduce ## Everything that CI checks: lint, types, tests, documents
	@$(BIN)/python docs/build.py --check

.PHONY: docs
docs: $(VENV)/.dev ## Write the documents that are made from code
	@$(BIN)/python docs/build.py

.PHONY: reproduce
reproduce: $(BIN)/joulemark ## Recompute published results, ours beside theirs
	@$(BIN)/joulemark claims --reproduce

.PHONY: bench-meter
bench-meter: $(VENV)/.dev ## Compare energy meters on one emulated truth (about 30 minutes)
	@$(BIN)/python benchmarks/meter.py --write docs/benchmarks/meter.md

BENCH_LOAD_PEERS ?= .build/bench-load

.PHONY: bench-load
bench-load: $(VENV)/.dev ## Compare load generators against one mock engine
	@$(BIN)/python benchmarks/load.py --venvs $(BENCH_LOAD_PEERS) --make-venvs
	@$(BIN)/python benchmarks/load_scale.py

.PHONY: bench-fleet
bench-fleet: $(VENV)/.dev apt ## Measure what a thousand simulated nodes cost a real Prometheus (4 minutes)
	@$(BIN)/python benchmarks/fleet.py

.PHONY: bench-exporter
bench-exporter: $(VENV)/.dev ## Measure what the exporter costs: CPU, memory, scrape
	@$(BIN)/python benchmarks/exporter.py

.PHONY: bench-verdict
bench-verdict: $(VENV)/.dev ## Calibrate the verdicts of compare and regress by simulation
	@$(BIN)/python benchmarks/verdict.py --trials 1000

.PHONY: bench-split
bench-split: $(VENV)/.dev ## Find scripted costs of prefill, decode and idling on the mock engine
	@$(BIN)/python benchmarks/split.py

# STAGE: doctor, meter, known-work, engine, report or all. DRY=1: an emulated GPU, pretended loads and
# a mock engine. BUDGET_S, OUT, ENGINE and MODEL as `python3 -m benchmarks.gpu --help` says.
STAGE ?= all
GPU_CHECK = benchmarks.gpu $(STAGE) $(if $(BUDGET_S),--budget-s $(BUDGET_S)) $(if $(OUT),--out $(OUT)) \
	$(if $(ENGINE),--engine $(ENGINE)) $(if $(MODEL),--model $(MODEL)) $(GPU_CHECK_ARGS)

.PHONY: gpu-check
gpu-check: $(if $(DRY),$(BIN)/joulemark) ## Measure a real card, its sensors first; DRY=1 tries it without one
	@$(if $(DRY),$(BIN)/python -m $(GPU_CHECK) --dry --again,python3 -m $(GPU_CHECK))

.PHONY: gpu-bundle
gpu-bundle: $(VENV)/.dev ## Gather what gpu-check needs on an offline machine; ENGINE=vllm, llama-cpp
	@$(BIN)/python -m benchmarks.gpu.bundle $(if $(ENGINE),--engine $(ENGINE))

.PHONY: test-vllm
test-vllm: $(VENV)/.dev model ## Run the tests on a real vLLM on the CPU (several GB)
	@tests/heavy/vllm.sh
	@JOULEMARK_HEAVY=1 $(BIN)/python -m pytest -q tests/heavy/test_vllm.py

.PHONY: test-transformers
test-transformers: $(VENV)/.dev model ## Run the tests on a real transformers serve (1 GB)
	@tests/heavy/transformers.sh
	@JOULEMARK_HEAVY=1 $(BIN)/python -m pytest -q tests/heavy/test_transformers.py

.PHONY: test-dynamo
test-dynamo: $(VENV)/.dev model ## Run the tests on Dynamo's frontend with its mocker
	@tests/heavy/dynamo.sh
	@JOULEMARK_HEAVY=1 $(BIN)/python -m pytest -q tests/heavy/test_dynamo.py

.PHONY: test-flags
test-flags: $(VENV)/.dev ## Hold our commands against engines' released sources (40 MB)
	@tests/heavy/flags.sh
	@JOULEMARK_HEAVY=1 $(BIN)/python -m pytest -q tests/heavy/test_flags.py

.PHONY: test-regress
test-regress: $(VENV)/.dev model ## Find a real regression of a real engine, and none in the same one (10 minutes)
	@JOULEMARK_HEAVY=1 $(BIN)/python -m pytest -q -rP -k real tests/test_regress.py

.PHONY: demo-production
demo-production: model apt ## Engine, exporter and a real Prometheus: joules per token by its rules
	@$(BIN)/python benchmarks/demo_production.py

.PHONY: manifests
manifests: $(VENV)/.dev ## Make the plain Kubernetes manifests from the Helm chart
	@$(BIN)/python deploy/render.py

.PHONY: dashboards
dashboards: $(VENV)/.dev ## Make the Grafana boards anew
	@$(BIN)/python dashboards/build.py

.PHONY: format
format: $(VENV)/.dev ## Put the code into the house's format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: clean
clean: ## Remove the environment and caches; runs/ stays
	rm -rf $(VENV) .build .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
