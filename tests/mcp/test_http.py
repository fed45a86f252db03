"""Remote servers: both transports, restarts, the address guard, and logins."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from nanobot.config.mcp_servers import McpServerConfig
from nanobot.errors import McpError, ToolError, UsageError
from nanobot.mcp.login import log_in
from nanobot.mcp.oauth import BrowserSignIn, Credentials
from nanobot.mcp.source import McpTools
from tests.mcp.serving import free_port, http_peer, http_process, run, serving, until
from tests.tools.loopback import always, http_server, reply


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def told(tools: McpTools) -> tuple[str, str]:
    [report] = tools.servers()
    return report.state, report.error


@pytest.mark.parametrize(
    ("kind", "path", "type"),
    [
        ("http", "/mcp", ""),
        ("http", "/mcp", "streamable-http"),
        ("sse", "/sse", ""),
        ("modern", "/mcp", ""),
    ],
)
async def test_both_transports_work_from_end_to_end(kind: str, path: str, type: str) -> None:
    async with http_peer(kind) as port:
        server = McpServerConfig(
            url=f"http://127.0.0.1:{port}{path}", type=type, headers={"X-Key": "k"}, tool_timeout=1
        )
        async with serving(remote=server) as tools:
            assert await tools.wait(20)
            assert told(tools) == ("ready", "")
            assert (await run(tools, "mcp_remote_add", a=2, b=3)).text == "5"
            seen = json.loads((await run(tools, "mcp_remote_headers")).text)
            assert seen["x-key"] == "k"
            assert seen["user-agent"].startswith("nanobot/")
            with pytest.raises(ToolError, match="within 1 s"):
                await run(tools, "mcp_remote_slow")
            await run(tools, "mcp_remote_grow")
            await until(lambda: any(tool.name == "mcp_remote_grown" for tool in tools.servers()[0].tools))


class Precise(BaseHTTPRequestHandler):
    """A server whose one tool gives the same numbers, as JSON at /json and as events elsewhere."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        about = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}}
        tools = [{"name": "price", "inputSchema": {"type": "object"}}]
        results = {
            "initialize": json.dumps({**about, "serverInfo": {"name": "s", "version": "1"}}),
            "tools/list": json.dumps({"tools": tools}),
            "tools/call": '{"content": [], "structuredContent": {"price": 1.10, "price": 1e2}}',
        }
        if "id" not in asked or asked["method"] not in results:
            self.send_response(202 if "id" not in asked else 400)
            self.end_headers()
            return
        answer = '{"jsonrpc": "2.0", "id": %s, "result": %s}'
        body = answer % (json.dumps(asked["id"]), results[asked["method"]])
        as_json = self.path == "/json"
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if as_json else "text/event-stream")
        self.end_headers()
        self.wfile.write((body if as_json else f"event: message\r\ndata: {body}\r\n\r\n").encode())

    def do_GET(self) -> None:
        self.send_error(405)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("path", ["/json", "/events"])
async def test_structured_content_is_shown_as_the_server_wrote_it(path: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Precise) as peer:
        threading.Thread(target=peer.serve_forever).start()
        try:
            server = McpServerConfig(url=f"http://127.0.0.1:{peer.server_port}{path}", type="http")
            async with serving(remote=server) as tools:
                await tools.wait(20)
                assert told(tools) == ("ready", "")
                assert (await run(tools, "mcp_remote_price")).text == '{"price": 1.10, "price": 1e2}'
        finally:
            peer.shutdown()


@pytest.mark.parametrize(("kind", "path"), [("sse-at-mcp", "/mcp"), ("http-at-sse", "/sse")])
async def test_the_other_transport_is_tried_when_the_likely_one_is_refused(kind: str, path: str) -> None:
    async with http_peer(kind) as port:
        async with serving(
            remote=McpServerConfig(url=f"http://127.0.0.1:{port}{path}", tool_timeout=20)
        ) as tools:
            await tools.wait(20)
            assert told(tools) == ("ready", "")
            assert (await run(tools, "mcp_remote_add", a=2, b=3)).text == "5"


async def test_an_address_without_a_server_says_so() -> None:
    async with http_peer("http") as port:
        async with serving(remote=McpServerConfig(url=f"http://127.0.0.1:{port}/nothing")) as tools:
            await tools.wait(20)
            assert told(tools) == ("failed", "the server answered with HTTP status 404. Check its url.")


