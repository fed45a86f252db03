"""`nanobot status`: what is configured and what would be used. Calls no model; only loopback is probed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from nanobot import paths
from nanobot.cli.session import existing_store
from nanobot.config.channels import PLANNED
from nanobot.config.loader import load_config
from nanobot.config.schema import Config
from nanobot.cron.table import JobTable
from nanobot.errors import NanobotError, ProviderError
from nanobot.mcp.servers import entries_of, lines_about
from nanobot.memory.consolidation import Waiting, count_waiting
from nanobot.memory.files import open_files
from nanobot.providers.registry import PROVIDERS, ProviderSpec
from nanobot.providers.resolve import resolve
from nanobot.store.records import GATEWAY_ROLE
from nanobot.store.store import open_store
from nanobot.terminal.screen import clean


def run_status(*, as_json: bool) -> int:
    """Print the report; 1 when the configuration, or a subagent profile, cannot be used."""
    report = asyncio.run(_report())
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    return int(bool(report["config"]["error"] or report.get("subagents", {}).get("errors")))


async def _report() -> dict[str, Any]:
    file = paths.config_file()
    report: dict[str, Any] = {
        "config": {"path": str(file), "exists": file.exists(), "error": "", "warnings": []},
        "storage": await _storage(),
    }
    try:
        loaded = load_config()
    except NanobotError as error:
        report["config"]["error"] = str(error)
        return report
    config = loaded.config
    report["config"]["warnings"] = list(loaded.warnings)
    report["workspace"] = {"path": str(config.workspace_path), "exists": config.workspace_path.is_dir()}
    report["model"] = await _model(config, config.agents.defaults.model)
    report["providers"] = {spec.name: _has_key(spec, config) for spec in PROVIDERS if not spec.oauth}
    report["channels"] = list(config.channels.enabled())
    report["mcp_servers"] = entries_of(config.tools.mcp_servers)
    report["memory"] = await _memory(config)
    report["subagents"] = await _subagents(config)
    return report


async def _memory(config: Config) -> dict[str, Any]:
    """What waits to be consolidated, and what cannot be read in the memory files."""
    waiting, unreadable = Waiting(0, 0, 0, ""), list[str]()
    try:
        unreadable = open_files(config.workspace_path).complaints()
        async with existing_store() as store:
            if store is not None:
                waiting = await count_waiting(store, config.agents.defaults.memory_window)
    except NanobotError as error:
        waiting = Waiting(0, 0, 0, str(error))
    return {**asdict(waiting), "text": str(waiting), "unreadable": unreadable}


async def _subagents(config: Config) -> dict[str, list[str]]:
    """The profiles, what is wrong with them, and what they ask for in vain."""
    profiles = config.agents.subagent_profiles
    if not profiles:
        return {"profiles": [], "errors": [], "notes": []}
    from nanobot.agent.assistant import ModelPool
    from nanobot.app import App

    async with contextlib.aclosing(App(config, open_store(paths.database_file()), ModelPool(config))) as app:
        errors = list(app.subagents.faults(await app.tools.registry()))
    notes = []
    for name, profile in profiles.items():
        if "exec" in profile.tools and not config.tools.exec.enabled:
            notes.append(f"Profile {name!r} asks for exec, which tools.exec.enabled switches off.")
        if profile.model and (error := (await _model(config, profile.model))["error"]):
            notes.append(f"Profile {name!r} cannot be used with the model {profile.model!r}: {error}")
    return {"profiles": list(profiles), "errors": errors, "notes": notes}


async def _model(config: Config, wanted: str) -> dict[str, Any]:
    try:
        resolution = await resolve(config, wanted)
    except ProviderError as error:
        return {"configured": wanted, "error": str(error)}
    return {
        "configured": wanted,
        "used": resolution.model,
        "provider": resolution.provider_name,
        "address": resolution.api_base,
        "steps": list(resolution.steps),
        "error": "",
    }


def _has_key(spec: ProviderSpec, config: Config) -> bool:
    section = getattr(config.providers, spec.name, None)
    variables = [spec.env_key, *(name for name, value in spec.env_extras if value == "{api_key}")]
    return bool(section and section.api_key) or any(os.environ.get(name) for name in variables if name)


async def _storage() -> dict[str, Any]:
    file = paths.database_file()
    storage: dict[str, Any] = {"path": str(file), "bytes": 0, "sessions": 0, "error": ""}
    storage |= {"gateway_pid": None, "outbox": {"pending": 0, "parked": 0, "error": ""}}
    storage["jobs"] = {"enabled": 0, "failed": 0, "missed": 0}
    try:
        async with existing_store() as store:
            if store is not None:
                storage["sessions"] = len(await store.sessions.newest(1_000_000))
                storage["bytes"] = file.stat().st_size
                storage["gateway_pid"] = await store.workers.leader(GATEWAY_ROLE)
                storage["outbox"] = asdict(await store.outbox.backlog())
                jobs = await JobTable(store.database).all()
                storage["jobs"] = {
                    "enabled": sum(job.enabled for job in jobs),
                    "failed": sum(job.last_status == "error" for job in jobs),
                    "missed": sum(job.missed for job in jobs),
                }
    except NanobotError as error:
        storage["error"] = str(error)
    return storage


def _print(report: dict[str, Any]) -> None:
    config, storage = report["config"], report["storage"]
    outbox, jobs = storage["outbox"], storage["jobs"]
    _row("Config", config["path"] + ("" if config["exists"] else " (missing: defaults apply)"))
    for problem in filter(None, (config["error"] and f"Error: {config['error']}", *config["warnings"])):
        _row("", problem)
    if "model" in report:
        missing = "" if report["workspace"]["exists"] else " (missing: created by the first turn)"
        _row("Workspace", report["workspace"]["path"] + missing)
        _print_model(report["model"])
        _row("Keys", ", ".join(name for name, known in report["providers"].items() if known) or "none")
        channels = [f"{name} (not supported yet)" if name in PLANNED else name for name in report["channels"]]
        _row("Channels", ", ".join(channels) or "none")
        for number, line in enumerate(lines_about(report["mcp_servers"])):
            _row("" if number else "MCP", line)
        subagents = report["subagents"]
        for title, line in zip_longest(["Subagents"], _subagent_lines(subagents), fillvalue=""):
            _row(title, line)
    _row("Gateway", f"runs (process {storage['gateway_pid']})" if storage["gateway_pid"] else "not running")
    parked = f". Last error: {outbox['error']}. Try again: nanobot outbox retry" if outbox["parked"] else ""
    _row("Outbox", f"{outbox['pending']} waiting, {outbox['parked']} parked{parked}")
    _row("Jobs", f"{jobs['enabled']} enabled, {jobs['failed']} failed, {jobs['missed']} times missed")
    _row("Sessions", str(storage["sessions"]))
    if "memory" in report:
        for number, line in enumerate([report["memory"]["text"], *report["memory"]["unreadable"]]):
            _row("" if number else "Memory", line)
    _row("Database", storage["error"] or f"{storage['path']} ({storage['bytes'] / 1024:,.0f} KiB)")


def _subagent_lines(subagents: dict[str, list[str]]) -> list[str]:
    profiles = f"profiles {', '.join(subagents['profiles'])}" if subagents["profiles"] else "no profiles"
    return [profiles, *(f"Error: {error}" for error in subagents["errors"]), *subagents["notes"]]


def _print_model(model: dict[str, Any]) -> None:
    if model["error"]:
        _row("Model", f"{model['configured']}. Error: {model['error']}")
        return
    address = f" at {model['address']}" if model["address"] else ""
    _row("Model", f"{model['used']}, provider {model['provider']}{address}")
    for step in model["steps"]:
        _row("", step)


def _row(title: str, text: str) -> None:
    print(f"{title:<10} {clean(text)}")
