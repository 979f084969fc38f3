# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv first, with the newest Python of 3.10 to 3.14
# that is on the PATH, under pyenv, or known to uv; `make PYTHON=/path/to/python3 …` names another one.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OLDEST_VENV := .venv-oldest
DOCS_VENV := .venv-docs

NEWEST := 3.14 3.13 3.12 3.11 3.10
OLDEST := 3.10 3.11 3.12 3.13 3.14

# On Linux on x86-64 the pinned torch is a CUDA build of several GB, as the package index has no other. Arguments of
# `uv pip install` that bring another torch and torchvision, for instance
# `make demo TORCH='--torch-backend cpu torch==2.15.0 torchvision'`.
TORCH ?=

# What only a run on a GPU loads.
GPU_PINS := $(if $(shell nvidia-smi -L 2>/dev/null),requirements/gpu.txt requirements/triton.txt)
TORCH_PINS := $(if $(TORCH),,requirements/torch.txt $(GPU_PINS))

# Where it is set, as in many containers, every process compiles what it imports again: each command then takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-oldest lint docs lock schemas clean

setup: $(READY)

# $(1): environment, $(2): versions in the order of preference, $(3): an interpreter the user named, $(4): pins
define install
	@set -e; python="$$(sh requirements/find_python.sh '$(2)' '$(3)')"; \
	echo "setting up $(1) with $$python"; \
	"$$python" -m venv --clear $(1)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 2>/dev/null \
	  || echo "uv not found; falling back to pip"
	$(call pip,$(1),--no-deps --require-hashes $(foreach pins,$(4),-r $(pins)))
	@touch $(1)/.pins
endef

# $(1): environment, $(2): what to install. The wheels of Lava name an upper bound of Python that uv ignores.
define pip
	@if [ -x $(1)/bin/uv ]; then \
	  VIRTUAL_ENV=$(1) $(1)/bin/uv pip install --quiet $(2); \
	else \
	  $(1)/bin/python -m pip install --quiet --disable-pip-version-check --ignore-requires-python $(2); \
	fi
endef

$(VENV)/.pins: requirements/main.txt $(TORCH_PINS)
	$(call install,$(VENV),$(NEWEST),$(PYTHON),requirements/main.txt $(TORCH_PINS))
	$(if $(TORCH),$(call pip,$(VENV),$(TORCH)))

$(OLDEST_VENV)/.pins: requirements/main.txt $(TORCH_PINS)
	$(call install,$(OLDEST_VENV),$(OLDEST),$(PYTHON_OLDEST),requirements/main.txt $(TORCH_PINS))
	$(if $(TORCH),$(call pip,$(OLDEST_VENV),$(TORCH)))

$(DOCS_VENV)/.pins: requirements/docs.txt
	$(call install,$(DOCS_VENV),$(NEWEST),$(PYTHON),requirements/docs.txt)

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

# The tests also compare with the frameworks that users come from (requirements/peers.in). Each process takes whole files.
TEST_PROCESSES ?= 2
PYTEST := python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile
test: $(VENV)/.peers
	$(BIN)/$(PYTEST)

%/.peers: %/.ready requirements/peers.txt requirements/triton.txt requirements/sweep.txt
	$(call pip,$*,--no-deps --require-hashes -r requirements/peers.txt -r requirements/triton.txt -r requirements/sweep.txt)
	@touch $@

# The same tests on the oldest Python at hand; its exports are run in the Lava of $(VENV), too.
test-oldest: $(OLDEST_VENV)/.peers
	LBI_TEST_LAVA_PYTHON="$$(ls $(abspath $(BIN))/python 2>/dev/null)" $(OLDEST_VENV)/bin/$(PYTEST)

# Types are checked on the oldest Python, against the oldest NumPy: the stubs of NumPy 2 type the same calls otherwise.
lint: $(OLDEST_VENV)/.ready
	$(OLDEST_VENV)/bin/ruff check .
	$(OLDEST_VENV)/bin/ruff format --check .
	@if $(OLDEST_VENV)/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))'; then \
	  $(OLDEST_VENV)/bin/mypy; \
	else echo "types not checked: that needs Python 3.10"; fi

# The site, in site/: made from docs/, the README, the commands' help and the docstrings; a broken link is an error.
docs: $(DOCS_VENV)/.pins
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

# Resolve the pins again, for all Pythons and platforms at once (needs uv); addresses never enter the files.
LOCK := uv pip compile -q --no-header --no-emit-index-url --generate-hashes --universal --python-version 3.10 \
  --overrides requirements/overrides.in --excludes requirements/excludes.in
lock:
	$(LOCK) requirements/main.in --excludes requirements/torch.in -o requirements/main.txt
	$(LOCK) requirements/torch.in -c requirements/main.txt --excludes requirements/gpu.in --excludes requirements/triton.in \
	  -o requirements/torch.txt
	$(LOCK) requirements/torch.in -c requirements/torch.txt -c requirements/main.txt -o requirements/with_gpu.txt
	$(LOCK) requirements/gpu.in -c requirements/with_gpu.txt --no-deps -o requirements/gpu.txt
	$(LOCK) requirements/triton.in -c requirements/with_gpu.txt --no-deps -o requirements/triton.txt
	rm requirements/with_gpu.txt
	$(LOCK) requirements/peers.in -c requirements/main.txt -c requirements/torch.txt --excludes requirements/torch.in \
	  --excludes requirements/gpu.in --excludes requirements/triton.in -o requirements/peers.txt
	$(LOCK) requirements/sweep.in -c requirements/main.txt -c requirements/peers.txt -o requirements/sweep.txt
	$(LOCK) requirements/docs.in -c requirements/main.txt -o requirements/docs.txt

# docs/schema/*.json, from the types in src/lbi/cli/json_records.py, and the tables in docs/reference that come from the code.
schemas: setup
	$(BIN)/python docs/_tools/schemas.py
	$(BIN)/python docs/_tools/reference.py

clean:
	rm -rf $(VENV) $(OLDEST_VENV) $(DOCS_VENV) build dist demo site .pytest_cache .mypy_cache .ruff_cache
