# Every target works on a fresh clone with only python3 (>= 3.11) and make.
PYTHON ?= python3
PORT ?= 8000
STATE_DIR ?= .state
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: up test check lock clean help

help:
	@echo "make up     run the whole stack in the foreground (PORT=$(PORT), STATE_DIR=$(STATE_DIR)); Ctrl-C stops it"
	@echo "make test   run the tests"
	@echo "make check  format, lint, types, import contracts, missing migrations, compose file"
	@echo "make lock   pin requirements.txt into requirements.lock again, with hashes"
	@echo "make clean  remove the environment and the caches (the data in STATE_DIR stays)"

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, but $(PYTHON) is %d.%d; name another one with make PYTHON=python3.12" % v[:2])'
	@echo "Setting up $(VENV) from requirements.lock (once, about a minute)"
	@$(PYTHON) -m venv $(VENV) || { echo "python3 could not make $(VENV); on Debian or Ubuntu install python3-venv"; exit 1; }
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements.lock
	@touch $@

up: $(STAMP)
	@PORT=$(PORT) STATE_DIR=$(STATE_DIR) exec $(PY) ops/stack.py

test: $(STAMP)
	$(PY) -m pytest tests/ -n 2

check: $(STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(PY) -m mypy backend
	$(VENV)/bin/lint-imports
	# The models are compared with the migrations only; no database is asked.
	ENVIRONMENT=test SECRET_KEY=only-compares-models-with-migrations \
	DATABASE_URL=postgresql://127.0.0.1:9/none REDIS_URL=redis://127.0.0.1:9/0 \
	$(PY) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

lock: $(STAMP)
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --output-file requirements.lock requirements.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
