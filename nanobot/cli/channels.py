"""`nanobot channels`: how the chat platforms are doing."""

from __future__ import annotations

import http.client
import json
import logging
from typing import Any

from nanobot import paths
from nanobot.channels.registry import allow_from, load_channel
from nanobot.cli.options import Json, new_app, print_result, runs
from nanobot.cli.storage import existing_store
from nanobot.columns import minute
from nanobot.config.channels import CHANNELS
from nanobot.config.schema import GatewayConfig
from nanobot.errors import ChannelError, ConfigError
from nanobot.terminal.options import load_and_warn

app = new_app()

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@runs(app, "status")
async def show_channels(json_output: Json = False) -> None:
    """Show which channels are enabled and how they are doing."""
    config = load_and_warn().config
    async with existing_store() as store:
        pid = await store.workers.leader() if store else None
    note, live = _ask(pid, config.gateway) if pid else ("not running. Start it with `nanobot gateway`.", {})
    enabled, faults = config.channels.enabled(), config.channels.faults()
    channels: list[dict[str, Any]] = [
        {
            "name": name,
            "enabled": name in enabled,
            "problem": problem_of(name, enabled[name]) if name in enabled else faults.get(name, ""),
        }
        | live.get(name, {})
        for name in dict.fromkeys([*enabled, *faults, *(spec.name for spec in CHANNELS)])
    ]
    lines = [f"Gateway: {note}", *(f"{channel['name']}: {_describe(channel)}" for channel in channels)]
    print_result({"gateway_pid": pid, "note": note, "channels": channels}, lines, json_output)


@app.command("login")
def log_in() -> None:
    """Link WhatsApp."""
    names = ", ".join(spec.title for spec in CHANNELS)
    raise ChannelError(
        "WhatsApp is not supported by this version yet, and no other channel is linked by a login. "
        f"What works: {names}. Put a token into config.json, as the README shows."
    )


def _describe(channel: dict[str, Any]) -> str:
    text = "enabled" if channel["enabled"] else "not enabled"
    if "state" in channel:
        since = f" since {minute(channel['connected_since'])}"
        text = channel["state"] + (since if channel["state"] == "connected" else "")
        text += f", {channel['received']} received, {channel['refused']} refused, {channel['sent']} sent"
        text += f", {channel['unreadable']} unreadable" if channel.get("unreadable") else ""
    error = channel["problem"] or channel.get("last_error")
    return f"{text}. Last error: {error}" if error else text


def problem_of(name: str, section: Any) -> str:
    """Why an enabled channel cannot work, such as a missing library."""
    logging.getLogger("nanobot.channels").addHandler(logging.NullHandler())  # told here, in one line
    try:
        load_channel(name)
        allow_from(name, section)
    except (ChannelError, ConfigError) as error:
        return str(error)
    return ""


def _ask(pid: int, config: GatewayConfig) -> tuple[str, dict[str, dict[str, Any]]]:
    """How the running gateway is, and its channels by name."""
    host = _ANY_ADDRESS.get(config.host, config.host)
    said = paths.port_file()  # `--port` may differ from gateway.port
    port = int(said.read_text("utf-8")) if said.is_file() else config.port
    connection = http.client.HTTPConnection(host, port, timeout=5)
    token = {"Authorization": b"Bearer " + config.token.strip().encode()}
    try:
        connection.request("GET", "/status", headers=token)
        response = connection.getresponse()
        if response.status != http.client.OK:
            return f"process {pid} refused to tell ({response.status} {response.reason}).", {}
        channels = json.loads(response.read())["channels"]
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        return f"process {pid} runs, but not at gateway.host and gateway.port ({error}).", {}
    finally:
        connection.close()
    return f"process {pid} runs.", {channel["name"]: channel for channel in channels}
