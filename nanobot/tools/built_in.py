"""The built-in tools that need nothing but configuration and store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nanobot import paths
from nanobot.agent.tools import Tool, ToolContext, ToolOutput
from nanobot.config.schema import Config
from nanobot.security.files import PathPolicy
from nanobot.store.store import Store
from nanobot.tools.cron import CronTool
from nanobot.tools.filesystem import file_tools
from nanobot.tools.message import MessageTool
from nanobot.tools.shell import BackgroundPrograms, Exec
from nanobot.tools.web import WebFetchTool, WebSearchTool

if TYPE_CHECKING:
    from nanobot.security.sandbox import Sandboxes

SWITCHABLE = (Exec.name,)  # names that stay nanobot's own when the owner has switched their tools off


def tool_context(config: Config) -> ToolContext:
    """What the constructors of tools may know."""
    workspace, tools = config.workspace_path, config.tools
    return ToolContext(
        workspace=workspace,
        allowed_dir=workspace if tools.restrict_to_workspace else None,
        working_dir=str(workspace),
        exec_timeout=tools.exec.timeout,
        restrict_to_workspace=tools.restrict_to_workspace,
        brave_api_key=tools.web.search.api_key or None,
    )


def commands_of(config: Config) -> BackgroundPrograms:
    """Where commands run, and what they leave running is kept."""
    output, tools = paths.home() / "run" / "exec", config.tools

    def sandboxes() -> Sandboxes:
        from nanobot.security.sandbox import Sandboxes

        return Sandboxes(
            tools.exec.sandbox,
            config.workspace_path,
            paths.home(),
            (paths.home() / "media", output),
            restrict=tools.restrict_to_workspace,
            network=tools.exec.network == "on",
        )

    return BackgroundPrograms(output, None if tools.exec.sandbox == "off" else sandboxes)


def build_tools(
    config: Config,
    store: Store,
    bundled_skills: Path,
    read_record: Callable[[str, int], Awaitable[ToolOutput | None]],
    programs: BackgroundPrograms,
) -> list[Tool]:
    """The tools in the order in which models see them.

    `bundled_skills` may be read wherever tools are confined to; `read_record` gives a message of a session;
    `programs` keeps what commands leave running.
    """
    workspace, tools = config.workspace_path, config.tools
    context = tool_context(config)
    files = PathPolicy(
        workspace,
        restrict=tools.restrict_to_workspace,
        private=(paths.home(),),
        readable=(paths.home() / "media", programs.folder, bundled_skills),
        protected=(workspace / "skills", workspace / "tools"),
    )
    built = [*file_tools(files, read_record)]
    if tools.exec.enabled:
        built.append(Exec(context, files, tools.exec.env, programs))
    search = WebSearchTool(brave_api_key=context.brave_api_key, max_results=tools.web.search.max_results)
    fetch = WebFetchTool(allow_private=tools.web.allow_private)
    return [*built, search, fetch, MessageTool(store, files), CronTool(store)]
