# `make` lists the commands. Each sets up what it needs; nothing has to be installed or activated first.
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
VENV_PYTHON := .venv/bin/python

# The message reaches the program as it was typed: through the environment, never through make or a shell.
export NANOBOT_CHAT_MESSAGE := $(value MSG)
unexport MSG

.DEFAULT_GOAL := help
.PHONY: help chat test check fmt bench soak peers lock clean dev

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

chat: ## talk to nanobot on the local model; MSG="Hello" for one reply
	@scripts/chat.sh

test: dev ## run the whole test suite (what needs apt or npm is in `make peers`)
	$(VENV_PYTHON) -m pytest -n auto --dist worksteal -m "not peers"

check: dev ## format, lint, types, import layers, budgets, generated docs
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m mypy
	.venv/bin/lint-imports
	$(VENV_PYTHON) scripts/check_budgets.py
	$(VENV_PYTHON) scripts/generate_docs.py --check

fmt: dev ## format the code and repair what the linter can
	$(VENV_PYTHON) -m ruff check --fix-only .
	$(VENV_PYTHON) -m ruff format .

bench: dev ## measure start, turns and the running gateway against what is promised; BENCH=--no-fail explores
	$(VENV_PYTHON) benchmarks/bench.py $(BENCH)

soak: dev ## kill the gateway again and again and look for what got lost; SOAK_KILLS=1000 for a long run
	$(VENV_PYTHON) benchmarks/soak.py

peers: dev ## run the tests that need programs from npm or apt
	npm ci --no-audit --no-fund
	@test -x .venv-peers/bin/python || $(VENV_PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --require-hashes -r requirements/peers.txt
	$(VENV_PYTHON) -m pytest -m peers

lock: ## choose the newest versions again: rewrites requirements/*.txt
	scripts/lock.sh

clean: ## delete everything that a command here has made
	rm -rf .venv .venv.old-* .venv-peers node_modules dist benchmarks/last*.json
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find nanobot scripts benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +

dev:
	@scripts/setup.sh dev
