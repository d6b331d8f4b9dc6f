# make demo        restore three photographs with the embedded prior
# make test        run the whole test suite, doctests included
# make test-fast   run what takes milliseconds: four minutes on two cores
# make test-adapters
#                  run the tests that need diffusers, azula, deepinv or ONNX, in .venv-adapters
# make axe         fetch axe-core with npm, for the tests of accessibility in Chromium
# make lint        ruff and mypy
# make dist        build sdist and wheel into dist, and try the wheel in an empty environment
# make docs        build the documentation site into out/docs
# make priors DATA="folders of photographs"
#                  train a prior for photographs in stages that continue one another
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# a device for the tests that can use one: make test DEVICE=cuda
DEVICE ?=
PYTEST := SCORESDE_TEST_DEVICE=$(DEVICE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

# make test-adapters: an environment with the libraries of others
ADAPTERS := .venv-adapters

# make priors: folders to learn from, a folder to judge by, stages and their minutes
DATA    ?=
EVAL    ?= $(firstword $(DATA))
COUNT   ?= 10
STAGES  ?= 3
MINUTES ?= 8
OPTIONS ?=
NATURAL := out/priors/natural

.PHONY: axe demo dist docs priors test test-adapters test-fast lint clean

demo: $(VENV)/.installed
	$(BIN)/scoresde demo --out out/demo
	@echo "next: . $(BIN)/activate, then: scoresde restore photo.png --problem denoise"

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

# each test that is skipped says why
test-adapters: $(ADAPTERS)/.installed
	OMP_NUM_THREADS=1 $(ADAPTERS)/bin/python -m pytest -rs \
	    tests/scoresde/priors/adapted tests/scoresde/priors/export tests/scoresde/cli/test_export.py

axe: .axe/package/axe.min.js

.axe/package/axe.min.js:
	mkdir -p .axe
	cd .axe && tar xzf "$$(npm pack --silent axe-core@4.14.1)" package/axe.min.js package/LICENSE

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

dist: $(VENV)/bin/python
	$(BIN)/python benchmarks/maintenance/dist.py --out dist

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/build.py --out out/docs

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "scoresde needs Python 3.11 or newer; run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[train]'
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $(VENV)/.installed $@

# without what those libraries depend on, which would replace torch; deepinv imports torchvision,
# and where none is installed for the same torch its tests are skipped
$(ADAPTERS)/.installed: pyproject.toml constraints.txt constraints-adapters.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "scoresde needs Python 3.11 or newer; run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(ADAPTERS)
	$(ADAPTERS)/bin/python -m pip install -q -c constraints.txt -e '.[test]'
	$(ADAPTERS)/bin/python -m pip install -q --no-deps -r constraints-adapters.txt
	touch $@

clean:
	rm -rf $(VENV) $(ADAPTERS) build *.egg-info out
