#!/bin/sh
# Measures cfvit against ONNX Runtime, OpenVINO and PyTorch: benches/peers/run.sh WORK [options of peers.py]
#
# WORK is a folder outside the project: a Python environment (1 GB), random weights and ONNX graphs go there and are used again by
# the next run. PYTHON says which interpreter makes the environment, or, if it has the packages already, which one to use.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 WORK [--photos DIR] [--rounds N] ..." >&2; exit 2; }
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift
project=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
if ! "$python" -c 'import torch, onnx, onnxruntime, openvino, PIL' 2>/dev/null; then
    [ -x "$work/venv/bin/python" ] || "$python" -m venv "$work/venv"
    python=$work/venv/bin/python
    "$python" -m pip install --quiet torch onnx onnxruntime openvino numpy pillow
fi
cd "$project"
tools/cargo.sh build --quiet --release --locked --bin cfvit --example stage-server
for arch in cf_deit_small cf_lvvit_small; do
    "${CARGO_TARGET_DIR:-target}/release/cfvit" init --arch $arch --seed 1 --out "$work/$arch.safetensors" >&2
done
exec "$python" benches/peers/peers.py --work "$work" --server "${CARGO_TARGET_DIR:-target}/release/examples/stage-server" "$@"
