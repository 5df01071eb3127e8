# Foldwise: from a folder of images to a checked Kaggle submission. `make` alone tells what can be done.

COMPETITION ?= digits
PYTHON      ?= python3
VENV        := .venv
PY          := $(VENV)/bin/python
READY       := $(VENV)/ready
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
# What is imported ten times is compiled once, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

# --- what a call comes to ---------------------------------------------------------------------------------------
# COMPETITION, RECIPE, SET and FOLDS (or FOLD) name a run; plan.py reads the TOML and answers with the run's name and folds.
STAGES := prepare manifest folds train predict ensemble submit
ifneq ($(filter $(STAGES),$(MAKECMDGOALS)),)
  PLAN := $(shell $(PYTHON) -m pipeline.records.plan "$(COMPETITION)" --recipe "$(RECIPE)" --folds "$(or $(FOLDS),$(FOLD))" --device "$(DEVICE)" --hours "$(HOURS)" --gpus "$(GPUS)" --cpus "$(CPUS)" --cluster "$(CLUSTER)" --set $(SET) || echo failed)
  ifneq ($(filter failed,$(PLAN)),)
    $(error nothing was done)
  endif
  $(foreach variable,$(PLAN),$(eval $(subst |, ,$(variable))))
endif

comma    := ,
space    := $(subst ,, )
HOME_DIR := data/$(COMPETITION)
MADE     := $(HOME_DIR)$(if $(DRY),/dry)
RUN_DIR  := $(MADE)/runs/$(RUN)
SUFFIX   := $(if $(PARTIAL),~folds=$(PARTIAL))
CSV      := submissions/$(COMPETITION)/$(if $(DRY),dry/)$(NAME).csv
SCORE    := $(RUN_DIR)/score$(SUFFIX).json

WHICH    := --competition $(COMPETITION) $(if $(DRY),--dry-run)
WHICH_RUN = $(WHICH) $(if $(RECIPE),--recipe $(RECIPE)) $(if $(SET),--set $(SET))
MACHINE   = $(if $(DEVICE),--device $(DEVICE)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(DETERMINISTIC),--deterministic)
# Folds train side by side as plan.py arranged; with a -j of your own (which takes precedence over ours), each takes an
# equal part of the cores.
MAKEFLAGS += -j$(or $(BESIDE),1)
JOBS      = $(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),$(words $(CHOSEN)))
THREADS   = $(if $(filter $(BESIDE),$(JOBS)),$(THREADS_OF_$*),$(shell $(PYTHON) -c 'from pipeline.records.threads import cores; print(max(1, cores() // $(JOBS)))'))
FOLD_SHARE = --threads $(THREADS)
COMPANY   = $(if $(and $(filter $(BESIDE),$(JOBS)),$(filter $*,$(LAST_ROUND))),$(words $(LAST_ROUND)),$(JOBS))
# Several processes, the ranks of a fold, one for each of GPUS.
STAGE     = $(if $(RANKS),-m pipeline.tools.ranks $(RANKS) ,-m pipeline.)
SIDE_BY_SIDE = $(if $(filter-out 1,$(COMPANY)),FOLDWISE_BESIDE=$(COMPANY))

# --- set-up -----------------------------------------------------------------------------------------------------
.PHONY: help setup check test chaos bench classify results doctor clean force $(STAGES)

help: ## what can be done here
	@echo "Foldwise: from a folder of images to a checked Kaggle submission. Start with: make submit"
	@echo
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'
	@echo
	@echo "  COMPETITION=digits   a folder of data/ with a competition.toml; here: $(notdir $(patsubst %/,%,$(dir $(wildcard data/*/competition.toml))))"
	@echo "  RECIPE=resnet18      a file of pipeline/recipes/; here: $(basename $(notdir $(wildcard pipeline/recipes/*.toml)))"
	@echo "  SET=\"epochs=2 lr=1e-3\"   change keys of the recipe; makes a run of its own"
	@echo "  FOLD=0  FOLDS=0,1    one fold to train; the folds to submit    DRY=1   a rehearsal of every stage in seconds"
	@echo "  DEVICE=cuda:1  WORKERS=4  the machine, found by itself         -j2     folds side by side"
	@echo "  HOURS=8.5            stop in time, and submit the folds that are done; the same command goes on"
	@echo "  GPUS=4               each fold on four GPUs    CLUSTER=auto  the folds on a Ray cluster, with GPUS=0.5 CPUS=4 each"
	@echo "  DETERMINISTIC=1      the same bits on CUDA too, where it is slower"

