"""`nanobot skills` as its owner uses it: real processes, a loopback web server, a stand-in for npx."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Nanobot
from tests.skills.folders import skill_text, write_skill
from tests.tools.loopback import Answer, http_server, reply


@pytest.fixture
def skills(nanobot: Nanobot) -> Path:
    return nanobot.home / "workspace/skills"


@contextmanager
def serving(answer: Answer) -> Iterator[int]:
    """A loopback server in a thread of its own; yields its port."""
    ready: threading.Event = threading.Event()
    found: list[int] = []
    over = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with http_server(answer) as port:
            found.append(port)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def pages(**bodies: str | bytes) -> Answer:
    """Serves each body under its name; the rest is not found."""

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        body = bodies.get(head.split(" ")[1].lstrip("/"))
        data = body.encode() if isinstance(body, str) else body
        writer.write(reply(data) if data is not None else reply(status="404 Not Found"))

    return answer


def allow(nanobot: Nanobot, *targets: str) -> None:
    nanobot.home.mkdir()
    (nanobot.home / "config.json").write_text(json.dumps({"tools": {"web": {"allowPrivate": targets}}}))


def test_a_fresh_home_lists_the_bundled_skills(nanobot: Nanobot) -> None:
    done = nanobot.run("skills", "list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["NAME", "FROM", "STATE", "DESCRIPTION"]
    assert [line.split()[0] for line in lines[1:9]] == [
        *("clawhub", "cron", "github", "memory", "skill-creator", "summarize", "tmux", "weather")
    ]
    assert not nanobot.home.exists()


def test_the_list_says_what_is_missing_shadowed_and_wrong(nanobot: Nanobot, skills: Path) -> None:
    needs = 'metadata: {"nanobot": {"requires": {"bins": ["no-such-program"], "env": ["NO_SUCH_KEY"]}}}'
    write_skill(skills, "needy", "Needs a lot.", needs)
    write_skill(skills, "weather", "Mine.")
    write_skill(skills, "odd", "")
    (write_skill(skills, "wrong") / "SKILL.md").write_bytes(b"\xff")
    done = nanobot.run("skills", "list")
    states = {(line.split()[0], line.split()[1]): line for line in done.stdout.splitlines() if line}
    assert "needs no-such-program, $NO_SUCH_KEY" in states["needy", "workspace"]
    assert " ready " in states["weather", "workspace"]
    assert " shadowed " in states["weather", "bundled"]
    assert " skipped" in states["wrong", "workspace"]
    assert " ready " in states["odd", "workspace"]
    assert "odd: used as it is, but it has no description." in done.stdout
    assert "wrong: SKILL.md is not UTF-8 text." in done.stdout
    assert "needy: Install no-such-program so that it is on PATH." in done.stdout
    assert "needy: `export NO_SUCH_KEY=…`" in done.stdout
    by_name = {
        (item["name"], item["source"]): item
        for item in json.loads(nanobot.run("skills", "list", "--json").stdout)
    }
    needy = by_name["needy", "workspace"]
    assert (needy["available"], needy["state"]) == (False, "needs no-such-program, $NO_SUCH_KEY")
    assert [item["what"] for item in needy["missing"]] == ["no-such-program", "$NO_SUCH_KEY"]
    assert by_name["wrong", "workspace"]["fault"] == "SKILL.md is not UTF-8 text"
    assert by_name["odd", "workspace"]["odd"] == ["it has no description"]
    assert by_name["weather", "bundled"]["state"] == "shadowed"


def test_show(nanobot: Nanobot, skills: Path) -> None:
    proposes = 'metadata: {"openclaw": {"install": [{"kind": "node", "package": "greeter"}]}}'
    body = "Run `curl https://x.example` \x1b[2Jnow."
    write_skill(skills, "greet", "Says hello.", "license: MIT", proposes, body=body)
    done = nanobot.run("skills", "show", "greet")
    assert done.returncode == 0
    for text in (
        "greet: Says hello.",
        "Licence        MIT",
        "Proposes       npm install -g greeter",
        "  SKILL.md: curl https://x.example",
        "1 control char",
    ):
        assert text in done.stdout
    assert "\x1b" not in done.stdout
    shown = json.loads(nanobot.run("skills", "show", "greet", "--json").stdout)
    assert shown["contains"]["urls"] == ["https://x.example"]
    assert shown["text"].startswith("Run `curl")
    missing = nanobot.run("skills", "show", "nope")
    assert missing.returncode == 2
    assert "There are: greet, clawhub" in missing.stderr


def test_installing_asks_and_nothing_runs(nanobot: Nanobot, skills: Path) -> None:
    source = write_skill(nanobot.folder / "drafts", "greet", body=f"```sh\ntouch {nanobot.folder}/ran\n```")
    (source / "install.sh").write_text(f"#!/bin/sh\ntouch {nanobot.folder}/ran\n")
    (source / "install.sh").chmod(0o755)
    terminal = nanobot.open("skills", "install", str(source))
    terminal.wait_for(r"Install it\?")
    assert f"SKILL.md: touch {nanobot.folder}/ran" in terminal.text.replace("\n", "")
    assert "install.sh" in terminal.text
    terminal.send("v\r")
    terminal.wait_for(r"Install it\?", times=2)
    assert "#!/bin/sh" in terminal.text
    terminal.send("n\r")
    assert terminal.leave() == 1
    assert list(skills.iterdir()) == []
    terminal = nanobot.open("skills", "install", str(source))
    terminal.wait_for(r"Install it\?")
    terminal.send("y\r")
    assert terminal.leave() == 0
    assert "Installed greet" in terminal.text
    assert sorted(path.name for path in (skills / "greet").iterdir()) == ["SKILL.md", "install.sh"]
    terminal = nanobot.open("skills", "install", str(source))
    terminal.wait_for(r"Replace the skill of this name that is there\?")
    terminal.interrupt()
    assert terminal.leave() == 130
    assert [path.name for path in skills.iterdir()] == ["greet"]
    assert not (nanobot.folder / "ran").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_leaves_nothing_of_the_skill(nanobot: Nanobot, skills: Path, number: int) -> None:
    source = write_skill(nanobot.folder / "drafts", "greet")
    terminal = nanobot.open("skills", "install", str(source))
    terminal.wait_for(r"Install it\?")
    terminal.kill(number)
    assert terminal.leave() == 130
    assert list(skills.iterdir()) == []


def test_without_a_terminal_it_takes_yes(nanobot: Nanobot, skills: Path) -> None:
    source = str(write_skill(nanobot.folder / "drafts", "greet"))
    refused = nanobot.run("skills", "install", source, stdin="y\n")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert "greet: Does things." in refused.stdout
    assert list(skills.iterdir()) == []
    assert nanobot.run("skills", "install", source, "--yes").returncode == 0
    assert "greet" in nanobot.run("skills", "list").stdout


def test_a_skill_that_takes_the_place_of_a_bundled_one_says_so(nanobot: Nanobot) -> None:
    source = str(write_skill(nanobot.folder / "drafts", "weather", "Mine.", "always: true"))
    shown = nanobot.run("skills", "install", source, "--yes").stdout
    assert "Replaces       the skill of this name that came with nanobot" in shown
    assert "Always         its text is part of every prompt" in shown


def test_removing_leaves_no_instruction(nanobot: Nanobot, skills: Path) -> None:
    source = str(
        write_skill(nanobot.folder / "drafts", "greet", "Always.", "always: true", body="Say bananas.")
    )
    nanobot.run("skills", "install", source, "--yes")
    done = nanobot.run("skills", "remove", "greet")
    assert (done.returncode, done.stdout) == (0, f"Removed greet: {skills}/greet is deleted.\n")
    assert list(skills.iterdir()) == []
    bundled = nanobot.run("skills", "remove", "weather")
    assert bundled.returncode == 2
    assert "came with nanobot" in bundled.stderr


def test_removing_a_shadow_brings_the_bundled_one_back(nanobot: Nanobot, skills: Path) -> None:
    write_skill(skills, "weather", "Mine.")
    assert (
        "The bundled skill of this name is used again." in nanobot.run("skills", "remove", "weather").stdout
    )
    assert "Mine." not in nanobot.run("skills", "list").stdout


def test_from_the_web(nanobot: Nanobot, skills: Path) -> None:
    with serving(pages(**{"skill.md": skill_text("greet"), "page": "<html>"})) as port:
        allow(nanobot, f"127.0.0.1:{port}")
        done = nanobot.run("skills", "install", f"http://127.0.0.1:{port}/skill.md", "--yes")
        assert done.returncode == 0, done.stderr
        assert [path.name for path in skills.iterdir()] == ["greet"]
        page = nanobot.run("skills", "install", f"http://127.0.0.1:{port}/page", "--yes")
        assert "neither a SKILL.md" in page.stderr
        lost = nanobot.run("skills", "install", f"http://127.0.0.1:{port}/nowhere", "--yes")
        assert (lost.returncode, "status 404" in lost.stderr) == (2, True)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/s", "http://localhost:{port}/s", "file:///etc/hostname"]
)
def test_private_addresses_are_refused(nanobot: Nanobot, skills: Path, url: str) -> None:
    asked: list[str] = []

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        asked.append(head)
        writer.write(reply(skill_text("greet").encode()))

    with serving(answer) as port:
        done = nanobot.run("skills", "install", url.format(port=port), "--yes")
    assert done.returncode != 0
    assert done.stderr.count("Error:") == 1
    assert asked == []
    assert list(skills.iterdir()) == []


def test_plain_http_is_refused(nanobot: Nanobot) -> None:
    done = nanobot.run("skills", "install", "http://example.com/skill.md", "--yes")
    assert done.returncode == 2
    assert "https:// addresses only" in done.stderr


def test_from_clawhub_through_npx(nanobot: Nanobot, skills: Path) -> None:
    """A stand-in does what the real client does (the real one: tests/peers/test_clawhub.py)."""
    programs = nanobot.folder / "bin"
    programs.mkdir()
    (nanobot.folder / "the-skill").write_text(skill_text("hub-skill"))
    (programs / "npx").write_text(
        f'#!/bin/sh\necho "$@" > {nanobot.folder}/called\nenv > {nanobot.folder}/seen\n'
        'test "$9" = hub-skill || { echo "not found" >&2; exit 1; }\n'
        f'mkdir -p "$5/skills/$9/.clawhub" && cp {nanobot.folder}/the-skill "$5/skills/$9/SKILL.md"\n'
        'echo {} > "$5/skills/$9/.clawhub/origin.json"; echo downloaded\n'
    )
    (programs / "npx").chmod(0o755)
    env = {"PATH": f"{programs}:/usr/bin:/bin", "OPENAI_API_KEY": "sk-secret"}
    done = nanobot.run("skills", "install", "clawhub:hub-skill", "--yes", env=env)
    assert done.returncode == 0, done.stderr
    assert "downloaded" in done.stderr
    assert [path.name for path in (skills / "hub-skill").iterdir()] == ["SKILL.md"]
    called = (nanobot.folder / "called").read_text().split()
    assert called[:4] == ["--yes", "clawhub@latest", "--no-input", "--workdir"]
    assert called[5:] == ["--dir", "skills", "install", "hub-skill"]
    assert not Path(called[4]).exists()
    assert "sk-secret" not in (nanobot.folder / "seen").read_text()
    failed = nanobot.run("skills", "install", "clawhub:other", "--yes", env=env)
    assert (failed.returncode, "could not install other" in failed.stderr) == (1, True)


@pytest.mark.parametrize("slug", ["", "../evil", "--registry=https://evil.example", "a b", "a;b", "@x/../y"])
def test_odd_slugs_are_refused(nanobot: Nanobot, slug: str) -> None:
    done = nanobot.run("skills", "install", f"clawhub:{slug}", "--yes")
    assert done.returncode == 2
    assert "no name of a skill on ClawHub" in done.stderr


def test_without_npx_it_says_what_to_install(nanobot: Nanobot) -> None:
    done: subprocess.CompletedProcess[str] = nanobot.run(
        "skills", "install", "clawhub:hub-skill", "--yes", env={"PATH": str(nanobot.folder)}
    )
    assert done.returncode == 1
    assert "Install Node.js" in done.stderr
