# Two commands on an empty machine (Debian 12, Python 3.11, git, make):  make demo   make test
# Everything lives in .venv; nothing outside this folder is touched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OLD := .venv-tflite214
# Where the CPU build of torch comes from; override on machines that do not have it configured:
#   make demo TORCH_INDEX="--index-url https://download.pytorch.org/whl/cpu"
TORCH_INDEX ?=

.PHONY: demo test check lint old-runtime clean

demo: $(READY)
	$(BIN)/compress run --model span --target mobile

test: $(READY)
	$(BIN)/pytest

check: lint test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "edgepress needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "no venv module: apt-get install python3-venv, or make PYTHON=/path/to/python3.11"; exit 1; }
	$(BIN)/pip install --quiet --constraint constraints.txt pip uv
	$(BIN)/pip install --quiet --constraint constraints.txt $(TORCH_INDEX) torch
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[all]' --group dev
	@touch $@

# tflite-runtime 2.14 needs numpy < 2, so it gets an environment of its own; tests/old_runtime uses it.
old-runtime: $(OLD)/.ready

$(OLD)/.ready:
	$(PYTHON) -m venv $(OLD)
	$(OLD)/bin/pip install --quiet 'tflite-runtime==2.14.0' 'numpy==1.26.4'
	@touch $@

clean:
	rm -rf $(VENV) $(OLD) .mypy_cache .ruff_cache .pytest_cache
