#!/bin/sh
# Runs tests as aarch64 programs under qemu; see tools/cross-aarch64.sh.
#
#   tools/test-aarch64.sh [CARGO TEST ARGUMENTS]      default: the golden tests, and the library's of everything that depends on the
#                                                     processor or on the kernel's layouts
#
# The library's other tests (simulations, threads, files) say nothing new under qemu and take ten times as long there.
set -eu
cross=$(dirname "$0")/cross-aarch64.sh
[ $# -eq 0 ] || exec "$cross" test --locked "$@"
"$cross" test --locked --test golden
"$cross" test --locked --lib -- engine:: model:: preprocess:: capture::formats capture::v4l2 gate:: gather:: power:: machine::
