# make demo          build, then decide on the bundled photographs with the bundled model
# make test          every test
# make venv          a Python with ONNX Runtime in target/venv: with it `make test` also runs the exported graphs there
# make lint          formatting, clippy, documentation: all without a warning
# make test-aarch64  the library's and the golden tests, cross-compiled, under qemu
# A missing toolchain is installed first where that is possible: see tools/cargo.sh.
CARGO := tools/cargo.sh
CFVIT := $(CARGO) run --quiet --release --locked --
PICTURES := tests/data/pictures

.PHONY: demo test venv lint fmt test-aarch64 toolchain
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

lint: toolchain
	@$(CARGO) fmt --check
	@$(CARGO) clippy --locked --all-targets -- -D warnings
	@RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps

fmt: toolchain
	@$(CARGO) fmt

test-aarch64:
	@tools/test-aarch64.sh
