# `make run` and `make test` are all that a newcomer needs; `make` lists the rest.

MODEL := models/smollm2-135m-instruct
PORT ?= 8080
CARGO ?= cargo
PYTHON ?= python3
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help run build model sdk test lint fmt bench cuda cuda-kernels cuda-tests test-cuda emulated-gpus deny

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s  %s\n", $$1, $$2}' Makefile

run: model build ## Fetch the default model, build the server and serve it (PORT=8080)
	@exec $(TARGET)/release/sconce serve $(MODEL) --port $(PORT)

build: need-cargo ## Build the server, optimised, as target/release/sconce
	$(CARGO) build --release --package sconce

model: need-python ## Fetch the default model unless it is there
	@$(PYTHON) models/fetch_smollm2.py

sdk: need-python ## Fetch the clients that the tests ask the server with: the SageMaker SDK, OpenAI's, LangChain and litellm; moto's S3
	@$(PYTHON) tests/sdk/fetch.py
	@$(PYTHON) tests/fetch_clients.py openai
	@$(PYTHON) tests/fetch_clients.py clients
	@$(PYTHON) tests/fetch_clients.py metrics
	@$(PYTHON) tests/fetch_clients.py moto

# The tests against the default model and with the SDK say "skipped" where it cannot be fetched.
test: lint ## Check format, lints and documentation, then run all tests
	@$(PYTHON) models/fetch_smollm2.py || echo "skipped: tests that need the default model"
	@$(PYTHON) models/fetch_minilm.py || echo "skipped: the test of the sentence model"
	@$(PYTHON) tests/sdk/fetch.py || echo "skipped: tests with the SageMaker SDK"
	@$(PYTHON) tests/fetch_clients.py openai || echo "skipped: the test with OpenAI's client"
	@$(PYTHON) tests/fetch_clients.py clients || echo "skipped: the test with LangChain and litellm"
	@$(PYTHON) tests/fetch_clients.py metrics || echo "skipped: the test with Prometheus' parser"
	@$(PYTHON) tests/fetch_clients.py moto || echo "skipped: the tests with moto's S3"
	$(CARGO) test --workspace

lint: need-cargo ## Check format, lints and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

fmt: need-cargo ## Format all Rust code
	$(CARGO) fmt --all

bench: model need-cargo ## Measure the default model on this machine
	$(CARGO) bench --package sconce --package sconce-sched

# Machine code of every generation that is rented, and code that later ones translate; six minutes of one core in all.
NVCC ?= nvcc
GENERATIONS := 86 89 90 100 120
KERNELS := $(abspath $(TARGET)/kernels.fatbin)
cuda-kernels: need-nvcc $(KERNELS) ## Compile the CUDA kernels (needs nvcc 13.0)

$(KERNELS): $(wildcard crates/sconce-nn/src/kernels/cuda/*.cu*)
	@mkdir -p $(TARGET)
	$(NVCC) --threads 0 -std=c++17 -O3 --fatbin --compress-mode=size -gencode=arch=compute_75,code=sm_75 \
	  -gencode=arch=compute_80,code=[compute_80,sm_80] $(foreach g,$(GENERATIONS),-gencode=arch=compute_$(g),code=sm_$(g)) \
	  -o $@ crates/sconce-nn/src/kernels/cuda/kernels.cu

# cudarc opens CUDA's libraries when they are there: the flag reaches it alone, and a target keeps it from build scripts.
# candle compiles kernels too, of which sconce calls none; they are made for one generation.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
CUDA_COMPUTE_CAP ?= 75
WITH_CUDA = CUDA_COMPUTE_CAP=$(CUDA_COMPUTE_CAP) CUDARC_CUDA_VERSION=13000 SCONCE_CUDA_KERNELS=$(KERNELS) \
  RUSTFLAGS='--cfg feature="dynamic-loading"' CARGO_TARGET_DIR=$(abspath $(TARGET)/cuda) $(CARGO)
cuda: need-cargo cuda-kernels ## Build the server for GPUs and processors, as target/cuda/HOST/release/sconce
	$(WITH_CUDA) build --release --package sconce --features cuda --target $(HOST)

cuda-tests: need-cargo cuda-kernels ## Build the tests that benches/gpu/check.py runs on a machine with GPUs
	$(WITH_CUDA) test --release --package sconce --features cuda --target $(HOST) --test integration --no-run

# A driver, cuBLAS and NCCL on the processor: what is above the kernels runs as it does on GPUs.
EMULATED := $(abspath $(TARGET)/emulated-gpus)
CXX ?= c++
emulated-gpus: $(EMULATED)/libcuda.so
$(EMULATED)/libcuda.so: $(wildcard crates/sconce-nn/src/kernels/cuda/*.cu* crates/sconce-nn/src/kernels/cuda/host/*)
	@mkdir -p $(EMULATED)
	$(CXX) -std=c++17 -O2 -shared -fPIC -fvisibility=hidden -pthread -o $@ crates/sconce-nn/src/kernels/cuda/host/driver.cpp
	@for library in cublas cublasLt cudart curand nccl nvrtc; do ln -sf libcuda.so $(EMULATED)/lib$$library.so; done

# Needs no toolkit of NVIDIA's: the emulated driver has the kernels, and those of candle, which nobody calls, are left out.
# What is linked by name is opened only by who computes on GPUs.
TEST_CUDA = CUDA_COMPUTE_CAP=75 CUDARC_CUDA_VERSION=13000 SCONCE_CUDA_KERNELS=$(abspath Makefile) \
  NVCC=$(abspath crates/sconce-nn/src/kernels/cuda/host/nvcc) LIBRARY_PATH=$(EMULATED) \
  RUSTFLAGS='--cfg feature="dynamic-loading"' CARGO_TARGET_DIR=$(abspath $(TARGET)/cuda-emulated) $(CARGO)
test-cuda: need-cargo emulated-gpus ## Run all tests of a build for GPUs without one, then those of GPUs on emulated ones
	$(TEST_CUDA) test --workspace --features sconce/cuda --target $(HOST)
	LD_LIBRARY_PATH=$(EMULATED) SCONCE_EMULATED_GPUS=3 \
	  $(TEST_CUDA) test --workspace --features sconce/cuda --target $(HOST) --test integration -- gpus

deny: need-cargo ## Check licences and sources of all dependencies (needs cargo-deny)
	$(CARGO) deny check licenses bans sources

.PHONY: need-cargo need-python need-nvcc
need-nvcc:
	@command -v $(NVCC) >/dev/null || { \
	  echo "$(NVCC) is missing: install NVIDIA's CUDA toolkit 13.0, or name its compiler with NVCC=PATH" >&2; exit 1; }

need-cargo:
	@command -v $(CARGO) >/dev/null || { \
	  echo "cargo is missing: install Rust 1.95 or newer, https://rustup.rs" >&2; exit 1; }

need-python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is missing: it fetches the default model and the SDK. Install Python 3.9 or newer with pip" >&2; \
	  echo "(Debian: apt-get install python3-pip), or serve a folder of your own:" >&2; \
	  echo "  cargo run --release -p sconce -- serve FOLDER" >&2; exit 1; }
