# Two commands: `make demo` runs the whole line on real text, `make test` runs every check.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: demo test clean

demo: $(INSTALLED)
	"$(BIN)/python" -m lightadapt_data run pipelines/quickstart.toml

test: $(INSTALLED)
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"
	"$(BIN)/python" -m pytest

$(INSTALLED): pyproject.toml constraints.txt
	"$(PYTHON)" -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[flows,dev]"
	"$(BIN)/python" -m compileall -q lightadapt_data
	touch "$@"

clean:
	rm -rf "$(VENV)" runs
