# Each line calls cargo or a script; `make help` lists the targets.
.PHONY: help run deb test bench fuzz lint coverage

ROOT ?= $(or $(PVE_LAB_ROOT),/var/lib/pve-lab/default)
LAB = $(if $(filter 0,$(shell id -u)),,sudo) $(or $(CARGO_TARGET_DIR),target)/release/pve-lab

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

run: ## Install what is missing, build, start a lab (ROOT=… chooses where its state lives; ARGS=… go to pve-lab)
	tools/check-rust
	tools/install packages/run.txt
	cargo build --release --locked
	$(LAB) start --root $(ROOT) $(ARGS)

deb: ## Build the Debian package and print its path (PROFILE=dist, release or dev; docs/decisions/0028)
	@tools/check-rust
	@tools/install packages/run.txt packages/deb.txt
	@tools/deb $(or $(PROFILE),dist)

test: ## Install what is missing and run every test
	tools/check-rust
	tools/install packages/run.txt packages/test.txt packages/deb.txt
	$(MAKE) --no-print-directory lint
	cargo build --workspace --bins --locked
	cargo test --workspace --locked
	cargo test --locked -p pve-cfs -p pve-jobs -p pve-storage --features failpoints
	tests/run
	tests/run nodes

bench: ## Speed beside others: the daemons beside nginx and HAProxy, a VM's backup beside qemu-img convert; a look at 1000 VMs
	tools/check-rust
	tools/install packages/run.txt packages/bench.txt
	cargo build --profile dist --locked $(addprefix -p ,pve-lab pvedaemon pveproxy spiceproxy pvestatd pvescheduler qmeventd)
	$(if $(filter 0,$(shell id -u)),,sudo) env $(if $(CARGO_TARGET_DIR),CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)) python3 benches/side_by_side.py
	cargo bench --locked -p pve-backup --bench copy
	cargo bench --locked -p pvestatd --bench thousand

fuzz: ## Run every fuzzer, 1000000 executions or 60 s each (FUZZ_RUNS=…, FUZZ_SECONDS=…; nightly Rust and cargo-fuzz)
	tools/fuzz

lint: ## Formatting, clippy, rows of crates, licences, coverage table
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo xtask rows
	cargo xtask licences
	cargo xtask coverage --check

coverage: ## Write docs/coverage.md from the registries
	cargo xtask coverage
