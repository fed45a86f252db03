"""The URL guard: attack C1 (spellings), names, and what the owner allows."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanobot.errors import AccessDenied, ConfigError
from nanobot.security.addresses import AllowedTarget, check_address, check_url
from nanobot.security.net import download, guarded_client
from tests.tools.loopback import always, http_server, reply

# --- C1: addresses and their spellings


REFUSED_URLS = [
    "http://127.0.0.1/",
    "http://127.255.255.254:8080/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://0.0.0.0/",
    "http://0/",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0X7F.0.0.1/",
    "http://0177.0.0.1/",
    "http://127.0.0.1./",
    "http://127.000.000.001/",
    "http://00000127.0.0.1/",
    "http://3232235777/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.100.100.200/",
    "http://100.64.0.1/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://198.18.0.1/",
    "http://198.19.255.255/",
    "http://192.0.2.1/",
    "http://224.0.0.1/",
    "http://239.255.255.250/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[0:0:0:0:0:ffff:10.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[::7f00:1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::127.0.0.1]/",
    "http://[64:ff9b:1:7f00:0:100:808:808]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:c0a8:101::1]/",
    "http://[2001:0:7f00:1::]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "http://[2600:1::5efe:127.0.0.1]/",
    "http://[2600:1::200:5efe:10.0.0.1]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[2606:4700::1111%25eth0]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[100::1]/",
    "http://127。0。0。1/",
    "http://１２７.0.0.1/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127%2e0%2e0%2e1/",
    "http://%31%32%37.0.0.1/",
    "http://ⓛocalhost/",
    "http://local\u200bhost/",
    "http://local\u00adhost/",
    "http://user@example.com/",
    "http://user:secret@example.com/",
    "http://example.com:80@127.0.0.1/",
    "http://127.1.1.1:80@@127.2.2.2:80/",
    "http://example.com\\@127.0.0.1/",
    "http://127.0.0.1\\.example.com/",
    "http://example.com\t/",
    "http://exam\nple.com/",
    "http://example.com\r\nHost: x/",
    "http://example.com\x00/",
    "http:// example.com/",
    "http://exa mple.com/",
    "http:///etc/passwd",
    "http://",
    "http:",
    "",
    "http://?",
    "http://#",
    "http://..",
    "http://.example.com/",
    "http://-a.example/",
    "http:example.com",
    "http:\\\\127.0.0.1",
    "//127.0.0.1/",
    "127.0.0.1",
    "example.com",
    "::1",
    "file:///etc/passwd",
    "ftp://example.com/",
    "gopher://127.0.0.1:6379/_x",
    "javascript:alert(1)",
    "data:text/html,x",
    "http://example.com:0/",
    "http://example.com:-1/",
    "http://example.com:65536/",
    "http://example.com:99999999999/",
    "http://example.com:1a/",
    "http://[127.0.0.1]/",
    "http://[::1/",
    "http://::1/",
    f"http://{'a' * 64}.example/",
    f"http://{'a.' * 150}example/",
]


@pytest.mark.parametrize("url", REFUSED_URLS, ids=[ascii(url)[:60] for url in REFUSED_URLS])
async def test_c1_refused_spellings(url: str) -> None:
    with pytest.raises(AccessDenied):
        check_url(url)
    with pytest.raises(AccessDenied):
        await download(url, max_bytes=100)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "localhost.", "a.localhost", "printer.local", "metadata.google.internal"],
)
async def test_c1_names_are_judged_by_what_they_resolve_to(host: str) -> None:
    asked: list[str] = []

    async def resolve(name: str, port: int) -> Sequence[str]:
        asked.append(name)
        return ["169.254.169.254"]

    async with guarded_client(resolve=resolve) as client:
        with pytest.raises(AccessDenied, match=r"169\.254\.169\.254, .*allowPrivate"):
            await client.get(f"http://{host}/")
    assert asked == [host.lower()]


async def test_c1_the_real_resolver_finds_localhost_private() -> None:
    with pytest.raises(AccessDenied, match="localhost is "):
        await download("http://localhost:9/", max_bytes=100)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://example.com/a?b=c#d", "example.com", None),
        ("HTTP://EXAMPLE.com:8080/", "example.com", 8080),
        ("http://8.8.8.8/", "8.8.8.8", None),
        ("http://[2606:4700:4700::1111]/", "2606:4700:4700::1111", None),
        ("http://[::ffff:8.8.8.8]/", "::ffff:8.8.8.8", None),
        ("http://[64:ff9b::8.8.8.8]/", "64:ff9b::8.8.8.8", None),
        ("https://bücher.example/", "xn--bcher-kva.example", None),
        ("http://例子.测试/", "xn--fsqu00a.xn--0zwm56d", None),
        ("http://a_b.example/", "a_b.example", None),
        ("http://1337.net/", "1337.net", None),
        ("http://a.example./@127.0.0.1", "a.example.", None),
        ("http://a.example?@127.0.0.1", "a.example", None),
    ],
)
def test_usable_urls_pass(url: str, host: str, port: int | None) -> None:
    checked = check_url(url)
    assert checked.raw_host.decode() == host
    assert checked.port == port


def _non_public(address: IPv4Address) -> bool:
    """Independent of the guard's tables: the standard library, and the three things it sees otherwise."""
    return (
        not address.is_global
        or address.is_multicast
        or address == IPv4Address("168.63.129.16")
        or str(address).startswith("192.88.99.")
        or str(address).startswith("192.0.0.")
    )


