# Every target works on a fresh clone with only python3 (>= 3.11) and make.
PYTHON ?= python3
PORT ?= 8000
STATE_DIR ?= .state
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: up demo manage test chaos soak bench screenshots check audit sbom system lock clean help

help:
	@echo "make up     run the whole stack in the foreground (PORT=$(PORT), STATE_DIR=$(STATE_DIR)); Ctrl-C stops it"
	@echo "make demo   a scripted trading day on a stack of its own; non-zero when anything surprises"
	@echo "make manage CMD=\"...\"  a manage.py command on the stack that runs on STATE_DIR, for example account list"
	@echo "make test   run the tests"
	@echo "make chaos  kill and break everything while orders flow, then compare the books (CHAOS_SEED=1; about 20 minutes)"
	@echo "make soak   the tests that make test runs with reduced counts, with the full ones"
	@echo "make bench  the benchmarks; one JSON line a figure in STATE_DIR/bench.jsonl"
	@echo "make screenshots  pictures of every page, of a day on a throw-away stack, into docs/images"
	@echo "make check  format, lint, types, import contracts, missing migrations, compose and workflow files, audits"
	@echo "make audit  security audits of code, dependencies, licences, workflows and settings; waivers in ops/waivers.toml"
	@echo "make sbom   the bill of materials of what the image installs, as sbom.cdx.json (CycloneDX)"
	@echo "make lock   pin requirements.txt into requirements.lock again, with hashes (UPGRADE=1 raises the pins)"
	@echo "make clean  remove the environment and the caches (the data in STATE_DIR stays)"

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, but $(PYTHON) is %d.%d; name another one with make PYTHON=python3.12" % v[:2])'
	@echo "Setting up $(VENV) from requirements.lock (once, about a minute)"
	@$(PYTHON) -m venv $(VENV) || { echo "python3 could not make $(VENV); on Debian or Ubuntu install python3-venv"; exit 1; }
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements.lock
	@touch $@

up: $(STAMP)
	@PORT=$(PORT) STATE_DIR=$(STATE_DIR) exec $(PY) ops/stack.py

# What a command beside the running stack needs was written by `make up`, for the same STATE_DIR.
manage: $(STAMP)
	@test -r "$(STATE_DIR)/stack.env" || { echo "no stack has run on $(STATE_DIR): make up first, or name its STATE_DIR"; exit 1; }
	@set -a; . "$(abspath $(STATE_DIR))/stack.env"; exec $(PY) manage.py $(CMD)

demo: $(STAMP)
	@$(PY) -m ops.demo

# By group: the browser tests stay on one worker, which starts one browser.
test: $(STAMP) system
	$(PY) -m pytest tests/ -n 2 --dist loadgroup

# CONTROL=no-replay-guard drops the constraint behind the replay guard first: the judge must find that.
chaos: $(STAMP)
	@CHAOS_SEED="$(CHAOS_SEED)" CONTROL="$(CONTROL)" $(PY) -m tests.chaos

soak: $(STAMP)
	SOAK=1 $(PY) -m pytest tests/ -m soak --timeout 3600

bench: $(STAMP)
	@STATE_DIR=$(STATE_DIR) $(PY) -m tests.bench

# Pictures of the control room on a throw-away stack (SHOTS names another folder).
screenshots: $(STAMP)
	@$(PY) -m ops.screenshots

# What must come from the system (ops/apt.txt): installed where make is root and has apt, else one line says how.
system: $(STAMP)
	@$(PY) ops/system_packages.py

check: $(STAMP) system
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(PY) -m mypy backend
	$(VENV)/bin/lint-imports
	# The models are compared with the migrations only; no database is asked.
	ENVIRONMENT=test SECRET_KEY=only-compares-models-with-migrations \
	DATABASE_URL=postgresql://127.0.0.1:9/none REDIS_URL=redis://127.0.0.1:9/0 \
	$(PY) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@if docker compose version >/dev/null 2>&1; \
	then ALLOWED_HOSTS=trading.example WAL_DIR=/var/backups/wal docker compose --file docker-compose.yml config --quiet; \
	else echo "docker compose config: skipped, the compose plugin of docker is not installed"; fi
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(VENV)/bin/check-jsonschema --schemafile ops/lint/alertmanager.schema.json ops/alertmanager.yml
	@if command -v promtool >/dev/null; then promtool check rules ops/alerts.yml && promtool test rules ops/alerts_test.yml \
	&& promtool check config --syntax-only ops/prometheus.yml; \
	else echo "promtool: skipped, it is not installed (ops/apt.txt)"; test -z "$$CI"; fi
	$(PY) ops/lint_workflows.py .github/workflows/*.yml
	$(PY) ops/audit.py bandit licences zizmor

audit: $(STAMP)
	$(PY) ops/audit.py

sbom: $(STAMP)
	$(VENV)/bin/cyclonedx-py requirements --output-reproducible --of JSON --output-file sbom.cdx.json requirements-run.lock
	@$(PY) -c 'import json; print("sbom.cdx.json:", len(json.load(open("sbom.cdx.json"))["components"]), "components")'

LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"
# UPGRADE=1 takes the newest version of everything that requirements.txt lets; without it what is pinned stays.
lock: $(STAMP)
	$(LOCK) $(if $(UPGRADE),--upgrade) --output-file requirements.lock requirements.txt
	printf '%s\n' opentelemetry-sdk opentelemetry-exporter-otlp-proto-http \
	| $(LOCK) --constraint requirements.lock --output-file requirements-otel.lock -
	sed '/^# ====/,$$d' requirements.txt | $(LOCK) --constraint requirements.lock --output-file requirements-run.lock -

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