async def test_a_restarted_server_is_used_again_without_an_error() -> None:
    port = free_port()
    server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp", tool_timeout=20)
    async with serving(remote=server) as tools:
        async with http_peer("http", port=port):
            await tools.wait(20)
            assert (await run(tools, "mcp_remote_add", a=1, b=1)).text == "2"
        async with http_peer("http", port=port):
            assert (await run(tools, "mcp_remote_add", a=2, b=2)).text == "4"


async def test_a_restarted_sse_server_is_noticed_and_found_again() -> None:
    port = free_port()
    server = McpServerConfig(url=f"http://127.0.0.1:{port}/sse", tool_timeout=20)
    async with serving(remote=server) as tools:
        async with http_peer("sse", port=port):
            await tools.wait(20)
        await until(lambda: told(tools)[0] == "failed")
        async with http_peer("sse", port=port):
            await until(lambda: told(tools)[0] == "ready")
            assert (await run(tools, "mcp_remote_add", a=2, b=2)).text == "4"


async def test_a_server_that_hangs_costs_its_timeout_and_no_more() -> None:
    port = free_port()
    server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp", tool_timeout=0.3)
    async with http_process("http", port=port) as process, asyncio.timeout(30):
        async with serving(remote=server) as tools:
            await tools.wait(20)
            process.send_signal(signal.SIGSTOP)
            for _ in range(3):
                async with asyncio.timeout(3):
                    with pytest.raises(ToolError, match="did not answer add"):
                        await run(tools, "mcp_remote_add", a=1, b=1)


async def test_a_server_that_is_gone_fails_calls_at_once_and_comes_back() -> None:
    port = free_port()
    server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp", tool_timeout=20)
    async with serving(remote=server) as tools:
        async with http_peer("http", port=port):
            await tools.wait(20)
        with pytest.raises(ToolError, match=r"broke off during add, whose outcome is unknown: no connection"):
            await run(tools, "mcp_remote_add", a=1, b=1)
        await until(lambda: told(tools)[0] == "failed")
        assert await tools.tools() == []
        async with http_peer("http", port=port):
            await until(lambda: told(tools)[0] == "ready")
            assert (await run(tools, "mcp_remote_add", a=2, b=2)).text == "4"


async def test_the_servers_own_address_may_be_private_and_no_other() -> None:
    async with http_server(always(reply(b"{}"))) as inner:
        location = f"http://127.0.0.1:{inner}/mcp"
        async with http_server(always(reply(status="307 Temporary Redirect", Location=location))) as port:
            async with serving(remote=McpServerConfig(url=f"http://127.0.0.1:{port}/mcp")) as tools:
                await tools.wait(20)
                assert "HTTP status 307. Its url leads elsewhere; write the final address." in told(tools)[1]
    async with serving(remote=McpServerConfig(url="http://0x7f000001:1/mcp")) as tools:
        await tools.wait(20)
        assert "unusual spelling" in told(tools)[1]


async def test_a_login_server_on_a_private_address_is_not_asked() -> None:
    """C4, E5: what a server names must not lead into the owner's network."""
    asked: list[str] = []

    async def inside(head: str, writer: asyncio.StreamWriter) -> None:
        asked.append(head)
        writer.write(reply(b"{}"))

    async with http_server(inside) as private:
        challenge = f'Bearer resource_metadata="http://127.0.0.1:{private}/meta"'
        refusal = reply(status="401 Unauthorized", WWW_Authenticate=challenge)
        async with http_server(always(refusal)) as port:
            server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp")
            with pytest.raises(McpError, match="not a public internet address"):
                await log_in("remote", server, BrowserSignIn(visit), port=0)
    assert asked == []


async def test_secrets_in_urls_and_headers_stay_out_of_errors_and_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with http_server(always(reply(status="500 Oops"))) as port:
        url = f"http://user:password-secret@127.0.0.1:{port}/path-secret-path-secret?key=query-secret"
        server = McpServerConfig(url=url, headers={"Authorization": "Bearer header-secret"})
        async with serving(remote=server) as tools:
            await tools.wait(20)
            assert told(tools) == ("failed", "the server answered with HTTP status 500. Check its url.")
    assert "secret" not in caplog.text.replace("test_secrets", "")


async def visit(url: str) -> None:
    """The browser of an owner who agrees."""
    async with httpx2.AsyncClient(follow_redirects=True) as browser:
        await browser.get(url)


