#!/bin/sh
# Makes the Debian packages target/deb/cfvit_VERSION_ARCHITECTURE.deb, for this machine and for arm64:
#
#   tools/deb.sh [amd64|arm64]…      default: both, or arm64 alone on an arm64 machine
#
# With TensorRT's shim for the headers in TENSORRT_INCLUDE_DIR; else for JetPack's own headers on a Jetson, and elsewhere for those of
# tools/tensorrt-headers.sh: such a package drives that major version of TensorRT alone. cargo-deb is built into target/tools. Where
# lintian is installed it has to find no error.
set -eu
cd "$(dirname "$0")/.."
host=$(dpkg --print-architecture)
if [ $# = 0 ]; then
    set -- "$host"
    [ "$host" = arm64 ] || set -- "$host" arm64
fi

if ! target/tools/bin/cargo-deb --version >/dev/null 2>&1; then
    tools/cargo.sh install --quiet cargo-deb --version '^3' --locked --root target/tools --target-dir target/tools/build
    rm -rf target/tools/build
fi
if [ -z "${TENSORRT_INCLUDE_DIR+set}" ] && ! [ -e /usr/include/aarch64-linux-gnu/NvInfer.h ]; then
    TENSORRT_INCLUDE_DIR=$(tools/tensorrt-headers.sh)
    export TENSORRT_INCLUDE_DIR
fi

# package ARCHITECTURE PROGRAM [CARGO-DEB ARGUMENTS]: the manual by PROGRAM, the package, lintian
package() {
    architecture=$1 program=$2
    shift 2
    rm -rf target/manual
    $program manual target/manual
    mkdir -p target/deb
    PATH="$(dirname "$(command -v "${CARGO:-cargo}" || echo /usr/bin/cargo)"):$PATH" \
        target/tools/bin/cargo-deb --no-build --strip --quiet --output target/deb/ "$@"
    deb=$(ls -t target/deb/cfvit_*_"$architecture".deb | head -n 1)
    if command -v lintian >/dev/null; then
        lintian --fail-on error "$deb"
    else
        echo "skipped: lintian is not installed" >&2
    fi
    echo "$deb"
}

for architecture; do
    case $architecture in
    "$host")
        tools/cargo.sh build --release --locked --features tensorrt --bin cfvit
        package "$architecture" target/release/cfvit
        ;;
    arm64)
        tools/cross-aarch64.sh build --release --locked --features tensorrt --bin cfvit
        CARGO_TARGET_DIR=$PWD/target/cross package arm64 "qemu-aarch64-static target/cross/aarch64-unknown-linux-gnu/release/cfvit" \
            --target aarch64-unknown-linux-gnu
        ;;
    *)
        echo "usage: tools/deb.sh [$host|arm64]…" >&2
        exit 2
        ;;
    esac
done
