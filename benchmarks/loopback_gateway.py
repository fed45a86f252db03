"""A real gateway between a chat platform and a model on loopback, as its owner would start it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "tests" / "peers" / "loopback_plugin"


def write_config(home: Path, platform_port: int, model_port: int, **channels: object) -> None:
    """Set up a new home, with more channels if they are given."""
    home.mkdir(mode=0o700)
    config = {
        "providers": {"custom": {"apiKey": "none", "apiBase": f"http://127.0.0.1:{model_port}/v1"}},
        "agents": {"defaults": {"model": "loopback"}},
        "channels": {
            "sendProgress": False,
            "loopback": {"enabled": True, "port": platform_port, "sideBySide": True},
            **channels,
        },
        "gateway": {"port": 0},
        "heartbeat": {"enabled": False},
    }
    (home / "config.json").write_text(json.dumps(config))
    (home / "config.json").chmod(0o600)


async def start_gateway(home: Path, environment: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    """`nanobot gateway` on a home; what it logs goes to gateway.log there."""
    more = {"NANOBOT_HOME": str(home), "PYTHONPATH": f"{PLUGIN}:{ROOT}", **(environment or {})}
    environment = os.environ | more
    command = [sys.executable, "-m", "nanobot", "gateway"]
    with (home / "gateway.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)
