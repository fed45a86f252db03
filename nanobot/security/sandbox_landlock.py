"""A program that confines itself with Landlock (landlock(7), Linux 6.2), and becomes the one it is told to.

Given as text to a bare interpreter (`python -I -S -c`), so it imports nothing of nanobot. Arguments: what may
be reached, as JSON, and the command. A rule is good for all below a folder, so what is closed there is left
out by giving the entries around it instead of the folder: no new ones can be made in it.
"""

import ctypes
import json
import os
import resource
import stat
import struct
import sys
from collections.abc import Iterator

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # system calls, the same on all machines
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _DEVICE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_ANY_FS = (1 << 15) - 1  # up to ABI 3
_MAKE_DEVICE = 1 << 6 | 1 << 11
_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ANY_TCP = 3
_SCOPES = 3  # sockets without a name in the file system, and signals
_SECCOMP, _CAPABILITY_DROP, _NO_NEW_PRIVILEGES = 22, 24, 38  # prctl(2)


def become(asked: str, command: list[str]) -> None:
    """Never returns."""
    try:
        confine(json.loads(asked))
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"The command cannot be started in the sandbox: {error}\n")
    os._exit(127)


def confine(asked: dict) -> None:  # type: ignore[type-arg]
    """From here on only `read` and `write` are reached, nothing that is `closed`, and TCP with `network`."""
    abi = call(_CREATE, None, 0, 1)
    if abi < 3:
        raise OSError(f"Landlock of this kernel is too old (ABI {abi})")
    any_fs = _ANY_FS | (_DEVICE if abi >= 5 else 0)
    tcp = 0 if asked["network"] else _ANY_TCP
    attributes = struct.pack("QQQ", any_fs, tcp, _SCOPES)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    rules = call(_CREATE, attributes, len(attributes), 0)
    closed, write = asked["closed"], any_fs & ~_MAKE_DEVICE
    for names, rights, beside in (
        (asked["read"], _READ, closed),
        (asked["write"], _READ, closed),
        (asked["write"], write, closed + asked["fixed"]),
    ):
        for name in names:
            for path in around(os.path.realpath(name), beside):
                allow(rules, path, rights)
    libc = ctypes.CDLL(None)
    for number in range(64):  # for root: what is started has none of its powers
        libc.prctl(_CAPABILITY_DROP, number, 0, 0, 0)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    call(_RESTRICT, rules, 0)
    os.close(rules)
    if code := bytes.fromhex(asked["filter"]):
        steps = ctypes.create_string_buffer(code)
        program = ctypes.create_string_buffer(struct.pack("HP", len(code) // 8, ctypes.addressof(steps)))
        if libc.prctl(_SECCOMP, 2, program, 0, 0):
            raise OSError("seccomp does not work")


def allow(rules: int, path: str, rights: int) -> None:
    """Allow it for a file, or for a folder and all below it."""
    try:
        file = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:  # is not there, or may not be opened anyway
        return
    rights &= -1 if stat.S_ISDIR(os.fstat(file).st_mode) else _FILE
    call(_ADD_RULE, rules, 1, struct.pack("=Qi", rights, file), 0)
    os.close(file)


def around(path: str, closed: list[str]) -> Iterator[str]:
    """The path, or what is in it beside what is closed."""
    if path in closed:
        return
    if not any(other.startswith(f"{path}/") for other in closed):
        yield path
        return
    try:
        entries = [entry.path for entry in os.scandir(path) if not entry.is_symlink()]  # its target counts
    except OSError:
        return
    for entry in entries:
        yield from around(entry, closed)


def call(number: int, *arguments: object) -> int:
    """A system call. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    told = [ctypes.c_long(it) if isinstance(it, int) else it for it in arguments]
    if (result := libc.syscall(ctypes.c_long(number), *told)) < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return int(result)


if __name__ == "__main__":
    become(sys.argv[1], sys.argv[2:])
