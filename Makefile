# Everything runs in .venv, which is made here with nothing but `python3` and holds exactly what requirements.lock says.
# Another Python: `make test PYTHON=python3.13`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HALF_MADE := $(VENV)/.installing
PIP := $(BIN)/python -m pip --disable-pip-version-check
VERSION_OF := -c 'import sys; print(*sys.version_info[:2])'

# A Python that was named on the command line or in the environment and is not the one of .venv makes .venv anew.
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) $(VERSION_OF)),$(shell $(BIN)/python $(VERSION_OF) 2>/dev/null))
.PHONY: $(STAMP)
endif
endif

# Where this is set Python compiles every module again for every process that imports it: a second of CPU for each start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test faults bench up down check lock
.DELETE_ON_ERROR:

demo: $(STAMP)
	@$(BIN)/tollgate demo

test: $(STAMP)
	@$(BIN)/pytest -n 4 -m "not long"

faults: $(STAMP)
	@$(BIN)/pytest -m long

bench: $(STAMP)
	@$(BIN)/tollgate bench

up: $(STAMP)
	@$(BIN)/tollgate up

down:
	@if [ -x $(BIN)/tollgate ]; then $(BIN)/tollgate down; else echo "nothing was installed here, so nothing runs"; fi

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Interrupted half-way, the next run starts over: pip takes a half-installed package for an installed one.
$(STAMP): requirements.lock pyproject.toml
	@if [ -e $(HALF_MADE) ] || [ "$$($(BIN)/python $(VERSION_OF) 2>/dev/null)" != "$$($(PYTHON) $(VERSION_OF))" ] \
		|| ! $(PIP) --version >/dev/null 2>&1; then \
		echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); fi
	@touch $(HALF_MADE)
	@echo "installing the packages of requirements.lock (a minute or two the first time)"
	@# --no-compile: of these nine thousand modules Python compiles those that it imports, when it does.
	@$(PIP) install --quiet --no-compile --require-hashes --no-deps --only-binary=:all: --requirement requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@echo "compiling the loops that rate events"
	@$(BIN)/python -m streams.rehearsal
	@rm -f $(HALF_MADE)
	@touch $(STAMP)

# Resolves pyproject.toml anew, for every Python it allows. The lock names no registry.
lock:
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(VENV)-lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--python-version 3.11 --extra dev pyproject.toml --output-file requirements.lock
	@rm -rf $(VENV)-lock
