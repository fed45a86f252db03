"""`nanobot status`: what is configured and what would be used. Calls no model; only loopback is probed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import Any

from nanobot import paths
from nanobot.cli.options import print_result
from nanobot.cli.storage import memory_report, storage_report
from nanobot.config.channels import PLANNED
from nanobot.config.loader import load_config
from nanobot.config.proxies import without_secrets
from nanobot.config.schema import Config
from nanobot.errors import NanobotError, ProviderError
from nanobot.mcp.servers import entries_of, lines_about
from nanobot.providers.registry import PROVIDERS, ProviderSpec
from nanobot.providers.resolve import resolve
from nanobot.skills.library import library_of

Report = dict[str, Any]


def run_status(*, as_json: bool) -> int:
    """Print the report; 1 when nothing can be answered, or a subagent profile cannot be used."""
    report = asyncio.run(report_all())
    print_result(report, [*_verdict(report), *_lines(report)], as_json)
    return int(not report["ready"] or bool(report.get("subagents", {}).get("errors")))


async def report_all() -> Report:
    """All that can be told without a model and without the network."""
    file = paths.config_file()
    report: Report = {
        "ready": False,
        "config": {"path": str(file), "exists": file.exists(), "error": "", "warnings": []},
        "storage": await storage_report(),
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
    report["ready"] = not (report["model"]["error"] or report["storage"]["error"])
    report["providers"] = {spec.name: has_key(spec, config) for spec in PROVIDERS if not spec.oauth}
    report["channels"] = list(config.channels.enabled())
    report["mcp_servers"] = entries_of(config.tools.mcp_servers)
    report["memory"] = await memory_report(config)
    skills = library_of(config)
    report["skills"] = {"usable": skills.names(), "complaint": skills.complaint()}
    report["subagents"] = await _subagents(config)
    return report


async def _subagents(config: Config) -> dict[str, list[str]]:
    """The profiles, what is wrong with them, and what they ask for in vain."""
    profiles = config.agents.subagent_profiles
    if not profiles:
        return {"profiles": [], "errors": [], "notes": []}
    from nanobot.app import App

    async with contextlib.aclosing(App(config)) as app:
        errors = await app.profile_faults()
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
        "title": resolution.spec.title,
        "address": without_secrets(resolution.api_base),
        "steps": list(resolution.steps),
        "error": "",
    }


def has_key(spec: ProviderSpec, config: Config) -> bool:
    """Whether the config or the environment holds a key for the provider."""
    section = getattr(config.providers, spec.name, None)
    variables = [spec.env_key, *(name for name, value in spec.env_extras if value == "{api_key}")]
    return bool(section and section.api_key) or any(os.environ.get(name) for name in variables if name)


def _verdict(report: Report) -> Iterator[str]:
    """Ready, or what to do next."""
    faults = [report["config"]["error"], report.get("model", {}).get("error"), report["storage"]["error"]]
    if fault := next(filter(None, faults), ""):
        yield f"Not ready: {fault}"
    else:
        yield f"Ready: {_model_line(report['model'])}. `{paths.program()} agent` begins a conversation."


def _lines(report: Report) -> Iterator[str]:
    """The report for people: lines that belong together, with their title before the first."""
    for title, lines in _sections(report).items():
        for number, line in enumerate(lines):
            yield f"{'' if number else title:<10} {line}"


def _sections(report: Report) -> dict[str, list[str]]:
    config, storage = report["config"], report["storage"]
    outbox, jobs, gateway = storage["outbox"], storage["jobs"], storage["gateway_pid"]
    missing = "" if config["exists"] else " (missing: defaults apply)"
    sections = {"Config": [config["path"] + missing, *config["warnings"]]}
    if "model" in report:
        missing = "" if report["workspace"]["exists"] else " (missing: created by the first turn)"
        sections["Workspace"] = [report["workspace"]["path"] + missing]
        model = report["model"]
        expected = model["error"] or model["configured"].endswith(model["used"])
        sections["Model"] = [_model_line(model), *([] if expected else model["steps"])]
        sections["Keys"] = [", ".join(name for name, known in report["providers"].items() if known) or "none"]
        channels = [f"{name} (not supported yet)" if name in PLANNED else name for name in report["channels"]]
        sections["Channels"] = [", ".join(channels) or "none"]
        sections["MCP"] = list(lines_about(report["mcp_servers"]))
        skills, agents = report["skills"], report["subagents"]
        sections["Skills"] = [f"{len(skills['usable'])} can be used", *filter(None, [skills["complaint"]])]
        profiles = f"profiles {', '.join(agents['profiles'])}" if agents["profiles"] else "no profiles"
        faults = [f"Error: {fault}" for fault in agents["errors"]]
        sections["Subagents"] = [profiles, *faults, *agents["notes"]]
    sections["Gateway"] = [f"runs (process {gateway})" if gateway else "not running"]
    if outbox["pending"] or outbox["parked"]:
        error = (
            f". Last error: {outbox['error']}. Try again: nanobot outbox retry" if outbox["parked"] else ""
        )
        sections["Outbox"] = [f"{outbox['pending']} waiting, {outbox['parked']} given up{error}"]
    if any(jobs.values()):
        unreadable = f", {jobs['unreadable']} cannot be read: nanobot cron list" if jobs["unreadable"] else ""
        counts = f"{jobs['enabled']} enabled, {jobs['failed']} failed, {jobs['missed']} times missed"
        sections["Jobs"] = [counts + unreadable]
    sections["Sessions"] = [str(storage["sessions"]), *storage["left_out"]]
    if "memory" in report:
        sections["Memory"] = [report["memory"]["text"], *report["memory"]["unreadable"]]
    database = f"{storage['path']} ({storage['bytes'] / 1024:,.0f} KiB)"
    return {**sections, "Database": [storage["error"] or database]}


def _model_line(model: dict[str, Any]) -> str:
    if model["error"]:
        return f"{model['configured']}, which nothing can serve"
    address = f" at {model['address']}" if model["address"] else ""
    return f"{model['used']}, {model['title']}{address}"
