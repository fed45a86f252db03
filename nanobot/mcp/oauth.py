"""Logins at OAuth-protected servers: the stored tokens, and the SDK's provider that uses and renews them."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import (
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from pydantic import AnyUrl, ValidationError

from nanobot import paths
from nanobot.errors import StorageError

if TYPE_CHECKING:
    import httpx2

    from nanobot.mcp.sign_in import BrowserSignIn

_EARLY = 30.0  # seconds before its end at which a token counts as expired


class Credentials:
    """The login of one server in one private file (the SDK's TokenStorage). It is good for one URL only:
    a token must not go to another server that is configured under the same name later.

    `new`: begin without a login, which takes the place of the stored one with `keep`.
    """

    def __init__(self, name: str, url: str, *, new: bool = False) -> None:
        self.file = paths.home() / "credentials" / f"mcp-{paths.safe_name(name)}.json"
        self.url = url
        self._new: dict[str, Any] | None = {} if new else None
        self.provider: OAuthClientProvider | None = None

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
        try:
            self.file.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError(f"Cannot delete {self.file}: {error.strerror}.") from error
        return True

    async def get_tokens(self) -> OAuthToken | None:
        tokens = self._read().get("tokens")
        return OAuthToken.model_validate(tokens) if tokens else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        changes: dict[str, Any] = {
            "tokens": tokens.model_dump(mode="json", exclude_none=True),
            "expires_at": time.time() + tokens.expires_in - _EARLY if tokens.expires_in else None,
        }
        if self.provider is not None:
            context = self.provider.context
            found = {"server": context.oauth_metadata, "resource": context.protected_resource_metadata}
            for key, data in found.items():
                changes |= {key: data.model_dump(mode="json", exclude_none=True)} if data else {}
        self._write(changes)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        client = self._read().get("client")
        return OAuthClientInformationFull.model_validate(client) if client else None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._write({"client": client_info.model_dump(mode="json", exclude_none=True)})

    def prepare(self, provider: OAuthClientProvider) -> None:
        """Give the provider what it needs to renew a token after a restart and does not ask for."""
        self.provider = provider
        stored = self._read()
        if server := stored.get("server"):
            provider.context.oauth_metadata = OAuthMetadata.model_validate(server)
        if resource := stored.get("resource"):
            provider.context.protected_resource_metadata = ProtectedResourceMetadata.model_validate(resource)
        provider.context.token_expiry_time = stored.get("expires_at")

    def _read(self) -> dict[str, Any]:
        if self._new is not None:
            return self._new
        try:
            stored = json.loads(self.file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return stored if isinstance(stored, dict) and stored.get("url") == self.url else {}

    def _write(self, changes: dict[str, Any]) -> None:
        stored = {**self._read(), "url": self.url, **changes}
        if self._new is None:
            paths.write_atomic(self.file, json.dumps(stored, indent=1), mode=0o600)
        else:
            self._new = stored


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
        self.credentials.prepare(self)
        if self.expired:
            self.context.token_expiry_time, self.expired = 1.0, False

    async def _handle_refresh_response(self, response: httpx2.Response) -> bool:
        renewed = await super()._handle_refresh_response(response)
        if not renewed:
            await self._initialize()  # another process may just have been faster
        return renewed


def open_auth(
    credentials: Credentials,
    sign_in: BrowserSignIn | None = None,
    *,
    client_url: str | None = None,
    expired: bool = False,
) -> OAuthClientProvider:
    """The SDK's OAuth for a login. `client_url` is a client metadata document (SEP-991).

    `expired`: renew the token before it is used. Raises StorageError for a file that makes no sense.
    """
    redirect = sign_in.redirect_uri if sign_in else "http://127.0.0.1/callback"
    metadata = OAuthClientMetadata(redirect_uris=[AnyUrl(redirect)], client_name="nanobot")
    provider = _SharedLogin(
        credentials.url,
        metadata,
        credentials,
        redirect_handler=sign_in.open_page if sign_in else None,
        callback_handler=sign_in.answer if sign_in else None,
        client_metadata_url=client_url,
    )
    provider.credentials, provider.expired = credentials, expired
    try:
        credentials.prepare(provider)
    except ValidationError as error:
        raise StorageError(f"{credentials.file} makes no sense. Delete it and log in again.") from error
    return provider
