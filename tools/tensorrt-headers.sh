#!/bin/sh
# Fetches NVIDIA's headers of TensorRT 11.4 and TensorRT-RTX 1.7 with cargo and prints their folders, as TENSORRT_INCLUDE_DIR takes them:
#
#   TENSORRT_INCLUDE_DIR=$(tools/tensorrt-headers.sh) cargo build --features tensorrt
#
# For checks on machines without TensorRT. On a Jetson its own headers count: leave TENSORRT_INCLUDE_DIR unset there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
metadata=$("$here/cargo.sh" metadata --locked --format-version 1 --manifest-path "$here/tensorrt-headers/Cargo.toml")
crate=$(printf '%s' "$metadata" | sed -n 's|.*"manifest_path":"\([^"]*/trtx-sys-[^"]*\)/Cargo.toml".*|\1|p')
headers="$crate/TensorRT-Headers"
[ -f "$headers/TRT-Enterprise-11.4/NvInfer.h" ] || {
    echo "no TensorRT headers in $crate" >&2
    exit 1
}
echo "$headers/TRT-Enterprise-11.4:$headers/TRT-RTX-1.7"
