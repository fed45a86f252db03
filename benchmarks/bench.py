"""`make bench`: what nanobot costs, measured beside the plain thing it is compared with.

CPU seconds (user and system) and peak memory of whole processes, medians of ROUNDS. A round runs each variant
once, so that a machine that slows down slows all of them. Promises are ratios of the CPU medians; exit 1 when
one is broken. The figures also go to benchmarks/last.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROUNDS = 7
TOOL_CALLS = 20
HERE = Path(__file__).resolve().parent
NANOBOT = str(Path(sys.executable).with_name("nanobot"))
SCRATCH_SESSION = "cli:bench"

# Runs a command and prints its CPU seconds and peak memory. A process of its own, because the peak
# of a child counts from the size of the process that started it, and this one imports next to nothing.
MEASURE = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
print("\\nMEASURED", os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


@dataclass
class Variant:
    """A command to measure. `expects` must be in what it prints: a fast failure is no result."""

    name: str
    command: list[str]
    home: Path | None = None
    expects: str = ""
    cpu: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return median(self.cpu)

    @property
    def megabytes(self) -> float:
        return median(self.peak)


@dataclass(frozen=True)
class Promise:
    """The CPU of one variant may be at most `limit` times that of another."""

    variant: str
    over: str
    limit: float


PROMISES = (
    Promise("nanobot --version", "python -c pass", 5),
    Promise("nanobot agent -m", "minimal httpx2 script", 2),
    Promise("session of 10,000", "session of 10", 1.3),
)


def measure(variant: Variant, scratch: Path) -> tuple[float, float]:
    """CPU seconds and peak megabytes of one run, in a fresh copy of the variant's home."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NANOBOT_")}
    if variant.home:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(variant.home, scratch)
        environment["NANOBOT_HOME"] = str(scratch)
    command = [sys.executable, "-I", "-S", "-c", MEASURE, *variant.command]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    output, _, figures = done.stdout.rpartition("\nMEASURED ")
    code, seconds, peak = figures.split()
    if code != "0" or variant.expects not in output:
        raise SystemExit(f"{variant.name} failed (exit {code}):\n{output}{done.stderr}")
    kilobyte = 1024 if sys.platform == "linux" else 1  # the BSDs and macOS count bytes
    return float(seconds), float(peak) * kilobyte / 1e6


@contextlib.contextmanager
def model_server() -> Iterator[str]:
    """The base URL of a model server in a process of its own."""
    command = [sys.executable, str(HERE / "model_server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


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
        (workspace / f"note-{number}.txt").write_text(
            f"Note {number}: buy {number} lemons.\n" * 20, encoding="utf-8"
        )
    if messages:
        seed = [sys.executable, str(HERE / "seed_session.py"), str(folder / "nanobot.db"), SCRATCH_SESSION]
        subprocess.run([*seed, str(messages)], check=True)
    return folder


def variants(folder: Path, base_url: str) -> list[Variant]:
    def agent(message: str) -> list[str]:
        return [NANOBOT, "agent", "-s", SCRATCH_SESSION, "-m", message]

    hello, reply = "Hello, what is the answer?", "forty-two"
    fresh = make_home(folder / "fresh", base_url)
    tools = make_home(folder / "tools", base_url)
    short = make_home(folder / "short", base_url, 10)
    long = make_home(folder / "long", base_url, 10_000)
    script = [sys.executable, str(HERE / "minimal_client.py"), base_url, hello]
    return [
        Variant("python -c pass", [sys.executable, "-c", "pass"]),
        Variant("nanobot --version", [NANOBOT, "--version"], expects="nanobot"),
        Variant("minimal httpx2 script", script, expects=reply),
        Variant("nanobot agent -m", agent(hello), fresh, reply),
        Variant(f"{TOOL_CALLS} read_file calls", agent(f"CALLS={TOOL_CALLS}"), tools, reply),
        Variant("session of 10", agent(hello), short, reply),
        Variant("session of 10,000", agent(hello), long, reply),
    ]


def run_rounds(measured: list[Variant], folder: Path) -> None:
    for variant in measured:  # once unmeasured: compiles modules, fills the workspace, cuts the long session
        measure(variant, folder / "scratch")
        if variant.home:
            shutil.rmtree(variant.home)
            (folder / "scratch").rename(variant.home)
    for number in range(ROUNDS):
        print(f"\rround {number + 1} of {ROUNDS}", end="", file=sys.stderr, flush=True)
        for variant in measured:
            seconds, megabytes = measure(variant, folder / "scratch")
            variant.cpu.append(seconds)
            variant.peak.append(megabytes)
    print("\r", end="", file=sys.stderr, flush=True)


def report(measured: list[Variant]) -> bool:
    """Print both tables, write last.json, and say whether every promise holds."""
    by_name = {variant.name: variant for variant in measured}
    print(f"{'':<24}{'CPU ms':>10}{'peak MB':>10}")
    for variant in measured:
        print(f"{variant.name:<24}{variant.seconds * 1000:>10.1f}{variant.megabytes:>10.1f}")
    tools = by_name[f"{TOOL_CALLS} read_file calls"].seconds - by_name["nanobot agent -m"].seconds
    print(f"{'one tool iteration':<24}{tools / TOOL_CALLS * 1000:>10.1f}\n")

    ratios = {}
    for promise in PROMISES:
        comparison = f"{promise.variant} / {promise.over}"
        ratio = by_name[promise.variant].seconds / by_name[promise.over].seconds
        ratios[comparison] = {"ratio": ratio, "promised": promise.limit}
        verdict = "kept" if ratio <= promise.limit else "BROKEN"
        print(f"{comparison:<44}{ratio:>6.2f}  promised {promise.limit:<5}{verdict}")
    record = {
        "python": platform.python_version(),
        "rounds": ROUNDS,
        "figures": {v.name: {"cpu_seconds": v.seconds, "peak_megabytes": v.megabytes} for v in measured},
        "tool_iteration_seconds": tools / TOOL_CALLS,
        "ratios": ratios,
    }
    (HERE / "last.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return all(ratio["ratio"] <= ratio["promised"] for ratio in ratios.values())


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="nanobot-bench-") as name, model_server() as base_url:
        folder = Path(name)
        measured = variants(folder, base_url)
        run_rounds(measured, folder)
    return 0 if report(measured) else 1


if __name__ == "__main__":
    sys.exit(main())
