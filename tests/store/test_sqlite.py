"""What the SQLite file itself can meet: no rights, no room, other content, many processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from nanobot.errors import HomeUnusable, StorageError
from nanobot.messages import Message
from nanobot.store.sqlite import Connection
from nanobot.store.store import Store
from tests.talk import claim_own


async def test_an_unwritable_home_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with aclosing(Store(tmp_path / "file" / "home" / "nanobot.db")) as store:
        with pytest.raises(StorageError, match="Cannot create"):
            await store.conversations.newest()


async def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "nanobot.db").write_text("this is no database " * 100)
    async with aclosing(Store(tmp_path / "nanobot.db")) as store:
        with pytest.raises(StorageError, match="damaged"):
            await store.conversations.newest()


async def test_a_read_only_file_system_is_named(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if (await asyncio.to_thread(subprocess.run, mount, capture_output=True, check=False)).returncode:
        pytest.skip("no right to mount")
    try:
        async with aclosing(Store(tmp_path / "nanobot.db")) as store:
            await store.conversations.newest()
        remount = ["mount", "-o", "remount,ro", str(tmp_path)]
        await asyncio.to_thread(subprocess.run, remount, check=True)
        for path in (tmp_path, tmp_path / "new"):
            async with aclosing(Store(path / "nanobot.db")) as store:
                with pytest.raises(HomeUnusable, match=r"[Rr]ead-only .* set NANOBOT_HOME to another folder"):
                    await store.conversations.newest()
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", str(tmp_path)], check=True)


async def test_a_full_disk_fails_the_write_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path / "nanobot.db")
    claim = await claim_own(store, "cli:direct")
    assert claim is not None
    await store.turns.append(claim, Message.user("kept"))
    pages = await store.database.write(
        lambda connection: connection.execute("PRAGMA page_count").fetchone()[0]
    )
    await store.database.read(lambda connection: None)
    limit = store.database._write_connection
    assert limit is not None
    await asyncio.wrap_future(
        store.database._write_thread.submit(limit.execute, f"PRAGMA max_page_count = {pages}")
    )
    with pytest.raises(StorageError, match="disk is full"):
        await store.turns.append(claim, Message.user("x" * 200_000))
    await asyncio.wrap_future(
        store.database._write_thread.submit(limit.execute, "PRAGMA max_page_count = 1000000")
    )
    await store.turns.append(claim, Message.user("after"))
    assert [entry.message.text for entry in await store.sessions.history("cli:direct")] == ["kept", "after"]
    await store.aclose()


async def test_a_disk_without_any_room_is_called_full(tmp_path: Path) -> None:
    async with aclosing(Store(tmp_path / "nanobot.db")) as store:
        await store.conversations.newest()
    script = (
        "import asyncio, resource, sys; from pathlib import Path\n"
        "from nanobot.store.store import Store\n"
        "async def main():\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "    store = Store(Path(sys.argv[1]))\n"
        "    try: await store.turns.claim()\n"
        "    except Exception as error: print(error)\n"
        "    await store.aclose()\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "nanobot.db")]
    shown = await asyncio.to_thread(subprocess.check_output, command, text=True)
    assert shown.startswith("The disk is full")


async def test_many_processes_may_create_the_same_database(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from nanobot.store.store import Store\n"
        "from nanobot.messages import InboundMessage\n"
        "async def main():\n"
        "    store = Store(Path(sys.argv[1])); key = f'cli:{sys.argv[2]}'\n"
        "    await store.inbox.accept(InboundMessage('cli', key, 'me', 'hi', key, key, owner='me'))\n"
        "    (turn,) = await store.turns.claim('me')\n"
        "    await store.turns.finish(turn.claim, 'done'); await store.aclose()\n"
        "asyncio.run(main())"
    )
    database = tmp_path / "nanobot.db"
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(database), str(number))
        for number in range(6)
    ]
    assert [await process.wait() for process in processes] == [0] * 6
    async with aclosing(Store(tmp_path / "nanobot.db")) as store:
        assert len(await store.conversations.newest()) == 6
    assert (database.stat().st_mode & 0o077) == 0


async def test_a_write_that_fails_fails_alone(tmp_path: Path) -> None:
    """Whatever it raises: a message part of a newer version was a KeyError for 127 others."""
    store = Store(tmp_path / "nanobot.db")

    def note(connection: Connection, number: int) -> int:
        connection.execute("INSERT INTO chats (channel, chat_id, seen_at) VALUES ('x', ?, 0)", (number,))
        if number in (3, 17):
            raise KeyError(number)
        return number

    async with aclosing(store):
        results = await asyncio.gather(
            *(store.database.write(note, number) for number in range(100)), return_exceptions=True
        )
        assert [n for n, result in enumerate(results) if isinstance(result, KeyError)] == [3, 17]
        assert [result for result in results if not isinstance(result, KeyError)] == [
            number for number in range(100) if number not in (3, 17)
        ]
        rows = await store.database.read(
            lambda connection: connection.execute("SELECT chat_id FROM chats").fetchall()
        )
        assert {row["chat_id"] for row in rows} == {str(n) for n in range(100) if n not in (3, 17)}


async def test_whoever_writes_in_a_row_is_in_every_commit(tmp_path: Path) -> None:
    store = Store(tmp_path / "nanobot.db")
    commits: list[int] = []
    commit = store.database._commit

    def counted(functions: list[Any]) -> list[Any]:
        commits.append(len(functions))
        return commit(functions)

    async def chat(number: int) -> None:
        for _ in range(10):
            await store.sessions.set_setting(f"cli:{number}", "model", "x")

    async with aclosing(store):
        await store.conversations.newest()
        store.database._commit = counted  # type: ignore[method-assign]
        await asyncio.gather(*(chat(number) for number in range(20)))
        assert commits == [20] * 10


async def test_a_restored_database_repeats_no_key_that_a_platform_has_seen(tmp_path: Path) -> None:
    original, restored = tmp_path / "nanobot.db", tmp_path / "copy" / "nanobot.db"
    async with aclosing(Store(original)) as store:
        await store.sessions.set_setting("cli:direct", "model", "x")
    restored.parent.mkdir()
    restored.write_bytes(original.read_bytes())
    claims = []
    for path in (original, restored):
        async with aclosing(Store(path)) as store:
            claims.append(await claim_own(store, "cli:direct"))
    first, again = claims
    assert first is not None
    assert again is not None
    assert first.turn_id == again.turn_id
    assert first.turn_key != again.turn_key
