"""The system calls that no command in a sandbox needs, as a filter for the kernel (seccomp(2))."""

from __future__ import annotations

import errno
import platform
import socket
import struct

# By the name of a machine: its number (linux/audit.h); clone, socket; and what is refused: add_key,
# request_key, keyctl (keys of the owner's session), bpf, userfaultfd, perf_event_open, unshare, setns.
_MACHINES = {
    "x86_64": (0xC000003E, 56, 41, (248, 249, 250, 321, 323, 298, 272, 308)),
    "aarch64": (0xC00000B7, 220, 198, (217, 218, 219, 280, 282, 241, 97, 268)),
}
_IO_URING = (425, 426, 427)  # does what others may not, unseen by filters
_CLONE3 = 435  # its flags cannot be seen: programs take clone instead
_NEW_USER = 0x10000000
_X32 = 0x40000000  # another set of numbers on x86_64
_LOAD, _EQUAL, _AT_LEAST, _ANY, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _MACHINE, _ARGUMENT = 0, 4, 16  # where they are in struct seccomp_data
_ALLOW = (_RETURN, 0, 0, 0x7FFF0000)
_REFUSE, _UNKNOWN = ((_RETURN, 0, 0, 0x50000 | code) for code in (errno.EPERM, errno.ENOSYS))


def system_call_filter(*, services: bool, network: bool) -> bytes:
    """The program; empty for machines it is not known for.

    Without `services` there are no sockets of the machine's own ones (of a desktop, of Docker), and without
    `network` none at all; pairs of sockets within a program stay.
    """
    if platform.machine() not in _MACHINES:
        return b""
    machine, clone, any_socket, refused = _MACHINES[platform.machine()]
    code = [(_LOAD, 0, 0, _MACHINE), (_EQUAL, 1, 0, machine), _REFUSE]
    code += [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), _REFUSE, (_EQUAL, 0, 1, _CLONE3), _UNKNOWN]
    for number in (*refused, *_IO_URING):
        code += [(_EQUAL, 0, 1, number), _REFUSE]
    code += [(_EQUAL, 0, 4, clone), (_LOAD, 0, 0, _ARGUMENT), (_ANY, 0, 1, _NEW_USER), _REFUSE, _ALLOW]
    if not services:
        families = (socket.AF_INET, socket.AF_INET6, 16) if network else ()  # 16: AF_NETLINK, for names
        code += [(_EQUAL, 1, 0, any_socket), _ALLOW, (_LOAD, 0, 0, _ARGUMENT)]
        for family in families:
            code += [(_EQUAL, 0, 1, int(family)), _ALLOW]
        code.append(_REFUSE)
    return b"".join(struct.pack("HBBI", *step) for step in [*code, _ALLOW])
