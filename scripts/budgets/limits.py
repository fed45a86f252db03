"""The limits, each with its reason. Raising one is a decision: say in the commit what it buys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ratchet:
    """At most `now`, on the way down to `target`. Lower `now` whenever the figure has fallen."""

    now: int
    target: int


# Lines of SPINE_PARTS.
SPINE = Ratchet(now=4_539, target=4_000)
# Lines of all of nanobot/.
TOTAL = Ratchet(now=28_467, target=23_500)
# Files that one hello loads.
HELLO_FILES = Ratchet(now=60, target=60)
# Lines of these files.
HELLO_LINES = Ratchet(now=9_664, target=9_000)

# Everything between *accepted* and *delivered*, implementation included: folders and files of nanobot/.
SPINE_PARTS = ("messages.py", "errors.py", "paths.py", "bus", "store", "agent")

# Lines of each room of nanobot/, and why it needs them. A room grows only in a commit that edits its line.
ROOMS: dict[str, int] = {
    # the ground floor, the entry point and the composition root; target 640
    "root files": 808,
    # the turn: loop, dispatch, prompt, window; the tool contract; target 1,850
    "agent": 1_739,
    # the events of a turn, the one way in and out; target 190
    "bus": 256,
    # shared base, Telegram 560, Discord 350; target 2,160
    "channels": 2_623,
    # nine groups of commands, two of them read without Typer; target 1,700
    "cli": 2_433,
    # thirteen slash commands; target 480
    "commands": 789,
    # keys, their reader and JSON Schema without pydantic, the table of channels; target 450
    "config": 1_106,
    # schedules with daylight saving, jobs and their table, heartbeat; target 560
    "cron": 713,
    # the service, its HTTP surface
    "gateway": 325,
    # conversations and jobs of the older nanobot, taken over once
    "legacy": 342,
    # own stdio transport, logins, supervision and calls apart; target 1,780
    "mcp": 1_725,
    # facts, summaries, search with its index and tool, consolidation, forgetting; target 3,050
    "memory": 2_917,
    # the owner's tool files, watched, each in threads of its own
    "plugins": 575,
    # two wires, what models write as text, the registry, the local model; target 2,150
    "providers": 2_472,
    # paths, addresses, shell text, environment, all programs; target 1,110
    "security": 2_452,
    # finding, reading, previewing and installing skills; target 960
    "skills": 975,
    # the database seam, its adapter, the spine's tables; target 1,560
    "store": 1_959,
    # profiles, limits, the spawn tool, reports; target 400
    "subagents": 342,
    # one reply or a conversation in a terminal; target 1,020
    "terminal": 1_828,
    # the built-in tools; target 1,700
    "tools": 2_053,
    # what a new workspace holds
    "workspace": 35,
}

# rule: (at most, what is counted). The amount of a rule is measured once for each thing it applies to.
RULES: dict[str, tuple[int, str]] = {
    "file": (400, "lines"),
    "function": (60, "lines"),
    # Prices: what one more of a kind may cost. A dearer one shows that the shared part is missing something.
    "channel": (350, "lines, its config included"),
    "channel base": (1_767, "lines of channels/ that no channel owns; target 1,250"),
    "wire protocol": (250, "lines"),
    "OAuth login": (200, "lines"),
    "database adapter": (350, "lines"),
    "tool": (120, "lines"),
    "slash command": (20, "lines"),
    # Widths: how much a reader has to hold in mind at once.
    "protocol": (0, "Protocol with less than two implementations"),
    "methods": (12, "public methods"),
    "callables": (2, "callables in a constructor"),
    "name": (1, "rooms that define this public name"),
    "imports": (6, "other rooms imported"),
    "circle": (1, "files that import each other in a circle"),
}

# (rule, subject): a limit of its own.
EXCEPTIONS: dict[tuple[str, str], int] = {
    ("channel", "telegram"): 560,  # the reference platform: topics, albums, edits, drafts
    ("imports", "app.py"): 24,  # the composition root knows every room
    ("imports", "gateway/service.py"): 24,  # starts what app.py has wired
}

OAUTH_LOGINS = ("providers/codex.py", "providers/copilot.py")
DATABASE_ADAPTERS = ("store/sqlite.py", "store/postgres.py")

# The contract of plugins: its classes are implemented by others, outside this package.
PLUGIN_API = ("agent/tools/__init__.py", "channels/base.py")
# The class of channels that stand on the shared base; itself part of that.
CHANNEL_BASE = "channels/platform.py"
# What everyone speaks: not counted among the rooms that a module imports.
GROUND_FLOOR = ("messages", "errors", "paths")

# The edges of design part 2, where any exception may be caught because it is logged and the rest goes on:
# a tool call, a channel task, a scheduled job, a plugin import, an HTTP handler. (file, function): edge.
BROAD_EXCEPT_EDGES: dict[tuple[str, str], str] = {
    ("agent/loop.py", "_errors_of"): "a tool call",
    ("channels/base.py", "contained"): "a channel task",
    ("channels/platform.py", "_parsed"): "a channel task",  # an event that nobody can read
    ("channels/registry.py", "load_channel"): "a plugin import",
    ("plugins/files.py", "load_tools"): "a plugin import",
    ("plugins/threads.py", "job"): "a tool call",
    ("gateway/http.py", "_exchange"): "an HTTP handler",
    ("mcp/connection.py", "_connect_once"): "a channel task",  # the task of an MCP server
    ("memory/maintenance.py", "serve"): "a scheduled job",
}
