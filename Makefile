# make demo and make test are all a user needs; both set up .venv first.
PYTHON ?= python3
# It is for the set-up alone: the launchers in tools/ would take it too
unexport PYTHON
# Without bytecode every process compiles thousands of files of the frameworks first, which takes ten seconds
unexport PYTHONDONTWRITEBYTECODE
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup-done
REQUIREMENTS := $(wildcard requirements/*.txt)
# Test processes; each takes up to 6 GB and one core.
JOBS   ?= 2

.PHONY: help setup demo demo-full demo-weights check test test-slow bench docs lint format clean

help:
	@echo "make demo          pre-train and fine-tune on MovingDigits, report in work_dirs/demo/report.html;"
	@echo "                   some tasks alone: make demo TASKS=\"digit motion ava coco\""
	@echo "make demo-full     the same with three seeds and the shipped weights, as in the README"
	@echo "make check         lint, types and the quick tests"
	@echo "make test          lint and run every test but the long ones"
	@echo "make test-slow     run the long tests: kills, soak, faults over hundreds of trials"
	@echo "make bench         time HOG and the backbones against mmpretrain's and mmaction2's"
	@echo "make docs          the documentation site, in work_dirs/docs/index.html"
	@echo "make demo-weights  train the demo's shipped weights anew"
	@echo "make setup         make .venv with everything in it (done by the others)"
	@echo "make lint          ruff check, ruff format --check and mypy"

setup: $(STAMP)

$(STAMP): $(REQUIREMENTS) setup.py pyproject.toml $(wildcard tools/setup/*) projects/mmcv_ops/pyproject.toml maskfeat_plugin/ops/mmcv_ops.py
	@sh tools/setup/make_venv.sh $(VENV) $(PYTHON)

demo: setup
	$(BIN)/python tools/demo.py $(if $(TASKS),--tasks $(TASKS))

demo-full: setup
	$(BIN)/python tools/demo.py --full $(if $(TASKS),--tasks $(TASKS))

demo-weights: setup
	$(BIN)/python tools/demo.py --make-weights

check: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow and not long" -n $(JOBS) --dist worksteal $(TESTS)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long" -n $(JOBS) --dist worksteal $(TESTS)

# One after the other: what they time or count is of this machine
test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long --timeout 7200 $(TESTS)

bench: setup
	$(BIN)/python tools/benchmark.py

# A warning is an error (strict, mkdocs.yml); Python's deprecations are those of torch
docs: setup
	NO_MKDOCS_2_WARNING=1 PYTHONWARNINGS=ignore $(BIN)/mkdocs build

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info work_dirs .pytest_cache .ruff_cache .mypy_cache .hypothesis