setup: $(READY) ## install into .venv what constraints.txt names (the other targets do it too)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -m pipeline.records.plan digits >/dev/null
	@echo "[setup] installing about 6 GB of packages into $(VENV), once"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@# uv from the system, else uv from its wheel, else plain pip: the same packages, sooner or later.
	@uv=$$(command -v uv) || { $(PY) -m pip install --quiet --disable-pip-version-check uv && uv=$(VENV)/bin/uv; }; \
	if [ -n "$$uv" ]; then "$$uv" pip install --quiet --compile-bytecode --python $(PY) -c constraints.txt -e '.[dev]'; \
	else $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; fi
	@$(PY) -c 'import cv2' 2>/dev/null || { \
	  echo "[setup] OpenCV's window build finds no libGL here; putting the headless build of the same version on top"; \
	  $(PY) -m pip install --quiet --force-reinstall --no-deps $$(grep '^opencv-python-headless==' constraints.txt) && $(PY) -c 'import cv2'; }
	@touch $@

# --- the stages, in order: each target is the file that its stage writes last -------------------------------------
prepare: $(HOME_DIR)/prepared.json ## unpack what you dropped into data/<competition>/raw/
manifest: $(MADE)/manifest.csv ## check every image: manifest.csv, problems.csv, a contact sheet
folds: $(MADE)/folds.csv ## split into stratified folds, once (FORCE=1 replaces folds that runs were made with)
train: $(CHOSEN:%=$(RUN_DIR)/fold%/trained.json) ## train FOLD=0, or all folds
predict: $(CHOSEN:%=$(RUN_DIR)/fold%/predicted.json) ## out-of-fold and test probabilities of FOLD=0, or all
ensemble: $(SCORE) ## average the folds, print the honest score
ifeq ($(HOURS),)
submit: $(CSV) ## everything up to submissions/<competition>/<run>.csv
	@$(if $(SUBMITTED),:,echo "[submit] nothing to do: $(CSV) is up to date")
else
# The folds that are trained when the time is over are submitted, marked partial if not all are.
submit: train
	@done=$$(for fold in $(CHOSEN); do test ! -e $(RUN_DIR)/fold$$fold/trained.json || printf '%s ' $$fold; done); \
	test -n "$$done" || { echo "no fold is trained after $(HOURS) hours, so nothing to submit; the same command goes on" >&2; exit 1; }; \
	exec env -u MAKEFLAGS -u MFLAGS $(MAKE) $(if $(findstring n,$(firstword -$(MAKEFLAGS))),-n) --no-print-directory submit $(MAKEOVERRIDES) HOURS= FOLD= FOLDS="$$done"
endif

