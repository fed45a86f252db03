"""nanobot as its owner starts it: real processes, a real terminal, a home of its own, a scripted model."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

COMMAND = [sys.executable, "-m", "nanobot"]


class Terminal:
    """A process in a terminal that behaves like one: it keeps a screen and answers questions about it."""

    def __init__(self, command: list[str], env: dict[str, str], rows: int, columns: int) -> None:
        self._process = pexpect.spawn(
            command[0], command[1:], env=env, dimensions=(rows, columns), timeout=30
        )
        self._show(rows, columns)
        self.raw = b""

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def send(self, keys: str) -> None:
        self._process.send(keys)

    def interrupt(self) -> None:
        self._process.send("\x03")

    def resize(self, rows: int, columns: int) -> None:
        """As most terminals do it: lines that are too long now are wrapped, the cursor stays at its text."""
        cursor = self._screen.cursor
        *above, line = self._screen.display[: cursor.y + 1]
        self._show(rows, columns)
        self._stream.feed("\r\n".join([*map(str.rstrip, above), line[: cursor.x]]).encode())
        self._process.setwinsize(rows, columns)

    def _show(self, rows: int, columns: int) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._screen.write_process_input = self._process.send
        self._stream = pyte.ByteStream(self._screen)

    def kill(self, number: int) -> None:
        self._process.kill(number)

    def wait_for(self, pattern: str, times: int = 1) -> None:
        """Read until a regular expression matches `times` on the screen; fail with it after 30 s."""
        deadline = time.monotonic() + 30
        while len(re.findall(pattern, self.text, re.MULTILINE)) < times:
            try:
                self._read(deadline - time.monotonic())
            except (pexpect.TIMEOUT, pexpect.EOF):
                pytest.fail(f"{pattern!r} did not appear {times} times:\n{self.text}")

    def wait_for_more(self, bytes_before: int) -> None:
        """Read until more has come than `bytes_before`: what was drawn since."""
        while len(self.raw) <= bytes_before:
            self._read(30)

    def wait_for_prompt(self) -> None:
        """Read until the last line of the screen is an empty prompt."""
        self.wait_for(r"^>\Z")

    def leave(self) -> int:
        """Read to the end and return the exit code, or the signal as a negative number."""
        with contextlib.suppress(pexpect.EOF):
            while True:
                self._read(30)
        self._process.close()
        return -self._process.signalstatus if self._process.signalstatus else int(self._process.exitstatus)

    def close(self) -> None:
        """End the process if it still runs."""
        self._process.close(force=True)

    def _read(self, timeout: float) -> None:
        data = self._process.read_nonblocking(65536, max(0.0, timeout))
        self.raw += data
        self._stream.feed(data)


class Nanobot:
    """Starts nanobot with a fresh home. `env` is the whole environment of its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "NANOBOT_HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
        }
        self._terminals: list[Terminal] = []

    def script(self, *replies: dict[str, Any], loop: bool = False) -> str:
        """The name of a model that gives these replies."""
        path = self.folder / "script.json"
        path.write_text(json.dumps({"replies": replies, "loop": loop}))
        return f"scripted/{path}"

    def run(
        self, *args: str, stdin: str | bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end, with pipes for all three streams."""
        done = subprocess.run(
            [*COMMAND, *args],
            input=stdin if isinstance(stdin, bytes) else stdin.encode(),
            capture_output=True,
            env={**self.env, **(env or {})},
            timeout=50,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start with pipes, to be watched while it runs."""
        return subprocess.Popen(
            [*COMMAND, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
            text=True,
        )

    def open(self, *args: str, rows: int = 60, columns: int = 100) -> Terminal:
        """Start in a terminal."""
        terminal = Terminal([*COMMAND, *args], self.env, rows, columns)
        self._terminals.append(terminal)
        return terminal

    def messages(self, session: str = "direct") -> list[dict[str, Any]]:
        """What is stored of a session."""
        return [
            json.loads(line)
            for line in self.run("session", "export", session, "-f", "jsonl").stdout.splitlines()
        ]

    def texts(self, role: str, session: str = "direct") -> list[str]:
        return [
            part["text"]
            for message in self.messages(session)
            if message["role"] == role
            for part in message["parts"]
            if part["type"] == "text"
        ]

    def close(self) -> None:
        for terminal in self._terminals:
            terminal.close()


@pytest.fixture
def nanobot(tmp_path: Path) -> Iterator[Nanobot]:
    bot = Nanobot(tmp_path)
    yield bot
    bot.close()


@contextlib.contextmanager
def answered_by(nanobot: Nanobot, server: HTTPServer, model: str) -> Iterator[Nanobot]:
    """nanobot with a model whose server runs meanwhile."""
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        access = {"custom": {"apiBase": f"http://127.0.0.1:{server.server_port}/v1", "apiKey": "k"}}
        nanobot.home.mkdir()
        config = {"providers": access, "agents": {"defaults": {"model": model}}}
        (nanobot.home / "config.json").write_text(json.dumps(config))
        yield nanobot
        server.shutdown()
