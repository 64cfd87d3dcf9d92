#!/bin/sh
# tokio-tungstenite on a single-threaded tokio. See ../README.md.
set -eu
cd "$(dirname "$0")"
server=target/release/tokio-peer
case ${1:-start} in
    install) cargo build --release --locked --quiet --target-dir target ;;
    check)
        if [ ! -x $server ]; then
            echo "not installed: compare/peers/tokio/run.sh install" >&2
            exit 69
        fi
        ;;
    start) exec $server "${2:-1000}" ;;
    *) echo "install, check or start" >&2; exit 2 ;;
esac
