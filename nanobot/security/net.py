"""The URL guard: everything nanobot opens on behalf of a model, a page or a stranger goes through here.

A URL is parsed by the client's own parser, its host is resolved once, every address it resolves to
must be public, and the connection goes to an address that was checked, on each redirect anew.
Proxies from the environment are not used, because behind a proxy nobody can say which address is
finally connected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanobot.errors import ToolError
from nanobot.security.addresses import check_url

if TYPE_CHECKING:
    import httpx2

    from nanobot.security.net_transport import Dialer, Resolve

MAX_REDIRECTS = 5
USER_AGENT = "Mozilla/5.0 (compatible; nanobot)"


def guarded_client(
    *,
    allow_private: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    resolve: Resolve | None = None,
    dial: Dialer | None = None,
) -> httpx2.AsyncClient:
    """An HTTP client that cannot reach a private address: not by name, by redirect or by rebinding.

    It raises AccessDenied where it refuses, and httpx2 errors otherwise. `resolve` and `dial` replace the
    system's resolver and TCP connect. At most 5 redirects, whose bodies are not read.
    """
    import httpx2

    from nanobot.security.net_transport import GuardedTransport

    return httpx2.AsyncClient(
        transport=GuardedTransport(allow_private, resolve, dial),
        # Two codings on one body would multiply: a small answer could keep the decoder busy for minutes.
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip, deflate", **(headers or {})},
        timeout=httpx2.Timeout(20, connect=10),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        trust_env=False,
    )


@dataclass(frozen=True, slots=True)
class Download:
    """What a URL gave. `body` is None when `wanted` declined it; `cut`: there was more than `max_bytes`.

    `size` is the Content-Length the server announced, in bytes, before decompression. `refresh`: its
    Refresh header.
    """

    url: str
    status: int
    content_type: str
    refresh: str
    size: int | None
    body: bytes | None
    cut: bool


async def download(
    url: str,
    *,
    max_bytes: int,
    timeout: float = 30.0,
    allow_private: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    wanted: Callable[[str], bool] | None = None,
) -> Download:
    """GET `url` through the guard: at most `max_bytes` after decompression, in `timeout` seconds altogether.

    `wanted` is asked with the Content-Type before the body is read. An HTTP error status is a result, not
    an error. Raises AccessDenied, or ToolError saying why there was no answer; messages name the host
    only, as URLs can carry secrets.
    """
    import httpx2

    target = check_url(url, allow_private)
    try:
        async with (
            asyncio.timeout(timeout),
            guarded_client(allow_private=allow_private, headers=headers) as client,
            client.stream("GET", target) as response,
        ):
            return await _read(response, max_bytes, wanted)
    except httpx2.TooManyRedirects as error:
        raise ToolError(f"{target.host} redirects more than {MAX_REDIRECTS} times.") from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        raise ToolError(
            f"{target.host} did not deliver in time. Try again later or another source."
        ) from error
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise ToolError(f"Cannot open {target.host}: {reason.rstrip('.')}.") from error


async def _read(response: httpx2.Response, max_bytes: int, wanted: Callable[[str], bool] | None) -> Download:
    content_type = response.headers.get("content-type", "")
    announced = response.headers.get("content-length", "")
    body: bytes | None = None
    cut = False
    if wanted is None or wanted(content_type):
        if "," in response.headers.get("content-encoding", ""):
            raise ToolError(f"{response.url.host} compresses its answer more than once; it is not read.")
        parts, room = [], max_bytes
        async for part in response.aiter_bytes():  # decoded in small steps
            parts.append(part[:room])
            room -= len(part)
            if cut := room < 0:
                break
        body = b"".join(parts)
    return Download(
        url=str(response.url),
        status=response.status_code,
        content_type=content_type,
        refresh=response.headers.get("refresh", ""),
        size=int(announced) if announced.isascii() and announced.isdigit() else None,
        body=body,
        cut=cut,
    )
