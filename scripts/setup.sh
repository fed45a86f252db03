#!/bin/sh
# Bring .venv up to date: scripts/setup.sh chat|dev. Finds a Python that is new enough, setup_env.py does the rest.
set -eu
cd "$(dirname "$0")/.."

for python in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$python" -I scripts/setup_env.py "$@"
    fi
done

cat >&2 <<MESSAGE
nanobot needs Python 3.11 or later, and none was found (python3 here: $( (python3 --version || echo none) 2>/dev/null)).
On Debian 12 or Ubuntu 24.04 and later: sudo apt install python3 python3-venv
MESSAGE
exit 1
