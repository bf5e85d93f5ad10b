# Users need only make demo and make test. Both set up .venv first.
PYTHON ?= python3
# PYTHON is only for the set-up. Without this line, the launchers in tools/ would use it too
unexport PYTHON
# Let Python write bytecode. Otherwise every process first compiles thousands of files, which takes ten seconds
unexport PYTHONDONTWRITEBYTECODE
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup-done
REQUIREMENTS := $(wildcard requirements/*.txt)
# Number of test processes. Each takes up to 6 GB and one core.
JOBS   ?= 2

.PHONY: help setup demo demo-full demo-weights check test test-slow test-cluster bench docs lint format clean

help:
	@echo "make demo          pre-train and fine-tune on MovingDigits, write work_dirs/demo/report.html;"
	@echo "                   choose tasks with make demo TASKS=\"digit motion ava coco seg\""
	@echo "make demo-full     run the demo with three seeds and the shipped weights, as in the README"
	@echo "make check         run make lint and the quick tests"
	@echo "make test          run make lint and all tests except the long ones"
	@echo "make test-slow     run the long tests: kills, endurance, faults in hundreds of trials"
	@echo "make test-cluster  run the tests with Slurm and several hosts; as root, with Debian's packages iproute2,"
	@echo "                   munge and slurm-wlm"
	@echo "make bench         compare the speed with mmpretrain, mmaction2, timm and torchvision"
	@echo "make docs          build the documentation site, work_dirs/docs/index.html"
	@echo "make demo-weights  train the demo's shipped weights again"
	@echo "make setup         create .venv with all packages (the other targets do this first)"
	@echo "make lint          run ruff check, ruff format --check, mypy and the checks of the English"

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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow and not long and not cluster" -n $(JOBS) --dist worksteal $(TESTS)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long and not cluster" -n $(JOBS) --dist worksteal $(TESTS)

# One test at a time: they measure times and memory of the whole machine
test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "long and not cluster" --timeout 7200 $(TESTS)

# Installs nothing: without the packages it fails and names them. The machines of these tests are network namespaces
test-cluster: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cluster --timeout 1800 $(TESTS)

bench: setup
	$(BIN)/python tools/benchmark.py

# A warning of mkdocs is an error (strict in mkdocs.yml). Python's warnings are off, since they come from torch
docs: setup
	NO_MKDOCS_2_WARNING=1 PYTHONWARNINGS=ignore $(BIN)/mkdocs build

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_prose.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info work_dirs .pytest_cache .ruff_cache .mypy_cache .hypothesis
