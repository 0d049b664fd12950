#!/bin/sh
# Runs cargo for aarch64 on a machine of another architecture, with Debian's Rust and cross compiler:
#
#   tools/cross-aarch64.sh SUBCOMMAND [ARGUMENTS]      tools/cross-aarch64.sh build --release --locked
#
# Programs run under qemu. Needs a Debian with rustc-web (12, with the security suite). Missing packages are installed when run as root,
# else named. The build goes to its own folder below target/, so the other builds stay warm.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=aarch64-unknown-linux-gnu

if [ "$(uname -m)" = aarch64 ]; then
    echo "this machine is aarch64: use tools/cargo.sh" >&2
    exit 2
fi
if ! [ -x /usr/bin/rustc ] || ! [ -d /usr/lib/rustlib/$target ] || ! [ -e /usr/aarch64-linux-gnu/lib/Scrt1.o ] || ! [ -e /lib/ld-linux-aarch64.so.1 ] || ! command -v aarch64-linux-gnu-gcc aarch64-linux-gnu-g++ qemu-aarch64-static >/dev/null; then
    packages='rustc-web cargo-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross libc6:arm64 libgcc-s1:arm64 qemu-user-static'
    if [ "$(id -u)" != 0 ]; then
        echo "missing packages; this command brings them:" >&2
        echo "    sudo dpkg --add-architecture arm64 && sudo apt-get update && sudo apt-get install -y --no-install-recommends $packages" >&2
        exit 3
    fi
    dpkg --add-architecture arm64
    apt-get -q -o DPkg::Lock::Timeout=300 update
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-remove --no-install-recommends $packages </dev/null
fi

subcommand=$1
shift
export PATH="/usr/bin:$PATH" # Debian's rustc before any other: it's the one that has the aarch64 standard library
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# No -L: the loader must come from the same libc6:arm64 as the libraries that the loader's cache names. A loader of the cross package
# with those libraries hangs in the first thread that is made.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static
cd "$here/.."
CARGO=/usr/bin/cargo exec tools/cargo.sh "$subcommand" --target $target --target-dir "${CARGO_TARGET_DIR:-target}/cross" "$@"
