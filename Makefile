# `make demo` and `make test` set themselves up; nothing else has to be done first.
# The first interpreter that runs and is new enough (a version manager's stub may exist and not run).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
JOBS ?= 2
# Real data for the tests, where the folder is there; without it those tests say so.
RETROFAIR_DATA ?= $(abspath $(wildcard ../shared/data))
ifneq ($(RETROFAIR_DATA),)
export RETROFAIR_DATA
endif

.PHONY: demo test check benchmark certificates individual both regression results clean

## The main job on embedded data; `make demo ARGS="--data adult"` on real data.
demo: .venv/run.stamp
	$(BIN)/retrofair demo $(ARGS)

## Every check: format, lint, types, tests, examples in the docs.
test: .venv/dev.stamp check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -q

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

## Speed, as ratios in one run (minutes); docs/results/speed.md, speed-heads.md, gap.md and workers.md.
benchmark: .venv/dev.stamp
	$(BIN)/python benchmarks/speed.py --page docs/results/speed.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed_heads.py --page docs/results/speed-heads.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/gap.py --page docs/results/gap.md
	$(BIN)/python benchmarks/workers.py --page docs/results/workers.md

## Certificates on real networks (about two hours; goes on where it was stopped).
certificates: .venv/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/certify.py --store $(STORE)-certificates \
		--page docs/results/certify.md

## Networks trained to treat similar people alike (hours); RIVALS: see benchmarks/rivals_individual.py
individual: .venv/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/individual.py --store $(STORE)-individual \
		$(if $(RIVALS),--rivals $(RIVALS)) --page docs/results/individual.md

## One network for individuals and for groups (an hour); docs/results/both.md
both: .venv/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/both.py --store $(STORE)-both \
		--page docs/results/both.md

## The table of docs/regression.md (some minutes)
regression: .venv/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/regression.py

## All studies, whole (a few hours on two cores); goes on where it was stopped; docs/results/.
## Without celeba: hours on a CPU, minutes on a GPU (make results STUDIES=celeba ARGS="--device cuda").
STORE ?= $(HOME)/.cache/retrofair/studies
STUDIES ?= seeds networks coefficients intra posthoc variants fairnn heads
results: .venv/dev.stamp
	for study in $(STUDIES); do \
		$(BIN)/retrofair study $$study --store $(STORE) --out docs/results --jobs $(JOBS) \
			--cells docs/results/cells/$$study.jsonl.gz $(ARGS) || exit; done
	# times alone, one cell at a time
	$(BIN)/retrofair study runtimes --store $(STORE)-quiet --out docs/results --jobs 1

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "expected Python 3.11 or newer, got none: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/run.stamp: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/dev.stamp: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch .venv/run.stamp $@
