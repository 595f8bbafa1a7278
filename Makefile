# The commands of the house. `make demo` and `make test` are the README's.
# Needs Python 3.11 or newer with pip. uv is used if it is there, else brought from PyPI into .tools.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
TOOLS := $(CURDIR)/.tools
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo $(TOOLS)/bin/uv)
RUN := $(UV) run --frozen --quiet
GRPCURL := $(TOOLS)/bin/grpcurl
GRPCURL_MODULE := github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
NAME ?= read
export GRPC_VERBOSITY ?= NONE

help: ## Shows this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

demo: $(UV) ## Fills a month of bars from a small exchange on this machine, and reads it back.
	@$(RUN) --no-dev --extra ccxt historyd demo

test: lint $(GRPCURL) redis ## Everything that CI runs: lint, then every test.
	@echo "== tests"
	@$(RUN) -m pytest -W error -n auto -q

lint: install ## Style, format and types.
	@echo "== lint"
	@$(RUN) ruff check --quiet .
	@$(RUN) ruff format --check --quiet . || { echo "Not formatted as the house does: $(UV) run ruff format"; exit 1; }
	@$(RUN) mypy --no-error-summary

torture: install ## Kills QuestDB, and servers on it, at 20 random moments each.
	@TORTURE_ROUNDS=20 $(RUN) -m pytest -W error -q tests/integration/test_questdb_faults.py tests/e2e/test_questdb.py -k killed

generate: install ## Generates the Python code of the contract from proto/.
	@$(RUN) python proto/generate.py clients/python

bench: install ## Runs one benchmark: make bench NAME=read (the others: ls benchmarks).
	@$(RUN) python -m benchmarks $(NAME)

questdb: install ## Runs a QuestDB on this machine for development, its jar through Maven, its data in .tools/questdb.
	@$(RUN) python -m tests.questdb_server .tools/questdb

cluster: install redis ## Three servers that share one quota and one QuestDB fill a range together; then all is stopped.
	@$(RUN) python -m tests.cluster

install: $(UV) ## Installs everything that tests and benchmarks need.
	@echo "== install"
	@$(UV) sync --frozen --quiet

clean: ## Removes all that these commands have made.
	rm -rf .venv .tools dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Into a folder of its own, so that neither the system's Python nor its missing venv module matters.
$(TOOLS)/bin/uv:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed as python3; this is $$(python3 --version 2>&1)."; exit 1; }
	@echo "== uv, from PyPI into .tools"
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target $(TOOLS) 'uv==0.13.9' || \
	  { echo "pip could not install uv. Without pip: apt install python3-pip; or install uv yourself:" \
	         "https://docs.astral.sh/uv"; exit 1; }

$(GRPCURL):
	@if command -v go >/dev/null 2>&1; then \
	  echo "== grpcurl, built from its Go module into .tools (once, some minutes)"; \
	  GOBIN=$(TOOLS)/bin GOFLAGS=-mod=mod go install $(GRPCURL_MODULE); \
	elif [ -n "$$CI" ]; then echo "CI needs Go: the tests drive the server with grpcurl."; exit 1; \
	else echo "No Go here: the tests that drive the server with grpcurl will be skipped."; fi

# The tests start a redis-server of their own. CI may bring it; at home that is for you to do.
redis:
	@command -v redis-server >/dev/null 2>&1 || { \
	  if [ -n "$$CI" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "== redis-server, by apt"; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null; \
	  else echo "The tests need redis-server: apt install redis-server, or brew install redis."; exit 1; fi; }

.PHONY: help demo test lint generate bench questdb cluster torture redis install clean
