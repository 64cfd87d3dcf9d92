#!/bin/sh
# Python websockets on asyncio. See ../README.md.
set -eu
cd "$(dirname "$0")"
python=.venv/bin/python
case ${1:-start} in
    install)
        python3 -m venv .venv
        .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
        ;;
    check)
        if ! command -v python3 >/dev/null; then
            echo "not installed: Python 3.10 or later (apt install python3-venv)" >&2
            exit 69
        elif ! $python -c 'import websockets' 2>/dev/null; then
            echo "not installed: compare/peers/python/run.sh install" >&2
            exit 69
        fi
        ;;
    start) exec $python server.py "${2:-1000}" ;;
    *) echo "install, check or start" >&2; exit 2 ;;
esac
