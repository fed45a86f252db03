"""Which addresses may be opened: public ones, and those the owner names in `tools.web.allowPrivate`.

A URL is parsed by the client's own parser and its host has to be spelled in the usual way. Names are not
resolved here: `net` does that when it connects, and asks here about every address it finds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from nanobot.errors import AccessDenied, ConfigError

if TYPE_CHECKING:
    import httpx2

# What `is_global` of the standard library takes for public on some Python patch releases or on all (IANA
# special-purpose registry), and the metadata host of Azure.
_REFUSED_V4 = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
# Only 2000::/3 is public. Inside it: protocol assignments with Teredo, documentation, 6to4. Those
# and ISATAP tunnel to an IPv4 address of the attacker's choice, and no web site lives there.
_PUBLIC_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_ISATAP_MARK = 0x5EFE
# The two wrappings of IPv4 that working networks use: mapped addresses, and NAT64 (RFC 6052).
_IPV4_INSIDE = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))

_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,254}}$){_LABEL}(?:\.{_LABEL})*\.?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")

IPAddress = IPv4Address | IPv6Address


def check_address(address: IPAddress | str, *, host: str = "") -> None:
    """Raises AccessDenied unless `address` is a public unicast internet address.

    IPv4 inside IPv6 is judged by the IPv4 address. `host` is the name it came from, for the message.
    """
    parsed = ip_address(address)
    if not _is_public(parsed):
        name = f"{host} is {parsed}, which" if host and host != str(parsed) else str(parsed)
        raise AccessDenied(
            f"{name} is not a public internet address, so it is not opened. "
            "The owner can allow a private one in tools.web.allowPrivate."
        )


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, IPv4Address):
        public = address.is_global and not address.is_multicast
        return public and not any(address in block for block in _REFUSED_V4)
    if any(address in block for block in _IPV4_INSIDE):
        return _is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return (
        address in _PUBLIC_V6
        and address.is_global
        and address.scope_id is None
        and not any(address in block for block in _REFUSED_V6)
        and (int(address) >> 32) & 0xFDFF_FFFF != _ISATAP_MARK
    )


@dataclass(frozen=True, slots=True)
class AllowedTarget:
    """One entry of `tools.web.allowPrivate`: an address, a CIDR block or a host name, `:port` optional.

    A block admits the addresses in it, whatever name they were reached by; a name admits every address
    it resolves to. Without a port, all ports.
    """

    name: str
    block: IPv4Network | IPv6Network | None
    port: int | None

    @staticmethod
    def parse(entry: str) -> AllowedTarget:
        """Raises ConfigError naming the entry."""
        target, port = entry.strip().lower(), None
        block = _as_block(target)
        head, colon, tail = target.rpartition(":")
        if block is None and colon and tail.isascii() and tail.isdigit():
            target, port = head, int(tail)
        target = target.removeprefix("[").removesuffix("]")
        block = block or _as_block(target)
        if block is None and not _HOST_NAME.fullmatch(target):
            raise ConfigError(
                f"tools.web.allowPrivate: {entry!r} is no address, CIDR block or host name. "
                'Write for example "192.168.1.0/24", "127.0.0.1:8080" or "nas.local".'
            )
        return AllowedTarget(target.rstrip("."), block, port)

    def admits(self, host: str, address: IPAddress, port: int) -> bool:
        if self.port not in (None, port):
            return False
        return address in self.block if self.block else host.rstrip(".") == self.name


def _as_block(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def check_target(host: str, address: IPAddress, port: int, allowed: Sequence[AllowedTarget] = ()) -> None:
    """`check_address`, except where the owner allowed this host, address and port."""
    if not any(target.admits(host, address, port) for target in allowed):
        check_address(address, host=host)


def check_url(url: str | httpx2.URL, allow_private: Sequence[str] = ()) -> httpx2.URL:
    """The URL as the client will use it. Raises AccessDenied for one that may not be opened at all.

    Names are not resolved here: that happens, checked, when the connection is made. Addresses must be
    written in the usual form: 127.1, 0x7f000001 or 2130706433 are refused for what they are, a disguise.
    """
    import httpx2

    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise AccessDenied(f"This is no usable URL ({error}). Write it as https://host/path.") from error
    host = parsed.raw_host.decode("ascii")
    port = url_port(parsed)
    if parsed.scheme not in ("http", "https"):
        raise AccessDenied("Only http:// and https:// URLs are opened.")
    if parsed.userinfo:
        raise AccessDenied("URLs with a user name or password are not opened. Leave out the part before @.")
    if not 0 < port < 65536:
        raise AccessDenied(f"Port {port} does not exist.")
    try:
        address = ip_address(host)
    except ValueError:
        _check_name(host)
    else:
        check_target(host, address, port, [AllowedTarget.parse(entry) for entry in allow_private])
    return parsed


def url_port(url: httpx2.URL) -> int:
    return url.port if url.port is not None else {"http": 80}.get(url.scheme, 443)


def _check_name(host: str) -> None:
    if not _HOST_NAME.fullmatch(host):
        raise AccessDenied("The URL has no valid host name. Write it as https://host/path.")
    if _NUMERIC_LABEL.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise AccessDenied(f"{host} is an address in an unusual spelling. Write it as four decimal numbers.")
