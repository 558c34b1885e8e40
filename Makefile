# `make demo` and `make test` need only Python: the first one sets up .venv, the others reuse it.
# Targets that run mmskin install its runtime requirements; targets that check it add those of the tests.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.10 python3 python,$(shell \
	$(name) -c 'import ensurepip, sys, venv; assert (3, 10) <= sys.version_info[:2] <= (3, 12)' 2>/dev/null \
	&& command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS_READY := $(VENV)/.ready_for_tests
DEMO := work_dirs/demo
KILLS ?= 20
DATA ?= data/isic2017
ZOO := work_dirs/zoo
REFIT := configs/multitask/lite0_refit_isic2017.py
# training images of lesions that the validation split shows, too (tools/find_duplicates.py)
WITHOUT_DUPLICATES := train_dataloader.dataset.exclude=[ISIC_0012970,ISIC_0000171,ISIC_0000215,ISIC_0000157]
SECONDS ?= 3600

# Each process of a training or test would compile mmskin anew, and each of the tests' processes all tests.
unexport PYTHONDONTWRITEBYTECODE

# A stamp that names another folder comes from a copied or moved checkout.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all torture cluster fuzz lint format docs pictures release types zoo clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(TESTS_READY)  ## create .venv and install mmskin with the tests' requirements

$(READY): setup.py requirements/runtime.txt requirements/constraints.txt
	@test -n '$(PYTHON)' || { echo 'mmskin needs Python 3.10, 3.11 or 3.12 with its venv module' \
		'(Debian: python3-venv). Name one with: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -c requirements/constraints.txt -e .
	@$(BIN)/python -m pip check
	@echo '$(CURDIR)' > $@

$(TESTS_READY): $(READY) requirements/tests.txt
	$(BIN)/python -m pip install -c requirements/constraints.txt -e '.[tests]'
	@$(BIN)/python -m pip check
	@touch $@

demo: $(READY)  ## paint synthetic lesions, train the paper's three stages on them, test, write the report
	$(BIN)/python -m mmskin.datasets.synthetic data/synthetic
	$(BIN)/python tools/train.py configs/fpm/r18_synthetic.py --work-dir $(DEMO)
	$(BIN)/python tools/test.py configs/fpm/r18_synthetic.py $(DEMO) --work-dir $(DEMO)
	@echo 'Look at $(DEMO)/report.html (all results), $(DEMO)/cases.png (outlines) and $(DEMO)/results.json.'

# A worker that dies ends the run: pytest-xdist waits for ever for the tests of one that it has replaced.
# One more than there are cores, up to four: tests wait for other processes, and each worker takes about 2 GB.
WORKERS = $(shell cores=$$(getconf _NPROCESSORS_ONLN) && echo $$((cores < 4 ? cores + 1 : 4)))
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --max-worker-restart 0 --dist loadfile

test: $(TESTS_READY) lint types  ## check lint, format and types, and run the tests but the long ones
	$(PYTEST) -m 'not long'

test-all: $(TESTS_READY) lint types  ## the same with the long tests, such as every command of the docs; 90 % coverage
	$(PYTEST) --cov --cov-report=term --cov-fail-under=90

torture: $(TESTS_READY)  ## kill 20 trainings at random moments, resume them, and compare (some minutes; KILLS=6 for fewer)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/torture/kill_trainings.py --kills $(KILLS)

cluster: $(TESTS_READY)  ## kill networks, workers and a node of a local Ray cluster, and compare with one process; 200 clients
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_cluster.py

fuzz: $(TESTS_READY)  ## hand damaged files of every kind to mmskin for an hour (SECONDS=60 for less)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/fuzz/attack.py --seconds $(SECONDS)

lint: $(TESTS_READY)  ## check lint and format
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

format: $(TESTS_READY)  ## fix what the linter can, and format
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

docs: $(READY)  ## build the documentation into site/; a broken link is an error
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -d site

pictures: $(TESTS_READY)  ## make the documentation's pictures again (run make demo first)
	$(BIN)/python docs/make_pictures.py

zoo: $(READY)  ## train the networks that ship again into work_dirs/zoo (DATA=folder of ISIC-2017; six hours of a core)
	for seed in 0 1; do \
		$(BIN)/python tools/train.py $(REFIT) --data-root $(DATA) --work-dir $(ZOO)/seed$$seed \
			--resume --cfg-options '$(WITHOUT_DUPLICATES)' randomness.seed=$$seed && \
		$(BIN)/python -m mmskin publish $(REFIT) $(ZOO)/seed$$seed $(ZOO)/seed$$seed/model || exit 1; done
	$(BIN)/python -m mmskin publish $(ZOO)/seed0/model $(ZOO)/lite0_isic2017 --with $(ZOO)/seed1/model --int8
	$(BIN)/python tools/fit_novelty.py $(ZOO)/lite0_isic2017 --data-root $(DATA)
	$(BIN)/python tools/test.py $(ZOO)/lite0_isic2017 --data-root $(DATA) --split val --work-dir $(ZOO)/test

release: $(READY)  ## build dist/ and check it; then upload: .venv/bin/python -m twine upload dist/*
	@test -z "$$(git status --porcelain)" || { echo 'commit first: a release is what is committed' >&2; exit 1; }
	@grep -q "^## \[$$($(BIN)/python -c 'import mmskin; print(mmskin.__version__)')\]" CHANGELOG.md \
		|| { echo 'CHANGELOG.md has no heading for this version: turn [Unreleased] into it' >&2; exit 1; }
	rm -rf build dist
	$(BIN)/python -m pip install -q build twine
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m pip install -q --no-deps --target build/installed dist/*.whl
	cd build && PYTHONPATH=installed ../$(BIN)/python -m mmskin models && PYTHONPATH=installed ../$(BIN)/python -m mmskin predict --samples
	@echo 'dist/ is ready. Upload it with: $(BIN)/python -m twine upload dist/*'

types: $(TESTS_READY)  ## check the types of mmskin/
	$(BIN)/python -m mypy

clean:  ## remove files of tests, builds and the demo; keep data and .venv
	rm -rf build dist *.egg-info .coverage* .pytest_cache .ruff_cache .mypy_cache $(DEMO)

distclean: clean  ## remove .venv as well
	rm -rf $(VENV)
