"""Durable turns without nanobot: `bare_turns.py BASE_URL CHATS TURNS DATABASE` prints CPU seconds a turn.

The yardstick for a turn of the gateway, in the standard library alone: a message is stored before it is
taken, the model is asked with the conversation so far, the answer and its delivery are stored in one
transaction, and the delivery is marked. Writes of the same moment share a commit; chats run side by side.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from urllib.parse import urlsplit

TABLES = """
CREATE TABLE inbox (id INTEGER PRIMARY KEY, chat TEXT, text TEXT, done INTEGER DEFAULT 0);
CREATE TABLE messages (id INTEGER PRIMARY KEY, chat TEXT, role TEXT, text TEXT);
CREATE TABLE outbox (id INTEGER PRIMARY KEY, chat TEXT, text TEXT, sent INTEGER DEFAULT 0);
"""
Statement = tuple[str, tuple[object, ...]]


class Writer:
    """One connection, one thread; what is asked for during a commit shares the next one."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.executescript(TABLES)
        self._waiting: list[tuple[tuple[Statement, ...], asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def write(self, *statements: Statement) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((statements, done))
        if self._task is None:
            self._task = asyncio.create_task(self._flush())
        await done

    async def _flush(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            await asyncio.to_thread(self._commit, [item for statements, _ in group for item in statements])
            for _, done in group:
                done.set_result(None)
            await asyncio.sleep(0)  # whoever goes on at once is part of the next group
        self._task = None

    def _commit(self, statements: list[Statement]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for sql, values in statements:
            self._connection.execute(sql, values)
        self._connection.execute("COMMIT")


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, messages: list[dict[str, str]]
) -> str:
    """The model's words."""
    body = json.dumps({"model": "bench", "stream": True, "messages": messages}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    headers = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(headers.partition(b"content-length:")[2].split(b"\r\n")[0])
    words = []
    for line in (await reader.readexactly(length)).split(b"\n"):
        if line.startswith(b"data: {"):
            words += [choice["delta"].get("content", "") for choice in json.loads(line[6:])["choices"]]
    return "".join(words)


async def converse(store: Writer, host: str, chat: str, turns: int) -> None:
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    messages: list[dict[str, str]] = []
    for number in range(turns):
        text = f"question {number}"
        await store.write(("INSERT INTO inbox (chat, text) VALUES (?, ?)", (chat, text)))
        messages.append({"role": "user", "content": text})
        answer = await ask(reader, writer, host, messages)
        messages.append({"role": "assistant", "content": answer})
        await store.write(
            ("INSERT INTO messages (chat, role, text) VALUES (?, 'user', ?)", (chat, text)),
            ("INSERT INTO messages (chat, role, text) VALUES (?, 'assistant', ?)", (chat, answer)),
            ("INSERT INTO outbox (chat, text) VALUES (?, ?)", (chat, answer)),
            ("UPDATE inbox SET done = 1 WHERE chat = ?", (chat,)),
        )
        await store.write(("UPDATE outbox SET sent = 1 WHERE chat = ?", (chat,)))
    writer.close()


async def main(base_url: str, chats: int, turns: int, database: str) -> None:
    store, host = Writer(database), urlsplit(base_url).netloc
    begun, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(converse(store, host, f"c{number}", turns) for number in range(chats)))
    used, seconds = time.process_time() - cpu, time.perf_counter() - begun
    print(json.dumps({"cpu": used / chats / turns, "turns_per_second": chats * turns / seconds}))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
