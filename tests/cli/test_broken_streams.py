"""A model whose answers break off: the owner is told once, and sees the attempts counted in place."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.conftest import Nanobot, answered_by

HALF = b'data: {"choices": [{"index": 0, "delta": {"content": "Half an answer"}}]}\n\n'
WHOLE = HALF.replace(b"Half an", b"The whole") + b"data: [DONE]\n\n"


class _Failing(BaseHTTPRequestHandler):
    """Breaks off, is overloaded twice, and answers."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        assert isinstance(server, _Server)
        server.asked += 1
        is_up = server.asked in (1, 4)
        self.send_response(200 if is_up else 503)
        self.send_header("content-type", "text/event-stream")
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(b"" if not is_up else HALF if server.asked == 1 else WHOLE)

    def log_message(self, *args: object) -> None:
        """Be quiet."""


class _Server(ThreadingHTTPServer):
    asked = 0


@pytest.fixture
def broken(nanobot: Nanobot) -> Iterator[Nanobot]:
    with answered_by(nanobot, _Server(("127.0.0.1", 0), _Failing), "fake"):
        yield nanobot


def test_a_pipe_is_told_once(broken: Nanobot) -> None:
    done = broken.run("agent", "-m", "hello")
    assert (done.returncode, done.stdout) == (0, "The whole answer\n")
    (line,) = done.stderr.splitlines()
    assert line.endswith("(attempt 2).")


@pytest.mark.parametrize("columns", [40, 80])
def test_a_terminal_shows_one_line(broken: Nanobot, columns: int) -> None:
    terminal = broken.open("agent", columns=columns)
    terminal.wait_for_prompt()
    terminal.send("hello\r")
    terminal.wait_for(r"\(attempt\s+2\)")
    assert "Half an answer" not in terminal.text
    terminal.wait_for("^The whole answer\nfake · ")
    assert "attempt" not in terminal.text
