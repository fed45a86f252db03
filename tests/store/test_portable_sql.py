"""The SQL beside the adapter is what SQLite and Postgres both take."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nanobot

PACKAGE = Path(nanobot.__file__).parent
# The adapter, and the search index, which is a SQLite file on every host.
SQLITE_ALONE = {"store/sqlite.py", "store/migrations.py"} | {
    f"{room}/{name}.py" for room in ("store", "memory") for name in ("search_index", "search_index")
}
ONLY_SQLITE = re.compile(
    r"\b(INSERT OR|REPLACE INTO|GLOB|PRAGMA|json_\w+|ROWID|IFNULL|AUTOINCREMENT|VACUUM|iif|total_changes"
    r"|IS \?|LIMIT -1|MAX\([^()]*,|MIN\([^()]*,|GROUP_CONCAT|strftime|julianday)",
    re.IGNORECASE,
)
UNNAMED = re.compile(r"INSERT INTO \w+ (VALUES|SELECT)", re.IGNORECASE)
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b.*\b(FROM|INTO|SET)\b", re.DOTALL)


def statements(path: Path) -> Iterator[str]:
    """Every string of a file that looks like SQL; what is put into it stands as {}."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if STATEMENT.match(text):
            yield text


FILES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).as_posix() not in SQLITE_ALONE and any(statements(path))
]


def test_there_is_something_to_look_at() -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in FILES}
    assert found >= {"store/sessions.py", "store/turns.py", "store/mail.py", "cron/jobs.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_words_that_only_sqlite_knows(path: Path) -> None:
    for text in statements(path):
        assert not ONLY_SQLITE.search(text), text
        assert not UNNAMED.search(text), text
