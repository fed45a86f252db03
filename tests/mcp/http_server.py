"""MCP servers over HTTP, made with the SDK's server side: `python http_server.py KIND PORT`.

KIND is `http` or `sse`, each also where the other is expected (`sse-at-mcp`, `http-at-sse`), `modern` (HTTP,
and no protocol before MCP 2026-07-28), or `oauth`: HTTP behind a login, with its own login server in the same
process, whose tokens live for a second when `short` is given. Prints "ready" when it listens.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from typing import Any

import uvicorn
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from mcp.shared.exceptions import MCPError
from mcp_types import UNSUPPORTED_PROTOCOL_VERSION
from pydantic import AnyHttpUrl
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

KIND, PORT = sys.argv[1], int(sys.argv[2])
SHORT = "short" in sys.argv
PATHS = {"sse": "/sse", "http-at-sse": "/sse"}
ROOT = f"http://127.0.0.1:{PORT}"


class Logins(OAuthAuthorizationServerProvider[AuthorizationCode, RefreshToken, AccessToken]):
    """Everybody may log in; tokens are kept in memory."""

    def __init__(self) -> None:
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.codes: dict[str, AuthorizationCode] = {}
        self.access: dict[str, AccessToken] = {}
        self.refresh: dict[str, RefreshToken] = {}
        self.refreshed = 0

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.clients[client_info.client_id] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        code = secrets.token_urlsafe(16)
        self.codes[code] = AuthorizationCode(
            code=code,
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            client_id=client.client_id,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
        )
        return construct_redirect_uri(str(params.redirect_uri), code=code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self.codes[authorization_code.code]
        return self._issue(client, authorization_code.scopes)

    async def load_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: str
    ) -> RefreshToken | None:
        return self.refresh.get(refresh_token)

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        del self.refresh[refresh_token.token]
        self.access.clear()  # as some services do
        self.refreshed += 1
        return self._issue(client, scopes)

    async def load_access_token(self, token: str) -> AccessToken | None:
        return self.access.get(token)

    async def revoke_token(self, token: Any) -> None: ...

    def _issue(self, client: OAuthClientInformationFull, scopes: list[str]) -> OAuthToken:
        access, refresh = f"access-{secrets.token_hex(8)}", f"refresh-{secrets.token_hex(8)}"
        self.access[access] = AccessToken(token=access, client_id=client.client_id, scopes=scopes)
        self.refresh[refresh] = RefreshToken(token=refresh, client_id=client.client_id, scopes=scopes)
        return OAuthToken(
            access_token=access,
            refresh_token=refresh,
            expires_in=1 if SHORT else 3600,
            scope=" ".join(scopes),
        )


async def without_initialize(context: Any, call_next: Any) -> Any:
    if context.method == "initialize":
        versions = {"supported": ["2026-07-28"], "requested": "2025-11-25"}
        raise MCPError(code=UNSUPPORTED_PROTOCOL_VERSION, message="Too old.", data=versions)
    return await call_next(context)


def build() -> Any:
    logins = Logins()
    options: dict[str, Any] = {}
    if KIND == "oauth":
        auth = AuthSettings(
            issuer_url=AnyHttpUrl(ROOT),
            resource_server_url=AnyHttpUrl(f"{ROOT}/mcp"),
            client_registration_options=ClientRegistrationOptions(enabled=True),
        )
        options = {"auth_server_provider": logins, "auth": auth}
    if KIND == "modern":
        options = {"middleware": [without_initialize]}
    server = MCPServer("peer", log_level="CRITICAL", **options)

    @server.tool()
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    @server.tool()
    async def slow(ctx: Context[Any, Any]) -> str:
        """Takes its time."""
        await asyncio.sleep(600)
        return "late"

    @server.tool()
    async def grow(ctx: Context[Any, Any]) -> str:
        """One tool more."""
        server.add_tool(lambda: "new", name="grown", description="New.")
        if KIND == "modern":
            await ctx.notify_tools_changed()
        else:
            await ctx.session.send_tool_list_changed()
        return "grown"

    @server.tool()
    def headers(ctx: Context[Any, Any]) -> dict[str, str]:
        """The headers of this request."""
        return dict(ctx.request_context.request.headers)

    @server.custom_route("/revoke", methods=["POST"])
    async def revoke(_: Request) -> Response:
        """Take back all access tokens, as a service does before their time."""
        logins.access.clear()
        return JSONResponse({"refreshed": logins.refreshed})

    path = PATHS.get(KIND, "/mcp")
    if KIND.startswith("sse"):
        return server.sse_app(sse_path=path)
    return server.streamable_http_app(streamable_http_path=path)


async def main() -> None:
    config = uvicorn.Config(build(), "127.0.0.1", PORT, log_level="critical", lifespan="on")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(main())
