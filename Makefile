# The doors. Each sets up what it needs first; a second call finds that done and costs nothing.
SHELL := /bin/bash
BIN := .venv/bin
ENVIRONMENT := .venv/.installed
SYSTEM := .venv/.system
AZURITE := .venv/.azurite
PROMETHEUS := .venv/prometheus
# A file at a time, as they are collected: what a module sets up is set up once.
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
PACKAGES := tesseract-ocr tesseract-ocr-eng tesseract-ocr-osd postgresql

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-faults check bench bench-models setup clean

help:
	@echo "make demo         set up, draw images, run the pipelines over them, show what came out"
	@echo "make test         set up, run the tests (those under half a minute each)"
	@echo "make test-all     all tests"
	@echo "make test-faults  the tests that kill workers, drivers and stores"
	@echo "make check        lint, format, types, import direction"
	@echo "make bench        the benchmarks, as JSON"
	@echo "make bench-models those of the models alone"
	@echo "make setup        only set up; make clean removes what setting up made"

demo: setup
	$(BIN)/swath demo

test: setup
	$(BIN)/pytest -m "not slow" $(SIDE_BY_SIDE)

test-all: setup
	$(BIN)/pytest

test-faults: setup
	$(BIN)/pytest tests/faults

check: $(ENVIRONMENT)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m tests.benchmarks

bench-models: setup
	$(BIN)/python -m tests.benchmarks --only models

setup: $(ENVIRONMENT) $(SYSTEM) $(AZURITE) $(PROMETHEUS)

# `command -v` is not proof: pyenv leaves a python3.11 that only says it is not selected.
$(ENVIRONMENT): pyproject.toml constraints.txt
	@python=$$(for name in python3.11 python3.12 python3.13 python3 python; do \
	    $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done); \
	if [ -z "$$python" ]; then \
	    echo "Python 3.11 or newer is needed, and none is on the PATH: install it (https://www.python.org/downloads/)" >&2; \
	    exit 1; \
	fi; \
	[ -x $(BIN)/python ] || $$python -m venv .venv || { \
	    echo "$$python cannot make a virtual environment: install its venv package (Debian: python3-venv)" >&2; exit 1; }
	@echo "Installing Swath and what it stands on into .venv: about 7 GB, three to ten minutes ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off \
	    -c constraints.txt -e '.[dev]'
	@touch $@

# Tesseract's language data, without which OCR falls back on RapidOCR, and Postgres, for tests alone, which skip
# without: this step never fails.
$(SYSTEM): | $(ENVIRONMENT)
	@as_root() { if [ "$$(id -u)" = 0 ]; then "$$@"; else sudo -n "$$@"; fi; }; \
	apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::http::Timeout=20 -o Acquire::Retries=1 -qq "$$@"; }; \
	if tesseract --list-langs 2>/dev/null | grep -qx eng && tesseract --list-langs 2>/dev/null | grep -qx osd && \
	    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then \
	    touch $@; \
	elif command -v apt-get >/dev/null && as_root true 2>/dev/null; then \
	    echo "Installing $(PACKAGES) with apt-get ..."; \
	    { apt install -y --no-install-recommends $(PACKAGES) || \
	      { apt update && apt install -y --no-install-recommends $(PACKAGES); }; } >/dev/null 2>&1 && touch $@; \
	elif command -v brew >/dev/null; then \
	    echo "Installing tesseract with Homebrew ..."; \
	    brew install --quiet tesseract >/dev/null 2>&1 && touch $@; \
	fi; \
	[ -e $@ ] || echo "Tesseract could not be installed from here; for the fast OCR engine install $(PACKAGES) (RapidOCR serves until then)."

# Azure's emulator, for tests alone, which say that they skip where npm is not there.
$(AZURITE): | $(ENVIRONMENT)
	@if ! command -v npm >/dev/null; then \
	    echo "npm is not there: the tests of Azure are skipped"; \
	elif npm install --prefix .venv/node --no-save --no-package-lock --omit=dev --no-audit --no-fund --loglevel=error \
	    azurite@3.37.0 >/dev/null 2>&1; then \
	    touch $@; \
	else \
	    echo "azurite could not be installed from here: the tests of Azure are skipped"; \
	fi

# Prometheus, for tests alone: unpacked and not installed, so that no service of it starts. After $(SYSTEM), which brings
# apt's lists up to date where that is needed.
$(PROMETHEUS): | $(SYSTEM)
	@cd .venv && { apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb prometheus && rm prometheus_*.deb; } \
	    >/dev/null 2>&1 || echo "Prometheus could not be unpacked from here: some tests of metrics and alerts are skipped"

clean:
	rm -rf .venv build dist .src/*.egg-info
