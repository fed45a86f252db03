"""`scripted/PATH` answers from a file, tool calls included: named on the command line, never by a message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanobot.app import open_app
from nanobot.commands.command_context import CommandContext
from nanobot.commands.table import run_command
from nanobot.config.schema import Config
from nanobot.errors import UsageError


@pytest.mark.parametrize("only", ["", "telegram:7"])
@pytest.mark.parametrize("exists", [True, False])
async def test_no_conversation_changes_to_a_script(
    only: str, exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    script = tmp_path / "script.json"
    if exists:
        script.write_text(json.dumps({"replies": [{"tool_calls": [{"name": "exec"}]}]}))
    async with open_app(Config()) as app:
        before = await app.assistant.model_of("telegram:7")
        with pytest.raises(UsageError, match="on the command line only"):
            await run_command(f"/model scripted/{script}", "telegram:7", CommandContext(app, only=only))
        assert await app.assistant.model_of("telegram:7") == before
