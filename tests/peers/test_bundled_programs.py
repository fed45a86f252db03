"""The commands of the bundled skills tmux and clawhub, run with the real programs."""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nanobot.skills.library import SkillLibrary

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]

TEXTS = SkillLibrary(Path("/nowhere"))


def blocks(name: str) -> list[str]:
    """The shell blocks of a skill, in order."""
    return re.findall(r"```bash\n(.*?)```", TEXTS.text(name), re.DOTALL)


def shell(command: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run as the exec tool does: no terminal, no input."""
    own = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMUX_TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        **env,
    }
    return subprocess.run(
        ["/bin/bash", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=own,
        timeout=240,
        check=False,
    )


def test_tmux_a_program_is_started_typed_into_read_and_ended(tmp_path: Path) -> None:
    start, type_, read, wait, end = blocks("tmux")
    started = shell(start, tmp_path)
    assert started.returncode == 0, started.stderr
    try:
        typed = shell(type_, tmp_path)
        assert typed.returncode == 0, typed.stderr
        assert shell(f"{wait}\ntrue", tmp_path).returncode == 0
        seen = shell(read, tmp_path).stdout
        assert ">>> print(6 * 7)\n42" in seen
    finally:
        ended = shell(end, tmp_path)
    assert ended.stdout.startswith("py: 1 windows")
    assert shell("tmux -L nanobot has-session -t py", tmp_path).returncode != 0


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers what searching, exploring and inspecting ask for."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        version = {"version": "1.0.0", "createdAt": 1, "changelog": ""}
        skill = {
            "slug": "calendar",
            "displayName": "Calendar",
            "tags": {},
            "stats": {},
            "createdAt": 1,
            "updatedAt": 1,
        }
        about = {"skill": skill, "latestVersion": version, "owner": {"handle": "me"}, "moderation": None}
        files = [{"path": "SKILL.md", "size": 5, "sha256": "0" * 64, "contentType": "text/markdown"}]
        answers = {
            "/api/v1/search": {"results": [{"slug": "calendar", "displayName": "Calendar", "score": 0.9}]},
            "/api/v1/skills": {"items": [{**skill, "latestVersion": version}], "nextCursor": None},
            "/api/v1/skills/calendar": about,
            "/api/v1/skills/calendar/versions/1.0.0": {
                "version": {**version, "files": files},
                "skill": skill,
            },
        }
        text = path.endswith("/file")
        body = b"Hello" if text else json.dumps(answers.get(path, {})).encode()
        self.send_response(200 if text or path in answers else 404)
        self.send_header("Content-Type", "text/markdown" if text else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_clawhub_every_command_is_one_of_the_client_s(tmp_path: Path, hub: str) -> None:
    (lines,) = blocks("clawhub")
    commands = [line.replace("SLUG", "calendar") for line in lines.splitlines()]
    assert len(commands) == 4
    env = {"CLAWHUB_REGISTRY": hub, "npm_config_cache": str(tmp_path / "cache")}
    outputs = {shlex.split(line)[4]: shell(line, tmp_path, **env) for line in commands}
    for name, done in outputs.items():
        assert done.returncode == 0, (name, done.stdout, done.stderr)
    assert "calendar" in outputs["search"].stdout
    assert "calendar" in outputs["explore"].stdout
    assert "Hello" in outputs["inspect"].stdout
