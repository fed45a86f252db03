"""Where skills come from: folders, files, archives, web addresses, ClawHub. Copied and checked, never run."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from nanobot.errors import NanobotError, UsageError
from nanobot.security.process import run_program
from nanobot.skills.skill import SKILL_FILE

MAX_FILES = 300
MAX_BYTES = 20_000_000  # of a whole skill, unpacked
DOWNLOAD_SECONDS = 60.0
CLAWHUB_SECONDS = 180

_CLAWHUB = ("--yes", "clawhub@latest", "--no-input")
_SLUG = re.compile(r"(?:@[a-z0-9][\w.-]*/)?[a-z0-9][\w.-]*", re.IGNORECASE)
_TOO_LARGE = f"It is larger than {MAX_BYTES // 1_000_000} MB, which no skill needs; it is not installed."
_IGNORED = {".git", "__pycache__", ".DS_Store", "node_modules", "__MACOSX", ".clawhub", ".clawdhub"}
_GITHUB_PAGE = re.compile(r"https://github\.com/([^/]+/[^/]+)/(?:blob|raw)/(.+)")

Entry = tuple[str, bool, Callable[[int], bytes]]  # name, executable, read at most so many bytes


def fetch(source: str, into: Path, allow_private: Sequence[str] = ()) -> Path:
    """Bring `source` below `into`, which is created; returns the folder that holds its SKILL.md.

    Raises NanobotError saying what is wrong with it.
    """
    import tarfile
    import zipfile
    import zlib
    from lzma import LZMAError

    into.mkdir(parents=True)
    path = Path(source).expanduser()
    try:
        if source.startswith("clawhub:"):
            _from_clawhub(source.removeprefix("clawhub:"), into)
        elif re.match(r"[a-z]+://", source, re.IGNORECASE):
            _from_bytes(asyncio.run(_download(source, allow_private)), into)
        elif path.is_dir():
            _store(_in_folder(path), into)
        elif path.is_file():
            with path.open("rb") as file:
                _from_bytes(file.read(MAX_BYTES + 1), into)
        else:
            raise UsageError(
                f"There is no file or folder {source}. It may also be an https:// address, or clawhub:SLUG."
            )
        return _skill_folder(into)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, RuntimeError) as error:
        raise UsageError(f"The archive cannot be read ({error}): it is damaged or locked.") from error
    except OSError as error:
        reason = f"{error.filename or source}: {error.strerror or error}"
        raise UsageError(f"It cannot be copied: {reason}.") from error


def _skill_folder(root: Path) -> Path:
    """The one folder with a SKILL.md at or below `root`, which may be spelled skill.md."""
    files = [path for path in root.rglob("*") if path.name.upper() == "SKILL.MD" and path.is_file()]
    top = min((len(path.parts) for path in files), default=0)
    found = [path for path in files if len(path.parts) == top]
    if not found:
        raise UsageError(f"No {SKILL_FILE} is in there, so it is no skill.")
    if len(found) > 1:
        names = ", ".join(sorted(path.parent.relative_to(root).as_posix() for path in found)[:20])
        raise UsageError(f"There are several skills in it ({names}). Install the folder of one of them.")
    return found[0].replace(found[0].with_name(SKILL_FILE)).parent


def _store(entries: Iterable[Entry], into: Path) -> None:
    """Write entries below `into`, within the limits. Raises UsageError for names that lead elsewhere."""
    room = MAX_BYTES
    for count, (name, executable, read) in enumerate(entries, start=1):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not name.isprintable():
            raise UsageError(f"It holds a file with the dangerous name {name[:100]!r}; it is not installed.")
        if count > MAX_FILES:
            raise UsageError(f"It has more than {MAX_FILES} files; it is not installed.")
        if _IGNORED.intersection(path.parts):
            continue
        data = read(room + 1)
        room -= len(data)
        if room < 0:
            raise UsageError(_TOO_LARGE)
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:  # a name that comes twice is refused
            file.write(data)
        target.chmod(0o755 if executable else 0o644)


def _in_folder(root: Path) -> Iterator[Entry]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - _IGNORED)
        for name in sorted([*names, *(name for name in subfolders if (Path(folder) / name).is_symlink())]):
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode):
                raise UsageError(f"{path} is a link or no regular file; skills hold plain files only.")
            with path.open("rb") as file:
                yield path.relative_to(root).as_posix(), bool(mode & 0o111), file.read


def _from_bytes(data: bytes, into: Path) -> None:
    """An archive, known by its first bytes, or the text of a SKILL.md."""
    import bz2
    import gzip
    import lzma

    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
    opener = next((opener for magic, opener in openers.items() if data.startswith(magic)), None)
    if opener:  # with a bound, as a few bytes can unpack to anything
        with opener(io.BytesIO(data)) as file:
            data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UsageError(_TOO_LARGE)
    if data.startswith(b"PK\x03\x04"):
        _store(_in_zip(data), into)
    elif data[257:262] == b"ustar":
        _store(_in_tar(data), into)
    elif data.removeprefix(b"\xef\xbb\xbf").startswith(b"---"):
        (into / SKILL_FILE).write_bytes(data)
    else:
        raise UsageError("It is neither a SKILL.md, which begins with ---, nor a .zip or .tar archive.")


def _in_zip(data: bytes) -> Iterator[Entry]:
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UsageError(f"It holds a link ({member.filename[:100]!r}); it is not installed.")
            if not member.is_dir():
                with archive.open(member) as file:
                    yield member.filename, bool(mode & 0o111), file.read


def _in_tar(data: bytes) -> Iterator[Entry]:
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            if not (member.isfile() or member.isdir()):
                raise UsageError(f"It holds a link ({member.name[:100]!r}); it is not installed.")
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, bool(member.mode & 0o111), file.read


async def _download(url: str, allow_private: Sequence[str]) -> bytes:
    """Skills come from https:// only, but for hosts that tools.web.allowPrivate names."""
    from nanobot.security.addresses import AllowedTarget, check_url
    from nanobot.security.net import download

    def check(url: str) -> None:
        parsed, allowed = check_url(url, allow_private), map(AllowedTarget.parse, allow_private)
        if parsed.scheme != "https" and parsed.host not in [target.name for target in allowed]:
            raise UsageError(
                "Skills come from https:// addresses only: anyone on the way can change the others."
            )

    page = _GITHUB_PAGE.fullmatch(url)
    url = f"https://raw.githubusercontent.com/{page[1]}/{page[2]}" if page else url
    check(url)
    found = await download(url, max_bytes=MAX_BYTES, timeout=DOWNLOAD_SECONDS, allow_private=allow_private)
    check(found.url)  # it may have led elsewhere
    if found.status != 200 or found.body is None or found.cut:
        reason = "gave too much" if found.cut else f"answered with status {found.status}"
        raise UsageError(f"The address {reason}. Open it in a browser to see what is there.")
    return found.body


