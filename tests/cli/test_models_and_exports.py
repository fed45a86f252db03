"""`/model` and `/models` by the provider's list, skills as commands, conversations as files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.cli.conftest import Nanobot, answered_by

MODELS = ["fake-1", "fake-2", "claude-x-20260101", "text-embed-3"]
HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(2)> ![pic](https://evil.example/pixel.png)\n\n"
    "[click](javascript:alert(3)) [page](https://example.org)\n\n```\n</code><script>alert(4)</script>\n```\n"
    "| a | b |\n|---|---|\n| <b>1</b> | 2 |\n"
)


class _Models(BaseHTTPRequestHandler):
    """A server that lists its models and says which one was asked."""

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"data": [{"id": name} for name in MODELS]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked = json.dumps(body["messages"][-1]["content"])
        text = f"{body['model']} was asked {len(asked) > 0}"
        delta = json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]})
        self._send("text/event-stream", f"data: {delta}\n\ndata: [DONE]\n\n")

    def _send(self, kind: str, body: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: object) -> None:
        """Be quiet."""


@pytest.fixture
def served(nanobot: Nanobot) -> Iterator[Nanobot]:
    with answered_by(nanobot, ThreadingHTTPServer(("127.0.0.1", 0), _Models), "fake-1"):
        yield nanobot


def say(nanobot: Nanobot, text: str, code: int = 0) -> str:
    done = nanobot.run("agent", "-m", text)
    assert done.returncode == code, done
    return done.stdout or done.stderr


def test_a_model_is_one_of_the_list_and_default_goes_back(served: Nanobot) -> None:
    assert say(served, "hello") == "fake-1 was asked True\n"
    assert "Custom has no model fake-9. Nearest: fake-" in say(served, "/model fake-9", 2)
    assert "/models lists those it has" in say(served, "/model qwertz", 2)
    assert say(served, "/model fake-2").startswith("This conversation now uses fake-2")
    assert say(served, "hello") == "fake-2 was asked True\n"
    assert say(served, "/model claude-x").startswith("This conversation now uses claude-x")
    assert say(served, "/model default").startswith("This conversation now uses fake-1")
    assert say(served, "hello") == "fake-1 was asked True\n"
    assert (
        say(served, "/models")
        == "fake-1\nfake-2\nclaude-x-20260101\n3 of 3 models; /model NAME chooses one.\n"
    )
    assert say(served, "/models FAKE 2") == "fake-2\n1 of 3 models; /model NAME chooses one.\n"


def test_models_are_completed(served: Nanobot) -> None:
    terminal = served.open("agent")
    terminal.wait_for_prompt()
    terminal.send("/model fake-")
    terminal.wait_for(r"^ +/model fake-2")
    terminal.send("2\r")
    terminal.wait_for("^This conversation now uses fake-2")
    terminal.send("/we")
    terminal.wait_for(r"^ +/weather +A skill")
    terminal.send("\t\x03")
    terminal.send("/export h")
    terminal.wait_for(r"^ +/export html")
    terminal.send("tml\r")
    terminal.wait_for("^Written to")


def test_a_skill_is_a_command(nanobot: Nanobot) -> None:
    model = nanobot.script(
        {"when": "/weather Berlin", "text": "Rain."}, {"when": "/weather", "text": "Where?"}
    )
    assert nanobot.run("agent", "--model", model, "-m", "/weather Berlin").stdout == "Rain.\n"
    assert nanobot.run("agent", "--model", model, "-m", "/weather").stdout == "Where?\n"
    assert nanobot.run("agent", "--model", model, "-m", "/wheather").returncode == 2


class _Page(HTMLParser):
    """Tags with their attributes, and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_an_html_export_is_one_page_that_runs_and_fetches_nothing(nanobot: Nanobot) -> None:
    call = {"name": "exec", "arguments": {"command": "echo '</pre><script>5</script>'"}}
    replies = {"when": "<script>", "tool_calls": [call]}, {"when": "<script>", "text": HOSTILE}
    model = nanobot.script(*replies)
    assert nanobot.run("agent", "--model", model, "-m", HOSTILE).returncode == 0
    title = "<title> & ![x](y)"
    assert nanobot.run("agent", "--model", model, "-m", f"/rename {title}").returncode == 0
    done = nanobot.run("agent", "--model", model, "-m", "/export html")
    page = _Page(
        (nanobot.home / "workspace" / re.sub(".*/exports", "exports", done.stdout.strip())).read_text()
    )
    named = {tag for tag, _ in page.tags}
    assert not named & {"script", "img", "iframe", "link", "object"}
    assert {"table", "pre", "h1"} <= named
    attributes = [(name, value) for _, attrs in page.tags for name, value in attrs.items()]
    assert not [name for name, _ in attributes if name.startswith("on") or name == "src"]
    links = {value for name, value in attributes if name == "href"}
    assert links == {"https://evil.example/pixel.png", "https://example.org"}
    assert title in page.text
    assert "<script>5</script>" in page.text
    assert page.text.count("<script>alert(4)</script>") == 2


@pytest.mark.parametrize(("form", "begins"), [("", "# hello"), ("md", "# hello"), ("jsonl", '{"session"')])
def test_an_export_is_a_file_of_the_workspace(nanobot: Nanobot, form: str, begins: str) -> None:
    model = nanobot.script({"text": "Hi."})
    nanobot.run("agent", "--model", model, "-m", "hello")
    done = nanobot.run("agent", "--model", model, "-m", f"/export {form}")
    file = nanobot.home / "workspace" / "exports" / f"hello @1.{form or 'md'}"
    assert done.stdout == f"Written to {file}\n"
    assert file.read_text().startswith(begins)
    assert nanobot.run("agent", "--model", model, "-m", "/export pdf").returncode == 2


def test_an_export_goes_through_no_link_out_of_the_workspace(nanobot: Nanobot) -> None:
    model = nanobot.script({"text": "Hi."})
    nanobot.run("agent", "--model", model, "-m", "hello")
    (outside := nanobot.folder / "outside").mkdir()
    (nanobot.home / "workspace" / "exports").symlink_to(outside)
    assert nanobot.run("agent", "--model", model, "-m", "/export").returncode == 1
    assert list(outside.iterdir()) == []
