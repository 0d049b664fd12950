# make demo          build, then decide on the bundled photographs with the bundled model
# make test          every test
# make venv          a Python with ONNX Runtime in target/venv: with it `make test` also runs the exported graphs there
# make axe           axe-core in target/npm (needs npm): with it `make test` also asks whether everybody can use the page
# make tensorrt-rtx  NVIDIA's TensorRT-RTX in target/tensorrt-rtx: with it `make test-tensorrt` also builds plans, on a machine without a GPU
# make test-tensorrt the tests of everything that feature tensorrt adds
# make check-shim    the TensorRT shim, compiled against NVIDIA's headers for x86-64 and aarch64
# make lint          formatting, clippy, documentation: all without a warning
# make test-aarch64  the golden tests and those of what depends on the processor, cross-compiled, under qemu
# make deb          target/deb/cfvit_VERSION_{arm64,amd64}.deb: the service, cross-built for arm64; see tools/deb.sh
# A missing toolchain is installed first where that is possible: see tools/cargo.sh.
CARGO := tools/cargo.sh
CFVIT := $(CARGO) run --quiet --release --locked --
PICTURES := tests/data/pictures

.PHONY: demo test venv axe tensorrt-rtx test-tensorrt check-shim lint fmt test-aarch64 deb toolchain
.NOTPARALLEL:
.DEFAULT_GOAL := demo

toolchain:
	@$(CARGO) --ensure

demo: toolchain
	@$(CARGO) build --release --locked
	@echo; echo '— The bundled model'
	@$(CFVIT) inspect
	@echo; echo '— Every picture: answered by the coarse stage where that is sure enough, refined where not'
	@$(CFVIT) classify --top 3 $(PICTURES)
	@echo; echo '— What that costs: coarse only, always fine, and decided per picture'
	@$(CFVIT) eval $(PICTURES)
	@echo; echo '— The same pictures as if a camera took them'
	@$(CFVIT) run --source $(PICTURES) --loop --fps 8 --frames 24

test: toolchain
	@$(CARGO) test --locked

venv: target/venv/ready

target/venv/ready: tests/onnx/requirements.txt
	python3 -m venv target/venv
	target/venv/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

axe: target/npm/node_modules/axe-core/axe.min.js

target/npm/node_modules/axe-core/axe.min.js:
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix target/npm axe-core@4.14.1

tensorrt-rtx:
	@tools/tensorrt-rtx.sh

test-tensorrt: toolchain
	@export TENSORRT_INCLUDE_DIR=$$(tools/tensorrt-headers.sh) && $(CARGO) test --locked --features tensorrt --lib -- plan:: build:: engine::tensorrt:: doctor::
	@export TENSORRT_INCLUDE_DIR=$$(tools/tensorrt-headers.sh) && $(CARGO) test --locked --features tensorrt --test build --test doctor --test tensorrt

check-shim: toolchain
	@tools/check-shim.sh

lint: toolchain
	@$(CARGO) fmt --check
	@$(CARGO) clippy --locked --all-targets -- -D warnings
	@for features in '' web mqtt webhook; do $(CARGO) clippy --locked --all-targets --no-default-features --features "$$features" -- -D warnings || exit 1; done
	@export TENSORRT_INCLUDE_DIR=$$(tools/tensorrt-headers.sh) && $(CARGO) clippy --locked --all-targets --features tensorrt -- -D warnings
	@RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps

fmt: toolchain
	@$(CARGO) fmt

test-aarch64:
	@tools/test-aarch64.sh

deb: toolchain
	@tools/deb.sh
