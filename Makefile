# Everything runs from a clean clone with Python 3.11 or newer, git and make. `demo-real` and `test-real` also need a C++ compiler.
#
#   make demo                  compares two simulated endpoints at five times their speed, in half a minute
#   make PYTHON=python3.12 …   uses another Python

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# A stamp says that something was installed under $(VENV). The stamps are there too, so make installs everything again if
# the folder is removed.
TOOLS := $(VENV)/tools.stamp
RUNTIME := $(VENV)/runtime.stamp
DEV := $(VENV)/dev.stamp
REAL := $(VENV)/real.stamp
OTELCOL := $(VENV)/otelcol.stamp

# uv installs a lock file in 10 s; pip takes 30. If uv can't (because only pip's configuration names the index), pip does it.
# Bytecode is compiled at once: with PYTHONDONTWRITEBYTECODE, Python would compile at each start, and we would measure that.
define install
	@echo "installing $(1) into $(VENV)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --compile-bytecode -r $(1) || { \
	    echo "uv could not; pip takes the same lock" >&2; \
	    $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $(1); }
endef

.PHONY: demo demo-real test test-real otelcol bench bench-driver bench-analysis coverage soak year lint format sql docs lock clean check \
    full
.DELETE_ON_ERROR:

demo: $(RUNTIME)
	$(BIN)/dyno compare --simulate --simulate-speed 5

demo-real: $(REAL)
	PYTHONPATH=tests $(BIN)/python -m real.demo_real

# Linters, the contracts between the programs, and pure code. It takes under two minutes, because no program is started.
QUICK := tests/contract \
    $(addprefix tests/proxy/test_,$(addsuffix .py,cadence config context decompress exchange headers keys readers \
        readers_apis request_edit span sse usage_chunk)) \
    $(addprefix tests/driver/test_,$(addsuffix .py,arrivals baggage response schedule simulated_answers simulated_shapes)) \
    $(addprefix tests/analysis/test_,$(addsuffix .py,quality span_files statistics tables verdict_coverage verdicts waterfall))
check: lint
	$(BIN)/pytest -q $(QUICK)

# Several tests at once, since most of a test is waiting; JOBS=1 is one after another.
JOBS ?= $(shell $(PYTHON) -c "import os; print(min(2 * (os.cpu_count() or 1), 8))")
test: $(DEV)
	$(BIN)/pytest --ignore=tests/real -n $(JOBS) --dist worksteal

# All tests, with every Python that Dyno supports and this machine has. A Python that is missing is named.
full: lint otelcol test test-real year
	@for python in python3.11 python3.12 python3.13; do \
	    if command -v $$python >/dev/null; then \
	        $(MAKE) test VENV=$(VENV)/$$python PYTHON=$$python || exit 1; \
	    else echo "make full: no $$python on this machine; the tests were not run with it"; fi; done

test-real: $(REAL)
	$(BIN)/pytest tests/real

# An OpenTelemetry Collector for the tests that send spans to one. Without it these tests are skipped. It needs Go.
otelcol: $(OTELCOL)

# Measures the proxy and other proxies, and writes the figures into docs/benchmarks.md: about ten minutes. ARGS=--quick is
# a short run that writes nothing. ARGS=--help lists the other options.
ARGS ?= --write docs/benchmarks.md
bench: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

# Measures the analysis of 1, 10 and 100 million generated spans, and writes the figures into docs/scale.md: about twelve
# minutes, 15 GB of disk.
SCALE_ARGS ?= --write docs/scale.md
bench-analysis: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m bench_analysis $(SCALE_ARGS)

# Measures how often the report's verdicts are false, over 20,000 simulated runs a cell, and writes the tables into
# docs/statistics.md: less than a minute.
COVERAGE_ARGS ?= --write docs/statistics.md
coverage: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m verdict_coverage $(COVERAGE_ARGS)

# Sends mixed traffic with faults through the proxy, and checks what the proxy still holds at the end. Then it kills the
# proxy (`kill -9`) under load, and checks what is lost. MINUTES=1 KILLS=5 is a short run. At last 100,000 spans go to a
# collector by OTLP that is away and killed, as the proxy is: all that was stored must arrive.
MINUTES ?= 30
KILLS ?= 100
soak: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m soak.run --minutes $(MINUTES)
	PYTHONPATH=tests $(BIN)/python -m soak.kills --kills $(KILLS)
	PYTHONPATH=tests $(BIN)/python -m soak.otlp

# A spans folder's year, simulated: ten proxies, skewed clocks, up- and downgrades, copies, retention. Some ten minutes.
YEAR_ARGS ?=
year: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m soak.year $(YEAR_ARGS)

# Measures `dyno drive` beside GuideLLM, AIPerf, wrk and oha, and writes the figures into docs/benchmarks.md: some fifteen
# minutes. The first two are installed into environments of their own under .venv/bench; the others are used if they are
# here (apt-get install wrk; cargo install oha). DRIVER_ARGS=--quick is a short run that writes nothing.
DRIVER_ARGS ?= --write docs/benchmarks.md
bench-driver: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m bench_driver $(DRIVER_ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Writes the columns of the span files into analysis/, from proxy/dyno_proxy/attributes.py. A test fails if this is due.
sql: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m contract.stored_columns

# Writes the tables of outcomes and error types into docs/proxy.md, from the proxy's outcomes.py, and the answers to
# docs/sql.md's questions over docs/sample/, with the notebook.
docs: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m contract.outcome_tables
	PYTHONPATH=tests $(BIN)/python -m contract.cookbook_answers

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

# llama.cpp is compiled for the processor's family, not for this very processor. The caches keep the compiled program, and
# if a home folder or an image moves to an older machine, the program would crash there with an illegal instruction.
# uv's cache distinguishes wheels with different settings. pip's cache doesn't, so pip must compile again.
$(REAL): tests/real/requirements.lock $(DEV)
	@echo "installing tests/real/requirements.lock into $(VENV); the first time, llama.cpp is compiled: some five minutes"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes \
	    --config-settings-package llama-cpp-python:cmake.define.GGML_NATIVE=OFF -r tests/real/requirements.lock || { \
	    echo "uv could not; pip takes the same lock" >&2; \
	    CMAKE_ARGS=-DGGML_NATIVE=OFF $(BIN)/python -m pip install --quiet --no-deps --require-hashes --no-cache-dir \
	        -r tests/real/requirements.lock; }
	@touch $@

# Go 1.21 or newer fetches the newer Go that the Collector needs. CGO is off: no C compiler is needed, and the binary
# doesn't depend on the machine's C library.
$(OTELCOL): tests/otelcol/manifest.yaml | $(TOOLS)
	@echo "building tests/otelcol/manifest.yaml into $(VENV)/otelcol; the first time, Go compiles for some four minutes"
	@export PATH="$$PATH:/usr/local/go/bin" CGO_ENABLED=0 GOFLAGS=-buildvcs=false; \
	case "$$(go env GOVERSION 2>/dev/null)" in go1.2[1-9]*|go1.[3-9][0-9]*) ;; *) \
	    echo "make: Go 1.21 or newer is neither on PATH nor in /usr/local/go/bin; https://go.dev/dl has it" >&2; exit 1;; esac; \
	go run go.opentelemetry.io/collector/cmd/builder@v0.161.0 --config $<
	@touch $@

# Writes the four lock files again after a change in pyproject.toml. They keep their versions; UPGRADE=--upgrade takes the newest.
# The largest file is resolved first, and the others take its versions, so that one environment can hold them all.
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
