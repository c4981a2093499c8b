PYTHON ?= python3
BIN := .venv/bin
# a worker a core; what a module's tests share is made once
PARALLEL := --numprocesses logical --maxprocesses 4 --dist loadfile

.PHONY: quickstart test test-lowest lint types docs lock clean

quickstart: .venv/installed  ## train a small ViT on generated shapes and see where it looks
	$(BIN)/python train.py fit --config configs/quickstart.yaml

test: .venv/installed-dev lint types docs  ## lint, types, documentation and every test
	$(BIN)/python -m pytest $(PARALLEL)

test-lowest: .venv-lowest/installed  ## every test against the lowest versions that pyproject.toml allows
	.venv-lowest/bin/python -m pytest $(PARALLEL)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/installed-dev
	$(BIN)/mypy

docs: .venv/installed-dev  ## the documentation as a site, in build/site
	$(BIN)/mkdocs build --strict --quiet

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("agcam needs Python 3.11 or newer, %s is %d.%d; try make PYTHON=python3.12" % ((sys.executable,) + sys.version_info[:2]) if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-lowest/installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[dev]'
	touch $@

lock:  ## write the newest versions of everything into constraints.txt; `make test` then says whether they work
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet --editable '.[dev]'
	{ grep '^#' constraints.txt; .venv-lock/bin/python -m pip freeze --exclude-editable | grep == \
		| sed 's/+.*//' | grep -vE '^(nvidia-|cuda-|triton==|tzdata==)'; } > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-lowest .venv-lock runs
