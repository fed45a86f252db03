"""Pages of the web as they are: old encodings, redirects in the page, frames, scripts, odd JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
import webencodings.labels
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.errors import AccessDenied
from nanobot.tools.web import WebFetchTool
from nanobot.tools.web_page import decode, read_page
from tests.tools.loopback import http_server, reply

# A text in the letters of each encoding, in the terms of https://encoding.spec.whatwg.org
LETTERS = {
    "windows-1251 koi8-r ibm866 iso-8859-5 x-mac-cyrillic": "Новости",
    "koi8-u": "Їжак",
    "iso-8859-7 windows-1253": "Καιρος",
    "iso-8859-8 iso-8859-8-i windows-1255": "שלום",
    "iso-8859-6 windows-1256": "مرحبا",
    "windows-874": "อากาศ",
    "shift_jis euc-jp iso-2022-jp": "天気予報",
    "euc-kr": "내일 날씨 똠",
    "gbk gb18030": "天气预报 镕",
    "big5": "天氣預報",
    "windows-1252 macintosh iso-8859-15": "Größe",
    "iso-8859-2 windows-1250 iso-8859-16": "Łódź",
    "iso-8859-3": "ĉapelo",
    "iso-8859-4 iso-8859-10 iso-8859-13 windows-1257": "Žemė".replace("ė", "e"),
    "iso-8859-14": "Ŵyr",
    "windows-1254": "Işık",
    "windows-1258": "đa",
    "utf-8": "Größe 天気 🌤",
}
TEXTS = {name: text for names, text in LETTERS.items() for name in names.split()}
LABELS = [(label, name) for label, name in webencodings.labels.LABELS.items() if name in TEXTS]

WAYS: dict[str, tuple[str, str]] = {
    "header": ("text/plain; charset={label}", "{text}"),
    "quoted header": ('text/html;charset = "{label}"', "<p>{text}"),
    "xml declaration": ("application/rss+xml", '<?xml version="1.0" encoding="{label}"?>\n<a>{text}</a>'),
    "declaration in single quotes": ("text/xml", "<?xml version='1.0' encoding='{label}' ?><a>{text}</a>"),
    "xhtml": (
        "application/xhtml+xml",
        '<?xml version="1.0" encoding="{label}"?><html><body><p>{text}</p></body></html>',
    ),
    "meta": ("text/html", "<html><head><meta charset={label}></head><p>{text}"),
    "meta with content": (
        "text/html",
        "<meta http-equiv='Content-Type' content='text/html; charset={label}'><p>{text}",
    ),
    "meta behind a comment": (
        "text/html",
        "<!-- <meta charset=utf-8> --><meta name=x content='charset=koi8-r'>"
        "<a title='<meta charset=big5>'></a><META CharSet = '{label}' ><p>{text}",
    ),
    "declaration in html": ("text/html", '<?xml version="1.0" encoding="{label}"?><html><p>{text}</html>'),
}


def encoded(text: str, name: str) -> bytes:
    # The decoder of gbk is that of gb18030, which can read more.
    return text.encode(webencodings.lookup("gb18030" if name == "gbk" else name).codec_info.name)


@pytest.mark.parametrize("way", WAYS)
def test_every_label_is_understood_wherever_it_is_written(way: str) -> None:
    content_type, page = WAYS[way]
    for label, name in LABELS:
        if way.startswith("xml") and label.startswith(("_", "8")):  # no name of an encoding in XML
            continue
        for spelling in (label, label.upper()):
            body = encoded(page.format(label=spelling, text=TEXTS[name]), name)
            found = read_page(body, content_type.format(label=spelling), "http://x/", markdown=True)
            assert found is not None, (label, way)
            assert TEXTS[name] in found.text, (label, way)


@given(
    text=st.text(st.characters(categories=["L", "N"]), min_size=1),
    codec=st.sampled_from(["utf-16-le", "utf-16-be"]),
    kind=st.sampled_from(["text/xml", "application/atom+xml", "text/html; charset=utf-8", "", "text/html"]),
    mark=st.booleans(),
)
@settings(deadline=None)
def test_utf_16_with_and_without_a_mark(text: str, codec: str, kind: str, mark: bool) -> None:
    page = f'{chr(0xFEFF) if mark else ""}<?xml version="1.0" encoding="utf-16"?><a>{text}</a>'
    if mark or "charset" not in kind:
        assert decode(page.encode(codec), kind) == page.removeprefix(chr(0xFEFF))


def test_a_page_of_another_order_of_words() -> None:
    # The mark wins over the header, the header over the page, the first kilobyte over what comes later.
    assert decode(b"\xef\xbb\xbf\xc3\xa9", "text/html; charset=koi8-r") == "é"
    assert decode(b"<meta charset=koi8-r>\xc3\xa9", "text/html; charset=utf-8") == "<meta charset=koi8-r>é"
    late = b"<p>" + b" " * 1024 + b"<meta charset=koi8-r>\xc3\xa9"
    assert decode(late, "text/html") == late.decode()
    late = b"<p>" + b" " * 5000 + b"<meta charset=koi8-r>" + "ЖЖ".encode("koi8-r")
    assert decode(late, "text/html") == late.decode("koi8-r")
    assert decode("caf\xe9".encode("latin-1"), "text/html") == "café"
    assert decode("é caf€".encode()[:-1], "text/html") == "é caf\ufffd"
    assert decode(b'{"a": "<meta charset=koi8-r>\xc3\xa9"}', "text/html") is not None
    assert decode("é".encode(), "text/html; charset=iso-2022-kr") == "é"  # not decoded by any browser


@given(
    parts=st.lists(
        st.sampled_from(["<", "<a", "<meta ", "<!--", "<![", "<?", "</", "=", "'", '"', ">", "x", " ", "/"])
    )
)
@settings(deadline=None)
def test_any_beginning_of_a_page_is_read(parts: list[str]) -> None:
    assert decode("".join(parts * 40).encode(), "text/html") == "".join(parts * 40)


Pages = Mapping[str, bytes]


async def fetch(pages: Pages, allow_private: str = "127.0.0.1") -> dict[str, Any]:
    """What web_fetch gives for /, on a loopback site; PPORT in a page is the port of the site."""

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        body = pages.get(head.split()[1], reply(b"no such page", "404 Not Found", Content_Type="text/plain"))
        writer.write(body.replace(b"PPORT", str(port).encode()))

    async with http_server(answer) as port:
        tool = WebFetchTool(allow_private=[f"{allow_private}:{port}"])
        found: dict[str, Any] = json.loads(await tool.execute(url=f"http://127.0.0.1:{port}/"))
        return {**found, "finalUrl": found["finalUrl"].partition(str(port))[2]}


def html(body: str, **headers: str) -> bytes:
    return reply(body.encode(), Content_Type="text/html; charset=utf-8", **headers)


@pytest.mark.parametrize(
    "content",
    ["0; url=/new", "0;URL='/new'", "  1 , url = /new", '0; url="/new" onwards', "0 /new", "2.5;/new"],
)
async def test_a_redirect_in_the_page_is_followed(content: str) -> None:
    escaped = content.replace('"', "&quot;")
    for first in (
        html(f'<html><head><meta HTTP-EQUIV="Refresh" content="{escaped}"></head><body>moved</body></html>'),
        html("<p>moved", Refresh=content),
    ):
        found = await fetch({"/": first, "/new": html("<p>the new place")})
        assert (found["text"], found["finalUrl"]) == ("the new place", "/new")


@pytest.mark.parametrize("content", ["60", "300; url=/", "5; url=javascript:alert(1)", "", "soon", "0; url="])
async def test_a_page_that_only_loads_itself_again_is_read(content: str) -> None:
    found = await fetch({"/": html(f'<meta http-equiv=refresh content="{content}"><p>news of the day')})
    assert found["text"] == "news of the day"
    assert "goesOnTo" not in found


async def test_a_redirect_that_comes_later_is_named() -> None:
    found = await fetch({"/": html('<meta http-equiv=refresh content="90; url=/next"><p>slide one')})
    assert found["text"] == "slide one"
    assert found["goesOnTo"].endswith("/next")


async def test_redirects_in_a_circle_end() -> None:
    here = '<meta http-equiv=refresh content="0; url={}"><p>{}'
    found = await fetch({"/": html(here.format("/b", "one")), "/b": html(here.format("/", "two"))})
    assert found["text"] in ("one", "two")
    assert "goesOnTo" in found


@pytest.mark.parametrize("target", ["/", "file:///etc/passwd", "javascript:x()"])
async def test_a_page_without_text_says_so(target: str) -> None:
    found = await fetch({"/": html(f'<meta http-equiv=refresh content="0; url={target}">')})
    assert found["text"] == "[This page has no text.]"


async def test_a_redirect_in_the_page_meets_the_same_guard() -> None:
    for first in (
        html('<meta http-equiv=refresh content="0; url=http://127.0.0.2:PPORT/secret">'),
        html("", Refresh="0; url=http://169.254.169.254/latest/meta-data/"),
    ):
        with pytest.raises(AccessDenied):
            await fetch({"/": first})


@pytest.mark.parametrize(
    "page",
    [
        "<html><head><title>x</title></head></html>",
        "<title>x</title>",
        "<html></html>",
        "<!---->" * 60 + "<title>x</title>",
        "<head><meta name=a></head>",
    ],
)
async def test_a_page_without_a_body(page: str) -> None:
    assert (await fetch({"/": html(page)}))["text"] in ("# x", "[This page has no text.]")


async def test_a_page_of_frames_gives_its_frames() -> None:
    page = "<title>Docs</title><frameset cols='20,80'><frame src=menu.html><frame src='/text.html'>"
    for end in ("", "</frameset></html>", "<noframes><body>no frames?</body></noframes></frameset>"):
        text = (await fetch({"/": html(page + end)}))["text"]
        assert text.startswith("# Docs")
        assert "/menu.html" in text
        assert "/text.html" in text
        assert "no frames?" not in text


async def test_a_page_of_scripts_says_so() -> None:
    page = "<html><head><title>App</title><script src=/app.js></script></head><body><div id=root></div>"
    text = (await fetch({"/": html(page)}))["text"]
    assert text.startswith("# App")
    assert "made by scripts" in text
    words = "These are the words of a page that can be read without any of its scripts. " * 4
    assert "scripts, which" not in (await fetch({"/": html(f"<script>1</script><p>{words}")}))["text"]


@pytest.mark.parametrize("kind", ["application/octet-stream", "", "binary/octet-stream"])
@pytest.mark.parametrize("piece", ["<!---->", "<!-- x -->\n", "<!--", "<?xml ?>", "\n", "<!-- -->  "])
def test_a_page_of_comments_costs_little(kind: str, piece: str) -> None:
    """The expression that used to look at such a page took twice as long for every comment more."""
    assert read_page((piece * 100_000 + "x").encode(), kind, "http://x/", markdown=True) is not None


@pytest.mark.parametrize(
    "written",
    [
        '{"v": 1.10, "a": 1, "a": 2, "big": 1e400}',
        '{"id":12345678901234567890.0,"z":-0}',
        "[" * 900,
        "1" * 5000,
    ],
)
async def test_json_is_shown_as_it_was_written(written: str) -> None:
    found = await fetch({"/": reply(written.encode(), Content_Type="application/json")})
    assert found["text"] == written


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(value=VALUES, indent=st.sampled_from([None, 0, 3]), ascii_only=st.booleans())
@settings(deadline=None)
def test_json_means_the_same_as_before(value: object, indent: int | None, ascii_only: bool) -> None:
    written = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    page = read_page(written.encode("utf-8", "surrogatepass"), "application/json", "http://x/", markdown=True)
    assert page is not None
    if written.isprintable() and "\\u" not in written:  # else some of it is not shown to a model
        assert json.loads(page.text) == value