async def test_login_then_calls_with_a_token_that_is_renewed(home: Path) -> None:
    async with http_peer("oauth") as port:
        server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp", tool_timeout=20)
        async with serving(remote=server) as tools:
            await tools.wait(20)
            assert told(tools) == ("needs login", "needs login: nanobot mcp login remote.")
            with pytest.raises(KeyError):
                await run(tools, "mcp_remote_add", a=1, b=1)
            assert await log_in("remote", server, BrowserSignIn(visit), port=0)
            await until(lambda: told(tools)[0] == "ready")  # the running one notices
            assert (await run(tools, "mcp_remote_add", a=1, b=1)).text == "2"
        file = home / "credentials" / "mcp-remote.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        before = json.loads(file.read_text())
        async with httpx2.AsyncClient() as service:
            await service.post(f"http://127.0.0.1:{port}/revoke")
        async with serving(remote=server) as tools:
            await tools.wait(20)
            assert told(tools) == ("ready", "")
            assert (await run(tools, "mcp_remote_add", a=2, b=2)).text == "4"
        after = json.loads(file.read_text())
        assert after["tokens"]["access_token"] != before["tokens"]["access_token"]
        moved = Credentials("remote", f"http://127.0.0.1:{port}/other")
        assert not moved.exist()
        assert Credentials("remote", server.url).delete()
        assert not Credentials("remote", server.url).delete()


async def test_an_expired_token_is_renewed_before_it_is_used(home: Path) -> None:
    async with http_peer("oauth", "short") as port:
        server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp", tool_timeout=20)
        assert await log_in("remote", server, BrowserSignIn(visit), port=0)
        async with serving(remote=server) as tools:
            await tools.wait(20)
            assert (await run(tools, "mcp_remote_add", a=2, b=2)).text == "4"


async def test_the_address_can_be_pasted() -> None:
    shown: asyncio.Queue[str] = asyncio.Queue()

    async def pasted() -> str:
        """The owner's browser is on another machine: it ends at an address that cannot be opened there."""
        async with httpx2.AsyncClient() as browser:
            answer = await browser.get(await shown.get())
            return answer.headers["location"] + "\n"

    async with http_peer("oauth") as port:
        server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp")
        assert await log_in("remote", server, BrowserSignIn(shown.put, pasted), port=0)


async def test_a_refused_login_says_so_and_keeps_the_old_one() -> None:
    async def refuse(url: str) -> None:
        parameters = dict(httpx2.URL(url).params)
        async with httpx2.AsyncClient() as browser:
            await browser.get(f"{parameters['redirect_uri']}?error=access_denied&state={parameters['state']}")

    async with http_peer("oauth") as port:
        server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp")
        assert await log_in("remote", server, BrowserSignIn(visit), port=0)
        with pytest.raises(McpError, match="the login was refused: access_denied"):
            await log_in("remote", server, BrowserSignIn(refuse), port=0)
        assert Credentials("remote", server.url).exist()


async def test_a_server_without_a_login_and_a_program_are_told_apart() -> None:
    async with http_peer("http") as port:
        open_server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp")
        assert not await log_in("remote", open_server, BrowserSignIn(visit), port=0)
    with pytest.raises(UsageError, match="only remote servers have logins"):
        await log_in("local", McpServerConfig(command="x"), BrowserSignIn(visit))


async def test_a_login_renewed_by_another_process_is_not_renewed_with_what_that_one_used_up(
    home: Path,
) -> None:
    async with http_peer("oauth", "short") as port:
        server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp", tool_timeout=20)
        assert await log_in("remote", server, BrowserSignIn(visit), port=0)
        async with serving(remote=server) as gateway, serving(remote=server) as agent:
            await gateway.wait(20)
            await agent.wait(20)
            for tools in (agent, gateway, agent, gateway):  # a new token ends the one before
                assert (await run(tools, "mcp_remote_add", a=2, b=2)).text == "4"


async def test_a_running_server_gets_no_token_after_the_logout(home: Path) -> None:
    async with http_peer("oauth") as port:
        server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp", tool_timeout=20)
        assert await log_in("remote", server, BrowserSignIn(visit), port=0)
        async with serving(remote=server) as tools:
            await tools.wait(20)
            assert Credentials("remote", server.url).delete()
            with pytest.raises(ToolError, match="needs login"):
                await run(tools, "mcp_remote_add", a=2, b=2)
            await until(lambda: told(tools)[0] == "needs login")


async def test_a_login_that_is_given_up_leaves_nothing(home: Path) -> None:
    asked = asyncio.Event()

    async def ignore(_: str) -> None:
        asked.set()

    async with http_peer("oauth") as port:
        server = McpServerConfig(url=f"http://127.0.0.1:{port}/mcp")
        giving_up = asyncio.create_task(log_in("remote", server, BrowserSignIn(ignore), port=0))
        await asked.wait()
        giving_up.cancel()
        await asyncio.wait([giving_up])
        assert not (home / "credentials").exists()
