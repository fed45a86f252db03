"""A question that was stopped, or failed, is no open one: the model reads how it ended, once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.cli.conftest import Nanobot


class _Model(BaseHTTPRequestHandler):
    """Never ends its answer to "slow", refuses "fail", answers all else."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append(body["messages"])
        question = str(body["messages"][-1]["content"]).splitlines()[-1]
        self.send_response(400 if "fail" in question else 200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if "fail" in question:
            return
        delta = {"choices": [{"index": 0, "delta": {"content": f"About {question[-4:]}"}}]}
        self.wfile.write(f"data: {json.dumps(delta)}\n\n".encode())
        if "slow" in question:
            server.ended.wait()
        else:
            self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *args: object) -> None:
        """Be quiet."""


@pytest.fixture
def asked(nanobot: Nanobot) -> Iterator[list[list[dict[str, Any]]]]:
    """The messages of each request."""
    server: Any
    with ThreadingHTTPServer(("127.0.0.1", 0), _Model) as server:
        server.asked, server.ended = [], threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        access = {"custom": {"apiBase": f"http://127.0.0.1:{server.server_port}/v1", "apiKey": "k"}}
        nanobot.home.mkdir()
        config = {"providers": access, "agents": {"defaults": {"model": "fake"}}}
        (nanobot.home / "config.json").write_text(json.dumps(config))
        yield server.asked
        server.ended.set()
        server.shutdown()


def test_the_model_reads_how_questions_ended(nanobot: Nanobot, asked: list[list[dict[str, Any]]]) -> None:
    terminal = nanobot.open("agent")
    terminal.wait_for_prompt()
    terminal.send("one slow\r")
    terminal.wait_for("^About slow")
    terminal.send("\x1b")
    terminal.wait_for("^Stopped.")
    terminal.send("two fail\r")
    terminal.wait_for("^Error: ")
    terminal.send("three\r")
    terminal.wait_for("^About hree")
    assert len(asked) == 3
    said = [(message["role"], str(message["content"])) for message in asked[-1][1:]]
    text = "\n".join(f"{role}: {content}" for role, content in said)
    places = [
        text.index(words)
        for words in (
            "one slow",
            "assistant: About slow",
            "[nanobot: this turn was stopped before it was finished. Do not go on",
            "two fail",
            "[nanobot: this turn failed before it was finished. Do not go on",
            "three",
        )
    ]
    assert places == sorted(places)