ipv4_addresses = st.one_of(
    st.ip_addresses(v=4),
    *(
        st.ip_addresses(network=block)
        for block in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "198.18.0.0/15")
    ),
)


@given(ipv4_addresses, st.sampled_from(["{}", "::ffff:{}", "64:ff9b::{}"]))
@example(IPv4Address("8.8.8.8"), "::ffff:{}")
@example(IPv4Address("127.0.0.1"), "64:ff9b::{}")
def test_ipv4_in_a_living_wrapping_is_refused_iff_it_is_not_public(inner: IPv4Address, form: str) -> None:
    wrapped = form.format(inner)
    if _non_public(inner):
        with pytest.raises(AccessDenied):
            check_address(wrapped)
    else:
        check_address(wrapped)


@given(ipv4_addresses, st.integers(min_value=0, max_value=2**80 - 1), st.integers(0, 2**32 - 1))
def test_ipv4_in_a_dead_tunnel_is_always_refused(inner: IPv4Address, rest: int, prefix: int) -> None:
    number = int(inner)
    tunnels = [
        (0x2002 << 112) | (number << 80) | rest,  # 6to4
        (0x20010000 << 96) | (number << 64) | (rest & (2**64 - 1)),  # Teredo, as the server
        (0x20010000 << 96) | ((rest & (2**64 - 1)) << 32) | (number ^ 0xFFFFFFFF),  # Teredo, as the client
        (0x0064FF9B0001 << 80) | ((rest & (2**48 - 1)) << 32) | number,  # local NAT64
        number,  # IPv4-compatible
        (0xFFFF << 48) | number,  # IPv4-translated
        (0x26000000 + (prefix >> 8) << 96) | (0x5EFE << 32) | number,  # ISATAP
        (0x26000000 + (prefix >> 8) << 96) | (0x02005EFE << 32) | number,
    ]
    for tunnel in tunnels:
        with pytest.raises(AccessDenied):
            check_address(IPv6Address(tunnel))


@given(st.ip_addresses())
def test_what_the_standard_library_calls_private_is_never_public(address: IPv4Address | IPv6Address) -> None:
    nat64 = isinstance(address, IPv6Address) and str(address).startswith("64:ff9b::")
    if address.is_multicast or address.is_private or address.is_reserved:
        if nat64 or getattr(address, "ipv4_mapped", None):
            return
        with pytest.raises(AccessDenied):
            check_address(address)


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", "http://127.0.0.1", "http://[::1]"]))
def test_any_text_is_a_public_looking_target_or_refused(text: str, start: str) -> None:
    try:
        url = check_url(start + text)
    except AccessDenied:
        return
    assert url.scheme in ("http", "https")
    assert not url.userinfo
    assert url.raw_host
    assert url.raw_host.decode() not in ("127.0.0.1", "::1")


# --- what the owner allows


@pytest.mark.parametrize(
    ("entry", "host", "address", "port", "admitted"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1", "127.0.0.2", "127.0.0.2", 80, False),
        ("127.0.0.1:8080", "127.0.0.1", "127.0.0.1", 8080, True),
        ("127.0.0.1:8080", "127.0.0.1", "127.0.0.1", 8081, False),
        ("127.0.0.1", "localhost", "127.0.0.1", 80, True),
        ("127.0.0.1", "x", "::ffff:127.0.0.1", 80, False),
        ("192.168.1.0/24", "nas", "192.168.1.7", 443, True),
        ("192.168.1.0/24", "nas", "192.168.2.7", 443, False),
        ("192.168.1.0/24:80", "nas", "192.168.1.7", 443, False),
        ("::1", "::1", "::1", 80, True),
        ("[::1]:8080", "::1", "::1", 8080, True),
        ("[::1]:8080", "::1", "::1", 80, False),
        ("NAS.local", "nas.local.", "10.0.0.5", 80, True),
        ("nas.local:80", "nas.local", "10.0.0.5", 81, False),
        ("nas.local", "evil-nas.local", "10.0.0.5", 80, False),
        ("nas.local", "nas.local.evil", "10.0.0.5", 80, False),
    ],
)
def test_allow_private_entries(entry: str, host: str, address: str, port: int, admitted: bool) -> None:
    assert AllowedTarget.parse(entry).admits(host, ip_address(address), port) is admitted


@pytest.mark.parametrize("entry", ["", "*", "http://nas", "10.0.0.0/33", "a b", "nas:port", ":80"])
def test_a_bad_allow_entry_is_a_config_error(entry: str) -> None:
    with pytest.raises(ConfigError, match="allowPrivate"):
        AllowedTarget.parse(entry)


async def test_an_allowed_loopback_port_is_opened_and_its_neighbour_is_not() -> None:
    async with http_server(always(reply(b"hello"))) as port, http_server(always(reply(b"secret"))) as other:
        allowed = [f"127.0.0.1:{port}"]
        found = await download(f"http://127.0.0.1:{port}/", max_bytes=100, allow_private=allowed)
        assert (found.status, found.body, found.size, found.cut) == (200, b"hello", 5, False)
        by_name = await download(f"http://localhost:{port}/", max_bytes=100, allow_private=["localhost"])
        assert by_name.body == b"hello"
        with pytest.raises(AccessDenied):
            await download(f"http://127.0.0.1:{other}/", max_bytes=100, allow_private=allowed)
