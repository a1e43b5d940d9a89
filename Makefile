# Everything starts here: `make help` lists the targets. A fresh clone needs Python 3.11+ and make, nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
UV_VERSION := 0.13.9
READY  := $(VENV)/.ready
# .venv keeps its bytecode, whatever the shell says: without it each command compiles some 4,000 modules anew, 15 s.
unexport PYTHONDONTWRITEBYTECODE
# glibc keeps large blocks instead of giving them back to the system and taking them anew in each step: a tenth of a step.
export MALLOC_MMAP_THRESHOLD_ ?= 33554432
export MALLOC_TRIM_THRESHOLD_ ?= 2000000000

EXP     ?=
SEEDS   ?= 0
RESUME  ?=
ARGS    ?=
BENCH   ?= losses
RUNS    ?= runs
DATASET ?=
DATA    ?= phantom
ROOT    ?=
NODES   ?= 1
GPUS    ?=
PARTITION ?=
TIME    ?=
ACCOUNT ?=
DRY_RUN ?=
SLURM_ARGS ?=
comma := ,
space := $(subst ,, )

.PHONY: help setup train slurm slurm-array tables figures paper segment export serve dashboard phantom data-check test test-slow test-slurm test-gpu check format bench lock docs docs-serve picture notebooks clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14
	@echo
	@echo "Start with:   make train EXP=phantom_cehnc      (synthetic data, no download)"
	@echo "Experiments:  $$(ls experiments/*.yaml | xargs -n1 basename | sed 's/\.yaml$$//' | tr '\n' ' ')"

setup: $(READY)  ## create .venv and install the pinned lock (the other targets do it by themselves)

# The stamp makes a second run install nothing; a changed lock or changed metadata installs again.
$(READY): requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "medzeroseg needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(UV) --version 2>/dev/null | grep -q ' $(UV_VERSION)\b' || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "Installing the pinned set (requirements.lock) into $(VENV); once, about a minute."
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

train: $(READY)  ## train and evaluate one experiment: make train EXP=phantom_cehnc [GPUS=8] [SEEDS="0 1 2"] [RESUME=1] [ARGS='--trainer.max_epochs=3']
	@$(BIN)/medzeroseg train $(if $(EXP),$(EXP),'') --seeds $(SEEDS) $(if $(GPUS),--gpus $(GPUS)) $(if $(RESUME),--resume) $(if $(ARGS),-- $(ARGS))

slurm: $(READY)  ## submit a training: make slurm EXP=roco_cehnc NODES=4 GPUS=8 [PARTITION= TIME= ACCOUNT= ARGS= DRY_RUN=1]; see docs/slurm.md
	@$(BIN)/medzeroseg slurm $(if $(EXP),$(EXP),'') --seeds $(subst $(space),$(comma),$(strip $(SEEDS))) --nodes $(NODES) --gpus $(or $(GPUS),1) \
	  --runs $(RUNS) $(if $(PARTITION),--partition '$(PARTITION)') $(if $(TIME),--time '$(TIME)') $(if $(ACCOUNT),--account '$(ACCOUNT)') \
	  $(if $(RESUME),--resume) $(if $(DRY_RUN),--dry-run) $(SLURM_ARGS) $(if $(ARGS),-- $(ARGS))

slurm-array: slurm  ## the same as a job array: make slurm-array EXP="roco_cehnc roco_infonce" SEEDS=0,1,2

tables: $(READY)  ## merge the tables of every experiment under runs/
	@$(BIN)/medzeroseg tables --runs $(RUNS)

figures: $(READY)  ## draw Figures 4-6 and the saliency sheets of every experiment under runs/
	@$(BIN)/medzeroseg figures --runs $(RUNS)

paper: $(READY)  ## all runs behind Tables 1-3 and Figures 4-6 and one report: make paper DATA=phantom|samples|real [ARGS=--dry-run]
	@$(BIN)/medzeroseg paper $(DATA) --runs $(RUNS) $(ARGS)

phantom: $(READY)  ## write a synthetic dataset: make phantom [ARGS='--layout roco|acdc|synapse|covid_qu_ex --out data/phantom']
	@$(BIN)/medzeroseg phantom $(ARGS)

data-check: $(READY)  ## check a dataset before training on it: make data-check DATASET=acdc ROOT=data/ACDC [ARGS='--json report.json']
	@$(BIN)/medzeroseg data check $(if $(DATASET),$(DATASET),'') $(if $(ROOT),$(ROOT),'') $(ARGS)

segment: $(READY)  ## segment from text: make segment IN=image.png TEXT="left ventricle" CKPT=best.ckpt OUT=out [ARGS='--modality "cardiac MRI"']
	@$(BIN)/medzeroseg segment $(IN) $(if $(TEXT),--text "$(TEXT)") $(if $(CKPT),--checkpoint "$(CKPT)") --output "$(or $(OUT),out)" $(ARGS)

export: $(READY)  ## write a trained model as a folder for others: make export CKPT=runs/.../best.ckpt OUT=exported/mine [ARGS=--onnx]
	@$(BIN)/medzeroseg export $(if $(CKPT),"$(CKPT)") $(if $(OUT),--output "$(OUT)") $(ARGS)

serve: $(READY)  ## a web page on this machine: make serve CKPT=runs/.../best.ckpt [ARGS='--port 8000']
	@$(BIN)/medzeroseg serve $(if $(CKPT),--checkpoint "$(CKPT)") $(ARGS)

dashboard: $(READY)  ## TensorBoard on runs/
	@$(BIN)/tensorboard --logdir $(RUNS) $(ARGS)

test: $(READY)  ## the fast tests
	@$(BIN)/python -m pytest -m "not slow and not slurm" $(ARGS)

test-slow: $(READY)  ## the slow tests
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-slurm: $(READY)  ## the tests on a real Slurm cluster of two nodes on this machine (root; Debian: slurmctld slurmd slurm-client munge iproute2)
	@$(BIN)/python -m pytest -m slurm -rs $(ARGS)

test-gpu: $(READY)  ## the tests that need a GPU; elsewhere they are skipped, and say so
	@$(BIN)/python -m pytest -m gpu -rs $(ARGS)

check: $(READY)  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)  ## let ruff format and fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY)  ## run a benchmark: make bench BENCH=losses (or data, segment, metrics, start, faults, scaling, training)
	@$(BIN)/python -m benchmarks.$(BENCH) $(ARGS)

lock: $(READY)  ## compile requirements.lock again from requirements*.txt
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" requirements-dev.txt -o requirements.lock

docs: $(READY)  ## build the documentation into site/, warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)

docs-serve: $(READY)  ## show the documentation, and again after each change
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve $(ARGS)

picture: $(READY)  ## draw the README's picture with a trained model: make picture [CKPT=runs/phantom_cehnc/seed_0/checkpoints/best.ckpt]
	@$(BIN)/python -m docs_build.picture $(if $(CKPT),--checkpoint "$(CKPT)") $(ARGS)

notebooks: $(READY)  ## run the notebooks: make notebooks [ARGS='3_segment']; the results are in runs/notebooks/
	@$(BIN)/python -m notebooks.execute $(ARGS)

clean:  ## remove caches and build leftovers (not runs/, not data/)
	@rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
