"""Proxies as the environment names them, and addresses without what is secret in them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nanobot.errors import UsageError

if TYPE_CHECKING:
    import httpx2

_HOST = r"(\[[0-9a-fA-F:.%]+\]|[\w.-]+)(:\d*)?"
_WITH_PORT = r"(\[[^]]*\]|[^:]*):(\d+)"


@dataclass(frozen=True)
class Proxy:
    """A proxy with its password, and the variable that names it; as text without the password."""

    url: str = field(repr=False)
    variable: str

    def __str__(self) -> str:
        return f"{without_secrets(self.url)} (from {self.variable})"


def proxy_for(url: str, env: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy on the way to `url`, by https_proxy, all_proxy and no_proxy in small or capital letters."""
    try:
        target = urlsplit(url)
        host, port = target.hostname or "", target.port or {"http": 80}.get(target.scheme, 443)
    except ValueError:  # whoever opens it says so
        return None
    variable, proxy = _first(env, target.scheme, "all")
    if not proxy or _is_spared(host.rstrip("."), port, _first(env, "no")[1]):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    # GNOME writes socks:// for SOCKS 5.
    return Proxy(re.sub("^socks://", "socks5h://", proxy, flags=re.IGNORECASE), variable)


def open_transport(proxy: Proxy | None, **options: Any) -> httpx2.AsyncHTTPTransport:
    """HTTP by way of `proxy`, if there is one. Raises UsageError saying what to do about it."""
    import httpx2

    try:
        return httpx2.AsyncHTTPTransport(proxy=proxy.url if proxy else None, **options)
    except ImportError:
        raise UsageError(f"the proxy {proxy} needs a package: pip install socksio") from None
    except (ValueError, httpx2.InvalidURL):
        form = "write http://HOST:PORT or socks5://HOST:PORT"
        raise UsageError(f"the proxy that the environment names, {proxy}, cannot be used: {form}") from None


def _first(env: Mapping[str, str], *kinds: str) -> tuple[str, str]:
    """The first of these variables that says something, and what."""
    names = [spelled for kind in kinds for spelled in (f"{kind}_proxy", f"{kind}_proxy".upper())]
    return next(((name, value) for name in names if (value := env.get(name, "").strip())), ("", ""))


def _is_spared(host: str, port: int, spared: str) -> bool:
    """Whether `no_proxy` names the host: itself, its domain, its network or `*`, with or without port."""
    for entry in re.split(r"[,\s]+", spared.lower()):
        with_port = re.fullmatch(_WITH_PORT, entry)
        name, wanted = with_port.groups() if with_port else (entry, "")
        if not name or (wanted and int(wanted) != port):
            continue
        if name in ("*", host) or f".{host}".endswith(f".{name.removeprefix('*').removeprefix('.')}"):
            return True
        with suppress(ValueError):
            if ip_address(host) in ip_network(name.strip("[]"), strict=False):
                return True
    return False


def without_secrets(url: str) -> str:
    """`url` without user, password, query and fragment; what is no address is not shown."""
    scheme, slashes, rest = url.partition("://") if "://" in url[:12] else ("", "", url)
    place = re.split("[?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return scheme + slashes + (place if not rest or re.fullmatch(_HOST, place.partition("/")[0]) else "***")
