"""Where words stay besides memory and database: typed lines, conversations of the older nanobot."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from nanobot import paths
from nanobot.memory.files import rewrite
from nanobot.store.forgetting import Matches


def clean_leftovers(workspace: Path, matches: Matches) -> None:
    """Take out everything `matches` is true of. Raises StorageError."""
    rewrite(paths.home() / "history" / "cli_history", lambda text: _clean_prompts(text, matches))
    for folder in (workspace / "sessions", paths.home() / "sessions"):
        for conversation in folder.glob("*.jsonl"):
            rewrite(conversation, lambda text: _clean_json_lines(text, matches))


def _clean_prompts(text: str, matches: Matches) -> str:
    """The terminal's history: `# time` and then the lines of an entry, each behind a plus sign."""
    entries = re.split(r"(?m)^(?=# )", text)
    return "".join(entry for entry in entries if not matches(re.sub(r"(?m)^[+#]", "", entry)))


def _clean_json_lines(text: str, matches: Matches) -> str:
    """A message that says it keeps its role alone."""

    def clean(line: str) -> str:
        try:
            data = json.loads(line)
        except ValueError:
            return "" if matches(line) else line
        if not isinstance(data, dict) or not any(map(matches, _texts(data))):
            return line
        return json.dumps({"role": data.get("role", "user"), "content": "[forgotten]"})

    return "\n".join(clean(line) for line in text.split("\n"))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        value = [item for pair in value.items() for item in pair]
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
