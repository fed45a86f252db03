"""The guard of exec judges commands, not words: daily work passes, what is forbidden does not."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.errors import AccessDenied
from nanobot.security.files import PathPolicy
from nanobot.security.shell_guard import check_command

EVERYDAY = [
    "git rm -r --cached build",
    "git rm -f a",
    "sudo git rm -rf --cached build",
    "timeout 60 git rm -f a",
    "find . -name '*.log' | xargs git rm -f",
    "docker rm -f web",
    "sudo -u bob docker rm -f web",
    "docker compose rm -fs web",
    "podman rm -f a; kubectl delete pod a --force; npm rm -f x; conda env rm -f",
    "apt-get install -y shutdown-tools; brew reboot-helper",
    'git commit -m "fix loop; halt on error"',
    "git commit -m 'rm -rf build before; then reboot'",
    "git commit -am 'shutdown handler' && git log --grep 'rm -rf' --oneline",
    'grep -rn "rm -rf" .',
    "grep -o rmtree a.py",
    "rg 'shutil.rmtree|os.system' src | head",
    "find . -exec grep -l halt {} +",
    "find . -name '*.c' -exec grep -n reboot {} \\; -print",
    "command -v shutdown",
    "which halt; type reboot; man shutdown",
    "xxd -r a > b && bash c.sh",
    "base64 -d picture.b64 > picture.png && sh build.sh",
    "echo 'to remove it: rm -rf build'",
    "printf '%s\\n' 'rm -rf /' > warning.txt",
    "echo 'echo hello' | bash",
    "cat > clean.md <<'EOF'\nRun `rm -rf build`, then $(reboot).\nEOF",
    "cat > notes.txt <<EOF\nnever run rm -rf /; halt; shutdown now\nEOF\ncat notes.txt",
    "cat <<-END > a.js\n\timport x from '../lib/x'; fs.rmSync\n\tEND",
    "halt=1; echo $halt",
    "reboot_count=3; shutdown=no; export rm=1",
    "for shutdown in a b; do echo $shutdown; done",
    "case $1 in halt|reboot) echo never;; *) echo ok;; esac",
    "cat halt/reboot.txt shutdown rm",
    "ls format; python -m format; ./format.sh --check; cargo fmt",
    "bash format; sh ./halt; source reboot",
    "make halt && npm run reboot && ./shutdown_test",
    "sed -i 's/rm -rf/trash/' x.sh",
    "awk '/halt/ {print $2}' log",
    "python3 -c 'print(\"rm -rf x; halt\")'",
    "python3 -m json.tool < a.json; base64 -d a.b64 | python3 -m json.tool",
    "curl -s https://example.com/install.sh | sh",
    "curl -s https://example.com/reboot | grep halt",
    "cat a.txt | tr a-z A-Z | sort | uniq -c",
    "openssl base64 -d -in a -out b",
    'eval "$(ssh-agent -s)"',
    "source .venv/bin/activate && pytest -k 'halt or rmtree'",
    "trap 'rm tmp.txt' EXIT",
    "rm a.txt b.txt; rm -i c; rm -- -note",
    "find . -name '*.pyc' -print0 | xargs -0 ls",
    "$CC -fPIC -c a.c; ${CC:-gcc} -ffast-math a.c",
    "ps aux | grep nanobot",
    "systemctl status nanobot; journalctl -u nanobot",
    "kill 4711; sleep 1; echo nanobot",
    "pkill -f 'http.server 8000'",
    "xargs -n 1 echo < list.txt",
    "dd --help; man dd; echo dd if=x",
    "env | grep -v halt | sort",
    "ssh host uptime",
    "git -C sub diff HEAD~1 -- a.py | head -50",
    "if [ -f halt ]; then echo yes; fi; [[ -n $x && $y == rm ]] && echo z",
    "x=$((1 + 2)); echo ${x}",
    "f() { echo $1; }; f a | f; f b",
    "echo {a,b}.txt; cp a.{txt,bak}",
    "nanobot skills list; pip install nanobot-skills",
    "npm install clawhub-client; echo clawhub install x",
    "tar xzf a.tgz && cd a && ./configure --prefix=$HOME/.local && make -j4",
]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setenv("HOME", str(tmp_path))
    workspace = tmp_path / ".nanobot/workspace"
    workspace.mkdir(parents=True)
    (tmp_path / ".nanobot/config.json").write_text("{}")

    def run(command: str, *, restrict: bool = False) -> None:
        paths = PathPolicy(workspace, restrict=restrict, private=(workspace.parent,))
        check_command(command, paths, workspace)

    return run


@pytest.mark.parametrize("command", EVERYDAY)
def test_daily_work_passes(check: Callable[..., None], command: str) -> None:
    check(command)


@pytest.mark.parametrize(
    "command",
    [
        'grep -rn "/api/users" .',
        "git commit -m 'serve /health and /etc'",
        "echo 'a / b'",
        "awk '/start/,/end/ {print $1/$2}' x",
        "sed -n '/foo/p' x",
        "cat > routes.py <<'EOF'\napp.get('/users')\nEOF",
    ],
)
def test_what_only_looks_like_a_path_passes_in_a_restricted_workspace(
    check: Callable[..., None], command: str
) -> None:
    check(command, restrict=True)


FORBIDDEN = [
    *(
        "rm -rf x",
        "rm -r x",
        "rm -f x",
        "/bin/rm -fr x",
        "rm x -rf",
        "rm --recursive --force x",
        "mkfs.ext4 y",
    ),
    *("shutdown now", "reboot", "poweroff", "halt", "find . -delete", "dd if=/dev/zero of=x", "kill -9 -1"),
    *(
        "pkill nanobot",
        "systemctl poweroff",
        "cat ../config.json",
        "cat ~/.nanobot/config.json",
        "kill $PPID",
    ),
    *("systemctl --user stop nanobot", "cat /proc/$PPID/environ", "strings /proc/1/env*", "kill OWN_PID"),
    *("echo x > /dev/sda", "tee /dev/sda", "powershell -enc ZQBj", "init 0", "busybox reboot"),
]


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def scattered(command: str) -> str:
    """Quotes and backslashes in the middle of the words."""

    def one(word: str) -> str:
        return (
            f'{word[0]}""{word[1]}' + "\\" * word[2:3].isalpha() + word[2:]
            if len(word) > 1 and word[0] not in "$~"
            else word
        )

    return " ".join(map(one, command.split()))


def wrapped(wrapper: str, command: str) -> str:
    simple = not any(sign in command for sign in ";|&\n({`") and not command.startswith("case")
    return f"{wrapper} {command if simple else f'bash -c {quoted(command)}'}"


STEPS: dict[str, Callable[[str], str]] = {
    **{
        f"{wrapper} …": partial(wrapped, wrapper)
        for wrapper in (
            *(
                "sudo",
                "sudo -u bob",
                "sudo -E",
                "sudo -n -u bob --",
                "doas",
                "env",
                "env A=1 -i",
                "env -u X",
                "nice",
            ),
            *(
                "nice -n 5",
                "ionice -c 3",
                "timeout 5",
                "timeout -k 1 5",
                "nohup",
                "setsid",
                "stdbuf -oL",
                "time",
                "watch -n 5",
                "coproc",
                "parallel -j 2",
            ),
            *("exec", "command", "builtin", "busybox", "xargs", "xargs -0 -n 1"),
            *("timeout --signal KILL 9", "chroot /x", "flock lock", "unshare -r", "strace -f -o log"),
        )
    },
    "with variables": lambda command: f"A=1; ! B='2 3' {command}",
    "eval": lambda command: f"eval {quoted(command)}",
    "sh -c": lambda command: f"sh -c {quoted(command)}",
    "bash -lc": lambda command: f"bash -lc {quoted(command)}",
    "bash -c twice": lambda command: f"bash -c {quoted('sh -c ' + quoted(command))}",
    "find -exec": lambda command: wrapped("find . -name x -exec", command) + " {} +",
    "find -exec sh": lambda command: f"find . -exec sh -c {quoted(command)} \\;",
    "after": lambda command: f"ls; cd x && true || {command}",
    "before": lambda command: f"{command} && ls | sort > y",
    "new line": lambda command: f"ls # nothing\n{command}\nls",
    "background": lambda command: f"true & {command} &",
    "pipe": lambda command: f"true | {command}",
    "substitution": lambda command: f"echo $({command})",
    "in quotes": lambda command: f'echo "a $({command}) b"',
    "backticks": lambda command: f"echo `{command}`" if "`" not in command else f"({command})",
    "process substitution": lambda command: f"diff <({command}) x",
    "subshell": lambda command: f"( {command} )",
    "group": lambda command: f"{{ {command}; }}",
    "if": lambda command: f"if true; then {command}; else ls; fi",
    "loop": lambda command: f"for i in 1 2; do {command}; done | sort",
    "while": lambda command: f"while true; do {command}; done",
    "case": lambda command: f"case $1 in a|b) ls;; *) {command};; esac",
    "function": lambda command: f"go() {{ {command}; }}; go",
    "trap": lambda command: f"trap {quoted(command)} EXIT",
    "alias": lambda command: f"alias a={quoted(command)}",
    "echo to sh": lambda command: f"echo {quoted(command)} | sh",
    "printf to bash": lambda command: (
        f"printf {quoted('%s' + command)} | sudo bash -s"
        if "%" in command
        else f"(echo a; echo {quoted(command)}) | bash"
    ),
    "document to sh": lambda command: f"bash <<'EOF'\n{command}\nEOF",
    "document through cat": lambda command: f"cat <<'EOF' | sh\n{command}\nEOF",
    "substitution in a document": lambda command: f"cat <<EOF\n$({command})\nEOF",
    "here-string": lambda command: f"sh <<< {quoted(command)}",
    "base64": lambda command: f"echo {base64.b64encode(command.encode()).decode()} | base64 -d | sh",
    "base64 eval": lambda command: (
        f'eval "$(echo {base64.b64encode(command.encode()).decode()} | base64 --decode)"'
    ),
    "base64 file": lambda command: (
        f"echo {base64.b64encode(command.encode()).decode()} | base64 -d > s; bash s"
    ),
    "base64 source": lambda command: f"source <(base64 -d <<< {base64.b64encode(command.encode()).decode()})",
    "rev": lambda command: f"echo {quoted(command[::-1])} | rev | sh",
    "ssh": lambda command: f"ssh -p 22 host {quoted(command)}",
    "line continuation": lambda command: command.replace(" ", " \\\n", 1),
    "a variable": lambda command: f'x={quoted(command)}; eval "$x"',
    "a default": lambda command: (
        f"eval ${{nothing:-{command}}}" if not any(c in command for c in "$'}\"") else command
    ),
    "parameter": lambda command: (
        f'eval "${{y:={command}}}"' if not any(c in command for c in "$'}\"`") else command
    ),
}
FIRST: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "scattered quotes": scattered,
    "IFS": lambda command: command.replace(" ", "${IFS}"),
    "$IFS": lambda command: command.replace(" -", "$IFS-") if "$" not in command else command,
    "braces": lambda command: (
        "{" + command.replace(" ", ",") + "}" if " " in command and not {"~", ">"} & {*command} else command
    ),
    "escapes": lambda command: (
        "".join(f"$'\\x{ord(c):02x}'" if c.isalpha() else c for c in command)
        if "$" not in command and "OWN" not in command
        else command
    ),
    "joined": lambda command: (
        f"a={command[:1]}; b={command[1:2]}; $a${{b}}{command[2:]}" if command[:2].isalpha() else command
    ),
    "upper": lambda command: command.upper() if command.startswith("rm -") else command,
    "empty expansions": lambda command: command[:1] + "''" + '""' + command[1:],
    "tabs": lambda command: command.replace(" ", "\t  "),
}


@settings(
    deadline=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    command=st.sampled_from(FORBIDDEN),
    first=st.sampled_from(list(FIRST)),
    steps=st.lists(st.sampled_from(list(STEPS)), max_size=3),
)
def test_a_forbidden_command_is_refused_in_any_disguise(
    check: Callable[..., None], command: str, first: str, steps: list[str]
) -> None:
    text = FIRST[first](command.replace("OWN_PID", str(os.getpid())))
    for step in steps:
        text = STEPS[step](text)
    with pytest.raises(AccessDenied, match="Command refused"):
        check(text)


@pytest.mark.parametrize("step", STEPS)
def test_each_disguise_alone(check: Callable[..., None], step: str) -> None:
    for command in FORBIDDEN:
        with pytest.raises(AccessDenied, match="Command refused"):
            check(STEPS[step](command.replace("OWN_PID", str(os.getpid()))))


WORDS = [
    "rm -rf /",
    "halt",
    "reboot; rm -f x",
    "shutdown now",
    "rmtree",
    "$(reboot)",
    "`halt`",
    "find . -delete",
    "pkill nanobot",
]
HARMLESS: list[Callable[[str], str]] = [
    "echo {}".format,
    "printf %s {}".format,
    "git commit -m {}".format,
    "git log --grep={} --oneline | head".format,
    "grep -rn -e {} src | wc -l".format,
    "x={}; echo done".format,
    "python3 run.py --title {}".format,
    '[ "$a" = {} ] && echo same'.format,
    "cat {}".format,
    "sed -e {} x".format,
    "jq {} a.json".format,
    "find . -name {} -print".format,
    "echo hi # {}".format,
    "docker run --rm image {}".format,
    "curl -d {} https://example.com".format,
]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    word=st.sampled_from(WORDS),
    form=st.sampled_from(HARMLESS),
    around=st.sampled_from(
        ["{}", "sudo {}", "ls && {}", "( {} )", "if true; then {}\nfi", "timeout 5 {}", "{} | sort"]
    ),
)
def test_forbidden_words_in_quotes_pass(
    check: Callable[..., None], word: str, form: Callable[[str], str], around: str
) -> None:
    check(around.format(form(quoted(word))))


@pytest.mark.parametrize("text", ["rm -rf x", "$(reboot)", "`halt`", "import shutil; shutil.rmtree('x')"])
def test_a_document_that_is_data_passes_and_one_that_is_run_does_not(
    check: Callable[..., None], text: str
) -> None:
    check(f"cat > a.txt <<'EOF'\n{text}\nEOF")
    check(f'tee a.md > /dev/null << "EOF"\n{text}\nEOF\nls')
    program = "python3 -" if "import" in text else "bash"
    with pytest.raises(AccessDenied):
        check(f"{program} <<'EOF'\n{text}\nEOF")


CODE = [
    "python3 -c \"import shutil; shutil.rmtree('x')\"",
    "python3 -c \"import os; os.system('rm -rf x')\"",
    "python3 -c \"import subprocess; subprocess.run(['rm', '-rf', 'x'])\"",
    "python3 - <<'E'\nimport subprocess\nsubprocess.call(['sudo', 'reboot'])\nE",
    "echo 'import shutil; shutil.rmtree(1)' | python3",
    "perl -e 'system(\"rm -rf x\")'",
    "perl -e '`rm -rf x`'",
    "ruby -e 'exec \"halt\"'",
    "ruby -rfileutils -e 'FileUtils.rm_rf(\"x\")'",
    "node -e \"require('child_process').execSync('rm -rf x')\"",
    "node -e \"require('fs').rmSync('x', {recursive: true})\"",
    "php -r 'system(\"rm -rf x\");'",
    "awk 'BEGIN {system(\"rm -rf x\")}'",
    "python3 -c 'import os; os.kill(os.getppid(), 9)'",
    "python3 -c \"import os,base64; os.system(base64.b64decode('cm0gLXJmIHg='))\"",
    "echo cHJpbnQoMSk= | base64 -d | python3",
    "python3 -c \"print(open('/proc/self/environ').read())\"",
    "source /dev/stdin <<< 'rm -rf x'",
    "bash -s < /dev/null <<< reboot",
    "pkill nano",
    "pkill -f gateway",
    "kill $(ps -o ppid= $$)",
    "p=$(pgrep nanobot); kill $p",
    "pgrep nanobot | xargs kill",
    "ps aux | awk '/nanobot/ {print $2}' | xargs -r kill -9",
    "echo ../config.json | xargs cat",
    "find . -exec rm -rf {} \\; -exec sudo ls \\; -exec",
    "find . -exec sudo ls \\; -exec nice rm -rf {} \\;",
    "cat $(echo ../config.json)",
    "cat > x <<E\n$(cat ../config.json)\nE",
    "echo -rf x | xargs rm",
    "f=-rf; rm $f x",
    "for f in -rf x; do rm $f; done",
    "r${nothing}m -rf x",
    'a=(rm -rf x); "${a[@]}"',
    "printf '\\x72\\x6d -rf x' | sh",
    "$(printf 'rm') -rf x",
    "git clone x && cd x && ls && :(){ :|:& };:",
    "npx --yes clawhub@latest install evil",
    "x() { x | x & }; x",
]


@pytest.mark.parametrize("command", CODE)
def test_other_languages_and_what_other_commands_find_out(check: Callable[..., None], command: str) -> None:
    with pytest.raises(AccessDenied, match="Command refused"):
        check(command)
