# make demo   sets up an environment and registers a real pair with a bundled model (DATA=folder: a pair of its data)
# make test   sets up an environment with all three backends and runs the checks, those that take minutes left out
# make test-all   the same with the slow ones, as before a release
# make gpu-pack RECIPE=file DATA=folder   packs a training for a machine with a GPU and no package index (PACK=folder)
# make docs   sets up an environment and writes the guide and the reference as pages to site/
PYTHON ?= python3
VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

.PHONY: demo test test-all docs gpu-pack clean

demo: $(VENV)/demo.stamp
	$(BIN)/regzoo demo --output out $(if $(DATA),--data $(DATA))

test: $(VENV)/test.stamp
	$(BIN)/python tests/run.py

test-all: $(VENV)/test.stamp
	$(BIN)/python tests/run.py --all

docs: $(VENV)/docs.stamp
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs . site
	$(PYTHON) -c "print('Open site/docs/index.html.')"

gpu-pack: $(VENV)/test.stamp
	$(BIN)/python tests/tools/gpu_pack.py $(RECIPE) $(or $(PACK),gpu-pack) --data $(DATA)

$(VENV)/demo.stamp: pyproject.toml | $(BIN)
	$(BIN)/python -m pip install --quiet --editable ".[tensorflow]"
	$(PYTHON) -c "open('$@', 'w').close()"

$(VENV)/docs.stamp: pyproject.toml | $(BIN)
	$(BIN)/python -m pip install --quiet --editable ".[tensorflow,docs]"
	$(PYTHON) -c "open('$@', 'w').close()"

$(VENV)/test.stamp: pyproject.toml tests/constraints.txt | $(BIN)
	$(PYTHON) tests/timed.py installation $(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --editable ".[tensorflow,torch,jax,dev]"
	$(PYTHON) -c "open('$@', 'w').close()"

$(BIN):
	$(PYTHON) -m venv $(VENV)

clean:
	$(PYTHON) -c "import shutil; [shutil.rmtree(p, ignore_errors=True) for p in ('$(VENV)', 'out', 'scores', 'site')]"
