#!/bin/sh
# Compiles the TensorRT shim against each set of headers, on this machine's compiler and on the one for aarch64, with every warning an error,
# and checks that nothing of TensorRT is left to link:
#
#   tools/check-shim.sh [HEADERS…]      default: those of tools/tensorrt-headers.sh
#
# Each HEADERS is a folder with NvInfer.h and NvOnnxParser.h of TensorRT 8.5 to 11 or RTX 1.3 to 1.7.
set -eu
cd "$(dirname "$0")/.."
shim=src/engine/tensorrt/shim
if [ $# = 0 ]; then
    # shellcheck disable=SC2046
    set -- $(tools/tensorrt-headers.sh | tr : ' ')
fi
if ! command -v c++ aarch64-linux-gnu-g++ >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing compilers; on Debian and Ubuntu: sudo apt-get install g++ g++-aarch64-linux-gnu" >&2
        exit 3
    fi
    apt-get -q -o DPkg::Lock::Timeout=300 update
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends g++ g++-aarch64-linux-gnu </dev/null
fi
object=$(mktemp)
trap 'rm -f "$object"' EXIT
for headers; do
    for compiler in c++ aarch64-linux-gnu-g++; do
        $compiler -std=c++17 -O2 -Wall -Wextra -Werror -Wno-deprecated-declarations -isystem "$headers" -isystem "$shim/cuda-stub" \
            -Dnvinfer1=cfvit_nvinfer -Dnvonnxparser=cfvit_nvonnxparser -c "$shim/shim.cc" -o "$object"
        left=$(nm --undefined-only "$object" | grep -iE 'nvinfer|onnx' || true)
        [ -z "$left" ] || {
            printf '%s with %s: symbols of TensorRT left to link:\n%s\n' "$headers" "$compiler" "$left" >&2
            exit 1
        }
        echo "$compiler, $(basename "$headers"): ok"
    done
done
