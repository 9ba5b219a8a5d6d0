# Every target installs its requirements first. `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
MLA := $(BIN)/mla
# Table 2 needs feature vectors: its default is DATA=mfeat.
TABLE2_DATA := $(if $(DATA),$(DATA),mfeat)
# The claims are tested on four data sets, or on DATA alone.
CLAIMS_DATA := $(if $(DATA),$(DATA),openmoji avdigits tuxstamps mfeat)
CLAIMS := $(filter-out tuning price,$(basename $(notdir $(wildcard conf/experiment/claims/*.yaml))))
# `make reproduce-own` has no default: DATA is a file or folder of your own.
OWN_DATA := $(DATA)
DATA ?= openmoji
OUT ?= runs
# Launcher of the jobs of `make reproduce-*`, `tune` and the claims, such as slurm; fork if empty.
LAUNCHER ?=
# Further words of `mla train` or `mla reproduce`, such as OPTIONS="launcher.partition=gpu".
OPTIONS ?=
WORDS = $(if $(LAUNCHER),launcher=$(LAUNCHER)) $(OPTIONS)
# Of `make reproduce-own`: methods (a,b), trials of each, seeds (0,1,2).
METHODS ?=
TRIALS ?=
SEEDS ?=
# Faults that `make faults` draws, and their number.
SEED ?= 0
NUMBER ?= 500
# Run folders whose results `make claims` adds to the committed ones or uses in place of them.
RUNS ?=

# The methods of the benchmark that take optimisation steps: those of conf/experiment/tuning.
BENCHMARK = $(shell sed -n 's/^    - //p' conf/experiment/tuning/$(DATA).yaml | paste -sd,)

# Training rules that were tried, as own code: experiments/candidates/README.md.
OWN_RULES = --config-dir experiments/candidates/conf --allow-target experiments.candidates

SLURM_TESTS := $(wildcard tests/test_slurm*.py)

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev report claims claims-data claims-tune claims-runs claims-price test test-slow test-slurm test-ray \
	lint types smoke bench mutants faults tune reproduce-table1 reproduce-table2 \
	reproduce-table3 reproduce-benchmark benchmark-tune benchmark-averaged benchmark-snapshots candidates candidates-rates candidates-asked \
	reproduce-projection reproduce-own docs screenshots release-check clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-22s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## create .venv with the requirements of training

setup-dev: $(VENV)/.installed-dev ## create .venv with the requirements of training, tests and development

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --progress-bar off -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-tune: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --progress-bar off -c constraints.txt -e '.[tune]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --progress-bar off -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-tune

reproduce-table1: setup ## train the methods of Table 1 x 3 seeds and show the table (DATA=openmoji LAUNCHER=slurm)
	$(MLA) train -m experiment=table1/$(DATA) paths.output_dir=$(OUT) $(WORDS)
	$(MLA) report table1 $(OUT)/table1/$(DATA)

reproduce-table2: setup ## train the methods of Table 2 with 10 to 70 % missing x 3 seeds and show it (DATA=mfeat)
	$(MLA) data prepare $(TABLE2_DATA)
	$(MLA) train -m experiment=table2/$(TABLE2_DATA) paths.output_dir=$(OUT) $(WORDS)
	$(MLA) report table2 $(OUT)/table2/$(TABLE2_DATA)

reproduce-table3: setup ## train the ablation HGM x DF of Table 3 and show it (DATA=openmoji)
	$(MLA) train -m experiment=table3/$(DATA) paths.output_dir=$(OUT) $(WORDS)
	$(MLA) report table3 $(OUT)/table3/$(DATA)

benchmark-tune: $(VENV)/.installed-tune ## search rate, weight decay and strength of the benchmark's methods (DATA=openmoji)
	$(if $(filter openmoji,$(DATA)),,$(MLA) data prepare $(DATA))
	$(MLA) tune data=$(DATA) method=$(BENCHMARK) trials=8 finalists=2 \
		paths.output_dir=$(OUT) $(WORDS)
	$(BIN)/python -m experiments.benchmark $(OUT)/tune/$(DATA)

benchmark-averaged: setup ## the benchmark's methods again, with averaged weights, and the report of both (DATA=openmoji)
	$(if $(filter openmoji,$(DATA)),,$(MLA) data prepare $(DATA))
	$(MLA) train -m experiment=benchmark/$(DATA) method=$(BENCHMARK) trainer.ema=0.99 \
		paths.output_dir=$(OUT) $(WORDS)
	$(MLA) report benchmark $(OUT)/benchmark/$(DATA)

benchmark-snapshots: setup ## the benchmark's methods again, as ensembles of five snapshots, and the report (DATA=openmoji)
	$(if $(filter openmoji,$(DATA)),,$(MLA) data prepare $(DATA))
	$(MLA) train -m experiment=benchmark/$(DATA) method=$(BENCHMARK) trainer.snapshots=5 \
		paths.output_dir=$(OUT) $(WORDS)
	$(MLA) report benchmark $(OUT)/benchmark/$(DATA)

candidates: setup ## choose among training rules of our own, on validation of two data sets
	$(MLA) data prepare tuxstamps
	for data in openmoji tuxstamps; do \
		$(MLA) train -m $(OWN_RULES) experiment=choice/$$data paths.output_dir=$(OUT) $(WORDS) && \
		$(MLA) train -m $(OWN_RULES) experiment=choice/$$data method=members,members_mla \
			encoder=narrow_$$data paths.output_dir=$(OUT) $(WORDS) || exit; done
	$(BIN)/python -m experiments.candidates $(OUT)/choice --output $(OUT)/choice/report

candidates-rates: setup ## learning rates of the chosen rule, and of the ensemble on tuxstamps, on validation
	for data in tuxstamps mfeat avdigits; do $(MLA) data prepare $$data || exit; done
	for data in openmoji tuxstamps mfeat avdigits; do \
		$(MLA) train -m $(OWN_RULES) experiment=tuning/$$data method=members_mla encoder=narrow_$$data \
			name=rates/$$data paths.output_dir=$(OUT) $(WORDS) || exit; done
	$(MLA) train -m experiment=tuning/tuxstamps method=ensemble name=rates/tuxstamps \
		paths.output_dir=$(OUT) $(WORDS)
	$(MLA) report tuning $(OUT)/rates

candidates-asked: setup ## compare the chosen rule with five references on fresh seeds of four data sets
	for data in tuxstamps mfeat avdigits; do $(MLA) data prepare $$data || exit; done
	for data in openmoji tuxstamps mfeat avdigits; do \
		$(MLA) train -m $(OWN_RULES) experiment=asked/$$data paths.output_dir=$(OUT) $(WORDS) && \
		$(MLA) train -m $(OWN_RULES) experiment=asked/$$data method=members_mla \
			encoder=narrow_$$data paths.output_dir=$(OUT) $(WORDS) || exit; done
	$(BIN)/python -m experiments.candidates $(OUT)/asked --output $(OUT)/asked/report

reproduce-projection: setup ## compare projections at the default and ten times the training length (DATA=openmoji)
	$(MLA) train -m experiment=projection/$(DATA) paths.output_dir=$(OUT) $(WORDS)
	$(BIN)/python -m experiments.projection $(OUT)/projection/$(DATA)

reproduce-benchmark: setup ## train all methods with ten seeds and compare them with four references (DATA=openmoji)
	$(if $(filter openmoji,$(DATA)),,$(MLA) data prepare $(DATA))
	$(MLA) train -m experiment=benchmark/$(DATA) paths.output_dir=$(OUT) $(WORDS)
	$(MLA) report benchmark $(OUT)/benchmark/$(DATA)

reproduce-own: $(VENV)/.installed-tune ## import DATA=my.csv (OPTIONS="label=... group=..."), tune, train and show Table 1
	$(MLA) reproduce $(if $(OWN_DATA),"$(OWN_DATA)") $(WORDS) $(if $(METHODS),method=$(METHODS)) \
		$(if $(TRIALS),trials=$(TRIALS)) $(if $(SEEDS),'seed=$(SEEDS)') \
		$(if $(filter-out runs,$(OUT)),'paths.output_dir=$(OUT)')

report: setup ## write one HTML page of all runs: tables, curves, diagnostics, failures (OUT=runs)
	$(MLA) report page $(OUT)

claims: setup ## write the report of experiments/claims from the committed results (and RUNS=folders)
	$(BIN)/python -m experiments.claims \
		experiments/claims/results.csv experiments/claims/tuning/results.csv \
		experiments/tuning/*/results.csv experiments/table1/*/results.csv \
		experiments/table3/*/results.csv $(RUNS) --output experiments/claims

claims-data: setup ## prepare the data sets of the claims (or DATA alone); OpenMoji is part of the package
	set -e; for data in $(filter-out openmoji,$(CLAIMS_DATA)); do $(MLA) data prepare $$data; done

claims-tune: claims-data ## select the learning rates of the gradient modifications on validation
	set -e; for data in $(CLAIMS_DATA); do \
		tune="$(MLA) train -m experiment=claims/tuning data=$$data paths.output_dir=$(OUT) $(WORDS)"; \
		if [ $$data = mfeat ]; then \
			tune="$$tune optimizer.lr=0.0016,0.0031,0.00625,0.0125,0.025,0.05"; fi; \
		$$tune; \
		$$tune ablation=no_hgm method.projection=others; \
		$$tune method.project_update=true method.projection=owm,others; done
	$(MLA) report tuning $(OUT)/claims/tuning --output $(OUT)/claims/tuning/report

claims-runs: claims-data ## train the runs of the claims that are not in Tables 1 and 3, except the timing
	set -e; for data in $(CLAIMS_DATA); do for name in $(CLAIMS); do \
		$(MLA) train -m experiment=claims/$$name data=$$data paths.output_dir=$(OUT) $(WORDS); done; done

claims-price: claims-data ## time the methods, one run at a time; use an otherwise idle machine
	set -e; for data in $(CLAIMS_DATA); do \
		$(MLA) train -m experiment=claims/price data=$$data paths.output_dir=$(OUT); done

tune: setup ## select the learning rate of every method on validation, from one grid (DATA=openmoji)
	$(MLA) train -m experiment=tuning/$(DATA) paths.output_dir=$(OUT) $(WORDS)
	$(MLA) report tuning $(OUT)/tuning/$(DATA)

test: setup-dev lint types ## run linter, type checker and tests, with a small sweep, as in CI
	@# those within SLURM mostly wait, so they run beside the others; three workers on two cores, as
	@# many tests wait for processes that they have started
	mkdir -p build; \
	$(BIN)/python -m pytest -n 0 -q -m slurm -rs $(SLURM_TESTS) > build/test-slurm.log 2>&1 & slurm=$$!; \
	$(BIN)/python -m pytest -n 3 -q; code=$$?; \
	wait $$slurm || code=1; cat build/test-slurm.log; exit $$code

test-slow: setup-dev ## run the tests that take minutes
	$(BIN)/python -m pytest -n 2 -q -m slow

test-slurm: setup-dev ## run the tests within jobs of a real SLURM, which must be installed; as root
	MLA_NEEDS_SLURM=1 $(BIN)/python -m pytest -n 0 -q -m slurm $(SLURM_TESTS)

test-ray: setup-dev ## install Ray (240 MB) into .venv and run the tests on it
	$(PIP) install --quiet --progress-bar off -c constraints.txt -e '.[ray]'
	$(BIN)/python -m pytest -n 0 -q -m slow tests/test_ray.py

lint: setup-dev ## run ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev ## run mypy
	$(BIN)/mypy

bench: setup-dev ## run the benchmarks of speed
	$(BIN)/python -m benchmarks

mutants: setup-dev ## put 150 faults into the mathematics and report which test catches each
	$(BIN)/python -m tests.mutants --write

faults: setup-dev ## kill runs, fill disks, flip bits and stop sweeps at random (SEED=0 NUMBER=500; WRITE=1)
	$(BIN)/python -m tests.faults --seed $(SEED) --number $(NUMBER) $(if $(WRITE),--write)

docs: setup-dev ## generate METHODS.md, and build the site into build/site; warnings are errors
	$(BIN)/python -c "from mla_lightning.config.catalogue import methods_page; print(methods_page(), end='')" > METHODS.md
	$(BIN)/python -m sphinx -q -W --keep-going -c docs . build/site

release-check: setup-dev ## build sdist and wheel, and train with each in an empty environment
	@# what pip installs is used from another folder, so that nothing of this one can help it
	rm -rf build/release && mkdir -p build/release/elsewhere
	$(BIN)/python -m build --outdir build/release/dist
	set -e; for file in build/release/dist/*; do \
		rm -rf build/release/venv; $(PYTHON) -m venv build/release/venv; \
		build/release/venv/bin/python -m pip --disable-pip-version-check install --quiet \
			--progress-bar off -c constraints.txt "$$file"; \
		build/release/venv/bin/python -m pip --disable-pip-version-check check; \
		(cd build/release/elsewhere && unset PYTHONPATH && ../venv/bin/mla --version && \
			../venv/bin/mla train -m method=mla,concat seed=0,1 trainer.max_epochs=2 \
				"paths.output_dir=$$(basename $$file)" && \
			../venv/bin/mla report table1 "$$(basename $$file)"); \
		echo "$$file: installs, trains and reports"; done

screenshots: setup ## train a short Table 1 with diagnostics and make the screenshots of its page in docs/
	$(MLA) train -m experiment=table1/openmoji diagnostics=epoch paths.output_dir=build/screenshots
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/screenshots.py build/screenshots

clean: ## remove caches and the virtual environment, never runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist build
