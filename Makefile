# Every target works on a fresh clone: `make install` is run on the first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard proto/draftpool/*/*.proto)

.PHONY: install demo test bench proto chart style quality clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install ## bring everything up on loopback, answer built-in prompts, print the table
	$(BIN)/draftpool demo

test: install ## everything that CI runs as tests
	$(BIN)/python -m pytest

bench: install ## the README's table; DATA is a JSON-lines file of GSM8K problems, without it the demo's few prompts
	$(BIN)/python -m benchmarks.single_stream $(if $(DATA),--prompts $(DATA),)

proto: install ## regenerate the stubs in draftpool/v1 and draftpool/keda
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

chart: install ## write the services' settings into the schema of the Helm chart's values
	$(BIN)/python -m deploy.helm.write_settings_schema

style: install ## format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

quality: install ## what CI demands of the code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info
