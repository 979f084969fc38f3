# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv first.
# Needs a Python 3.10 (on the PATH, under pyenv, or known to uv) and nothing else;
# `make PYTHON=/path/to/python3.10 …` names it.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test lint lock clean

setup: $(READY)

$(READY): requirements/py310.txt requirements/find_python.sh pyproject.toml
	@set -e; python="$$(sh requirements/find_python.sh '$(PYTHON)')"; \
	echo "setting up $(VENV) with $$python"; \
	"$$python" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 2>/dev/null \
	  || echo "uv is not to be had: using pip"
	@if [ -x $(BIN)/uv ]; then \
	  VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --require-hashes -r requirements/py310.txt; \
	else \
	  $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/py310.txt; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Resolves the pins anew (needs uv); addresses never enter the file.
LOCK := uv pip compile -q --no-header --no-emit-index-url --generate-hashes --python-version 3.10 \
	--python-platform x86_64-manylinux_2_28 --override requirements/overrides.in
lock:
	$(LOCK) requirements/py310.in -o requirements/py310.txt
	$(LOCK) requirements/peers.in -c requirements/py310.txt -o requirements/peers.txt

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache
