# Every command of the project, over an environment that it makes itself. `make help` lists them.
# The plain command stands in each recipe: with an environment of your own, run that.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := cpu,torch,tensorflow-cpu,tflite
WORKERS ?= 2

export MLCONV_TEST_MODELS ?= $(abspath ../shared/models)
export MLCONV_TEST_EDGETPU ?= $(abspath ../shared/edgetpu)

.PHONY: help env demo test first-hour corpus models fidelity saturation routes coverage lint types format docs wheel digits constraints clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

env: $(VENV)/.done  ## the environment in .venv, remade when pyproject.toml or constraints.txt change

# tf_keras requires `tensorflow` by name and would lay it over tensorflow-cpu, hence --no-deps.
# Byte code is compiled in parallel at the end: pip would do it file by file.
$(VENV)/.done: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else f"mlconv needs Python 3.11 to 3.13, $(PYTHON) is {v[0]}.{v[1]}: try make PYTHON=python3.12")'
	@echo "making $(VENV) with PyTorch and TensorFlow, about 3 GB"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -qq -c constraints.txt 'pip>=25.1'  # the first that reads dependency groups
	$(BIN)/python -m pip install -qq --no-compile -c constraints.txt --group dev --group digits -e '.[$(EXTRAS)]'
	$(BIN)/python -m pip install -qq --no-compile -c constraints.txt --no-deps tf_keras
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true  # packages ship files for other Pythons too
	@touch $@

demo: env  ## convert, check and compare the models that mlconv ships
	$(BIN)/mlconv demo build/demo

test: env  ## the whole test suite
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope

coverage: env  ## the tests with line and branch coverage, workers included
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: env  ## style and spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell

types: env  ## static types
	$(BIN)/mypy

format: env  ## let ruff put the code in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

first-hour: env  ## the command lines of a first hour, and what each prints, as a table
	$(BIN)/python benchmarks/first_hour.py

corpus: env  ## what tests/corpus.toml expects of every TFLite file, and what got worse or better
	$(BIN)/python -m benchmarks.corpus

models: env  ## three int8 Keras networks with random weights into build/models
	$(BIN)/python -m benchmarks.make_models

fidelity: env models  ## TFLite to ONNX: distance from LiteRT, latency, size, beside tf2onnx (half an hour)
	$(BIN)/python -m benchmarks.tflite_fidelity > build/tflite_fidelity.md
	mv build/tflite_fidelity.md benchmarks/results/tflite_fidelity.md

saturation: env models  ## 8-bit files on an emulated processor without VNNI; needs qemu-user-static
	$(BIN)/python -m benchmarks.saturation > build/saturation.md
	mv build/saturation.md benchmarks/results/saturation.md

routes: env  ## graphs of the PyTorch and Keras routes beside those of the exporters they build on
	$(BIN)/python -m benchmarks.route_graphs > build/route_graphs.md
	mv build/route_graphs.md benchmarks/results/route_graphs.md

docs: env  ## write docs/reference from the code
	$(BIN)/python docs/generate.py

wheel: env  ## dist/*.whl, built from the source distribution
	rm -rf dist
	$(BIN)/hatchling build -t sdist
	mkdir dist/unpacked && tar -xzf dist/*.tar.gz -C dist/unpacked --strip-components 1
	cd dist/unpacked && $(abspath $(BIN))/hatchling build -t wheel -d $(abspath dist)
	rm -r dist/unpacked

digits: env  ## train the demo's models again, into src/mlconv/demo
	$(BIN)/python examples/digits/train.py

constraints: env  ## write the versions of .venv down; delete a line of constraints.txt first to let it move
	{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --all --exclude mlconv | sed -e 's/+.*//' -e 's/^tensorflow\(_cpu\)\?==\(.*\)/tensorflow==\2\ntensorflow_cpu==\2/'; } > $(VENV)/constraints.txt
	cmp -s $(VENV)/constraints.txt constraints.txt || cp $(VENV)/constraints.txt constraints.txt

clean:  ## what make and the tools left, the environment included
	rm -rf $(VENV) build dist .coverage .coverage.* htmlcov .mypy_cache .pytest_cache .ruff_cache
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
