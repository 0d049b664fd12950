#!/bin/sh
# Runs cargo from a Rust toolchain that is new enough for this package: tools/cargo.sh build --release
#
# What is missing (Rust, a C linker, CA certificates) is installed first where that needs no decision of yours: as root, with apt,
# from the distribution's own packages, and without removing any. Everywhere else this prints the one command that brings it, and
# exits with 3. Nothing is downloaded from anywhere else; no file outside this folder is touched otherwise.
#
#   tools/cargo.sh --ensure    only installs what is missing
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/Cargo.toml")

# new_enough 1.96.0: is this version at least $need?
new_enough() {
    [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$need" "$1" | sort -V | head -n 1)" = "$need" ]
}

# Sets CARGO and RUSTC to the first toolchain that works and is new enough. Distributions also install versioned names.
find_rust() {
    for cargo in "${CARGO:-}" cargo "${CARGO_HOME:-${HOME:-}/.cargo}/bin/cargo" /usr/bin/cargo /usr/bin/cargo-1.*; do
        cargo=$(command -v "$cargo" 2>/dev/null) || continue
        rustc=$(dirname "$cargo")/rustc${cargo##*/cargo}
        [ -x "$rustc" ] || rustc=$(command -v rustc) || continue
        for tool in "$cargo" "$rustc"; do
            new_enough "$("$tool" --version 2>/dev/null | sed -n 's/^[a-z]* \([0-9.]*\).*/\1/p')" || continue 2
        done
        CARGO=$cargo RUSTC=$rustc
        return 0
    done
    return 1
}

have_certificates() {
    [ -n "${CARGO_HTTP_CAINFO:-}${SSL_CERT_FILE:-}" ] || [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ]
}

# The names of the distribution's Rust packages that are new enough; nothing if it has none.
rust_packages() {
    for suffix in -web '' $(apt-cache pkgnames rustc-1. 2>/dev/null | sed -n 's/^rustc\(-1\.[0-9]*\)$/\1/p' | sort -rV); do
        version=$(apt-cache policy "rustc$suffix" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9.]*\).*/\1/p')
        if new_enough "$version"; then
            echo "rustc$suffix cargo$suffix"
            return
        fi
    done
}

# Sets `packages` to what apt would have to install, and `rust_by_hand` where the distribution's Rust is too old.
plan() {
    packages='' rust_by_hand=''
    command -v cc >/dev/null || packages="$packages gcc libc6-dev"
    have_certificates || packages="$packages ca-certificates"
    if ! find_rust; then
        rust=$(rust_packages)
        [ -n "$rust" ] && packages="$packages $rust" || rust_by_hand=yes
    fi
}

have_all() {
    command -v cc >/dev/null && have_certificates && find_rust
}

# Prints the one command that brings what is missing, and stops.
explain() {
    {
        echo "cfvit needs Rust $need or newer, a C compiler as linker, and CA certificates. Missing here; this command brings it:"
        echo
        if ! command -v apt-get >/dev/null || [ -n "$rust_by_hand" ]; then
            first=''
            [ -z "$packages" ] || first="sudo apt-get update && sudo apt-get install -y curl$packages && "
            command -v apt-get >/dev/null || first='# a C compiler (gcc) from your distribution, and then: '
            echo "    ${first}curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
        else
            echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends$packages"
        fi
        echo
        echo "Then run the same make command again. (As root, with packages that are new enough, make does this itself.)"
    } >&2
    exit 3
}

ensure() {
    have_all && return
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        quiet='-q -o DPkg::Lock::Timeout=300'
        echo "installing what is missing with apt (Rust $need or newer, gcc, ca-certificates)" >&2
        # shellcheck disable=SC2086
        apt-get $quiet update >&2 || true
        plan
        # shellcheck disable=SC2086
        if [ -z "$rust_by_hand" ] && DEBIAN_FRONTEND=noninteractive \
            apt-get $quiet install -y --no-remove --no-install-recommends $packages </dev/null >&2; then
            have_all && return
        fi
    fi
    plan
    explain
}

# Cargo wants to write below $HOME; where that cannot be, its cache goes below target/, which git ignores.
if [ -z "${CARGO_HOME:-}" ] && ! { [ -n "${HOME:-}" ] && [ -d "$HOME" ] && [ -w "$HOME" ]; }; then
    export CARGO_HOME="$here/target/cargo-home"
fi
ensure
[ "${1:-}" = --ensure ] && exit 0
# Cargo takes rustc, rustdoc, cargo-fmt from PATH: they must be this toolchain's.
PATH="$(dirname "$CARGO"):$PATH"
case $CARGO in
*/cargo-1.*) RUSTDOC=$(dirname "$RUSTC")/rustdoc${CARGO##*/cargo} && export RUSTC RUSTDOC ;;
esac
exec "$CARGO" "$@"
