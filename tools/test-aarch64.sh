#!/bin/sh
# Runs the library's and the golden tests as aarch64 programs under qemu; see tools/cross-aarch64.sh.
#
#   tools/test-aarch64.sh [CARGO TEST ARGUMENTS]      default: --lib --test golden
set -eu
[ $# -gt 0 ] || set -- --lib --test golden
exec "$(dirname "$0")/cross-aarch64.sh" test --locked "$@"
