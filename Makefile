# Foldwise: from a folder of images to a checked Kaggle submission. `make` alone prints all commands.
# This file sets up .venv and passes its variables to the driver, python -m pipeline, which decides what must run.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/ready
STAGES := prepare manifest folds train predict ensemble submit
VERBS  := $(STAGES) blend runs compare report reproduce new classify results why doctor clean help
.DEFAULT_GOAL := help
.SUFFIXES:
.NOTPARALLEL:
# Let Python write bytecode even if the shell forbids it: each stage is a process that imports the same modules again.
unexport PYTHONDONTWRITEBYTECODE

# Values are data. make would expand a value that is typed on its command line, also when it exports it. So each
# variable is overridden with its literal text. It reaches Python in the environment, never as part of a shell command.
KNOWN := COMPETITION RECIPE SET FOLD FOLDS DRY FORCE HOURS DEVICE WORKERS GPUS CPUS CLUSTER DETERMINISTIC IMAGE TEST IDS SEEDS RUNS BLEND A B SCORE SUBMISSION PYTHON TESTS KILLS FULL ONLY PAIRS TINY
TYPED := $(strip $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name))))
ifneq ($(filter-out $(KNOWN) MAKEFLAGS,$(TYPED)),)
  $(error unknown variable $(filter-out $(KNOWN) MAKEFLAGS,$(TYPED)); known: $(KNOWN))
endif
$(foreach name,$(TYPED),$(eval override $(name) := $$(value $(name))))
export PYTHON $(TYPED)
RUN = FOLDWISE_MAKE='$(TYPED)' exec $(shell test -x $(PY) && echo $(PY) || echo '"$$PYTHON"') -m pipeline

.PHONY: $(VERBS) setup check check-gpu test chaos bench
$(VERBS): # "+": the driver also runs for make -n, and then prints its plan
	+@$(RUN) $@
$(STAGES) blend runs compare report reproduce new classify results: $(READY)

setup: $(READY) # install the packages of constraints.txt into .venv (the other targets do it too)

$(READY): pyproject.toml constraints.txt
	@# Report a wrong name or a wrong Python before 6 GB are installed.
	@FOLDWISE_MAKE='$(TYPED)' "$$PYTHON" -m pipeline why >/dev/null
	@echo "[setup] installing about 6 GB of packages into $(VENV), once"
	@test -x $(PY) || "$$PYTHON" -m venv $(VENV)
	@# Use the system's uv, else install uv, else use pip: the same packages, only more slowly.
	@uv=$$(command -v uv) || { $(PY) -m pip install --quiet --disable-pip-version-check uv && uv=$(VENV)/bin/uv; }; \
	if [ -n "$$uv" ]; then "$$uv" pip install --quiet --compile-bytecode --python $(PY) -c constraints.txt -e '.[dev]'; \
	else $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; fi
	@$(PY) -c 'import cv2' 2>/dev/null || { \
	  echo "[setup] OpenCV cannot be imported (is libGL missing?); installing its headless build of the same version"; \
	  $(PY) -m pip install --quiet --force-reinstall --no-deps $$(grep '^opencv-python-headless==' constraints.txt) && $(PY) -c 'import cv2'; }
	@touch $@

check: $(READY) # ruff and mypy
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

check-gpu: $(READY) # check on a GPU that all works there, and how fast (DEVICE=cpu TINY=1: on a CPU; ONLY=digits,resume)
	@$(PY) -m tests.gpu $${DEVICE:+--device "$$DEVICE"} $${TINY:+--tiny "$$TINY"} $${ONLY:+--only "$$ONLY"}

test chaos bench: export FOLDWISE_SHARED_DATA ?= $(wildcard ../shared/data)
test: $(READY) # the tests, in a few minutes (TESTS=tests/test_folds.py)
	@$(PY) -m pytest -n auto --maxprocesses 8 --dist loadgroup $$TESTS
chaos: $(READY) # kill a five-fold run at 20 random moments and compare its CSV with that of an uninterrupted one
	@$(PY) -m tests.chaos $${KILLS:+--kills "$$KILLS"}
bench: $(READY) # measure the training speed relative to a notebook (FULL=1: everything, in hours; ONLY=loader,step)
	@$(PY) -m tests.benchmarks.bench $${FULL:+--full} $${ONLY:+--only "$$ONLY"} $${PAIRS:+--pairs "$$PAIRS"}
