# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv first.
# Needs a Python 3.10 (on the PATH, under pyenv, or known to uv) and nothing else;
# `make PYTHON=/path/to/python3.10 …` names it.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The newest Python that all of the core's dependencies support; no Lava, no torch.
MODERN := 3.13
MODERN_VENV := .venv-modern

DOCS_VENV := .venv-docs

.PHONY: setup demo test test-modern lint docs lock schemas clean

setup: $(READY)

# $(1): environment, $(2): Python version, $(3): an interpreter the user named, $(4): pins
define install
	@set -e; python="$$(sh requirements/find_python.sh $(2) '$(3)')"; \
	echo "setting up $(1) with $$python"; \
	"$$python" -m venv --clear $(1)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 2>/dev/null \
	  || echo "uv not found; falling back to pip"
	$(call pip,$(1),$(4))
	@touch $(1)/.pins
endef

# $(1): environment, $(2): pins
define pip
	@if [ -x $(1)/bin/uv ]; then \
	  VIRTUAL_ENV=$(1) $(1)/bin/uv pip install --quiet --no-deps --require-hashes -r $(2); \
	else \
	  $(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(2); \
	fi
endef

$(VENV)/.pins: requirements/py310.txt
	$(call install,$(VENV),3.10,$(PYTHON),requirements/py310.txt)

$(MODERN_VENV)/.pins: requirements/modern.txt
	$(call install,$(MODERN_VENV),$(MODERN),$(PYTHON_MODERN),requirements/modern.txt)

$(DOCS_VENV)/.pins: requirements/docs.txt
	$(call install,$(DOCS_VENV),3.10,$(PYTHON),requirements/docs.txt)

%/.ready: %/.pins pyproject.toml
	@$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Real handwritten digits, from training to a verified Lava run and the comparison dense against sparse.
demo: setup
	@mkdir -p demo
	$(BIN)/lbi-train --dataset digits --optimizer adabreg --density 0.1 --seed 0 -o demo/model.pt
	$(BIN)/lbi-export demo/model.pt --target loihi -o demo/model.loihi --force
	$(BIN)/lbi-run demo/model.loihi --backend lava --dataset digits --samples 30 --verify
	$(BIN)/lbi-estimate demo/model.loihi --dataset digits --html demo/report.html

# The tests also compare with the frameworks that users come from (requirements/peers.in).
test: $(VENV)/.peers
	$(BIN)/python -m pytest

$(VENV)/.peers: $(READY) requirements/peers.txt
	$(call pip,$(VENV),requirements/peers.txt)
	@touch $@

# Without torch and Lava; where $(VENV) is there, exports are run in its Lava, across the two Pythons.
test-modern: $(MODERN_VENV)/.ready
	LBI_TEST_LAVA_PYTHON="$$(ls $(abspath $(BIN))/python 2>/dev/null)" $(MODERN_VENV)/bin/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in site/: made from docs/, the README, the commands' help and the docstrings; a broken link is an error.
docs: $(DOCS_VENV)/.pins
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

# Resolves all pins (needs uv); index addresses are not written to the files.
LOCK := uv pip compile -q --no-header --no-emit-index-url --generate-hashes --python-platform x86_64-manylinux_2_28
LOCK_310 := $(LOCK) --python-version 3.10 --override requirements/overrides.in
lock:
	$(LOCK_310) requirements/py310.in -o requirements/py310.txt
	$(LOCK_310) requirements/peers.in -c requirements/py310.txt -o requirements/peers.txt
	$(LOCK) --python-version $(MODERN) requirements/modern.in -o requirements/modern.txt
	$(LOCK) --python-version 3.10 requirements/docs.in -c requirements/py310.txt -o requirements/docs.txt

# docs/schema/*.json, from the types in src/lbi/cli/json_records.py.
schemas: setup
	$(BIN)/python docs/_tools/schemas.py

clean:
	rm -rf $(VENV) $(MODERN_VENV) $(DOCS_VENV) build dist demo site .pytest_cache .mypy_cache .ruff_cache
