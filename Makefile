# Thin on purpose: what takes more than a line is in tests/scripts/ or in a program.
# `make help` lists what there is.

SHELL = /bin/sh
CARGO ?= cargo
TARGET = $${CARGO_TARGET_DIR:-target}
PROGRAMS = -p reeve-coordinator -p reeve-agent -p reeve-cli

.DEFAULT_GOAL := help
.PHONY: help demo demo-clean test build release dist bench fuzz soak install-prerequisites

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-24s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make demo ONCE=1              The same demo, but it stops by itself and says whether all went well"

demo: ## Build quickly, start a coordinator and three agents here, run real commands before your eyes
	$(CARGO) build --profile demo $(PROGRAMS)
	@ONCE="$(ONCE)" BIN="$(TARGET)/demo" sh tests/scripts/demo.sh

demo-clean: ## Stop a demo that still runs and remove everything it made
	@sh tests/scripts/demo.sh clean

test: install-prerequisites ## Format check, lints, every test (installs what the tests need)
	@sh tests/scripts/test.sh

build: ## Build everything for development
	$(CARGO) build --workspace --all-targets

release: ## Build what is shipped: coordinator and `reeve` for speed, the agent for size
	$(CARGO) build --release -p reeve-coordinator -p reeve-cli
	$(CARGO) build --profile agent -p reeve-agent

dist: release ## Put what coordinators serve to machines (/dist/) into target/dist
	@BIN="$(TARGET)/agent" DIST="$(TARGET)/dist" sh tests/scripts/dist.sh

bench: ## First figures, each beside what the machine itself can do
	$(CARGO) build --release $(PROGRAMS) -p reeve-tests
	@"$(TARGET)/release/reeve-bench"
	@$(CARGO) run --quiet --release -p reeve-stages --example overhead

soak: ## Random work and random faults until SECONDS are over; SEED=… RUNS=… repeat (docs/reliability.md)
	$(CARGO) build --workspace --bins
	@"$(TARGET)/debug/reeve-soak" --folder "$(TARGET)/soak" --parallel $(or $(PARALLEL),2) \
		--seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS))

fuzz: ## Try what reads others' bytes with nonsense, each target for SECONDS=60 (needs nightly Rust and cargo-fuzz)
	@sh tests/scripts/fuzz.sh $(or $(SECONDS),60) $(TARGETS)

install-prerequisites: ## Install what `make test` needs and is missing; says what and why
	@sh tests/scripts/prerequisites.sh
