"""The generated reference pages."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from nanobot.config.schema import Config
from tests.config.keys import key_paths

SCRIPT = Path(__file__).parents[2] / "scripts" / "generate_docs.py"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_check_names_stale_pages_and_changes_nothing(
    generator: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "docs"
    assert generator.main(["--check"], folder) == 1
    assert not folder.exists()
    assert generator.main([], folder) == 0
    assert generator.main(["--check"], folder) == 0
    capsys.readouterr()
    (folder / "config.md").write_text("old")
    (folder / "cli.md").unlink()
    assert generator.main(["--check"], folder) == 1
    said = capsys.readouterr().err
    assert "docs/config.md, docs/cli.md" in said
    assert "schema" not in said
    assert (folder / "config.md").read_text() == "old"
    assert generator.main(["--chekc"], folder) == 2


def test_every_key_is_in_the_page(generator: ModuleType) -> None:
    sections: dict[str, str] = {}
    for part in generator.config_page().split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        sections[heading] = body
    for path in key_paths(Config):
        parent, _, key = path.rpartition(".")
        if parent.startswith("providers."):
            parent = "providers.*"
        table = sections.get(parent, "")
        assert f"| `{key}`" in table or any(name.startswith((path, "providers.*")) for name in sections), path
    assert "| `apiKey` 🔑 | text |" in sections["providers.*"]
    assert "`openaiCodex`" in sections["providers.*"]
    assert '| `"queue"` or `"steer"` | `"queue"` |' in sections["agents.defaults"]


def test_pages_do_not_depend_on_the_terminal(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = generator.cli_page()
    monkeypatch.setenv("COLUMNS", "20")
    assert generator.cli_page() == wide
    assert "## nanobot agent" in wide
    assert "`--message, -m VALUE`" in wide


def test_the_schema_page_is_the_schema(generator: ModuleType) -> None:
    schema = json.loads(generator.schema_page())
    assert schema["$defs"]["AgentDefaults"]["properties"]["maxTokens"]["default"] == 8192
    assert schema["$defs"]["AgentDefaults"]["properties"]["maxTokens"]["description"]
