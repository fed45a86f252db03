#!/bin/bash
# `make chat`: set up what is missing, then open the assistant on the local model.
# With NANOBOT_CHAT_MESSAGE set: print one reply and end.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh chat
nanobot=(.venv/bin/python -m nanobot)
[ -f "${NANOBOT_HOME:-$HOME/.nanobot}/config.json" ] || "${nanobot[@]}" onboard --non-interactive >&2

if [ -n "${NANOBOT_CHAT_MESSAGE:-}" ]; then
    exec "${nanobot[@]}" agent --model local/smollm2-135m --message="$NANOBOT_CHAT_MESSAGE" </dev/null
fi
# A process group of its own: Ctrl-C is then for the assistant alone, and make does not end under it.
set -m
"${nanobot[@]}" agent --model local/smollm2-135m
