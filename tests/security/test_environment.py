"""B4: children see no keys."""

from nanobot.security.process import child_environment

PARENT = {
    "PATH": "/usr/bin",
    "HOME": "/home/me",
    "LANG": "C.UTF-8",
    "LC_TIME": "de_DE.UTF-8",
    "OPENROUTER_API_KEY": "sk-or-1",
    "GITHUB_TOKEN": "ghp_1",
    "AWS_SECRET_ACCESS_KEY": "aws",
    "NANOBOT_HOME": "/home/me/.nanobot",
    "NANOBOT_PROVIDERS__OPENAI__API_KEY": "sk-1",
    "LD_PRELOAD": "/tmp/evil.so",
    "BASH_ENV": "/tmp/evil.sh",
    "HTTPS_PROXY": "http://proxy:3128",
    "http_proxy": "http://me:secret@proxy:3128",
}


def test_b4_only_the_allow_list_passes() -> None:
    assert child_environment(source=PARENT) == {
        "PATH": "/usr/bin",
        "HOME": "/home/me",
        "LANG": "C.UTF-8",
        "LC_TIME": "de_DE.UTF-8",
        "HTTPS_PROXY": "http://proxy:3128",
    }


def test_the_owner_can_add_names_but_not_nanobots_own() -> None:
    environment = child_environment(["GITHUB_TOKEN", "NANOBOT_HOME", "UNSET"], PARENT)
    assert environment["GITHUB_TOKEN"] == "ghp_1"
    assert "NANOBOT_HOME" not in environment
    assert "UNSET" not in environment


def test_there_is_always_a_path() -> None:
    assert child_environment(source={})["PATH"]
