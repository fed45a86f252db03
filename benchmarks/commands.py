"""What commands cost, as whole processes, beside the plain thing each is compared with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from figures import Figure, ratio, typical

TOOL_CALLS = 20
MESSAGES = 2000
HERE = Path(__file__).resolve().parent
NANOBOT = str(Path(sys.executable).with_name("nanobot"))
SCRATCH_SESSION = "cli:bench"

# Runs a command and prints its exit code, CPU and wall seconds, and peak memory. A process of its own,
# because the peak of a child counts from the size of the process that started it, and this one imports next
# to nothing. The time it waited for a processor (schedstat's second number) is no time of the command.
MEASURE = """
import os, sys, time
begun = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
wall = time.perf_counter() - begun
try:
    wall -= int(open(f"/proc/{child}/schedstat").read().split()[1]) / 1e9
except OSError:
    pass
_, status, used = os.wait4(child, 0)
print("\\nMEASURED", os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, wall, used.ru_maxrss)
"""


@dataclass
class Variant:
    """A command to measure. `expects` must be in what it prints: a fast failure is no result."""

    name: str
    command: list[str]
    home: Path | None = None
    expects: str = ""
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    def run(self, scratch: Path, **variables: str) -> tuple[float, float, float]:
        """CPU and wall seconds and peak MiB of one run, in a fresh copy of the variant's home."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NANOBOT_")}
        if self.home:
            shutil.copytree(self.home, scratch)
            environment |= {"NANOBOT_HOME": str(scratch), **variables}
        command = [sys.executable, "-I", "-S", "-c", MEASURE, *self.command]
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
        output, _, figures = done.stdout.rpartition("\nMEASURED ")
        code, seconds, wall, peak = figures.split()
        if code != "0" or self.expects not in output:
            raise SystemExit(f"{self.name} failed (exit {code}):\n{output}{done.stderr}")
        kilobyte = 1024 if sys.platform == "linux" else 1  # the BSDs and macOS count bytes
        return float(seconds), float(wall), float(peak) * kilobyte / 2**20


def make_home(folder: Path, base_url: str, messages: int = 0) -> Path:
    """A set-up home whose workspace holds the notes to read, with a session of so many messages."""
    folder.mkdir(mode=0o700)
    config = {
        "agents": {"defaults": {"model": "custom/bench"}},
        "providers": {"custom": {"apiKey": "unused", "apiBase": base_url}},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "config.json").chmod(0o600)
    workspace = folder / "workspace"
    workspace.mkdir()
    for number in range(TOOL_CALLS):
        note = workspace / f"note-{number}.txt"
        note.write_text(f"Note {number}: buy {number} lemons.\n" * 20, encoding="utf-8")
    if messages:
        seed = [sys.executable, str(HERE / "seed_session.py"), str(folder / "nanobot.db"), SCRATCH_SESSION]
        subprocess.run([*seed, str(messages)], check=True)
    return folder


def variants(folder: Path, base_url: str) -> dict[str, Variant]:
    """The commands by a short name."""

    def agent(message: str) -> list[str]:
        return [NANOBOT, "agent", "-s", SCRATCH_SESSION, "-m", message]

    hello, reply = "Hello, what is the answer?", "forty-two"
    fresh = make_home(folder / "fresh", base_url)
    long = make_home(folder / "long", base_url, MESSAGES)
    script = [sys.executable, str(HERE / "minimal_client.py"), base_url, hello]
    return {
        "python": Variant("python -c pass", [sys.executable, "-c", "pass"]),
        "version": Variant("nanobot --version", [NANOBOT, "--version"], expects="nanobot"),
        "script": Variant("minimal httpx2 script", script, expects=reply),
        "agent": Variant("nanobot agent -m", agent(hello), fresh, reply),
        "requests": Variant(
            f"script, {TOOL_CALLS + 1} requests", [*script, str(TOOL_CALLS + 1)], expects=reply
        ),
        "tools": Variant(f"agent, {TOOL_CALLS} read_file", agent(f"CALLS={TOOL_CALLS}"), fresh, reply),
        "long": Variant(f"agent, {MESSAGES} messages", agent(hello), long, reply),
    }


def measure(folder: Path, base_url: str, rounds: int) -> Iterator[Figure]:
    """A round runs every variant once, so that a machine that slows down slows all of them."""
    measured = variants(folder, base_url)
    places = (folder / f"run-{number}" for number in count())  # memory may go on in that of the last run
    for variant in measured.values():  # once unmeasured: compiles modules, fills workspaces, cuts sessions
        scratch = next(places)
        variant.run(scratch, NANOBOT_MEMORY__CONSOLIDATE_AFTER_REPLY="true")
        if variant.home:
            shutil.rmtree(variant.home)
            scratch.rename(variant.home)
    for _ in range(rounds):
        for variant in measured.values():
            seconds, wall, megabytes = variant.run(next(places))
            variant.cpu.append(seconds)
            variant.wall.append(wall)
            variant.peak.append(megabytes)
    for variant in measured.values():
        note = f"{typical(variant.wall) * 1000:.0f} ms wall, {typical(variant.peak):.1f} MiB"
        yield Figure(variant.name, typical(variant.cpu) * 1000, "ms", note=note)
    yield from promises({name: typical(variant.cpu) for name, variant in measured.items()}, "CPU")
    yield from promises({name: typical(variant.wall) for name, variant in measured.items()}, "wall")
    yield Figure("nanobot agent -m: peak memory", typical(measured["agent"].peak), "MiB", 36)


def promises(seconds: dict[str, float], kind: str) -> Iterator[Figure]:
    yield ratio(f"--version / python -c pass, {kind}", seconds["version"], seconds["python"], 2)
    yield ratio(f"agent -m / minimal script, {kind}", seconds["agent"], seconds["script"], 1.4)
    if kind == "CPU":
        call = (seconds["tools"] - seconds["agent"]) / TOOL_CALLS
        request = (seconds["requests"] - seconds["script"]) / TOOL_CALLS
        note = f"{call * 1000:.1f} / {request * 1000:.1f} ms"
        yield ratio("a read_file call / a request of the script, CPU", call, request, 3, note)
        name = f"agent -m behind {MESSAGES} messages / in a new session, CPU"
        yield ratio(name, seconds["long"], seconds["agent"], 1.05)