def _from_clawhub(slug: str, into: Path) -> None:
    """Let ClawHub's own client download into `into`; it shows its progress on stderr."""
    if not _SLUG.fullmatch(slug):
        raise UsageError(f"{slug!r} is no name of a skill on ClawHub. Write clawhub:SLUG, as it shows it.")
    npx = shutil.which("npx")
    if npx is None:
        raise NanobotError("ClawHub's client needs npx, which is not on PATH. Install Node.js 22 or later.")
    with TemporaryDirectory(prefix="nanobot-clawhub-") as scratch:
        own = {"CLAWHUB_CONFIG_PATH": f"{scratch}/config.json", "CLAWHUB_DISABLE_TELEMETRY": "1"}
        try:
            code = run_program(
                [npx, *_CLAWHUB, "--workdir", scratch, "--dir", "skills", "install", slug],
                folder=Path(scratch),  # which is empty: npx would use what it finds where it is started
                inherited=("CLAWHUB_REGISTRY", "CLAWHUB_SITE"),
                variables=own | {"npm_config_loglevel": "error"},
                seconds=CLAWHUB_SECONDS,
            )
        except OSError as error:  # TimeoutError is one
            raise NanobotError(f"ClawHub's client did not finish: {error}.") from error
        if code != 0:
            raise NanobotError(f"ClawHub's client could not install {slug}; it says why above.")
        _store(_in_folder(Path(scratch) / "skills"), into)
