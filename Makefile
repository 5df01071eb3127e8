# Foldwise: from a folder of images to a checked Kaggle submission. `make` alone tells what can be done.
# This file sets up .venv and hands its variables to the driver, python -m pipeline, which decides what has to run.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/ready
STAGES := prepare manifest folds train predict ensemble submit
VERBS  := $(STAGES) classify results why doctor clean help
.DEFAULT_GOAL := help
.SUFFIXES:
.NOTPARALLEL:
# What is imported ten times is compiled once, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

# Values are data. make would expand what is typed on its command line, also on the way into the environment: each is
# made final, as it was typed, and reaches Python through the environment, never as part of a shell's command.
KNOWN := COMPETITION RECIPE SET FOLD FOLDS DRY FORCE HOURS DEVICE WORKERS GPUS CPUS CLUSTER DETERMINISTIC IMAGE PYTHON TESTS KILLS FULL ONLY PAIRS
TYPED := $(strip $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name))))
ifneq ($(filter-out $(KNOWN) MAKEFLAGS,$(TYPED)),)
  $(error there is no variable $(filter-out $(KNOWN) MAKEFLAGS,$(TYPED)); known: $(KNOWN))
endif
$(foreach name,$(TYPED),$(eval override $(name) := $$(value $(name))))
export PYTHON $(TYPED)
RUN = FOLDWISE_MAKE='$(TYPED)' exec $(shell test -x $(PY) && echo $(PY) || echo '"$$PYTHON"') -m pipeline

.PHONY: $(VERBS) setup check test chaos bench
$(VERBS): # "+": the driver also runs for make -n, and then prints its plan
	+@$(RUN) $@
$(STAGES) classify results: $(READY)

setup: $(READY) # install into .venv what constraints.txt names (the other targets do it too)

$(READY): pyproject.toml constraints.txt
	@# A wrong name, or a wrong Python, is said before 6 GB are installed.
	@FOLDWISE_MAKE='$(TYPED)' "$$PYTHON" -m pipeline why >/dev/null
	@echo "[setup] installing about 6 GB of packages into $(VENV), once"
	@test -x $(PY) || "$$PYTHON" -m venv $(VENV)
	@# uv from the system, else uv from its wheel, else plain pip: the same packages, sooner or later.
	@uv=$$(command -v uv) || { $(PY) -m pip install --quiet --disable-pip-version-check uv && uv=$(VENV)/bin/uv; }; \
	if [ -n "$$uv" ]; then "$$uv" pip install --quiet --compile-bytecode --python $(PY) -c constraints.txt -e '.[dev]'; \
	else $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; fi
	@$(PY) -c 'import cv2' 2>/dev/null || { \
	  echo "[setup] OpenCV's window build finds no libGL here; putting the headless build of the same version on top"; \
	  $(PY) -m pip install --quiet --force-reinstall --no-deps $$(grep '^opencv-python-headless==' constraints.txt) && $(PY) -c 'import cv2'; }
	@touch $@

check: $(READY) # ruff and mypy
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

test chaos bench: export FOLDWISE_SHARED_DATA ?= $(wildcard ../shared/data)
test: $(READY) # the tests, in a few minutes (TESTS=tests/test_folds.py)
	@$(PY) -m pytest -n auto --maxprocesses 8 --dist loadgroup $$TESTS
chaos: $(READY) # kill a five-fold run at 20 random moments and compare its CSV with that of an undisturbed one
	@$(PY) -m tests.chaos $${KILLS:+--kills "$$KILLS"}
bench: $(READY) # how fast this machine trains, as ratios to a notebook (FULL=1: everything, hours; ONLY=loader,step)
	@$(PY) -m tests.benchmarks.bench $${FULL:+--full} $${ONLY:+--only "$$ONLY"} $${PAIRS:+--pairs "$$PAIRS"}
