"""What a shell completes behind a command. Nothing is imported for it before a shell asks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Literal

Completed = Literal["sessions", "jobs", "skills", "models"]


def names_of(kind: Completed) -> Callable[[str], list[tuple[str, str]]]:
    """For Typer's `autocompletion`: names of this home that begin as typed, and what they are."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        import asyncio

        from nanobot.errors import NanobotError

        found: dict[str, str] = {}
        with contextlib.suppress(NanobotError):  # a shell has no place for errors
            found = asyncio.run(_names(kind))
        return [(name, about) for name, about in found.items() if name and name.startswith(incomplete)]

    return complete


async def _names(kind: Completed) -> dict[str, str]:
    from nanobot.cli.status import has_key
    from nanobot.cli.storage import existing_store
    from nanobot.config.loader import load_config
    from nanobot.cron.jobs import JobTable
    from nanobot.providers.registry import PROVIDERS
    from nanobot.skills.library import library_of

    config = load_config().config
    if kind == "skills":
        return {skill.name: skill.description for skill in library_of(config).all()}
    if kind == "models":
        known = {spec.default_model: spec.title for spec in PROVIDERS if has_key(spec, config)}
        return {config.agents.defaults.model: "as configured", **known}
    async with existing_store() as store:
        if store is None:
            return {}
        if kind == "jobs":
            return {job.id: job.name for job in await JobTable(store).all()}
        newest = await store.conversations.newest(100)
        keys = {it.key.removeprefix("cli:"): it.title for it in reversed(newest)}
        return keys | {f"@{it.id}": it.title for it in newest}
