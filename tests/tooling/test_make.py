"""The Makefile and scripts/chat.sh, with a stand-in for the assistant behind them."""

import re
import shutil
import subprocess
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).resolve().parents[2]

ASSISTANT = """#!/usr/bin/env python3
import signal, sys
print(sys.argv[1:])
if "agent" in sys.argv and not any(word.startswith("--message") for word in sys.argv):
    count = iter(range(1, 10))
    signal.signal(signal.SIGINT, lambda *_: print("interrupt", next(count), flush=True))
    while (line := input("? ")) != "exit":
        print("you said", line)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose environment is ready and whose assistant prints its arguments."""
    root = tmp_path / "check out"
    (root / "scripts").mkdir(parents=True)
    (root / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", root)
    shutil.copy(ROOT / "scripts" / "chat.sh", root / "scripts")
    for path, text in [("scripts/setup.sh", "#!/bin/sh\n"), (".venv/bin/python", ASSISTANT)]:
        (root / path).write_text(text)
        (root / path).chmod(0o755)
    return root


def make(root: Path, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "NANOBOT_HOME": str(home)}
    return subprocess.run(
        ["make", *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def test_make_lists_every_command_it_has(checkout: Path, tmp_path: Path) -> None:
    listed = re.findall(r"^make (\w+)", make(checkout, home=tmp_path).stdout, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert sorted(listed) == sorted(set(phony[1].split()) - {"dev"})


@pytest.mark.parametrize(
    "message",
    [
        "Hello, who are you?",
        "it's \"quoted\" and 'quoted'",
        "$HOME $$ $(shell echo make) ${PATH} `id` $(id)",
        "--help",
        "back\\slash # hash; rm -rf * & | > < \\n",
        "grüße 日本語 🙂",
        "two\nlines",
    ],
)
def test_message_arrives_as_it_was_typed(checkout: Path, tmp_path: Path, message: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    done = make(checkout, "chat", f"MSG={message}", home=tmp_path)
    wanted = ["-m", "nanobot", "agent", "--model", "local/smollm2-135m", f"--message={message}"]
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{wanted}\n", "")


def test_a_model_that_was_set_up_is_used_and_nothing_else_is_printed(checkout: Path, tmp_path: Path) -> None:
    first = make(checkout, "chat", "MSG=hi", home=tmp_path)
    (tmp_path / "config.json").write_text('{"agents": {"defaults": {"model": "groq/x"}}}')
    later = make(checkout, "chat", "MSG=hi", home=tmp_path)
    local, own = ["--model", "local/smollm2-135m"], list[str]()
    for done, model in ((first, local), (later, own)):
        assert (done.stdout, done.stderr) == (f"{['-m', 'nanobot', 'agent', *model, '--message=hi']}\n", "")


def test_interrupts_reach_the_assistant_and_make_outlives_them(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    environment = {"PATH": "/usr/bin:/bin", "NANOBOT_HOME": str(tmp_path), "TERM": "dumb"}
    child = pexpect.spawn("make", ["chat"], cwd=str(checkout), env=environment, encoding="utf-8", timeout=20)
    child.expect_exact("? ")
    for count in (1, 2, 3):
        child.sendintr()
        child.expect_exact(f"interrupt {count}")
    child.sendline("still here")
    child.expect_exact("you said still here")
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, child.signalstatus) == (0, None)
