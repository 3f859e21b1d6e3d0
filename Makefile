# Everything runs from a clean clone with Python 3.11 or newer, git and make; `demo-real` and `test-real` also want a C++ compiler.
#
#   make demo                  two simulated endpoints compared, in under two minutes
#   make PYTHON=python3.12 …   with another Python

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What a stamp stands for is on disk under $(VENV), so removing the folder redoes everything.
TOOLS := $(VENV)/tools.stamp
RUNTIME := $(VENV)/runtime.stamp
DEV := $(VENV)/dev.stamp
REAL := $(VENV)/real.stamp
OTELCOL := $(VENV)/otelcol.stamp

# uv installs a lock in 10 s where pip takes 30; where it can't (an index that only pip's configuration knows), pip does.
# Compiled at once: a machine with PYTHONDONTWRITEBYTECODE would else compile at each start, and measure that.
define install
	@echo "installing $(1) into $(VENV)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --compile-bytecode -r $(1) || { \
	    echo "uv could not; pip takes the same lock" >&2; \
	    $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $(1); }
endef

.PHONY: demo demo-real test test-real otelcol bench bench-analysis soak lint format sql docs lock clean check full
.DELETE_ON_ERROR:

demo: $(RUNTIME)
	$(BIN)/dyno compare

demo-real: $(REAL)
	PYTHONPATH=tests $(BIN)/python -m real.demo_real

# Linters, the contracts between the programs, and what is pure: no program is started, so it takes under two minutes.
QUICK := tests/contract \
    $(addprefix tests/proxy/test_,$(addsuffix .py,cadence config context decompress exchange headers keys readers \
        readers_apis request_edit span sse usage_chunk)) \
    $(addprefix tests/driver/test_,$(addsuffix .py,baggage response schedule simulated_answers simulated_shapes)) \
    $(addprefix tests/analysis/test_,$(addsuffix .py,quality span_files statistics tables waterfall))
check: lint
	$(BIN)/pytest -q $(QUICK)

test: $(DEV)
	$(BIN)/pytest --ignore=tests/real

# All that there is, with every Python that Dyno supports and this machine has; one that is missing is named.
full: lint otelcol test test-real
	@for python in python3.11 python3.12 python3.13; do \
	    if command -v $$python >/dev/null; then \
	        $(MAKE) test VENV=$(VENV)/$$python PYTHON=$$python || exit 1; \
	    else echo "make full: no $$python on this machine; the tests were not run with it"; fi; done

test-real: $(REAL)
	$(BIN)/pytest tests/real

# An OpenTelemetry Collector for the tests that send spans to one; without it they are skipped. It wants Go.
otelcol: $(OTELCOL)

# The proxy beside others of its kind, into docs/benchmarks.md: some ten minutes. ARGS=--quick for a try, which writes
# nothing; ARGS=--help says what else there is.
ARGS ?= --write docs/benchmarks.md
bench: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

# The analysis over 1, 10 and 100 million generated spans, into docs/scale.md: some twelve minutes, 15 GB of disk.
SCALE_ARGS ?= --write docs/scale.md
bench-analysis: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m bench_analysis $(SCALE_ARGS)

# Mixed traffic with faults through the proxy, and what it holds at the end; then `kill -9` under load, and what that
# costs. MINUTES=1 KILLS=5 for a try.
MINUTES ?= 30
KILLS ?= 100
soak: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m soak.run --minutes $(MINUTES)
	PYTHONPATH=tests $(BIN)/python -m soak.kills --kills $(KILLS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The columns of the span files in analysis/: written from proxy/dyno_proxy/attributes.py. A test says where this is due.
sql: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m contract.stored_columns

# docs/proxy.md's tables of outcomes and errors, from the proxy's outcomes.py
docs: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m contract.outcome_tables

$(TOOLS): deploy/installer.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "make: '$(PYTHON)' is missing or older than Python 3.11; name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r deploy/installer.lock
	@touch $@

$(RUNTIME): requirements.lock pyproject.toml $(TOOLS)
	$(call install,requirements.lock)
	@$(BIN)/python -m pip install --quiet --no-deps --no-index --no-build-isolation --editable .
	@touch $@

$(DEV): tests/requirements.lock $(RUNTIME)
	$(call install,tests/requirements.lock)
	@touch $@

# llama.cpp is compiled for the processor's family, not for this very processor: the caches keep what was compiled, and a
# home folder or an image that moves to an older machine would die there of an illegal instruction. uv's cache tells
# wheels of different settings apart; pip's doesn't, so pip compiles anew.
$(REAL): tests/real/requirements.lock $(DEV)
	@echo "installing tests/real/requirements.lock into $(VENV); the first time, llama.cpp is compiled: some five minutes"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes \
	    --config-settings-package llama-cpp-python:cmake.define.GGML_NATIVE=OFF -r tests/real/requirements.lock || { \
	    echo "uv could not; pip takes the same lock" >&2; \
	    CMAKE_ARGS=-DGGML_NATIVE=OFF $(BIN)/python -m pip install --quiet --no-deps --require-hashes --no-cache-dir \
	        -r tests/real/requirements.lock; }
	@touch $@

# Any Go since 1.21 fetches the newer one that the Collector asks for. CGO off: no compiler of C, one binary for all.
$(OTELCOL): tests/otelcol/manifest.yaml | $(TOOLS)
	@echo "building tests/otelcol/manifest.yaml into $(VENV)/otelcol; the first time, Go compiles for some four minutes"
	@export PATH="$$PATH:/usr/local/go/bin" CGO_ENABLED=0 GOFLAGS=-buildvcs=false; \
	case "$$(go env GOVERSION 2>/dev/null)" in go1.2[1-9]*|go1.[3-9][0-9]*) ;; *) \
	    echo "make: Go 1.21 or newer is neither on PATH nor in /usr/local/go/bin; https://go.dev/dl has it" >&2; exit 1;; esac; \
	go run go.opentelemetry.io/collector/cmd/builder@v0.161.0 --config $<
	@touch $@

# Remakes the four lock files after a change in pyproject.toml, keeping the versions they hold; UPGRADE=--upgrade takes the newest.
# The largest is resolved first and binds the others, so that one environment can hold them all.
UPGRADE ?=
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --custom-compile-command 'make lock' $(UPGRADE)
lock: $(TOOLS)
	$(COMPILE) pyproject.toml --extra all --group dev --group real --no-emit-package pip -o tests/real/requirements.lock
	$(COMPILE) pyproject.toml --extra all --group dev -c tests/real/requirements.lock -o tests/requirements.lock
	$(COMPILE) pyproject.toml --extra all -c tests/real/requirements.lock -o requirements.lock
	printf '%s\n' uv hatchling editables | $(COMPILE) - -c tests/real/requirements.lock -o deploy/installer.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find dyno.py proxy driver analysis tests -name __pycache__ -prune -exec rm -rf {} +
