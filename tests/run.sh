#!/usr/bin/env bash
# Every check and test of the project; installs what is missing.
#
#   tests/run.sh            all of it
#   tests/run.sh rust       format, lints, documentation, Rust tests
#   tests/run.sh browser    the pages in headless Chromium
#   tests/run.sh interop    compression with other languages' libraries
#
# Longer, and not part of all of it:
#
#   tests/run.sh simulation ten thousand worlds of the event loop, of which `rust` runs two hundred
#   tests/run.sh planted    twenty faults in a copy of the source, each of which the simulation must find
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}

step() { printf '\n== %s\n' "$*"; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# install COMMAND PACKAGE: from Debian's packages, where the command is missing.
install() { command -v "$1" >/dev/null || install_package "$2"; }

install_package() {
    step "installing $1"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null
}

rust() {
    install redis-server redis-server
    install haproxy haproxy
    install nginx nginx
    step "format"
    cargo fmt --all --check
    step "lints"
    cargo clippy --workspace --all-targets --locked -- -D warnings
    step "documentation"
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet
    step "Rust tests"
    cargo test --workspace --locked
    step "benchmarks, once each"
    cargo test --locked --quiet --bench house
}

simulation() {
    step "ten thousand worlds"
    WORLDS=10000 cargo test --locked --profile simulation --test simulation
}

planted() {
    install patch patch
    step "planted faults"
    tests/simulation/planted.sh
}

browser() {
    install chromium chromium
    step "browser tests"
    cargo build --locked --bins
    servers=../../target/debug/evloop-server,../../target/debug/thread-server
    (cd tests/browser && npm ci --no-audit --no-fund --silent && WSLAB_SERVERS="$servers" npm test)
}

# Node's library is among the browser tests.
interop() {
    step "compression with Python's libraries"
    cargo build --locked --bins
    python3 -m venv target/interop 2>/dev/null || { install_package python3-venv && python3 -m venv target/interop; }
    target/interop/bin/pip install --quiet --disable-pip-version-check -r tests/interop/requirements.txt
    target/interop/bin/python tests/interop/deflate.py target/debug/evloop-server target/debug/thread-server
}

case $what in
    all) rust && browser && interop ;;
    rust | browser | interop | simulation | planted) "$what" ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
