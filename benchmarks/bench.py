"""`make bench`: what nanobot costs, beside the plain thing it is compared with, and what is promised.

Prints every figure as it is found, at the end all of them as a table, and exits 1 when a promise is broken
(`--no-fail`: 0). `--only commands|sandbox|gateway|install` measures a part, `--rounds N` oftener. The table
also goes to benchmarks/last.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import commands
import confined
import gateway
import install
from figures import Figure, table

HERE = Path(__file__).resolve().parent


@contextlib.contextmanager
def model_server() -> Iterator[str]:
    """The base URL of a model server in a process of its own."""
    command = [sys.executable, str(HERE / "model_server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


def measure(part: str, folder: Path, base_url: str, rounds: int) -> Iterator[Figure]:
    if part in ("", "commands"):
        yield from commands.measure(folder, base_url, rounds * 3)
    if part in ("", "sandbox"):
        yield from asyncio.run(confined.measure(folder, rounds))
    if part in ("", "gateway"):
        yield from asyncio.run(gateway.measure(folder, base_url, rounds))
    if part in ("", "install"):
        yield from install.measure()


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure nanobot against its promises.")
    parser.add_argument("--only", choices=["commands", "sandbox", "gateway", "install"], default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-fail", action="store_true", help="exit 0 whatever is broken")
    options = parser.parse_args()
    figures: list[Figure] = []
    with (
        tempfile.TemporaryDirectory(prefix="nanobot-bench-", ignore_cleanup_errors=True) as name,
        model_server() as base_url,
    ):
        for figure in measure(options.only, Path(name), base_url, options.rounds):
            figures.append(figure)
            print(f"{figure.name} ...", file=sys.stderr, flush=True)
    print(table(figures))
    record = {"python": platform.python_version(), "figures": [dataclasses.asdict(item) for item in figures]}
    (HERE / "last.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    broken = [figure.name for figure in figures if figure.verdict == "BROKEN"]
    if broken:
        print(f"\nBroken: {', '.join(broken)}.", file=sys.stderr)
    return 1 if broken and not options.no_fail else 0


if __name__ == "__main__":
    sys.exit(main())
