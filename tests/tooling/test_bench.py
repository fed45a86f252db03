"""What the benchmarks are made of: a model server, a minimal client, a home full of conversations."""

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


def test_the_home_of_the_gateway_benchmark_fits_the_schema(tmp_path: Path) -> None:
    fill = (
        "import asyncio, pathlib, sys, gateway_bench as b; asyncio.run(b.fill(pathlib.Path(sys.argv[1]), 4))"
    )
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    subprocess.run([sys.executable, "-c", fill, str(tmp_path)], env=environment, check=True)
    database = sqlite3.connect(tmp_path / "nanobot.db")
    assert database.execute("SELECT MIN(last_seq), MIN(consolidated_seq) FROM sessions").fetchone() == (4, 4)
    assert database.execute("SELECT COUNT(*) FROM messages").fetchone() == (200,)
    database.close()
