"""Every key of config.json, its type, default and meaning. docs/config.md is generated from here."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from nanobot import paths
from nanobot.config.channels import ChannelsConfig
from nanobot.config.mcp_servers import INPUTS, McpServerConfig, gather_servers
from nanobot.config.section import Section, key


class AgentDefaults(Section):
    workspace: str = key("~/.nanobot/workspace", "Folder the assistant works in.", guard=True, min_length=1)
    model: str = key("anthropic/claude-opus-4-5", "Model, with or without a provider prefix.")
    max_tokens: int = key(8192, "Most tokens of one model reply.", ge=1)
    temperature: float = key(0.1, "Sampling temperature.", ge=0, le=2)
    max_tool_iterations: int = key(40, "Most model calls of one turn.", ge=1)
    subagent_max_iterations: int = key(15, "Most model calls of one subagent.", ge=1)
    memory_window: int = key(100, "Messages kept in full before older ones are summarised.", ge=1)
    context_window: int | None = key(None, "Context size in tokens; null: as known for the model.", ge=1)
    turn_timeout_seconds: int = key(1800, "Longest time a turn may take (s).", ge=1)
    max_concurrent_turns: int = key(8, "Chats answered at the same time.", ge=1)
    max_concurrent_subagents: int = key(4, "Subagents at work at the same time.", ge=1)
    deliver_to: str = key(
        "",
        "Chat of the owner, as `telegram:12345`, for reminders of a terminal and the heartbeat; empty: the"
        " latest one.",
    )
    queue_mode: Literal["queue", "steer"] = key("queue", "New messages wait, or join the running turn.")


class SubagentProfile(Section):
    alone: ClassVar[str] = "this profile cannot be used"
    tools: list[str] = key([], "Tools it may use; empty: all that subagents may have.")
    skills: list[str] = key([], "Skills loaded into its prompt.")
    model: str | None = key(None, "Its model; null: the model of the conversation.")
    max_iterations: int = key(15, "Most model calls; left out: agents.defaults.subagentMaxIterations.", ge=1)


class AgentsConfig(Section):
    defaults: AgentDefaults = key(AgentDefaults, "How the assistant works.")
    subagent_profiles: dict[str, SubagentProfile] = key(
        {}, "Kinds of subagents, by name.", alone="there are no profiles"
    )


class ProviderConfig(Section):
    alone: ClassVar[str] = "this provider is off"
    api_key: str = key("", "API key.", secret=True)
    api_base: str | None = key(None, "Base URL; null: the provider's public one.")
    extra_headers: dict[str, str] | None = key(None, "Headers added to every request.", secret=True)


BaseModel = Section  # by this name the recipe of docs/providers.md for a new provider knows it


class ProvidersConfig(BaseModel):
    """One line per provider; the name is that of its row in `nanobot/providers/registry.py`."""

    alone: ClassVar[str] = "no provider has a key of this file"
    custom: ProviderConfig = ProviderConfig()
    anthropic: ProviderConfig = ProviderConfig()
    openai: ProviderConfig = ProviderConfig()
    openrouter: ProviderConfig = ProviderConfig()
    deepseek: ProviderConfig = ProviderConfig()
    groq: ProviderConfig = ProviderConfig()
    zhipu: ProviderConfig = ProviderConfig()
    dashscope: ProviderConfig = ProviderConfig()
    vllm: ProviderConfig = ProviderConfig()
    gemini: ProviderConfig = ProviderConfig()
    moonshot: ProviderConfig = ProviderConfig()
    minimax: ProviderConfig = ProviderConfig()
    aihubmix: ProviderConfig = ProviderConfig()
    siliconflow: ProviderConfig = ProviderConfig()
    volcengine: ProviderConfig = ProviderConfig()
    openai_codex: ProviderConfig = ProviderConfig()
    github_copilot: ProviderConfig = ProviderConfig()


class GatewayConfig(Section):
    alone: ClassVar[str] = "/health and /status are off"
    host: str = key("127.0.0.1", "Address the gateway listens on.")
    port: int = key(18790, "Port of `/health` and `/status`.", ge=0, le=65535)
    token: str = key("", "Bearer token; required when host is not loopback.", secret=True)


class HeartbeatConfig(Section):
    enabled: bool = key(True, "Whether the gateway reads HEARTBEAT.md by itself.")
    interval_minutes: int = key(30, "Minutes between two readings.", ge=1)


class CronConfig(Section):
    catch_up_window: int = key(3600, "A missed job still runs if it is at most this late (s).", ge=0)


class RecallConfig(Section):
    enabled: bool = key(True, "Whether matching memories are added to a new message.")
    limit: int = key(5, "Most memories added to one message.", ge=1)
    max_tokens: int = key(400, "Most tokens they may take.", ge=50)


class MemoryConfig(Section):
    scope: Literal["chat", "all"] = key("chat", "A chat recalls its own turns, or all private chats.")
    prompt_bytes: int = key(6144, "Bytes of MEMORY.md that are in every prompt.", ge=0)
    model: str | None = key(None, "Model that consolidates memory; null: that of the conversation.")
    timeout_seconds: int = key(120, "Longest time of one consolidation (s).", ge=1)
    consolidate_after_reply: bool = key(
        False, "Whether `agent -m` waits for it, instead of leaving it to the gateway or a short process."
    )
    recall: RecallConfig = key(RecallConfig, "Recall before a turn.")


class SkillsConfig(Section):
    prompt_bytes: int = key(4096, "Bytes of the list of skills that is in every prompt.", ge=0)
    always_bytes: int = key(8192, "Bytes of the skills that are in every prompt as a whole.", ge=0)


class ExecConfig(Section):
    enabled: bool = key(True, "Whether there is an exec tool at all, subagents included.", guard=True)
    timeout: int = key(60, "Longest time of one command (s).", ge=1)
    env: list[str] = key([], "Names of further environment variables that commands may see.")
    sandbox: Literal["auto", "bwrap", "landlock", "off"] = key("off", "What confines commands.", guard=True)
    network: Literal["on", "off"] = key("on", "Whether commands in a sandbox reach the network.", guard=True)
    restrict_to_workspace: bool = key(False, "Older place of tools.restrictToWorkspace.", guard=True)


class WebSearchConfig(Section):
    api_key: str = key("", "Brave key; empty: BRAVE_API_KEY, else a search without key.", secret=True)
    max_results: int = key(5, "Results of one search.", ge=1, le=10)


class WebConfig(Section):
    search: WebSearchConfig = key(WebSearchConfig, "Web search.")
    allow_private: list[str] = key([], "Private hosts or networks that may be opened (`10.1.0.0/16`).")


class ToolsConfig(Section):
    hints: ClassVar[Mapping[str, str]] = INPUTS
    restrict_to_workspace: bool = key(False, "Whether all tools are confined to the workspace.", guard=True)
    exec: ExecConfig = key(ExecConfig, "Shell commands.")
    web: WebConfig = key(WebConfig, "Web access.")
    policy: dict[str, Literal["allow", "ask", "deny"]] = key(
        {}, "By the name of a tool, or `*` for all others: allow, ask (the owner) or deny.", guard=True
    )
    mcp_servers: dict[str, McpServerConfig] = key(
        {}, "MCP servers by name, as in Claude Desktop.", alone="there are no MCP servers"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.exec.restrict_to_workspace and "restrict_to_workspace" not in values:
            self.restrict_to_workspace = True


class Config(Section):
    hints: ClassVar[Mapping[str, str]] = INPUTS
    agents: AgentsConfig = key(AgentsConfig, "The assistant.")
    providers: ProvidersConfig = key(ProvidersConfig, "Model providers.")
    channels: ChannelsConfig = key(ChannelsConfig, "Chat platforms.")
    tools: ToolsConfig = key(ToolsConfig, "Tools.")
    gateway: GatewayConfig = key(GatewayConfig, "The gateway.")
    heartbeat: HeartbeatConfig = key(HeartbeatConfig, "Periodic tasks.")
    cron: CronConfig = key(CronConfig, "Scheduled jobs.")
    memory: MemoryConfig = key(MemoryConfig, "Long-term memory.")
    skills: SkillsConfig = key(SkillsConfig, "Skills.")

    @classmethod
    def adopt(cls, data: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
        return gather_servers(data, warnings)

    @property
    def workspace_path(self) -> Path:
        """The workspace as an absolute path. `~/.nanobot` and relative paths mean nanobot's home."""
        configured = Path(self.agents.defaults.workspace)
        if configured.is_relative_to("~/.nanobot"):
            return paths.home() / configured.relative_to("~/.nanobot")
        return paths.home() / os.path.expanduser(configured)  # noqa: PTH111 (Path's raises)
