#!/bin/bash
# `make chat`: set up what is missing, then open the assistant: on the local model, until another is set up.
# With NANOBOT_CHAT_MESSAGE set: print one reply and end.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh chat
nanobot=(.venv/bin/python -m nanobot agent)
grep -qs '"model"' "${NANOBOT_HOME:-$HOME/.nanobot}/config.json" || nanobot+=(--model local/smollm2-135m)

if [ -n "${NANOBOT_CHAT_MESSAGE:-}" ]; then
    exec "${nanobot[@]}" --message="$NANOBOT_CHAT_MESSAGE" </dev/null
fi
# A process group of its own: Ctrl-C is then for the assistant alone, and make does not end under it.
set -m
"${nanobot[@]}"
