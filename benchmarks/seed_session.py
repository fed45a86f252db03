"""Fill a session: `seed_session.py DATABASE SESSION MESSAGES`, half of them questions, half answers.

The search index is filled as well, as it is in a home that is in use.
"""

import asyncio
import sys
from pathlib import Path

from nanobot.memory.search import MemorySearch
from nanobot.messages import Message
from nanobot.storage.search_index import SearchIndex
from nanobot.storage.sqlite import SqliteStore


async def main(database: Path, session: str, messages: int) -> None:
    store = SqliteStore(database)
    for number in range(messages // 2):
        claim = await store.begin_turn(session)
        assert claim is not None, "the session is in use"
        await asyncio.gather(  # writes keep their order and share a commit
            store.append(
                claim, Message.user(f"Question {number}: what became of the harbour master's ledger?")
            ),
            store.append(
                claim, Message.assistant(f"Answer {number}: it lies in the town archive, shelf 12.")
            ),
            store.finish_turn(claim, "done"),
        )
    memory = MemorySearch(store, database.parent, index=SearchIndex(database.with_name("search.db")))
    await memory.refresh()
    await memory.aclose()
    await store.aclose()


asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
