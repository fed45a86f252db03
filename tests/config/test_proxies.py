"""Which proxy the environment names for an address, and addresses without secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.config.proxies import proxy_for, without_secrets

NAMED = {
    "https_proxy": "http://https.test:1",
    "HTTP_PROXY": "http.test:2",
    "ALL_PROXY": "socks://all.test:3/",
}


@pytest.mark.parametrize(
    ("env", "url", "proxy", "variable"),
    [
        (NAMED, "https://a.test/v1", "http://https.test:1", "https_proxy"),
        (NAMED, "http://a.test/v1", "http://http.test:2", "HTTP_PROXY"),
        ({"all_proxy": "socks://p.test:3"}, "https://a.test", "socks5h://p.test:3", "all_proxy"),
        ({"ALL_PROXY": "SOCKS://p.test:3"}, "https://a.test", "socks5h://p.test:3", "ALL_PROXY"),
        ({"ALL_PROXY": "socks5://p.test:3"}, "https://a.test", "socks5://p.test:3", "ALL_PROXY"),
        ({"ALL_PROXY": "socks5h://p.test:3"}, "https://a.test", "socks5h://p.test:3", "ALL_PROXY"),
        (
            {"https_proxy": "http://s.test", "HTTPS_PROXY": "http://c.test"},
            "https://a",
            "http://s.test",
            "https_proxy",
        ),
        ({"https_proxy": "", "HTTPS_PROXY": "http://c.test"}, "https://a", "http://c.test", "HTTPS_PROXY"),
    ],
)
def test_the_proxy_on_the_way(env: dict[str, str], url: str, proxy: str, variable: str) -> None:
    found = proxy_for(url, env)
    assert found is not None
    assert (found.url, found.variable) == (proxy, variable)


@pytest.mark.parametrize(
    "env", [{}, {"https_proxy": " "}, {"http_proxy": "http://p.test"}, {"no_proxy": "b.test"}]
)
def test_no_proxy_on_the_way(env: dict[str, str]) -> None:
    assert proxy_for("https://a.test", env) is None


@pytest.mark.parametrize(
    ("spared", "url", "is_spared"),
    [
        ("*", "https://a.test", True),
        ("a.test", "https://a.test/v1", True),
        ("a.test", "https://A.Test./v1", True),
        ("a.test", "https://api.a.test", True),
        ("a.test", "https://aa.test", False),
        (".a.test", "https://api.a.test", True),
        (".a.test", "https://a.test", True),
        ("*.a.test", "https://api.a.test", True),
        ("*.a.test", "https://b.test", False),
        ("x.test, a.test", "https://a.test", True),
        ("x.test a.test", "https://a.test", True),
        ("a.test:443", "https://a.test", True),
        ("a.test:80", "https://a.test", False),
        ("a.test:8443", "https://a.test:8443", True),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.1/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.0.0.0/8", "https://a.test", False),
        ("10.1.2.3", "https://10.1.2.3", True),
        ("fd00::/8", "https://[fd00::1]", True),
        ("[fd00::1]", "https://[fd00::1]", True),
        ("[fd00::1]:443", "https://[fd00::1]", True),
        ("[fd00::1]:80", "https://[fd00::1]", False),
        (",, ,", "https://a.test", False),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_hosts_that_need_no_proxy(name: str, spared: str, url: str, is_spared: bool) -> None:
    assert (proxy_for(url, {**NAMED, name: spared}) is None) is is_spared


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_any_environment_comes_to_an_answer(url: str, proxy: str, spared: str) -> None:
    proxy_for(f"https://{url}", {"https_proxy": proxy, "no_proxy": spared})
    proxy_for(url, {"all_proxy": proxy, "no_proxy": spared})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:hunter22@a.test:8/v1?api-key=hunter22#hunter22", "https://a.test:8/v1"),
        ("https://user:hunter/22@a.test/v1", "https://a.test/v1"),
        ("https://user:hunter?22@a.test/v1", "https://***"),
        ("https://a.test/v1?next=b://hunter22", "https://a.test/v1"),
        ("user:hunter22@a.test:1", "a.test:1"),
        ("socks5://user:hunter22@[::1]:9", "socks5://[::1]:9"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_a_proxy_is_shown_without_its_password() -> None:
    proxy = proxy_for("https://a.test", {"https_proxy": "http://user:hunter22@p.test:3128/?x=hunter22"})
    assert str(proxy) == "http://p.test:3128/ (from https_proxy)"
    assert "hunter22" not in repr(proxy)
