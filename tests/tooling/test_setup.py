"""scripts/setup.sh for real, offline: a small checkout with one locked package, installed from a folder."""

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(180)  # a machine may be slow at creating environments

BACKEND = """
import zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "tiny"
version = "1.0"
"""


def make_wheel(folder: Path, version: str) -> str:
    """Put a package `lemon` into `folder`; returns its locked requirement."""
    path = folder / f"lemon-{version}-py3-none-any.whl"
    info = f"lemon-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("lemon.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: lemon\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return f"lemon=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


class Checkout:
    """A folder with our scripts, whose name has a space, and the packages it locks."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "check out"
        self.packages = folder / "packages"
        self.packages.mkdir(parents=True)
        (self.root / "requirements").mkdir(parents=True)
        shutil.copytree(ROOT / "scripts", self.root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        (self.root / "backend.py").write_text(BACKEND)
        (self.root / "pyproject.toml").write_text(PYPROJECT)
        (self.root / "nanobot").mkdir()
        self.lock("1.0")

    def lock(self, version: str) -> None:
        requirement = make_wheel(self.packages, version)
        for name in ("chat.txt", "dev.txt", "model.txt"):
            (self.root / "requirements" / name).write_text(requirement)

    def start(self, profile: str = "chat", **variables: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": "/usr/bin:/bin",  # no uv: its cache is not ours to fill
            "PYTHON": sys.executable,
            "HOME": str(self.packages),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": self.packages.as_uri(),
            **variables,
        }
        command = [str(self.root / "scripts" / "setup.sh"), profile]
        return subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def set_up(self, profile: str = "chat", **variables: str) -> tuple[int, str]:
        """(exit code, what it said)."""
        with self.start(profile, **variables) as process:
            _, said = process.communicate()
        return process.returncode, said

    def stamp(self) -> dict[str, str]:
        text = (self.root / ".venv" / "nanobot-setup.json").read_text()
        stamp: dict[str, str] = json.loads(text)
        return stamp

    def lemon(self) -> str:
        """The version of the package that the environment has."""
        python = self.root / ".venv" / "bin" / "python"
        done = subprocess.run(
            [python, "-c", "import tiny, lemon; print(lemon.VERSION)"],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_installs_once_then_updates_in_place_and_explains_a_missing_network(checkout: Checkout) -> None:
    code, said = checkout.set_up()
    assert (code, checkout.lemon()) == (0, "1.0")
    assert said.splitlines()[0] == "Creating .venv with pip ..."

    assert checkout.set_up() == (0, "")

    checkout.lock("2.0")
    code, said = checkout.set_up("dev")
    assert (code, checkout.lemon()) == (0, "2.0")
    assert "Creating" not in said
    assert checkout.set_up("chat") == (0, "")  # dev has all that chat needs

    checkout.lock("3.0")
    nowhere = {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "PIP_RETRIES": "1"}
    code, said = checkout.set_up(PIP_INDEX_URL="http://owner:s3cret@127.0.0.1:9/simple", **nowhere)
    assert code == 1
    assert said.splitlines()[-1].startswith("The package index cannot be reached. Check the network")
    assert "s3cret" not in said


def test_killed_while_installing_then_started_twice_at_once(checkout: Checkout) -> None:
    with checkout.start() as process:
        assert process.stderr is not None
        while "Installing packages" not in process.stderr.readline():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
    assert checkout.stamp()["state"] == "building"

    both = checkout.start(), checkout.start()
    said = "".join(process.communicate()[1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said.count("The last set-up was interrupted: starting again.") == 1
    assert said.count("Creating .venv with pip ...") == 1
    assert (checkout.lemon(), checkout.stamp()["state"]) == ("1.0", "ready")
    assert [path.name for path in checkout.root.glob(".venv*")] == [".venv"]


def test_what_changed_is_compiled_each_time(checkout: Checkout) -> None:
    source = checkout.root / "nanobot" / "app.py"
    source.write_text("ANSWER = 1\n")
    (checkout.root / "nanobot" / "broken.py").write_text("ANSWER =\n")
    assert checkout.set_up(PYTHONDONTWRITEBYTECODE="1")[0] == 0
    compiled = Path(importlib.util.cache_from_source(str(source)))
    before = compiled.read_bytes()

    source.write_text("ANSWER = 1234\n")
    assert checkout.set_up(PYTHONDONTWRITEBYTECODE="1") == (0, "")
    assert compiled.read_bytes() != before


def test_unknown_profile(checkout: Checkout) -> None:
    assert checkout.set_up("everything") == (2, "usage: scripts/setup.sh chat|dev\n")


def test_no_python_that_is_new_enough(checkout: Checkout, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "cat"):
        (tools / name).symlink_to(shutil.which(name) or "")
    old = tools / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    code, said = checkout.set_up(PATH=str(tools), PYTHON="")
    assert code == 1
    assert "needs Python 3.11 or later" in said
    assert "Python 3.9.2" in said
    assert "apt install python3" in said
