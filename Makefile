# make demo        restore three photographs with the embedded prior
# make test        run the whole test suite, doctests included
# make test-fast   run what takes milliseconds: under 90 s on two cores
# make lint        ruff and mypy
# make docs        build the documentation site into out/docs
# make priors DATA="folders of photographs"
#                  train a prior for photographs in stages that continue one another
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# a device for the tests that can use one: make test DEVICE=cuda
DEVICE ?=
PYTEST := SCORESDE_TEST_DEVICE=$(DEVICE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

# make priors: folders to learn from, a folder to judge by, stages and their minutes
DATA    ?=
EVAL    ?= $(firstword $(DATA))
COUNT   ?= 10
STAGES  ?= 3
MINUTES ?= 8
OPTIONS ?=
NATURAL := out/priors/natural

.PHONY: demo docs priors test test-fast lint clean

demo: $(VENV)/.installed
	$(BIN)/scoresde demo --out out/demo

# run it again, or with more stages, to go on; OPTIONS="--steps 20000" decides where the run ends
priors: $(VENV)/.installed
	@test -n "$(DATA)" || { echo 'make priors DATA="folder [folder ...]"'; exit 2; }
	recipe=$$($(BIN)/python -c 'import torch; print("natural-gpu" if torch.cuda.is_available() else "natural")') && \
	for stage in $$(seq $(STAGES)); do \
	    echo "stage $$stage of $(STAGES): $$recipe, $(MINUTES) minutes"; \
	    $(BIN)/scoresde train $(DATA) --recipe $$recipe --continue --minutes $(MINUTES) \
	        --save-every 500 --out $(NATURAL) $(OPTIONS) || exit; \
	done
	$(BIN)/python benchmarks/denoising.py --images $(EVAL) --count $(COUNT) \
	    --prior $(NATURAL)/prior.safetensors
	$(BIN)/python benchmarks/maintenance/embed.py $(NATURAL)/prior.safetensors natural \
	    "photographs in colour, any size" --out $(NATURAL).safetensors

test: $(VENV)/.installed-test
	$(PYTEST)

test-fast: $(VENV)/.installed-test
	$(PYTEST) -m "not slow"

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/build.py --out out/docs

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "scoresde needs Python 3.11 or newer; run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build *.egg-info out
