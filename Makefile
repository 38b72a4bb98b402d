# What can be done with this checkout? `make` alone lists it.

CARGO ?= cargo
# Where cargo puts binaries; the same rule cargo itself follows.
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# `make demo ONCE=1` runs the journey and stops; without it the demo stays up.
DEMO_FLAGS := $(if $(ONCE),--once)

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench soak loom build deb

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## one token's whole journey on this machine; ONCE=1 stops by itself
	scripts/setup.sh demo
	$(MAKE) build
	$(TARGET_DIR)/debug/m2key-demo $(DEMO_FLAGS)

test: ## every test, and the model of the HSM queue
	scripts/setup.sh test
	# The daemons that tests start, with the tests' own features: built once, not once more for each.
	$(CARGO) build --locked --workspace --lib --bins --tests
	$(CARGO) test --locked --workspace
	$(MAKE) loom

# The daemons stand in the same directory and profile for the demo and for the tests that start them.
build:
	$(CARGO) build --locked --workspace

loom: ## every interleaving of the HSM queue
	$(CARGO) test --locked -p hsm --features loom --lib --target-dir $(TARGET_DIR)/loom

deb: ## Debian packages of agent and authority, in target/deb
	scripts/setup.sh deb
	$(CARGO) build --locked --release -p reader-agent -p authority -p pki --bins
	packaging/debian/build.sh $(TARGET_DIR)/release $(TARGET_DIR)/deb

lint: ## format, clippy, bare-metal and Windows checks, dependency rules, docs, scripts, units
	scripts/setup.sh lint
	$(CARGO) fmt --all --check
	$(CARGO) fmt --check --manifest-path tests/kryoptic/Cargo.toml
	shellcheck scripts/*.sh packaging/debian/*.sh packaging/debian/m2key-*/p* .ci/run
	scripts/units.sh
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) check --locked -p protocol --target x86_64-unknown-none
	# Linked, not only checked: winscard and the service manager's calls must be there.
	$(CARGO) build --locked -p reader-agent --bins --target x86_64-pc-windows-gnu
	$(CARGO) deny --locked check bans licenses sources
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --locked --workspace

soak: ## years of a terminal's life from new seeds, for MINUTES=60
	scripts/setup.sh demo
	M2KEY_SOAK_MINUTES=$(or $(MINUTES),60) $(CARGO) test --locked --workspace --test simulation -- --nocapture

bench: ## every benchmark, side by side with the bare parts
	scripts/setup.sh bench
	# What is measured at rest, and what it talks to, beside the benchmark that starts them.
	$(CARGO) build --locked --release -p reader-agent -p authority -p pki -p demo-bank --bins
	$(CARGO) bench --locked -p tests
