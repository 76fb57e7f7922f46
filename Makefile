# Every target sets up what it needs first and says nothing when nothing is missing. `make` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# One target directory outside the checkout and one profile: RocksDB takes minutes to compile, and does so once.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/progressdb/target
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

CARGO := cargo --locked
BIN := $(CARGO_TARGET_DIR)/release
ADDR ?= 127.0.0.1:8080
DB ?= ./data
LOOPS ?= 100
# Suites that `make test` leaves out.
CLUSTER_TESTS := real shared alone

# What is released; arm64 is cross-compiled on amd64.
ARCHITECTURES ?= amd64 arm64

.PHONY: help run test torture fleet check fmt audit bench image e2e demo cluster-up cluster-down
.PHONY: release reproducible

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

run: ## build and start a database on 127.0.0.1:8080 with its data in ./data (ADDR=, DB=, ARGS=)
	@scripts/setup build
	@$(CARGO) build --release --workspace --bin progressdb
	@exec $(BIN)/progressdb serve --addr $(ADDR) --db $(DB) $(ARGS)

# The server warns of variables that it does not know.
test torture e2e demo: export PROGRESSDB_TEST_PYTHON ?= $(HOME)/.cache/progressdb/venv/bin/python

test: ## run every test that needs no cluster; the last line counts those that were skipped
	@scripts/setup build test
	@scripts/test-servers
	@scripts/count-skips $(CARGO) test --release --workspace

torture: ## kill -9, power cuts, checkpoints and backups under load, killed restores and changes of format, LOOPS=100 times each (power cuts as root); an operator that dies at each call of an upgrade
	@scripts/setup build test
	@PROGRESSDB_TORTURE_LOOPS=$(LOOPS) $(CARGO) test --release --workspace --test durability --test backup --test moving --test formats --test double --test model -- kill_9 power_cut checkpoints torture --nocapture

fleet: ## watch three servers on three nodes of Cassandra, on loopback, while one after the other is killed; takes two minutes
	@scripts/setup build test
	@CI=true scripts/test-servers cassandra
	@CI=true $(CARGO) test --quiet --release --workspace --test fleet -- --ignored --exact tour::tour --nocapture

check: ## formatting, house rules, scripts, dependencies, lints, documentation
	@scripts/setup build check
	@cargo fmt --all --check
	@scripts/house-rules
	@scripts/check-charts
	@git grep --untracked -lE '^#!/usr/bin/env bash' | xargs shellcheck
	@scripts/deny check bans licenses sources
	@$(CARGO) clippy --release --workspace --all-targets $(addprefix --test ,$(CLUSTER_TESTS)) -- -D warnings
	@RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' $(CARGO) doc --release --workspace --no-deps --document-private-items

fmt: ## format the code
	@cargo fmt --all

audit: ## look for known vulnerabilities (fetches the RustSec database from GitHub)
	@scripts/setup build
	@scripts/deny check advisories || { echo 'audit: failed; it needs git access to github.com/rustsec/advisory-db' >&2; exit 1; }

bench: ## compare with PostgreSQL and Redis on this machine; figures also in ./bench.json (ARGS=)
	@scripts/setup build bench
	@$(CARGO) build --release --workspace --bins
	@exec $(BIN)/progressdb-bench --json bench.json $(ARGS)

image: ## build both container images from the local build, without a registry, and try them
	@scripts/setup build image
	@$(CARGO) build --release --workspace --bins
	@scripts/image server $(BIN)/progressdb
	@scripts/image operator $(BIN)/progressdb-operator

e2e: ## try everything on a real Kubernetes, made for it (root) or that of KUBECONFIG (FILTER=, E2E_KEEP=1)
	@scripts/setup build test image
	@scripts/test-servers
	@$(CARGO) build --release --workspace --bins
	@scripts/count-skips e2e/run $(FILTER)

demo: ## leave a Kubernetes up with the operator and a database, after a good and a bad upgrade (root)
	@scripts/setup build test image
	@$(CARGO) build --release --workspace --bins
	@e2e/demo

cluster-up: ## bring up a Kubernetes of one node on this machine (root); with KUBECONFIG set, that one is used instead
	@e2e/cluster/up

cluster-down: ## take it down and remove all that was its
	@e2e/cluster/down

release: ## make all that a release consists of in ./dist (ARCHITECTURES='amd64 arm64'); the first time it compiles RocksDB for arm64
	@scripts/setup build image release
	@programs=$$(scripts/release/programs $(ARCHITECTURES)) && scripts/release/package dist $$programs

reproducible: ## make the release twice in different places and compare all bytes (ARCHITECTURES=amd64, COLD=1)
	@scripts/setup build image release
	@scripts/release/reproducible $(ARCHITECTURES)
