# The commands of the house. `make demo` and `make test` are the README's.
# uv is used if it is there, else brought from PyPI into .tools.
.DEFAULT_GOAL := help
TOOLS := $(CURDIR)/.tools
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/bin/uv)
RUN := $(UV) run --frozen
export GRPC_VERBOSITY ?= ERROR
PROTOS := $(wildcard proto/markethistory/v1/*.proto)

help: ## Shows this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(TOOLS)/bin/uv:
	python3 -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check uv

install: $(UV) ## Installs everything that tests and benchmarks need.
	$(UV) sync --frozen --quiet

generate: install ## Generates the Python code of the contract.
	$(RUN) python -m grpc_tools.protoc --proto_path=proto --python_out=clients/python --grpc_python_out=clients/python \
	  --mypy_out=clients/python --mypy_grpc_out=clients/python $(PROTOS)

.PHONY: help install generate
