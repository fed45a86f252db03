"""What the README and the other pages say exists: commands, keys, tables, files and links."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nanobot.app import open_app
from nanobot.cli.main import app as command_line
from nanobot.commands.table import COMMANDS
from nanobot.config.loader import load_config
from nanobot.config.schema import Config
from nanobot.providers.registry import PROVIDERS, ProviderSpec
from tests.config.keys import key_paths

ROOT = Path(__file__).parents[1]
GUIDES = (
    "providers",
    "plugins",
    "skills",
    "subagents",
    "gateway",
    "channels/writing-a-channel",
    "development",
)
# The README and the pages that it sends its reader to.
README = "\n".join(
    (ROOT / page).read_text(encoding="utf-8")
    for page in ("README.md", *(f"docs/{guide}.md" for guide in GUIDES))
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCKS = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", README, re.DOTALL | re.MULTILINE)
PLUGIN = ROOT / "examples" / "channel-plugin" / "pyproject.toml"


def blocks(kind: str) -> list[str]:
    return [text for _, found, text in BLOCKS if found == kind]


def inline_code(text: str) -> list[str]:
    prose = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", prose)


def table(text: str, heading: str) -> list[list[str]]:
    """The rows, as cells, of the table whose header line begins with `heading`."""
    lines = text[text.index(f"\n{heading}") :].strip().splitlines()[2:]
    ending = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines[:ending]]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# -- commands


def typed_commands(script: str) -> Iterator[list[str]]:
    """The words of every simple command in a shell script."""
    for line in script.splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&"]:
            if word not in ("|", "&", "&&"):
                words.append(word)
            elif words:
                yield words
                words = []


def nanobot_commands() -> list[str]:
    spans = [text for page in PAGES for text in inline_code(page.read_text(encoding="utf-8"))]
    found = [words for text in blocks("bash") for words in typed_commands(text)]
    found += [words for text in spans if text.startswith("nanobot ") for words in typed_commands(text)]
    return sorted({shlex.join(words) for words in found if words[0] == "nanobot"})


@pytest.mark.parametrize("line", nanobot_commands())
def test_the_command_exists_with_these_options(line: str) -> None:
    command: Any = typer.main.get_command(command_line)
    words = [word for word in shlex.split(line)[1:] if word != "…"]
    while words and hasattr(command, "get_command") and (child := command.get_command(None, words[0])):
        command = child
        del words[0]
    is_group = hasattr(command, "commands")
    assert not (is_group and words and not words[0].startswith("-")), f"no command {words[0]}"
    if words or not getattr(command, "no_args_is_help", False):
        with contextlib.suppress(typer.Exit):
            context = command.make_context("nanobot", words)
            assert not context.args


def test_the_commands_are_found() -> None:
    assert {"nanobot agent", "nanobot gateway install", "nanobot outbox retry"} <= {*nanobot_commands()}


def test_make_has_the_targets() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    shown = [
        word
        for text in [*blocks("bash"), *inline_code(README)]
        for word in re.findall(r"make ([a-z]+)", text)
    ]
    assert "test" in shown
    assert {*shown} <= {*targets}


# -- configuration


@pytest.mark.parametrize("text", blocks("json"))
def test_the_configuration_loads_without_warnings(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads(PLUGIN.read_text(encoding="utf-8"))["project"]
    about = tmp_path / f"installed/{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    lines = [f"{name} = {place}" for name, place in project["entry-points"]["nanobot.channels"].items()]
    (about / "entry_points.txt").write_text("\n".join(["[nanobot.channels]", *lines]))
    monkeypatch.syspath_prepend(about.parent)
    (tmp_path / "config.json").write_text(text)
    loaded = load_config(tmp_path / "config.json", env={})
    assert loaded.warnings == ()


def test_the_keys_exist() -> None:
    known = {*key_paths(Config)}
    sections = "|".join(Config.model_fields)
    spans = [re.fullmatch(rf"((?:{sections})\.[\w.]+)(: .+)?", span) for span in inline_code(README)]
    named = {span[1] for span in spans if span} - {"providers.NAME.apiKey"}
    assert len(named) > 10
    assert {key for key in named if key not in known} == set()


# -- tables and lists


def test_the_slash_commands_are_those_there_are() -> None:
    assert [code_in(row[0])[0] for row in table(README, "| command |")] == [item.usage for item in COMMANDS]


def test_the_providers_are_those_of_the_registry() -> None:
    rows = {code_in(row[0])[0]: code_in(row[2]) for row in table(README, "| NAME |")}
    assert rows == {spec.name: _key_variables(spec) for spec in PROVIDERS if not spec.oauth}


def _key_variables(spec: ProviderSpec) -> list[str]:
    extra = [name for name, value in spec.env_extras if value == "{api_key}"]
    return [name for name in (spec.env_key, *extra) if name]


def test_the_fields_of_a_provider_exist() -> None:
    fields = {field.name for field in dataclasses.fields(ProviderSpec)}
    assert {code_in(row[0])[0] for row in table(README, "| field |")} <= fields


async def test_the_tools_are_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path))
    async with open_app(Config()) as app:
        assert [name for row in table(README, "| tool |") for name in code_in(row[0])] == [*app.tools.by_name]


def test_the_sizes_are_those_that_are_counted() -> None:
    """Targets to the digit; what is there today to a twentieth, so that not every commit edits it."""
    done = subprocess.run([ROOT / "core_agent_lines.sh"], capture_output=True, text=True, check=False)
    counted = re.findall(
        r"^([a-z ]+?) +(\d+) +(?:of +\d+, to become (\d+)|as the|that the)", done.stdout, re.MULTILINE
    )
    printed = {name: [int(number) for number in numbers if number] for name, *numbers in counted}
    shown = {
        row[0]: [int(cell.replace(",", "")) for cell in row[2:] if cell] for row in table(README, "| | what")
    }
    assert shown.keys() == printed.keys()
    for name, (today, *target) in printed.items():
        assert shown[name][1:] == target, name
        assert shown[name][0] == pytest.approx(today, rel=0.05), name


def test_the_layout_is_that_of_the_package() -> None:
    (tree,) = (text for text in blocks("") if text.startswith("nanobot/"))
    shown = re.findall(r"── (\S+)", tree)
    assert {*shown} >= {f"{folder.name}/" for folder in (ROOT / "nanobot").iterdir() if holds_files(folder)}
    assert [name for name in shown if not (ROOT / "nanobot" / name).exists()] == []


def holds_files(folder: Path) -> bool:
    return any(item.is_file() and "__pycache__" not in item.parts for item in folder.rglob("*"))


# -- links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (page.parent / target.partition("#")[0]).exists(), target


# -- the recipe for a new provider


def test_a_provider_takes_two_steps(tmp_path: Path) -> None:
    (row,) = (text for text in blocks("python") if "ProviderSpec(" in text)
    (line,) = (span for span in inline_code(README) if ": ProviderConfig =" in span)
    shutil.copytree(ROOT / "nanobot", tmp_path / "nanobot", ignore=shutil.ignore_patterns("__pycache__"))
    insert_after(tmp_path / "nanobot/providers/registry.py", r"^PROVIDERS: .*= \($", row)
    insert_after(
        tmp_path / "nanobot/config/schema.py", r"^class ProvidersConfig.*\n    \"\"\".*\"\"\"$", f"    {line}"
    )
    for variables, source in (({"MYPROVIDER_API_KEY": "k"}, "MYPROVIDER_API_KEY"), ({}, "")):
        model = status_with(tmp_path, variables)["model"]
        assert (model.get("provider") == "myprovider") == bool(source)
        assert source in " ".join(model.get("steps", ()))


def insert_after(file: Path, place: str, text: str) -> None:
    changed, count = re.subn(
        f"({place})", lambda found: f"{found[1]}\n{text}", file.read_text(), flags=re.MULTILINE
    )
    assert count == 1
    file.write_text(changed)


def status_with(folder: Path, variables: dict[str, str]) -> dict[str, Any]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(folder), **variables}
    env["NANOBOT_AGENTS__DEFAULTS__MODEL"] = "myprovider/some-model"
    command = [sys.executable, "-m", "nanobot", "status", "--json"]
    done = subprocess.run(
        command, env=env, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, text=True, check=False
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report
