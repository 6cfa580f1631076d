# make demo | test | lint | docs | bench | mutants: each sets up what it needs in .venv, from the files in locks/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := all,dask
SLICE := tests/order tests/store tests/mix tests/cli tests/test_cursor.py tests/test_recipe.py \
  tests/service/test_streams.py tests/catalog/test_ingest.py -m "not slow and not exhaustive"

.PHONY: demo test exhaustive lint docs bench mutants proto lock resolve wheel fresh test-newest test-oldest newest-slice oldest-slice slice-newest slice-oldest clean

$(VENV)/.core: locks/demo.txt
	$(PYTHON) -m venv $(VENV)
	locks/install.sh $(BIN)/python demo
	touch $@

$(VENV)/.dev: locks/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	locks/install.sh $(BIN)/python dev
	touch $@ $(VENV)/.core

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
	$(BIN)/python -m tests.dead_code

# The site, into build/site. A broken link, or a page that the map does not name, is an error.
$(VENV)-docs/.done: locks/docs.txt
	$(PYTHON) -m venv --clear $(VENV)-docs
	locks/install.sh $(VENV)-docs/bin/python docs
	touch $@

docs: $(VENV)-docs/.done
	$(VENV)-docs/bin/mkdocs build --strict

bench: $(VENV)/.dev
	for name in order resume cold client tokens images stream ingest feedback; do $(BIN)/python bench/$$name.py || exit 1; done

mutants: $(VENV)/.dev
	$(BIN)/python tests/order/mutants.py

proto: $(VENV)/.dev
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto --grpc_python_out=proto \
	  --mypy_out=proto --mypy_grpc_out=proto proto/choline_data/v1/*.proto

lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-lock/bin/python locks/renew.py
	rm -rf $(VENV)-lock

# Each extra resolves in a minute with pip alone; the wheel works in an environment of its own.
resolve: $(VENV)/.dev
	$(BIN)/python locks/resolve.py $(RESOLVE)

wheel: $(VENV)/.dev
	locks/try_wheel.sh $(BIN)/python

# A new user's machine: a clone, an empty HOME, no environment but what pip needs.
fresh:
	locks/fresh.sh $(FRESH)

# The bounds of pyproject.toml are true: the suite against the newest releases, and against the oldest (on Python 3.11).
$(VENV)-newest/.done: pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(VENV)-newest/bin/python -m pip install --quiet -e '.[$(EXTRAS)]' --group dev
	touch $@

$(VENV)-oldest/.done: locks/oldest.txt
	$(PYTHON) -m venv --clear $(VENV)-oldest
	locks/install.sh $(VENV)-oldest/bin/python oldest
	touch $@

$(VENV)-newest-slice/.done: pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)-newest-slice
	$(VENV)-newest-slice/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(VENV)-newest-slice/bin/python -m pip install --quiet -e . --group test
	touch $@

$(VENV)-oldest-slice/.done: locks/oldest-slice.txt
	$(PYTHON) -m venv --clear $(VENV)-oldest-slice
	locks/install.sh $(VENV)-oldest-slice/bin/python oldest-slice
	touch $@

newest-slice oldest-slice: %-slice: $(VENV)-%-slice/.done

test-newest test-oldest: test-%: $(VENV)-%/.done
	$(VENV)-$*/bin/python -m pytest -q -n 2 --dist loadfile

slice-newest slice-oldest: slice-%: $(VENV)-%-slice/.done
	$(VENV)-$*-slice/bin/python -m pytest -q $(SLICE)

clean:
	rm -rf $(VENV) $(VENV)-* build dist src/*.egg-info
