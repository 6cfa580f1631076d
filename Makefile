# make demo | test | lint | bench | mutants: each sets up what it needs in .venv, from constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test exhaustive lint bench mutants proto clean

$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e '.[webdataset,torch,tokenize,image,audio]' scikit-learn
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) -e '.[all,dask]' -r requirements-dev.txt
	touch $@

demo: $(VENV)/.core
	$(BIN)/python examples/demo.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

exhaustive: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m exhaustive

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint

bench: $(VENV)/.dev
	for name in order resume client tokens images stream ingest; do $(BIN)/python bench/$$name.py || exit 1; done

mutants: $(VENV)/.dev
	$(BIN)/python tests/order/mutants.py

proto: $(VENV)/.dev
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto --grpc_python_out=proto \
	  --mypy_out=proto --mypy_grpc_out=proto proto/choline_data/v1/*.proto

clean:
	rm -rf $(VENV) build dist src/*.egg-info
