"""The example plugins of nanobot's contract, unchanged, called by a model in a turn."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.tools.plugin_folder import PluginFolder

HERE = Path(__file__).parent
SEED = HERE.parents[2] / "shared" / "reference" / "seed-readme.md"
CERTIFICATE = HERE / "wttr.in.pem"
NAMES = {
    "GreetTool": "greet.py",
    "DiceTool": "dice.py",
    "WeatherTool": "weather.py",
    "SaveNoteTool": "notes.py",
}


def examples(page: Path) -> dict[str, str]:
    """The plugins printed on a page, by the name of their file."""
    blocks = [part.partition("\n```")[0] for part in page.read_text("utf-8").split("```python\n")[1:]]
    return {
        NAMES[block.partition("class ")[2].partition("(")[0]]: f"{block}\n"
        for block in blocks
        if "from nanobot.agent.tools import" in block
    }


# The page itself where there is one beside the checkout, and always the code that it prints.
@pytest.fixture(params=[page for page in (SEED, HERE / "contract_plugins.md") if page.exists()])
def plugins(request: pytest.FixtureRequest, plugins: PluginFolder) -> PluginFolder:
    found = examples(request.param)
    assert sorted(found) == sorted(NAMES.values())
    for name, text in found.items():
        plugins.write(name, text)
    return plugins


async def test_all_are_there_in_the_order_of_their_files(plugins: PluginFolder) -> None:
    assert [*await plugins.tools()] == ["roll_dice", "greet", "save_note", "list_notes", "weather"]
    assert await plugins.faults() == {}


async def test_greet_and_dice(plugins: PluginFolder) -> None:
    assert await plugins.result("greet", name="Anna") == "Hello, Anna!"
    assert "'name' is a required property" in await plugins.result("greet")
    assert (await plugins.result("roll_dice", sides="2", count=3)).startswith("Rolled 3d2: [")
    assert "less than the minimum" in await plugins.result("roll_dice", sides=1)
    assert (await plugins.result("roll_dice")).startswith("Rolled 1d6: [")


async def test_notes(plugins: PluginFolder) -> None:
    assert await plugins.result("list_notes") == "No notes found."
    saved = await plugins.result("save_note", title="Shopping: 1/2", content="Milk")
    path = plugins.workspace / "notes" / "Shopping_ 1_2.md"
    assert saved == f"Note saved to {path}"
    assert path.read_text() == "# Shopping: 1/2\n\nMilk\n"
    assert await plugins.result("list_notes") == "- Shopping_ 1_2"


class Wttr(BaseHTTPRequestHandler):
    """A proxy that answers for wttr.in by itself."""

    def do_CONNECT(self) -> None:
        assert self.path == "wttr.in:443"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        self.send_response(200)
        self.end_headers()
        with context.wrap_socket(self.connection, server_side=True) as self.connection:
            with self.connection.makefile("rb") as self.rfile, self.connection.makefile("wb") as self.wfile:
                self.handle_one_request()
        self.close_connection = True

    def do_GET(self) -> None:
        city = self.path.removeprefix("/").removesuffix("?format=3")
        body = b"Here: +7C\n" if city == "Oslo" else b"unknown"
        self.send_response(200 if city == "Oslo" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def wttr(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Wttr)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    yield server
    server.shutdown()
    server.server_close()


async def test_weather(plugins: PluginFolder, wttr: ThreadingHTTPServer) -> None:
    assert await plugins.result("weather", city="Oslo") == "Here: +7C"
    assert await plugins.result("weather", city="Oslo") == "Here: +7C"


async def test_weather_that_fails(plugins: PluginFolder, wttr: ThreadingHTTPServer) -> None:
    (result,) = (await plugins.turn("weather", city="Nowhere")).results
    assert result.content.startswith("Error fetching weather: Client error '404")
    assert result.outcome == "error"
    wttr.server_close()
    assert (await plugins.result("weather", city="Oslo")).startswith("Error fetching weather: ")
