# `make` lists the targets. PYTHON=/path/to/python chooses the interpreter for .venv. TORCH=cpu takes the
# build of torch for CPUs, several GB smaller on Linux.
.DEFAULT_GOAL := help
.PHONY: help setup mend play quick repro retrain seeds test check digits lab page compare share clean
# For the programs that recipes start, as DVC its stages. Recipes themselves name programs by $(BIN): the
# make of macOS, 3.81, looks for the program of a simple command in the PATH that it was started with.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
BIN = .venv/bin

PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3 python,$(if $(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo yes),$(p))))

help:
	@echo 'make play     set up, then open the playground, which draws from weights/ (run all its cells)'
	@echo 'make quick    set up, then make every figure and number from the models in weights/'
	@echo 'make repro    set up, then train the models and make every figure and number (dvc repro)'
	@echo 'make retrain  the same, with models of your own in place of those from weights/'
	@echo 'make test     set up, then run the tests'
	@echo 'make check    lint, formatting, types, and the schemas of workflows'
	@echo 'make seeds    train the models behind the verdicts three times each (hours; data/seeds.jsonl)'
	@echo 'make digits   set up, then only the samples of one model'
	@echo 'make lab      JupyterLab on the notebooks'
	@echo 'make page     make the page and serve it on this machine'
	@echo 'make compare  your numbers beside the committed ones'
	@echo 'make share    one archive of the last commit and the page, for a deposit'
	@echo 'make clean    remove what is quickly made again'

setup: .venv/ready

# Of the lock, without and with the packages that differ in the CPU build. PyTorch's own index has this
# build; we could not reach it, so TORCH=cpu is untried.
CUDA = (cuda-|nvidia-|torch==|torchvision==|triton==)
CPU = --index-url https://download.pytorch.org/whl/cpu $$(grep -oE '^(torch|torchvision)==[0-9.]+' requirements.txt)
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

.venv/ready: pyproject.toml requirements.txt Makefile
	@$(if $(PYTHON),$(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'error: Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -c 'import platform as p, sys; sys.exit((p.system(), p.machine()) == ("Darwin", "x86_64"))' || \
		{ echo 'error: PyTorch ended its builds for Intel Macs with version 2.2, and ihdm needs a newer one: take' \
			'a Mac with Apple silicon (and a Python for it), or Linux' >&2; exit 1; }
	@echo 'Setting up .venv; torch alone is several GB, so the first time takes minutes.'
	@# Pip is silent for minutes. Whenever jsonschema is imported, rfc3987-syntax parses a grammar for
	@# seconds, to check what no notebook holds.
	@set -e; begun=$$(date +%s); \
	state() { echo "set-up: $$(($$(date +%s) - begun)) s, .venv has $$(du -sh .venv | cut -f1)"; }; \
	(while sleep 5 && kill -0 $$$$; do state; done) 2>/dev/null & \
	trap "kill $$!" EXIT; \
	$(PYTHON) -m venv .venv; \
	$(if $(filter cpu,$(TORCH)),$(PIP) install --no-deps $(CPU);) \
	awk '/^[a-z]/ {cuda = /^$(CUDA)/} !cuda || "$(TORCH)" != "cpu"' requirements.txt >.venv/requirements.txt; \
	$(PIP) install --no-deps --require-hashes --requirement .venv/requirements.txt; \
	$(PIP) install --no-deps --no-build-isolation --editable .; \
	$(PIP) uninstall --yes rfc3987-syntax; \
	state
	@if git rev-parse --git-dir >/dev/null 2>&1; then \
		git config filter.nbstripout.clean '"$(CURDIR)/.venv/bin/python" -m nbstripout --keep-id --extra-keys "metadata.language_info"' && \
		git config filter.nbstripout.smudge cat && \
		git config diff.jupyternotebook.command '"$(CURDIR)/.venv/bin/git-nbdiffdriver" diff --use-filter' && \
		git config merge.jupyternotebook.driver '"$(CURDIR)/.venv/bin/git-nbmergedriver" merge %O %A %B %L %P' && \
		git config merge.jupyternotebook.name 'jupyter notebook merge driver'; \
	fi
	@touch $@

# Before each `dvc repro`, which stops at a lock file that was cut off.
mend: setup
	@$(BIN)/python -m ihdm.pipeline.lockfile

# The playground needs neither data nor training.
play: setup
	$(BIN)/jupyter lab notebooks/17-playground.ipynb

quick: mend
	$(BIN)/dvc repro data
	@$(BIN)/python -m ihdm.pipeline.adopting
	$(BIN)/dvc repro

repro: mend
	$(BIN)/dvc repro

# DVC would restore what it made of adopted weights: its run cache is for the same code and settings.
retrain: mend
	$(BIN)/dvc repro data
	@$(BIN)/python -m ihdm.pipeline.adopting drop
	$(BIN)/dvc repro --no-run-cache

seeds: mend
	$(BIN)/dvc repro digit-features
	$(BIN)/python -m ihdm.pipeline.repeating

digits: mend
	$(BIN)/dvc repro samples@mnist

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@# Schemas that the package holds, so this works offline.
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

lab: setup
	$(BIN)/jupyter lab --notebook-dir=notebooks

page: mend
	$(BIN)/dvc repro page
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory site 8000

compare: setup
	$(BIN)/dvc metrics diff --all HEAD

share: setup
	@$(BIN)/python -m ihdm.pipeline.sharing

clean:
	rm -rf build site dvc_plots .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find ihdm tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
	@echo 'Kept: .venv (installed packages), data and results (outputs of the pipeline),'
	@echo 'state (trained weights and checkpoints; delete it to train anew) and .dvc/cache (dvc gc prunes it).'