# What lies in raw/, too, for a file that is written over; a name with a space falls into words that are no files.
$(HOME_DIR)/prepared.json: $(HOME_DIR)/competition.toml $(wildcard $(HOME_DIR)/raw $(foreach file,$(wildcard $(HOME_DIR)/raw/*),$(wildcard $(file)))) | $(READY)
	@$(PY) -m pipeline.prepare $(WHICH)
	@touch $@

$(MADE)/manifest.csv: $(HOME_DIR)/prepared.json
	@$(PY) -m pipeline.manifest $(WHICH)

$(MADE)/folds.csv: $(MADE)/manifest.csv $(if $(FORCE),force)
	@$(PY) -m pipeline.folds $(WHICH) $(if $(FORCE),--force)

# exec: a signal to make goes on to what it started, and so must reach the stage itself and no shell around it.
# Order-only: a touched file never trains for hours again. What a run was made of is compared by content instead.
ifneq ($(RUN),)
TRAINED     := $(CHOSEN:%=$(RUN_DIR)/fold%/trained.json)
PREDICTED   := $(CHOSEN:%=$(RUN_DIR)/fold%/predicted.json)
ifeq ($(CLUSTER),)
$(TRAINED): $(RUN_DIR)/fold%/trained.json: | $(MADE)/folds.csv
	@$(if $(UNTIL),test $$(date +%s) -lt $(UNTIL) || { echo "[train] the time is over; fold $* was not begun"; exit 0; };) \
	exec env $(SIDE_BY_SIDE) $(PY) $(STAGE)train $(WHICH_RUN) --fold $* $(MACHINE) $(FOLD_SHARE) $(if $(UNTIL),--until $(UNTIL))
$(LAST_ROUND:%=$(RUN_DIR)/fold%/trained.json): | $(filter-out $(LAST_ROUND:%=$(RUN_DIR)/fold%/trained.json),$(TRAINED))
else
# One driver trains all folds that are not trained yet: the first of them stands for the others.
UNTRAINED   := $(filter-out $(wildcard $(TRAINED)),$(TRAINED))
$(firstword $(UNTRAINED)): | $(MADE)/folds.csv
	@exec $(PY) -m pipeline.tools.cluster $(WHICH_RUN) --folds $(subst $(space),$(comma),$(CHOSEN)) --address "$(CLUSTER)" $(if $(GPUS),--gpus $(GPUS)) $(if $(CPUS),--cpus $(CPUS)) $(MACHINE) $(if $(UNTIL),--until $(UNTIL))
$(wordlist 2,$(words $(UNTRAINED)),$(UNTRAINED)): | $(firstword $(UNTRAINED)) ;
endif

# One process predicts all folds that are not predicted yet: the first of them stands for the others.
UNPREDICTED := $(filter-out $(wildcard $(PREDICTED)),$(PREDICTED))
$(firstword $(UNPREDICTED)): | $(TRAINED)
	@exec $(PY) $(STAGE)predict $(WHICH_RUN) --folds $(subst $(space),$(comma),$(patsubst $(RUN_DIR)/fold%/predicted.json,%,$(UNPREDICTED))) $(MACHINE)
$(wordlist 2,$(words $(UNPREDICTED)),$(UNPREDICTED)): | $(firstword $(UNPREDICTED)) ;

$(SCORE): $(CHOSEN:%=$(RUN_DIR)/fold%/predicted.json) $(MADE)/folds.csv pipeline/recipes/$(RECIPE_NAME).toml
	@$(PY) -m pipeline.ensemble $(WHICH_RUN) $(if $(PARTIAL),--folds $(PARTIAL))

$(CSV): $(SCORE)
	@$(PY) -m pipeline.submit $(WHICH_RUN) $(if $(PARTIAL),--folds $(PARTIAL))
	@$(eval SUBMITTED := 1)
endif

force:

classify: $(READY) ## what the trained folds make of IMAGE=photo.jpg, or of a folder: label, bars, where they look
	@$(PY) -m pipeline.tools.classify $(WHICH_RUN) $(if $(IMAGE),--image "$(IMAGE)") $(MACHINE)

results: $(READY) ## the README's table of the five tutorials, from the runs that are here
	@$(PY) -m pipeline.tools.results

doctor: ## one page on this machine and this project: what is wrong, and what to type
	@$(if $(wildcard $(PY)),$(PY),$(PYTHON)) -m pipeline.tools.doctor

# --- for those who work on Foldwise itself ------------------------------------------------------------------------
check: $(READY) ## ruff and mypy
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

test: $(READY) ## the tests, in a few minutes
	@FOLDWISE_SHARED_DATA="$${FOLDWISE_SHARED_DATA-$(wildcard ../shared/data)}" $(PY) -m pytest -n auto --maxprocesses 8 --dist loadgroup $(TESTS)

chaos: $(READY) ## kill a five-fold run at 20 random moments and compare its CSV with that of an undisturbed one
	@$(PY) -m tests.chaos $(if $(KILLS),--kills $(KILLS))

bench: $(READY) ## how fast this machine trains, as ratios to a notebook (FULL=1: everything, hours; ONLY=loader,step)
	@FOLDWISE_SHARED_DATA="$${FOLDWISE_SHARED_DATA-$(wildcard ../shared/data)}" $(PY) -m tests.benchmarks.bench $(if $(FULL),--full) $(if $(ONLY),--only $(ONLY)) $(if $(PAIRS),--pairs $(PAIRS))

clean: ## remove the caches of pixels and of tools, dry runs and benchmarks; runs and submissions stay
	rm -rf data/*/cache data/*/dry data/bench submissions/*/dry .mypy_cache .ruff_cache .pytest_cache
