#!/bin/sh
# Bun's own WebSocket server. See ../README.md.
set -eu
cd "$(dirname "$0")"
# The program itself: the file that npm links to is replaced by it on installation.
bun=node_modules/bun/bin/bun.exe
case ${1:-start} in
    install) npm ci --no-audit --no-fund --silent ;;
    check)
        if ! $bun --version >/dev/null 2>&1; then
            echo "not installed: compare/peers/bun/run.sh install" >&2
            exit 69
        fi
        ;;
    start) exec $bun server.mjs "${2:-1000}" ;;
    *) echo "install, check or start" >&2; exit 2 ;;
esac
