"""`nanobot doctor`: what is wrong here, how bad it is, and how to repair it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import platform
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nanobot import __version__, paths
from nanobot.channels.registry import allow_from
from nanobot.cli.channels import problem_of
from nanobot.cli.options import print_result
from nanobot.cli.service import unit_path, unit_text
from nanobot.cli.status import Report, has_key, report_all
from nanobot.config.loader import load_config
from nanobot.config.schema import Config
from nanobot.errors import ProviderError, SandboxMissing
from nanobot.providers.registry import PROVIDERS
from nanobot.terminal.screen import complain
from nanobot.workspace import create_workspace

_LITTLE_DISK = 500_000_000  # bytes: a download or a long log may fill it


@dataclass(slots=True)
class Finding:
    """`error`: something does not work. `warning`: it works, but not as it should. `mend` repairs it."""

    severity: Literal["error", "warning"]
    text: str
    fix: str = ""
    mend: Callable[[], object] | None = None
    mended: bool = False


def run_doctor(*, fix: bool, live: bool, as_json: bool) -> int:
    """Print the findings; 1 when an error is left."""
    report = asyncio.run(report_all())
    confined, reached = "", dict[str, bool]()
    found = [*_of_report(report), *_of_files(Path(report["storage"]["path"]))]
    if not report["config"]["error"]:
        config = load_config().config
        found += [*_of_config(config, report), *(asyncio.run(_live(config)) if live else ())]
        if config.tools.exec.enabled and paths.home().exists():
            confined, reached = asyncio.run(_of_sandbox(config, found))
    if fix:
        _mend(found)
    versions = {"nanobot": __version__, "python": platform.python_version()}
    versions |= {"sqlite": sqlite3.sqlite_version, "system": platform.platform()}
    rows = [{name: getattr(it, name) for name in ("severity", "text", "fix", "mended")} for it in found]
    lines = [", ".join(f"{name} {version}" for name, version in versions.items())]
    lines += [f"Commands are confined by {confined or 'nothing (tools.exec.sandbox)'}:"] if reached else []
    lines += [f"{'FAIL' if done else 'pass':<8} commands {what}" for what, done in reached.items()]
    shown = {"findings": rows, "versions": versions, "sandbox": {"confinedBy": confined, "reached": reached}}
    print_result(shown, [*lines, *_lines(found)], as_json)
    return int(any(it.severity == "error" and not it.mended for it in found))


def _lines(found: list[Finding]) -> Iterator[str]:
    for it in sorted(found, key=lambda it: it.severity):
        yield f"{'mended' if it.mended else it.severity:<8} {it.text}"
        if it.fix and not it.mended:
            yield f"{'':<8} {it.fix}"
    if any(it.mend and not it.mended for it in found):
        yield f"`{paths.program()} doctor --fix` repairs what is a matter of files."
    if not found:
        yield "Nothing is wrong. `--live` also asks the providers whether they take the keys."


def _of_report(report: Report) -> Iterator[Finding]:
    """What `nanobot status` shows, judged."""
    config, storage, nanobot = report["config"], report["storage"], paths.program()
    if config["error"]:
        yield Finding("error", config["error"])
        return
    yield from (Finding("warning", text) for text in config["warnings"])
    if error := report["model"]["error"]:
        yield Finding("error", error, f"Run: {nanobot} onboard")
    if storage["error"]:
        yield Finding("error", storage["error"])
    for name, entry in report["mcp_servers"].items():
        if entry["enabled"] and entry["problem"]:
            yield Finding("warning", f"MCP server {name}: {entry['problem']}")
    waits = [*report["channels"], *(["schedules"] if storage["jobs"]["enabled"] else [])]
    if waits and not storage["gateway_pid"]:
        text = f"No gateway runs, and these need one: {', '.join(waits)}."
        yield Finding("warning", text, f"Run: {nanobot} gateway install (a service), or {nanobot} gateway")


def _of_config(config: Config, report: Report) -> Iterator[Finding]:
    for name, section in config.channels.enabled().items():
        if problem := problem_of(name, section):
            yield Finding("error", f"Channel {name}: {problem}")
        elif not allow_from(name, section):
            fix = f"{paths.program()} config set channels.{name}.allowFrom '[\"YOUR_ID\"]'"
            yield Finding("warning", f"Channel {name} answers everyone: allowFrom is empty.", f"Run: {fix}")
    templates = Path(__file__).parent.parent / "workspace" / "templates"
    workspace = config.workspace_path
    missing = [item.name for item in templates.iterdir() if not (workspace / item.name).exists()]
    if missing:
        text = f"{workspace} lacks {', '.join(sorted(missing))}."
        yield Finding(
            "warning",
            text,
            "The next turn creates what is missing.",
            functools.partial(create_workspace, workspace),
        )
    unit = unit_path()
    if unit.exists() and unit.read_text("utf-8", "replace") != unit_text():
        text = f"{unit} is not what this nanobot would write."
        yield Finding("warning", text, f"Run: {paths.program()} gateway install (the old one is kept)")


async def _of_sandbox(config: Config, found: list[Finding]) -> tuple[str, dict[str, bool]]:
    """What confines commands, and what they reach; what is wrong with that is added."""
    from nanobot.cli.sandbox_proof import READS, WRITES, what_commands_reach

    try:
        confined, reached = await what_commands_reach(config)
    except (SandboxMissing, OSError) as error:
        found.append(Finding("error", f"No command can run: {error}"))
        return "", {}
    if confined and (reached[READS] or reached[WRITES]):
        found.append(Finding("error", f"{confined} does not keep commands from nanobot's own files."))
    return confined, reached


def _of_files(database: Path) -> Iterator[Finding]:
    """Who may read what, and whether there is room."""
    home = paths.home()
    if not home.exists():
        return
    free = shutil.disk_usage(home).free
    if free < _LITTLE_DISK:
        yield Finding("error", f"Only {free / 1e6:,.0f} MB are free in {home}.", "Make room.")
    private = [(home, 0o700), (paths.config_file(), 0o600)]
    private += [(path, 0o600) for path in sorted(home.glob(f"{database.name}*")) if path.is_file()]
    for path, wanted in private:
        if path.exists() and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            text = f"Others on this machine may look into {path} (mode {mode:o})."
            yield Finding(
                "warning", text, f"Run: chmod {wanted:o} {path}", functools.partial(path.chmod, wanted)
            )


async def _live(config: Config) -> list[Finding]:
    """What every provider with a key says to a request that costs nothing: the list of its models."""
    from nanobot.cli.onboard import models_of

    found = []
    for spec in PROVIDERS:
        if has_key(spec, config) or (spec.name == "custom" and config.providers.custom.api_base):
            try:
                await models_of(config, spec)
            except ProviderError as error:
                found.append(Finding("error" if error.status == 401 else "warning", str(error)))
    return found


def _mend(found: list[Finding]) -> None:
    """Repair what can be; config.json is copied first."""
    config = paths.config_file()
    if config.exists() and any(it.mend for it in found):
        copy = config.with_name(f"{config.name}.bak-{time.strftime('%Y-%m-%d-%H%M%S')}")
        paths.write_atomic(copy, config.read_bytes())
        complain(f"Copied {config} to {copy}")
    for it in found:
        with contextlib.suppress(OSError):  # of another owner: its fix is shown
            if it.mend:
                it.mend()
                it.mended = True
