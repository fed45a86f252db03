"""Questions about tables: "Which city in sales.csv sold most last year?"

Copy this file into `workspace/tools`. The model writes SQL, SQLite answers; the file is only read, and
only files in the workspace are. `execute` is an ordinary function here: nanobot runs plugins in threads
of their own, so it may take its time.
"""

import csv
import sqlite3
import time

from nanobot.agent.tools import Tool, ToolContext

ROWS_SHOWN = 50
SECONDS = 20
ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


class QueryCsv(Tool):
    name = "query_csv"
    description = "Run an SQL SELECT (SQLite) over a CSV file of the workspace. Its table is called data."
    parameters = {
        "type": "object",
        "properties": {
            "file": {"type": "string"},
            "sql": {"type": "string", "description": "LIMIT 3 on SELECT * shows what the columns are"},
        },
        "required": ["file", "sql"],
    }
    read_only = True
    repeatable = True

    def __init__(self, context: ToolContext):
        self._workspace = context.workspace.resolve()

    def execute(self, file: str, sql: str, **kwargs) -> str:
        path = (self._workspace / file).resolve()
        if not path.is_relative_to(self._workspace) or not path.is_file():
            return f"Error: there is no file {file} in the workspace."
        try:
            return self._query(path, sql)
        except (sqlite3.Error, csv.Error, UnicodeDecodeError) as error:
            return f"Error: {error}"

    def _query(self, path, sql: str) -> str:
        header, *rows = _read(path)
        width = len(header)
        database = sqlite3.connect(":memory:")
        try:
            database.execute(
                "CREATE TABLE data ({})".format(", ".join(f'"{name}" NUMERIC' for name in header))
            )
            database.executemany(
                f"INSERT INTO data VALUES ({', '.join('?' * width)})",
                ((row + [None] * width)[:width] for row in rows if row),
            )
            # The model's SQL may read this table and nothing else, such as other files (ATTACH).
            database.set_authorizer(_authorize)
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000_000)
            deadline = time.monotonic() + SECONDS
            database.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
            cursor = database.execute(sql)
            found = cursor.fetchmany(ROWS_SHOWN + 1)
            columns = [column[0] for column in cursor.description or ()]
        finally:
            database.close()
        shown = [["" if value is None else str(value) for value in row] for row in found[:ROWS_SHOWN]]
        more = ["… and more rows"] if len(found) > ROWS_SHOWN else []
        return "\n".join([*(" | ".join(row) for row in [columns, *shown]), *more])


def _authorize(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in ALLOWED else sqlite3.SQLITE_DENY


def _read(path) -> list[list[str]]:
    """The rows of the file, its first one fit to be names of columns."""
    with path.open(encoding="utf-8-sig", newline="") as source:
        first = source.readline()
        source.seek(0)
        delimiter = max(",;\t|", key=first.count)
        header, *rows = list(csv.reader(source, delimiter=delimiter)) or [["empty"]]
    return [
        [name.replace('"', "").strip() or f"column{number}" for number, name in enumerate(header, 1)],
        *rows,
    ]
