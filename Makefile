# The commands of a newcomer: `make demo` and `make test`. Everything else builds on the same environment.
PYTHON ?= python3

# Where it is set, every program compiles two thousand modules each time it starts.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

# So that the demo's figures count the set-up too.
STARTED := $(shell date +%s)

# For `make demo`: a log of your own (LOG=path SYSTEM=name), a running broker (KAFKA=host:port), figures as JSON (JSON=file).
LOG ?=
SYSTEM ?=
KAFKA ?=
JSON ?=

.PHONY: setup demo test test-deploy check format lock generate rehearsal bench bench-agent chaos bases clean help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(STAMP)  ## install the locked environment into .venv

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else f"CroSysLog needs Python 3.11 to 3.13, and $(PYTHON) is {sys.version.split()[0]}: name another one with make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 2; }
	@echo "Installing the locked environment into $(VENV) (about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -oE '^uv==[0-9.]+' requirements.lock)"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)  ## a broker, a model adapted from 1,000 labelled lines, the agent, and anomalies as they are found
	@CROSYSLOG_DEMO_STARTED=$(STARTED) $(BIN)/python -m deploy.demo $(if $(LOG),--log '$(LOG)') $(if $(SYSTEM),--system '$(SYSTEM)') $(if $(KAFKA),--kafka '$(KAFKA)') $(if $(JSON),--json '$(JSON)')

test: $(STAMP)  ## all tests, those with a real Kafka included
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m 'not helm'

test-deploy: $(STAMP)  ## the Helm chart, with a helm that is built once (Go 1.26, two minutes)
	@$(BIN)/python -m deploy.helm.program
	@$(BIN)/python -m pytest -m helm

rehearsal: $(STAMP)  ## agents, Kafka and Prometheus under load and faults: what every dashboard and alert says
	@$(BIN)/python -m deploy.rehearsal

check: $(STAMP)  ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP)  ## let ruff format the code and mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(STAMP)  ## write requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  pyproject.toml --output-file requirements.lock
	@deploy/image/lock.sh

generate: $(STAMP)  ## write anew what is made from code: dashboards, rules, the chart's copies, pages of docs
	@for part in deploy.prometheus deploy.grafana deploy.helm deploy.docs; do $(BIN)/python -m $$part || exit 1; done

bench: $(STAMP)  ## ratios measured in one run, see benchmarks/
	@for program in $(filter-out benchmarks/agent.py,$(wildcard benchmarks/*.py)); do echo "== $$program"; $(BIN)/python "$$program" || exit 1; done

bench-agent: $(STAMP)  ## the agent beside reading alone, with a real Kafka: JSON=file for the figures
	@$(BIN)/python benchmarks/agent.py $(if $(JSON),--json '$(JSON)')
	@$(BIN)/python benchmarks/agent.py --memory --lines 5000000

chaos: $(STAMP)  ## agents under SIGKILL, SIGSTOP, rebalances and a broker that dies: KEEP=folder for what was compared
	@$(BIN)/python -m tests.kafka.chaos $(if $(KEEP),--keep '$(KEEP)')

# For `make bases`: the folder of the labelled logs, and what follows a system's name in theirs.
DATA ?=
LOG_ENDING ?= .reconstructed.log.gz
SOURCES := bgl liberty thunderbird spirit
sources = $(foreach name,$(1),--source $(name)=$(DATA)/$(name)$(LOG_ENDING))
# $(call base,NAME,SOURCES,DETECTOR)
base = test -n '$(DATA)' || { echo 'say with DATA=folder where the logs are' >&2; exit 2; }; \
  mkdir -p build/bases/$(3) && rm -rf build/bases/$(3)/$(1) && OMP_NUM_THREADS=1 $(BIN)/trainer train \
  $(call sources,$(2)) --detector $(3) --output build/bases/$(3)/$(1)

# One thread each, so two at a time with -j2.
BASES := base bgl-liberty $(SOURCES:%=without-%)
DETECTORS := evidence maml_lstm
bases: $(foreach detector,$(DETECTORS),$(BASES:%=$(detector)-%))  ## train the bases that ship anew: DATA=folder of the logs
	@for detector in $(DETECTORS); do for name in $(BASES); do \
	  install -D -m 644 -t crosyslog/bases/$$name/$$detector build/bases/$$detector/$$name/*; done; done

evidence-base maml_lstm-base: %-base: $(STAMP)
	@$(call base,base,$(SOURCES),$*)

evidence-bgl-liberty maml_lstm-bgl-liberty: %-bgl-liberty: $(STAMP)
	@$(call base,bgl-liberty,bgl liberty,$*)

evidence-without-%: $(STAMP)
	@$(call base,without-$*,$(filter-out $*,$(SOURCES)),evidence)

maml_lstm-without-%: $(STAMP)
	@$(call base,without-$*,$(filter-out $*,$(SOURCES)),maml_lstm)

clean:  ## remove what the commands above made, the environment included
	rm -rf $(VENV) .kafka .demo .tools build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
