"""What programs in a sandbox see of the machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_FOLDERS = ("/usr", "/opt", "/nix", "/snap")
LINKED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")  # into /usr, on most systems
# Of /etc only this: it may hold keys, and for root the passwords.
_ETC = (
    "alternatives ca-certificates ca-certificates.conf fonts group hosts inputrc ld.so.cache ld.so.conf"
    " ld.so.conf.d localtime magic mime.types nsswitch.conf os-release passwd pki profile profile.d protocols"
    " resolv.conf services ssl terminfo timezone vim gitconfig pip.conf npmrc gai.conf host.conf bash.bashrc"
    " debian_version lsb-release redhat-release fedora-release centos-release alpine-release arch-release"
)
_OURS = (sys.base_prefix, sys.prefix, str(Path(__file__).parents[1]))  # Python, and the skills it brings
SYSTEM = (*_FOLDERS, *(f"/etc/{name}" for name in _ETC.split()), *_OURS)
_NO_PROJECT = ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")
# What other programs keep secret, below the owner's home.
_SECRETS = (
    ".ssh .gnupg .password-store .pki .vault-token .local/share/keyrings .local/share/kwalletd .config/op"
    " .config/keepassxc .config/Bitwarden .Xauthority .nanobot"
    " .aws .azure .config/gcloud .boto .s3cfg .kube .docker .config/containers .oci .config/rclone"
    " .terraform.d .config/doctl .config/hcloud .fly .ansible"
    " .config/gh .config/hub .config/git/credentials .git-credentials .netrc .npmrc .yarnrc.yml .pypirc"
    " .cargo/credentials .cargo/credentials.toml .gem/credentials .m2/settings.xml .composer/auth.json"
    " .config/composer/auth.json .gradle/gradle.properties .nuget/NuGet .cache/huggingface/token .huggingface"
    " .pgpass .my.cnf .msmtprc .mbsyncrc .fetchmailrc .config/neomutt .config/evolution"
    " .mozilla .thunderbird .config/google-chrome .config/chromium .config/BraveSoftware .config/vivaldi"
    " .config/microsoft-edge .config/opera .config/Signal .config/Slack .config/discord .var/app"
    " snap/firefox snap/chromium snap/thunderbird .local/share/TelegramDesktop .electrum .bitcoin .ethereum"
    " .claude .claude.json .codex .gemini .cursor .config/Cursor .config/Code .config/github-copilot"
    " .openclaw .bash_history .zsh_history .zsh_sessions .local/share/fish .python_history .node_repl_history"
    " .psql_history .mysql_history .sqlite_history .lesshst .viminfo"
)
# What they run when they start: not written to where it is there.
_STARTS = (
    ".bashrc .bash_profile .bash_login .bash_logout .bash_aliases .profile .zshrc .zshenv .zprofile .zlogin"
    " .inputrc .pam_environment .xprofile .xsession .xsessionrc .xinitrc .gitconfig .config/git .config/fish"
    " .config/autostart .config/systemd .config/environment.d .local/share/systemd .local/share/applications"
    " .local/bin bin .vimrc .vim .config/nvim .emacs .emacs.d .tmux.conf .config/tmux .gdbinit"
)


class View(NamedTuple):
    """What programs of a session see beside the system. `hidden` is within the others and is not seen.

    `home` is the owner's home, seen without what other programs keep secret there; None for a private one.
    """

    writable: Sequence[Path]
    read_only: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    home: Path | None = None

    @property
    def closed(self) -> list[Path]:
        """All that is not seen although it may be within what is, links resolved."""
        return [*self._of_home(_SECRETS), *self.hidden]

    @property
    def fixed(self) -> list[Path]:
        """All that is seen and not written to although it may be within what is, links resolved."""
        return [*self._of_home(_STARTS), *self.read_only]

    def _of_home(self, names: str) -> list[Path]:
        return [(self.home / name).resolve() for name in names.split()] if self.home else []


def may_be_seen(folder: Path, private: Path) -> bool:
    """Whether a folder may be written to: no system's, and none above nanobot's own."""
    system = any(folder.is_relative_to(path) for path in _NO_PROJECT)
    return folder.is_dir() and not system and not private.is_relative_to(folder)
