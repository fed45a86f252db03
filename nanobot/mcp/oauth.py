"""Logins at OAuth-protected servers: in the owner's browser, kept in a file, used and renewed by the SDK."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from pydantic import AnyUrl, BaseModel

from nanobot import paths
from nanobot.errors import McpError, StorageError, UsageError

if TYPE_CHECKING:
    import httpx2

_EARLY = 30.0  # seconds before its end at which a token counts as expired
_PAGE = b"""HTTP/1.1 200 OK\r
Content-Type: text/html\r
Connection: close\r
\r
<!doctype html><title>nanobot</title><p>Done. The terminal says whether it worked."""


class BrowserSignIn:
    """A login in the owner's browser. `open_page` shows the login page; `pasted` gives the
    address the browser was sent to, for a browser on another machine."""

    def __init__(
        self, open_page: Callable[[str], Awaitable[None]], pasted: Callable[[], Awaitable[str]] | None = None
    ) -> None:
        self.open_page = open_page
        self._pasted = pasted
        self._arrived: asyncio.Queue[str] = asyncio.Queue()
        self.redirect_uri = ""

    @contextlib.asynccontextmanager
    async def listening(self, port: int, *, exact: bool = False) -> AsyncGenerator[BrowserSignIn, None]:
        """Take the browser's callback on loopback while the block runs: at `port`, or at any free one
        unless it has to be `exact`. Raises UsageError."""
        try:
            server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        except OSError as error:
            if exact:
                raise UsageError(f"Port {port} is in use. Free it, or choose one with --port.") from error
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            self.redirect_uri = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"
            yield self

    async def answer(self) -> AuthorizationCodeResult:
        """The code, from the browser or the terminal. Raises McpError when the login was refused."""
        waiting = [asyncio.ensure_future(self._arrived.get())]
        if self._pasted is not None:
            waiting.append(asyncio.ensure_future(self._pasted()))
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return _code_in(done.pop().result())
        finally:
            for task in waiting:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, LookupError, asyncio.IncompleteReadError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            writer.write(_PAGE)
            await writer.drain()
            target = request.split(" ")[1]
            if urlsplit(target).path == "/callback":
                self._arrived.put_nowait(target)
        writer.close()


def _code_in(address: str) -> AuthorizationCodeResult:
    query = parse_qs(urlsplit(address.strip()).query)
    found = {key: query[key][0] for key in ("code", "state", "iss") if key in query}
    if "code" not in found:
        reason = " ".join(query.get("error", []) + query.get("error_description", [])) or "no code came back"
        raise McpError(f"the login was refused: {reason[:200]}. Try again.")
    return AuthorizationCodeResult(**found)


class Credentials:
    """The login of one server in one private file (the SDK's TokenStorage). It is good for one URL only:
    a token must not go to another server that is configured under the same name later.

    With `sign_in` a person can log in. `new`: begin without a login, which takes the place of the stored one
    with `keep`. `client_url` is a client metadata document (SEP-991).
    """

    _provider: _SharedLogin  # who asks

    def __init__(
        self,
        name: str,
        url: str,
        sign_in: BrowserSignIn | None = None,
        *,
        client_url: str | None = None,
        new: bool = False,
    ) -> None:
        self.file = paths.home() / "credentials" / f"mcp-{paths.safe_name(name)}.json"
        self.sign_in = sign_in
        self._url = url
        self._client_url = client_url
        self._new: dict[str, Any] | None = {} if new else None

    def exist(self) -> bool:
        return "tokens" in self._read()

    def changed_at(self) -> float:
        """When the file was last written, Unix seconds; 0 without a file."""
        try:
            return self.file.stat().st_mtime
        except OSError:
            return 0.0

    def keep(self) -> None:
        """Make a new login the login. Raises StorageError."""
        paths.make_private_dir(self.file.parent)
        paths.write_atomic(self.file, json.dumps(self._new, indent=1), mode=0o600)

    def delete(self) -> bool:
        """Forget the login. Says whether there was one. Raises StorageError."""
        is_there = self.changed_at() > 0
        try:
            self.file.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"Cannot delete {self.file}: {error.strerror}.") from error
        return is_there

    def auth(self, *, expired: bool) -> OAuthClientProvider | None:
        """The SDK's OAuth for this login, if there is one or will be; `expired`: renew the token first."""
        if self.sign_in is None and not self.exist():
            return None
        redirect = self.sign_in.redirect_uri if self.sign_in else "http://127.0.0.1/callback"
        self._provider = _SharedLogin(
            self._url,
            OAuthClientMetadata(redirect_uris=[AnyUrl(redirect)], client_name="nanobot"),
            self,
            redirect_handler=self.sign_in.open_page if self.sign_in else None,
            callback_handler=self.sign_in.answer if self.sign_in else None,
            client_metadata_url=self._client_url,
        )
        self._provider.credentials, self._provider.expired = self, expired
        return self._provider

    async def get_tokens(self) -> OAuthToken | None:
        """The tokens; what renewing them takes beside, the SDK does not ask for and is given here."""
        stored, context = self._read(), self._provider.context
        context.token_expiry_time = stored.get("expires_at")
        if server := stored.get("server"):
            context.oauth_metadata = OAuthMetadata.model_validate(server)
        if resource := stored.get("resource"):
            context.protected_resource_metadata = ProtectedResourceMetadata.model_validate(resource)
        return OAuthToken.model_validate(stored["tokens"]) if "tokens" in stored else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        context = self._provider.context
        found = {"server": context.oauth_metadata, "resource": context.protected_resource_metadata}
        known = {key: _plain(data) for key, data in found.items() if data}
        ends = time.time() + tokens.expires_in - _EARLY if tokens.expires_in else None
        self._write({**known, "tokens": _plain(tokens), "expires_at": ends})

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        client = self._read().get("client")
        return OAuthClientInformationFull.model_validate(client) if client else None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._write({"client": _plain(client_info)})

    def _read(self) -> dict[str, Any]:
        if self._new is not None:
            return self._new
        try:
            stored = json.loads(self.file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return stored if isinstance(stored, dict) and stored.get("url") == self._url else {}

    def _write(self, changes: dict[str, Any]) -> None:
        stored = {**self._read(), "url": self._url, **changes}
        if self._new is None:
            paths.write_atomic(self.file, json.dumps(stored, indent=1), mode=0o600)
        else:
            self._new = stored


def _plain(data: BaseModel) -> dict[str, Any]:
    return data.model_dump(mode="json", exclude_none=True)


class _SharedLogin(OAuthClientProvider):
    """A login that other processes of nanobot use and renew, too. Their renewals are noticed: services end
    a login whose replaced refresh token is used again."""

    credentials: Credentials
    expired = False

    def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        self._initialized = self._initialized and self._read_at == self.credentials.changed_at()
        return super().async_auth_flow(request)

    async def _initialize(self) -> None:
        self._read_at = self.credentials.changed_at()
        await super()._initialize()
        if self.expired:
            self.context.token_expiry_time, self.expired = 1.0, False

    async def _handle_refresh_response(self, response: httpx2.Response) -> bool:
        renewed = await super()._handle_refresh_response(response)
        if not renewed:
            await self._initialize()  # another process may just have been faster
        return renewed
