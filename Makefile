# The front door. Every target does its own set-up on a fresh Debian machine
# with Rust; `make help` lists them. Works without a terminal and as root.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Black-box scenarios of a Consul data plane, run when the folder is there.
SCENARIOS ?= ../shared/scenarios
SCENARIO_NAMES ?=
# Each integration test starts a Consul agent and several proxies: more at a
# time only makes them wait for each other's processor.
TEST_THREADS ?= 3
# Appended to `cargo test --test it`, for instance `make integration TEST=interop`.
TEST ?=

CARGO := cargo
# Names the folder of a release, which is built for a named target.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
# Where Consul and Envoy are; written by `setup`.
TOOLS := . "$(TARGET_DIR)/tools.env"
step = @printf '\n==> %s\n' "$(1)"

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## gateway, two services and their sidecars in one process; nothing else needed
	@tests/tools/setup.sh --build
	@$(CARGO) run --package meridian --bin meridian -- dev $(ARGS)

.PHONY: demo
demo: setup build ## the same on a real Consul agent, as separate processes (ARGS="--envoy --keep")
	$(call step,demo)
	@$(TOOLS) && "$(TARGET_DIR)/debug/meridian" demo $(ARGS)

.PHONY: test
test: setup format lint unit integration doc-tests docs scenarios instructions smoke ## everything that must pass before a merge
	$(call step,all checks passed)

.PHONY: setup
setup: ## system packages, Consul and Envoy; quick when all is there
	$(call step,set-up)
	@tests/tools/setup.sh

.PHONY: build
build: ## the three programs, development profile
	$(call step,build)
	@$(CARGO) build --workspace --bins

.PHONY: format
format: ## is everything formatted? (cargo fmt --all fixes it)
	$(call step,formatting)
	@$(CARGO) fmt --all --check

.PHONY: lint
lint: ## clippy over all targets, warnings denied
	$(call step,clippy)
	@$(CARGO) clippy --workspace --all-targets -- --deny warnings

# The steps below build with the same package selection, so that Cargo resolves
# the same features and compiles nothing twice.
.PHONY: unit
unit: ## unit tests
	$(call step,unit tests)
	@$(CARGO) test --workspace --lib --bins

.PHONY: integration
integration: setup build ## tests on real Consul and Envoy (root: they make network namespaces)
	$(call step,integration tests)
	@$(TOOLS) && $(CARGO) test --workspace --test '*' -- --test-threads=$(TEST_THREADS) $(TEST)

.PHONY: doc-tests
doc-tests: ## the examples in doc comments
	$(call step,doc tests)
	@$(CARGO) test --workspace --doc

.PHONY: docs
docs: ## API documentation, warnings denied
	$(call step,docs)
	@RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps

.PHONY: scenarios
scenarios: setup build ## black-box scenarios against meshd and gateway
	$(call step,scenarios)
	@if [[ ! -d "$(SCENARIOS)" ]]; then \
		echo "no scenarios at $(SCENARIOS): this step belongs to checkouts that have them"; \
		exit 0; \
	fi; \
	$(TOOLS); \
	MESHD_BIN="$(TARGET_DIR)/debug/meshd" GATEWAY_BIN="$(TARGET_DIR)/debug/gateway" \
		"$(SCENARIOS)/run" --proxy meshd $(SCENARIO_NAMES)

.PHONY: peers
peers: ## what the benchmark needs beside `setup`: peers, load generators, valgrind
	@tests/tools/setup.sh --bench

.PHONY: release
release: peers ## gateway, meshd and meridian as they are shipped, laid out for what requests execute
	$(call step,release)
	@$(TOOLS) && bench/release.sh

# The smoke run shows that each case still works, with the programs that the
# tests use; its figures mean nothing, so it needs no release build.
.PHONY: bench
bench: $(if $(SMOKE),peers build,release) ## against Envoy, nginx and HAProxy (CASE=mesh-http for one, SMOKE=1 for two minutes)
	$(call step,benchmarks)
	@$(TOOLS) && "$(TARGET_DIR)/$(if $(SMOKE),debug,$(HOST)/release)/bench" $(if $(SMOKE),--smoke) $(CASE)

# Each case of `bench` and each micro-benchmark once, in a process of its own:
# variables of this one don't mix.
.PHONY: smoke
smoke: ## does each benchmark still run?
	@$(MAKE) bench micro SMOKE=1

# What is measured is optimised as in a release; the libraries below it are taken
# as the tests have built them, which spares minutes.
OPTIMISED := $(foreach crate,model telemetry dataplane bench,\
	--config 'profile.dev.package.meridian-$(crate).opt-level=3')

.PHONY: instructions
instructions: peers ## instructions of one proxied request, against bench/instructions.txt (NOTE='why' writes it)
	$(call step,instruction count)
	@$(CARGO) build --workspace --bin instructions $(OPTIMISED)
	@"$(TARGET_DIR)/debug/instructions" $(if $(NOTE),--update "$(NOTE)") $(ARGS)

.PHONY: micro
micro: ## micro-benchmarks with criterion (MICRO='route match' for some, SMOKE=1: once each)
	$(call step,micro-benchmarks)
	@$(CARGO) bench --workspace --features meridian-dataplane/micro --bench micro \
		$(if $(SMOKE),--profile dev) -- $(if $(SMOKE),--test) $(if $(MICRO),'$(MICRO)')

# Not part of `test`: cargo-fuzz needs nightly Rust. The unit tests run what the
# targets call, over the same seeds.
.PHONY: fuzz
fuzz: ## one fuzz target for a minute (TARGET=chain), with cargo-fuzz on nightly Rust
	@command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz not found: cargo install --locked cargo-fuzz" >&2; exit 1; }
	@cargo +nightly fuzz run $(or $(TARGET),chain) -- -max_total_time=60

# Not part of `test`: cargo-deny is a download of its own. The integration test
# `tidy` holds the licences and the pins to what deny.toml says.
.PHONY: deny
deny: ## licences, duplicates and advisories, with cargo-deny
	@command -v cargo-deny >/dev/null || { echo "cargo-deny not found: cargo install --locked cargo-deny" >&2; exit 1; }
	@cargo deny check
