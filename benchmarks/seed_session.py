"""Fill a session: `seed_session.py DATABASE SESSION MESSAGES`, half of them questions, half answers.

The search index is filled as well, as it is in a home that is in use.
"""

import asyncio
import sys
from pathlib import Path

from nanobot.memory.search import MemorySearch
from nanobot.memory.search_index import SearchIndex
from nanobot.messages import InboundMessage, Message
from nanobot.store.store import Store


async def main(database: Path, session: str, messages: int) -> None:
    store = Store(database)
    for number in range(messages // 2):
        message = InboundMessage(
            *("cli", session, "owner", "", f"seed-{number}", session), owner=store.workers.owner
        )
        await store.inbox.accept(message)
        (turn,) = await store.turns.claim(store.workers.owner)
        claim = turn.claim
        await asyncio.gather(  # writes keep their order and share a commit
            store.turns.append(
                claim, Message.user(f"Question {number}: what became of the harbour master's ledger?")
            ),
            store.turns.append(
                claim, Message.assistant(f"Answer {number}: it lies in the town archive, shelf 12.")
            ),
            store.turns.finish(claim, "done"),
        )
    memory = MemorySearch(store, database.parent, index=SearchIndex(database.with_name("search.db")))
    await memory.refresh()
    await memory.aclose()
    await store.aclose()


asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
