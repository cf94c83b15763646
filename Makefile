# make check  ruff, mypy --strict and every test that is not marked slow, in a minute and a half: what to run before a commit
# make test   everything CI runs: ruff, mypy --strict, pytest (under ten minutes on two cores)
# make long   the long versions: more rounds of faults, fuzzing and kills
# make soak   ten minutes of everything at once, with kills, compactions and clock steps, against a model
# make locust users of both protocols, each answer checked
# make dist   dist/flo.pyz, the whole of Flo as one file
# make install PREFIX=/usr/local   that file as PREFIX/bin/flo, and the manual pages
# make bench  Flo beside Redis and the floor, on this machine, in eleven minutes; make bench-quick in one
# make bench-ts  Flo's time series beside InfluxDB 1.x and VictoriaMetrics, in ten minutes

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# Wherever this is set: pytest keeps what it compiles
export PYTHONDONTWRITEBYTECODE :=

.PHONY: check test lint unit long soak bench bench-quick bench-ts locust tools dist install docs clean

test: lint unit

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['test'], sep='\n')" > $(VENV)/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r $(VENV)/requirements.txt
	touch $@

tools: $(STAMP)
	@sh tests/install_tools.sh

# While mypy checks, the other core has pytest compile the tests: each of its processes would do that anew
lint: tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/python -m pytest --collect-only > /dev/null & compiles=$$!; $(BIN)/mypy; status=$$?; wait $$compiles; exit $$status

# Three at once, so that two cores are used: what only computes (`computes`, at the lowest priority, so that it takes what the others leave, and
# in two processes, so that it takes both cores when the others have ended), what waits for programs of others (`waits`), and the rest.
# Compiled before: a server or a command of a test writes no byte code, and each of hundreds would compile Flo anew.
define run_tests
	@$(BIN)/python -m compileall -q flo loadtest tests
	@logs=$$(mktemp -d); status=0; \
	nice -n 19 $(BIN)/python -m pytest -n 2 --dist loadfile -m "computes and $(1)" > $$logs/computes 2>&1 & computes=$$!; \
	nice -n 5 $(BIN)/python -m pytest -m "waits and $(1)" > $$logs/waits 2>&1 & waits=$$!; \
	$(BIN)/python -m pytest -m "not computes and not waits and $(1)" || status=1; \
	wait $$waits || status=1; cat $$logs/waits; \
	wait $$computes || status=1; cat $$logs/computes; \
	rm -rf $$logs; exit $$status
endef

unit: tools
	$(call run_tests,not long)

check: lint
	$(call run_tests,not slow and not long)

long: tools
	$(BIN)/python -m pytest --long --timeout 3600

soak: tools
	$(BIN)/python loadtest/soak.py --seconds 600

# BENCH_PYTHON=/path/to/python3.13 chooses the Python that Flo runs on
BENCH_PYTHON ?= $(PYTHON)

bench: tools
	$(BIN)/python loadtest/compare.py --bench --python $(BENCH_PYTHON) --seconds 0.5 --json bench.json --charts docs/charts

bench-quick: tools
	$(BIN)/python loadtest/compare.py --bench --quick --python $(BENCH_PYTHON)

bench-ts: tools
	$(BIN)/python loadtest/compare_ts.py --ten-million --python $(BENCH_PYTHON) --json bench-ts.json

locust: tools
	$(BIN)/locust -f loadtest/locustfile.py --headless --only-summary -u 50 -r 50 -t 20s

dist:
	$(PYTHON) contrib/build_pyz.py

PREFIX ?= /usr/local
SHARED := $(DESTDIR)$(PREFIX)/share/man

install:
	$(PYTHON) contrib/build_pyz.py "$(DESTDIR)$(PREFIX)/bin/flo"
	install -d "$(SHARED)/man1" "$(SHARED)/man5" "$(SHARED)/man7"
	install -m 644 man/flo.1 "$(SHARED)/man1"
	install -m 644 man/flo.toml.5 "$(SHARED)/man5"
	install -m 644 man/flo-protocol.7 man/floql.7 "$(SHARED)/man7"

docs: $(STAMP)
	$(BIN)/python -m tests.generate_docs
	$(BIN)/python -m tests.generate_man

clean:
	rm -rf dist $(VENV) tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
