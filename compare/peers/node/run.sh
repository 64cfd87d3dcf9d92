#!/bin/sh
# Node.js with ws. See ../README.md.
set -eu
cd "$(dirname "$0")"
case ${1:-start} in
    install) npm ci --no-audit --no-fund --silent ;;
    check)
        if ! command -v node >/dev/null; then
            echo "not installed: Node.js 18 or later (apt install nodejs npm)" >&2
            exit 69
        elif [ ! -d node_modules/ws ]; then
            echo "not installed: compare/peers/node/run.sh install" >&2
            exit 69
        fi
        ;;
    start) exec node server.mjs "${2:-1000}" ;;
    *) echo "install, check or start" >&2; exit 2 ;;
esac
