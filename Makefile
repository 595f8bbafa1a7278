# The commands of the house. `make demo` and `make test` are the README's.
# Needs Python 3.11 or newer with pip. uv is used if it is there, else brought from PyPI into .tools.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
TOOLS := $(CURDIR)/.tools
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo $(TOOLS)/bin/uv)
RUN := $(UV) run --frozen --quiet
PROST := $(TOOLS)/bin/protoc-gen-tonic
GRPCURL := $(TOOLS)/bin/grpcurl
GRPCURL_MODULE := github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
FLIGHT_GO := $(TOOLS)/bin/flight_go
NAME ?= read
export GRPC_VERBOSITY ?= NONE

help: ## Shows this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

demo: $(UV) ## Fills a month of bars from a small exchange on this machine, and reads it back.
	@$(RUN) --no-dev --extra ccxt historyd demo

test: lint $(GRPCURL) $(FLIGHT_GO) $(PROST) redis clients ## Everything that CI runs: lint, then every test.
	@echo "== tests"
	@$(RUN) -m pytest -W error -n auto -q

lint: install ## Style, format and types.
	@echo "== lint"
	@$(RUN) ruff check --quiet .
	@$(RUN) ruff format --check --quiet . || { echo "Not formatted as the house does: $(UV) run ruff format"; exit 1; }
	@$(RUN) mypy --no-error-summary

torture: install ## Kills QuestDB, under a store and under a server, and servers on it, at 20 random moments each.
	@TORTURE_ROUNDS=20 $(RUN) -m pytest -W error -q tests/integration/test_questdb_faults.py \
	  tests/e2e/test_questdb.py tests/e2e/test_questdb_away.py -k killed

clients: ## Checks the clients of the other languages, and builds their programs; clients-go and so on: one of them.
	@$(MAKE) -C clients

clients-%:
	@$(MAKE) -C clients $*

generate: install $(PROST) clients-node_modules ## Generates the code of the contract in all languages (buf.gen.yaml); needs Go, Rust, Node.
	@$(RUN) python proto/generate.py

bench: install ## Runs one benchmark: make bench NAME=read (the others: ls benchmarks).
	@test "$(NAME)" != clients || $(MAKE) clients-bench
	@$(RUN) python -m benchmarks $(NAME)

questdb: install ## Runs a QuestDB on this machine for development, its jar through Maven, its data in .tools/questdb.
	@$(RUN) python -m tests.questdb_server .tools/questdb

cluster: install redis ## Three servers that share one quota and one QuestDB fill a range together; then all is stopped.
	@$(RUN) python -m tests.cluster

install: $(UV) ## Installs everything that tests and benchmarks need.
	@echo "== install"
	@$(UV) sync --frozen --quiet

clean: ## Removes all that these commands have made.
	rm -rf .venv .tools dist clients/typescript/node_modules clients/typescript/dist clients/typescript/build
	rm -rf clients/java/target clients/rust/target .pytest_cache .mypy_cache .ruff_cache .hypothesis
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

$(FLIGHT_GO): $(wildcard tests/flight_go/*)
	@if command -v go >/dev/null 2>&1; then \
	  echo "== Go's Flight client, built for the tests into .tools (once, some minutes)"; \
	  go build -C tests/flight_go -o $@ .; \
	elif [ -n "$$CI" ]; then echo "CI needs Go: the tests read through Go's Flight client."; exit 1; \
	else echo "No Go here: the tests that read through Go's Flight client will be skipped."; fi

# Two protoc plugins, built without optimisation: they run for milliseconds.
$(PROST):
	@if command -v cargo >/dev/null 2>&1; then \
	  echo "== protoc-gen-prost and protoc-gen-tonic, built from their crates into .tools (once, some minutes)"; \
	  cargo install --quiet --locked --debug --root $(TOOLS) protoc-gen-prost@0.5.0 protoc-gen-tonic@0.5.0; \
	elif [ -n "$$CI" ]; then echo "CI needs Rust: its code is generated again and compared."; exit 1; \
	else echo "No Rust here: its code cannot be generated."; fi

# The tests start a redis-server of their own. CI may bring it; at home that is for you to do.
redis:
	@command -v redis-server >/dev/null 2>&1 || { \
	  if [ -n "$$CI" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "== redis-server, by apt"; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null; \
	  else echo "The tests need redis-server: apt install redis-server, or brew install redis."; exit 1; fi; }

.PHONY: help demo test lint clients generate bench questdb cluster torture redis install clean
