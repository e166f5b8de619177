# `make run` and `make test` are all that a newcomer needs; `make` lists the rest.

MODEL := models/smollm2-135m-instruct
PORT ?= 8080
CARGO ?= cargo
PYTHON ?= python3
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help run build model sdk test lint fmt bench cuda-kernels deny

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s  %s\n", $$1, $$2}' Makefile

run: model build ## Fetch the default model, build the server and serve it (PORT=8080)
	@exec $(TARGET)/release/sconce serve $(MODEL) --port $(PORT)

build: need-cargo ## Build the server, optimised, as target/release/sconce
	$(CARGO) build --release --package sconce

model: need-python ## Fetch the default model unless it is there
	@$(PYTHON) models/fetch_smollm2.py

sdk: need-python ## Fetch the clients that the tests ask the server with: the SageMaker SDK and OpenAI's
	@$(PYTHON) tests/sdk/fetch.py
	@$(PYTHON) tests/openai/fetch.py

# The tests against the default model and with the SDK say "skipped" where it cannot be fetched.
test: lint ## Check format, lints and documentation, then run all tests
	@$(PYTHON) models/fetch_smollm2.py || echo "skipped: tests that need the default model"
	@$(PYTHON) models/fetch_minilm.py || echo "skipped: the test of the sentence model"
	@$(PYTHON) tests/sdk/fetch.py || echo "skipped: tests with the SageMaker SDK"
	@$(PYTHON) tests/openai/fetch.py || echo "skipped: the test with OpenAI's client"
	$(CARGO) test --workspace

lint: need-cargo ## Check format, lints and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

fmt: need-cargo ## Format all Rust code
	$(CARGO) fmt --all

bench: model need-cargo ## Measure the default model on this machine
	$(CARGO) bench --package sconce --package sconce-sched

# Machine code of every generation that is rented, and code that later ones translate. Nothing uses it yet.
NVCC ?= nvcc
GENERATIONS := 80 86 89 90 100 120
cuda-kernels: ## Compile the CUDA kernels, to see that it can be done (needs nvcc 13.0)
	@mkdir -p $(TARGET)
	$(NVCC) -std=c++17 -O3 --fatbin --compress-mode=size -gencode=arch=compute_75,code=[compute_75,sm_75] \
	  $(foreach g,$(GENERATIONS),-gencode=arch=compute_$(g),code=sm_$(g)) \
	  -o $(TARGET)/kernels.fatbin crates/sconce-nn/src/kernels/cuda/kernels.cu

deny: need-cargo ## Check licences and sources of all dependencies (needs cargo-deny)
	$(CARGO) deny check licenses bans sources

.PHONY: need-cargo need-python
need-cargo:
	@command -v $(CARGO) >/dev/null || { \
	  echo "cargo is missing: install Rust 1.95 or newer, https://rustup.rs" >&2; exit 1; }

need-python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is missing: it fetches the default model and the SDK. Install Python 3.9 or newer with pip" >&2; \
	  echo "(Debian: apt-get install python3-pip), or serve a folder of your own:" >&2; \
	  echo "  cargo run --release -p sconce -- serve FOLDER" >&2; exit 1; }
