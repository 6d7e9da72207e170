# The project's commands. `make` alone lists them. The first use makes the environment.
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python

SUBJECT ?= 422
METHOD ?= raf
PROFILE ?= demo
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
THREADS ?= $(CORES)
TORCH_INDEX ?=
PYTEST_ARGS ?=
BANK_ARGS ?=
BEYOND_ARGS ?=
PAPER_ARGS ?=
FIGURES_ARGS ?=
SOURCE ?= studio

# The numeric libraries read these variables, so timings and results do not depend on the caller's shell.
export OMP_NUM_THREADS := $(THREADS)
export NUMBA_NUM_THREADS := $(THREADS)
export MKL_NUM_THREADS := $(THREADS)
export OPENBLAS_NUM_THREADS := $(THREADS)
# For targets that run several processes at once: with more threads than cores, they would wait for each other.
ONE_THREAD := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export JUPYTER_PREFER_ENV_PATH := 1
export MPLBACKEND ?= Agg

# mediapipe requires an OpenCV build with a window system. A headless build (in pyproject.toml, extra `track`) replaces
# it, so mediapipe is installed without its dependencies.
ALONE := mediapipe
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
STAMP := $(VENV)/.raf-lab

.DEFAULT_GOAL := help
.PHONY: help env demo test lab train beyond paper figures site bank bench lint clean

help:  ## show this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16
	@echo "  variables: SUBJECT=$(SUBJECT) METHOD=$(METHOD) (vanilla, noise, raf, …) PROFILE=$(PROFILE) (tiny, demo, gpu, paper)" \
		"THREADS=$(THREADS) VENV=$(VENV)"

env: $(STAMP)  ## make the Python environment in .venv (every other target does this when needed)

$(STAMP): constraints.txt pyproject.toml scripts/headless_gl.py
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[track,lab,cluster,site,test,dev]'
	$(PIP) --no-deps $(ALONE)
	$(PY) scripts/headless_gl.py
	touch $@

demo: $(STAMP)  ## run notebooks 01 to 06 for SUBJECT: coverage, three avatars, tables (15 minutes on 2 cores)
	$(PY) scripts/demo.py --subject $(SUBJECT) --profile $(PROFILE) --cores $(THREADS)

test: $(STAMP)  ## run the test suite (PYTEST_ARGS="-m 'not slow'" for the quick part)
	$(ONE_THREAD) $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lab: $(STAMP)  ## open JupyterLab with notebook 00, which says what to run first and what exists already
	MPLBACKEND= $(PY) -m jupyterlab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/00_start.ipynb

train: $(STAMP)  ## train one avatar with notebook 04, e.g. make train SUBJECT=443 METHOD=raf
	mkdir -p runs/notebooks
	$(PY) -m papermill --log-output --no-progress-bar notebooks/04_train.ipynb \
		runs/notebooks/make_train_$(SUBJECT)_$(METHOD)_$(PROFILE).ipynb \
		-r subject $(SUBJECT) -r method $(METHOD) -r profile $(PROFILE) -p threads $(THREADS)

beyond: $(STAMP)  ## run notebook 09 and train its avatars: every sampler, every driving map (hours; BEYOND_ARGS)
	$(PY) scripts/beyond.py --subject $(SUBJECT) --profile $(PROFILE) --cores $(THREADS) $(BEYOND_ARGS)

paper: $(STAMP)  ## train and evaluate every avatar of the paper's tables: 5 subjects, 11 methods, 3 seeds (days; PAPER_ARGS)
	$(ONE_THREAD) $(PY) scripts/paper.py --source $(SOURCE) --profile $(PROFILE) $(PAPER_ARGS)

figures: $(STAMP)  ## write every table of the paper's avatars from the rows that ship, without training (a minute; FIGURES_ARGS)
	$(PY) scripts/figures.py $(FIGURES_ARGS)

site: $(STAMP)  ## build the site in build/site/html from the notebooks of `make demo` (those not run yet run with profile tiny)
	$(PY) scripts/build_site.py --cores $(THREADS)

bank: $(STAMP)  ## make data/bank_open.npz again, 415 people x 200 frames (two hours on 2 cores; BANK_ARGS)
	$(PY) scripts/build_bank.py --cores $(THREADS) $(BANK_ARGS)

bench: $(STAMP)  ## run every benchmark of the CPU, one line "figure name = number" each (20 minutes on an idle machine)
	@set -e; for file in $(filter-out benchmarks/gpu.py,$(wildcard benchmarks/[a-z]*.py)); do echo "== $$file"; $(PY) $$file; done

lint: $(STAMP)  ## check code and notebooks with ruff, types with mypy (also for Windows), and that notebooks have no outputs
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m mypy --platform win32 --cache-dir .mypy_cache/win32
	$(PY) -m nbstripout --keep-id --verify notebooks/*.ipynb

clean:  ## remove results and caches (runs, data/cache), but not the environment
	test ! -d runs || find runs/ -mindepth 1 -not -path runs/.gitignore -delete
	rm -rf data/cache build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find raflib tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} +
