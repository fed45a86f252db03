"""What the benchmarks are made of: a model server, a minimal client, a home full of conversations."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def base_url() -> Iterator[str]:
    command = [sys.executable, str(BENCHMARKS / "model_server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


def test_the_minimal_client_prints_the_reply(base_url: str) -> None:
    command = [sys.executable, str(BENCHMARKS / "minimal_client.py"), base_url, "What is the answer?"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("The answer to your question is forty-two,")


def test_the_server_asks_for_so_many_files_and_then_answers(base_url: str) -> None:
    messages: list[dict[str, str]] = [{"role": "user", "content": "CALLS=2"}]
    replies = []
    for _ in range(3):
        body = {"stream": True, "messages": messages}
        replies.append(httpx2.post(f"{base_url}/chat/completions", json=body).text)
        messages.append({"role": "tool", "content": "lemons"})
    assert ["read_file" in reply for reply in replies] == [True, True, False]
    assert ["note-0.txt" in replies[0], "note-1.txt" in replies[1]] == [True, True]
    assert "forty-two" in replies[2]


def test_the_old_chats_of_the_gateway_benchmark_fit_the_schema(tmp_path: Path) -> None:
    fill = "import pathlib, sys, gateway as b; b.fill(pathlib.Path(sys.argv[1]), 3, 4)"
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS), "NANOBOT_HOME": str(tmp_path)}
    job = ["cron", "add", "--name", "x", "--message", "y", "--every", "60"]  # makes the database
    subprocess.run([sys.executable, "-m", "nanobot", *job], env=environment, check=True)
    subprocess.run([sys.executable, "-c", fill, str(tmp_path)], env=environment, check=True)
    database = sqlite3.connect(tmp_path / "nanobot.db")
    assert database.execute("SELECT COUNT(*), MIN(last_seq) FROM sessions").fetchone() == (3, 4)
    assert database.execute("SELECT COUNT(*) FROM messages").fetchone() == (12,)
    database.close()


BROKEN = """
import bench, sys
from figures import Figure

bench.measure = lambda *_: iter([
    Figure("cheap", 1.5, "x", 2), Figure("shown", 7), Figure("missing", None, note="needs strace"),
    Figure("dear", 2.5, "MB", 2),
])
sys.exit(bench.main())
"""


@pytest.mark.parametrize(("options", "code"), [([], 1), (["--no-fail"], 0)])
def test_a_broken_promise_is_told_and_fails(options: list[str], code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    command = [sys.executable, "-c", BROKEN, *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:]}
    assert rows == {
        "cheap": ["1.50", "x", "2", "x", "kept"],
        "shown": ["7.00"],
        "missing": ["-", "skipped", "needs", "strace"],
        "dear": ["2.50", "MB", "2", "MB", "BROKEN"],
    }
    assert "Broken: dear." in done.stderr


def test_the_bare_turn_answers_every_chat(base_url: str, tmp_path: Path) -> None:
    script = [
        sys.executable,
        str(BENCHMARKS / "bare_turns.py"),
        base_url,
        "3",
        "2",
        str(tmp_path / "bare.db"),
    ]
    printed = json.loads(subprocess.run(script, capture_output=True, check=True).stdout)
    assert printed["cpu"] > 0
    database = sqlite3.connect(tmp_path / "bare.db")
    assert database.execute("SELECT COUNT(*), SUM(sent) FROM outbox").fetchone() == (6, 6)
    assert database.execute("SELECT text FROM outbox").fetchone()[0].startswith("The answer to your question")
    database.close()


def test_a_plain_install_is_counted_without_the_extras() -> None:
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    found = "import install; s = set(); install.needed('nanobot-ai', (), s); print(*s)"
    command = [sys.executable, "-c", found]
    names = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"mcp[]", "httpx2[]", "starlette[]"} <= set(names)
    assert not {"pytest[]", "python-telegram-bot[socks]", "discord-py[]"} & set(names)
