# make demo    install, fetch MovieLens-100k, train, evaluate, recommend, explain, report
# make serve   the same run as a service with a web page, until Ctrl-C
# make test    install, then everything that must hold: ruff, mypy, all tests
# make notebooks  run the notebooks of examples/ and store what they show
# make check   the quick form of it, for an environment that is set up

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
POSTGRES ?= 127.0.0.1:5432

.PHONY: demo test check format clean

demo: .venv/core.stamp
	$(BIN)/m6rec demo

.PHONY: serve
serve: .venv/serve.stamp
	@test -e runs/CURRENT || $(BIN)/m6rec demo
	$(BIN)/m6rec serve current

test: .venv/dev.stamp lint
	@if $(BIN)/python -c "import psycopg; psycopg.connect('postgresql://postgres@$(POSTGRES)/test', connect_timeout=3)" 2>/dev/null; \
	then M6REC_TEST_POSTGRES=postgresql://postgres@$(POSTGRES)/test $(BIN)/pytest; \
	else echo '*** No PostgreSQL answers at $(POSTGRES): its tests are LEFT OUT. ***'; $(BIN)/pytest; fi

.PHONY: lint
lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	$(BIN)/pytest -x tests/test_floors.py tests/test_contract.py tests/test_cli.py

.PHONY: notebooks
notebooks: .venv/dev.stamp
	cd examples && ../$(BIN)/jupyter execute --inplace tour.ipynb transfer.ipynb

.PHONY: docs
docs: .venv/dev.stamp
	$(BIN)/python docs/generate.py

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache dist

.venv/core.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'm6rec needs Python 3.11 or newer; say which with: make $(MAKECMDGOALS) PYTHON=python3.12'; exit 1; }
	@echo 'Installing into .venv (once; a few minutes) …'
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	@touch $@

.venv/serve.stamp: .venv/core.stamp
	$(PIP) -e '.[serve]'
	@touch $@

.venv/dev.stamp: .venv/core.stamp
	@echo 'Installing the tools that tests need …'
	$(PIP) -e '.[dev]'
	@touch $@
