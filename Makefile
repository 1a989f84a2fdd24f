SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# Builds and tests never ask a database about queries; `make sqlx` does.
export SQLX_OFFLINE := true
# Checking compiles every dependency in another way than building does; this directory keeps the three that check from
# doing so three times, and scripts/sqlx-prepare, which forgets our own crates, from disturbing builds.
checking := CARGO_TARGET_DIR="$${CARGO_TARGET_DIR:-target}/check"
# Passed on to the program: make demo ARGS=--exit-after-purchase, make test ARGS="relay -- --nocapture"
ARGS ?=

.PHONY: help demo test check bench bench-peers fmt fmt-check lint doc sqlx sqlx-check deny compose services hooks clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Start a small golf shop and buy something in it; needs no configuration (Ctrl-C ends it)
	@scripts/rust
	@[[ -n "$${DATABASE_URL:-}" ]] || scripts/services --postgres-binaries
	@echo "building jangbu (a few minutes the first time)" >&2
	@cargo build --quiet --locked --bin jangbu
	@exec cargo run --quiet --locked --bin jangbu -- demo $(ARGS)

test: ## Run all tests; starts PostgreSQL and RabbitMQ if none is reachable
	@scripts/rust
	@services=$$(scripts/services); eval "$$services"; cargo test --locked --workspace $(ARGS)

check: fmt-check lint doc sqlx-check test deny compose ## Everything that CI checks, in its order

bench: ## Measure beside pgbench's limits on this machine (minutes)
	@scripts/rust
	@services=$$(scripts/services); eval "$$services"; cargo bench --locked --bench load -- $(ARGS)

bench-peers: ## Measure beside other event stores on PostgreSQL (minutes)
	@scripts/rust
	@services=$$(scripts/services --postgres); eval "$$services"; cargo run --release --locked --manifest-path benches/peers/Cargo.toml -- --docs docs $(ARGS)

fmt: ## Format the code
	@cargo fmt --all

fmt-check:
	@cargo fmt --all --check

lint: ## Run clippy; warnings are errors
	@$(checking) cargo clippy --quiet --locked --workspace --all-targets -- --deny warnings

doc:
	@$(checking) RUSTDOCFLAGS="--deny warnings" cargo doc --quiet --locked --workspace --no-deps --document-private-items

sqlx: ## Write .sqlx anew, after a query or a table has changed
	@scripts/sqlx-prepare

sqlx-check:
	@scripts/sqlx-prepare --check

deny:
	@scripts/deny

compose:
	@scripts/check-compose

services: ## Make PostgreSQL and RabbitMQ reachable and print their URLs
	@scripts/services

hooks: ## Check the format before every commit
	@git config core.hooksPath .githooks

clean: ## Delete what was built; the shop's data in .jangbu stays
	@cargo clean
