"""What a plain `pip install nanobot-ai` brings, counted in this environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from figures import Figure
from packaging.requirements import Requirement


def needed(name: str, extras: tuple[str, ...], found: set[str]) -> None:
    """Add the distribution and all it requires to `found`, as normal names with extras."""
    label = f"{re.sub(r'[-_.]+', '-', name).lower()}[{','.join(extras)}]"
    if label in found:
        return
    found.add(label)
    for line in metadata.requires(name) or ():
        wanted = Requirement(line)
        if wanted.marker is None or any(
            wanted.marker.evaluate({"extra": extra}) for extra in extras or ("",)
        ):
            needed(wanted.name, tuple(sorted(wanted.extras)), found)


def measure() -> Iterator[Figure]:
    found: set[str] = set()
    needed("nanobot-ai", (), found)
    names = {label.partition("[")[0] for label in found} - {"nanobot-ai"}
    files = [Path(file.locate()) for name in names for file in metadata.files(name) or ()]
    size = sum(file.stat().st_size for file in files if file.is_file())
    yield Figure("plain install: packages besides nanobot", len(names), "", 54)
    yield Figure("plain install: size of their files", size / 1e6, "MB", 101)
