# Two commands do all set-up: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CORES  ?= 2
PRESET ?= demo
export PATH := $(CURDIR)/$(BIN):$(PATH)
export OMP_NUM_THREADS ?= 1
PRESETS = $(patsubst config/presets/%.yaml,%,$(sort $(wildcard config/presets/*.yaml))) paper
ifeq ($(filter $(PRESET),$(PRESETS)),)
$(error there is no preset $(PRESET); choose one of $(PRESETS))
endif
OVERLAY = $(if $(filter-out paper,$(PRESET)),--configfile config/presets/$(PRESET).yaml)
RESULTS = results$(if $(filter-out paper,$(PRESET)),/$(PRESET))
SNAKEMAKE = snakemake all --profile profiles/local --cores $(CORES) --quiet host reason $(OVERLAY)

.PHONY: help env demo why plan test check check-cluster report archive clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(VENV)/.ready  ## virtual environment with the exact versions of constraints.txt

$(VENV)/.ready: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("evomix needs Python 3.11 or newer; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch $@

demo: env  ## the whole study in miniature, offline, on 2 cores; ends with the verdicts and the report's path
	$(SNAKEMAKE)
	@evomix verdicts results/$(PRESET)

why: env  ## what would run for TARGET (default: all) of PRESET, and why, in words
	@snakemake $(or $(TARGET),all) -n --profile profiles/local --cores $(CORES) $(OVERLAY) 2>&1 | evomix why --results $(RESULTS)

plan: env  ## jobs, hours, energy and dollars of PRESET, before anything runs
	@evomix plan $(PRESET)

test: env  ## format, lint, types and tests
	pytest -n $(CORES) --dist loadfile

check: env  ## formatters and type checker alone
	ruff check src tests && ruff format --check src tests && mypy && snakefmt --check Snakefile workflow

check-cluster: env  ## one tiny job of every kind through PROFILE (profiles/slurm): what is wrong with the site, in words
	evomix check-cluster $(or $(PROFILE),profiles/slurm) --preset $(if $(filter command line,$(origin PRESET)),$(PRESET),paper)

report: env  ## Snakemake's own report of a finished study
	$(SNAKEMAKE) --report results/$(PRESET)/snakemake_report.html

archive: env  ## results, sources and records of PRESET as one Workflow Run RO-Crate (results/archive/PRESET.zip)
	@evomix archive --results $(RESULTS) --output results/archive/$(PRESET).zip

clean:  ## remove results of PRESET (never the paper's)
	test "$(PRESET)" != paper && rm -rf results/$(PRESET)
