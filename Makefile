# The two commands of the README, and the steps they are made of.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BACKENDS ?= tensorflow jax torch
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c requirements-dev.txt

# One thread each for two test processes: more would only wait for each other.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Random layers are compiled once and run once: XLA's optimizations cost more
# than they save. The trajectories of the training tests are run with them.
test: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= 1
# Eager JAX compiles every operation and loop anew; most are known already.
test: export JAX_COMPILATION_CACHE_DIR ?= $(abspath $(VENV))/jax-cache
test: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
test: export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1

.PHONY: demo test test-thorough test-zoo lint docs compatibility benchmark benchmark-quick benchmark-page clean

# TensorFlow announces oneDNN before it reads its log level; without, in silence.
demo: $(VENV)/demo.installed
	env -u OMP_NUM_THREADS TF_ENABLE_ONEDNN_OPTS=0 KERAS_BACKEND=tensorflow $(BIN)/python examples/quickstart.py

# In two parts: processes that have compiled for both hold twice the memory.
LAYERS := tests/layers tests/linear_maps tests/norms tests/training
test: $(VENV)/test.installed lint docs
	@set -e; for backend in $(BACKENDS); do \
		echo "== $$backend"; \
		export KERAS_BACKEND=$$backend; \
		$(BIN)/python -m pytest -n 2 --dist loadgroup $(LAYERS); \
		$(BIN)/python -m pytest -n 2 --dist loadgroup $(LAYERS:%=--ignore=%); \
	done

# What would take CI too long: all random draws on every backend, the large
# models of keras.applications.
test-thorough: export KERAS_SN_THOROUGH = 1
test-thorough: test

test-zoo: export KERAS_SN_ZOO = 1
test-zoo: $(VENV)/test.installed
	@set -e; for backend in $(BACKENDS); do \
		KERAS_BACKEND=$$backend $(BIN)/python -m pytest tests/models/test_zoo.py tests/models/test_programs.py; \
	done

lint: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, into out/site. A dead link or an unknown name is an error.
docs: $(VENV)/test.installed
	env PATH="$(abspath $(BIN)):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Other versions of Keras, the backends and Python: docs/compatibility.md. Hours.
compatibility: $(VENV)/test.installed
	$(BIN)/python tools/compatibility.py

# BENCHMARK: arguments of `python -m benchmarks`, such as --quick or --workload.
BENCHMARK ?=
BENCHMARK_OUT ?= benchmarks/results
benchmark: $(VENV)/test.installed
	@set -e; for backend in $(BACKENDS); do \
		env -u OMP_NUM_THREADS -u OPENBLAS_NUM_THREADS KERAS_BACKEND=$$backend \
			$(BIN)/python -m benchmarks --out $(BENCHMARK_OUT) $(BENCHMARK); \
	done

benchmark-quick:
	$(MAKE) benchmark BENCHMARK=--quick BENCHMARK_OUT=out/benchmarks

# docs/benchmarks.md and the table of the README, from benchmarks/results.
benchmark-page: $(VENV)/test.installed
	KERAS_BACKEND=torch $(BIN)/python -m benchmarks.page

$(VENV)/demo.installed: pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e '.[tensorflow,examples]'
	touch $@

$(VENV)/test.installed: pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e '.[tensorflow,jax,torch,dev]'
	$(PIP_INSTALL) --no-deps aeon
	touch $@

clean:
	rm -rf $(VENV) out build dist *.egg-info
