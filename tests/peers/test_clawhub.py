"""The real ClawHub client, fetched by npx, against a loopback registry that speaks its API."""

from __future__ import annotations

import http.server
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import Nanobot
from tests.skills.folders import skill_text

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]


class Registry(http.server.BaseHTTPRequestHandler):
    """As much of the API as installing and searching need, version 1."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/api/v1/skills/hub-skill":
            skill = {"slug": "hub-skill", "displayName": "Hub", "tags": {}, "stats": {}}
            about = {
                "skill": {**skill, "createdAt": 1, "updatedAt": 1},
                "latestVersion": {"version": "1.0.0", "createdAt": 1, "changelog": ""},
                "owner": {"handle": "someone"},
                "moderation": None,
            }
            self._send(json.dumps(about).encode(), "application/json")
        elif path == "/api/v1/download":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                archive.writestr("SKILL.md", skill_text("hub-skill", "From the hub."))
            self._send(packed.getvalue(), "application/zip")
        else:
            self._send(b"{}", "application/json", 404)

    def _send(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def nanobot(tmp_path: Path) -> Iterator[Nanobot]:
    bot = Nanobot(tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    bot.env["CLAWHUB_REGISTRY"] = f"http://127.0.0.1:{server.server_port}"
    yield bot
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_skill_is_installed_from_clawhub_and_removed(nanobot: Nanobot) -> None:
    with nanobot.start("skills", "install", "clawhub:hub-skill", "--yes") as process:
        output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "hub-skill: From the hub." in output
    assert "hub-skill" in nanobot.run("skills", "list").stdout
    assert nanobot.run("skills", "remove", "hub-skill").returncode == 0
    assert list((nanobot.home / "workspace/skills").iterdir()) == []
    assert not (nanobot.home / "workspace/.clawhub").exists()
    assert not (nanobot.folder / ".config").exists()


def test_an_unknown_skill_is_an_error_of_the_client(nanobot: Nanobot) -> None:
    with nanobot.start("skills", "install", "clawhub:nothing-here", "--yes") as process:
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "could not install nothing-here" in errors
