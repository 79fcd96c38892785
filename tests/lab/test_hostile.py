"""Hostile names, made by a user who may write a watched directory: none of them is ever a command or a part of one."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import pytest

from tests.lab.conftest import Pair
from tests.lab.demo_world import LabNode
from tests.lab.spaces import wait_until

WITHIN = 60.0  # strace makes every program some times slower
OPEN = "/srv/open"
NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups --"
INI = f"\n[files open]\npaths =\n    {OPEN}/*\n"
COMMAND = 'printf %s "$HOTPAIR_PATH" >/dev/null'
SYNCR_INI = f"[{OPEN}/*]\nrun = sh:{COMMAND}\n"
# Every name has PWN in it, so that a name which reaches a command line is seen there.
NAMES = [
    b"x;touch PWN;y",
    b"x;id>PWN;y",
    b"x&touch PWN&",
    b"x|tee PWN",
    b"x>PWN",
    b"$(touch PWN)",
    b"`touch PWN`",
    b"'PWN",
    b'"PWN',
    b"';touch PWN;'",
    b'";touch PWN;"',
    b"PWN two words ",
    b"PWN\ttab",
    b"PWN\ntouch PWN\n",
    b"-rf PWN",
    b"--rsync-path=PWN",
    b"PWN*",
    b"PWN[a-z]?",
    b"~PWN",
    b"{PWN,pwn}",
    b"#PWN",
    b"%sPWN%%$@$#$&",
    b"back\\slashPWN\\",
    b"\xff\xfe\x80PWN",
    "é€PWN".encode(),
    b"\x1b[31mPWN\x07",
    b"PWN".ljust(255, b"x"),
    b"PWN".ljust(255, b";"),
]
MAKE = """
import os, sys
os.chdir(sys.argv[1])
for number, name in enumerate(eval(sys.argv[2])):
    with open(name, "wb") as file:
        file.write(name + b" held by %d" % number)
    if number % 3 == 1:
        os.chmod(name, 0o640)
    if number % 3 == 2:
        os.rename(name, b".tmp")
        os.rename(b".tmp", name)
"""
# What a change may start on either node: by incrond, by sshd, and by those; env finds the commands of syncr.ini.
OURS = {"env", "bash", "nice", "syncr", "ssh", "rsync", "rsh", "cat", "sh", "sshd", "syncr-receive"}
EXECVE = re.compile(r'execve\("((?:[^"\\]|\\.)*)", \[(.*)\], 0x')


class Watched(NamedTuple):
    """A pair with a directory that everybody may write, and what traces it: every program that its daemons start."""

    alpha: LabNode
    beta: LabNode
    tracers: tuple[subprocess.Popen[str], ...]

    def started(self) -> list[tuple[str, list[str]]]:
        """End the tracing; return program and arguments of everything that was started on both nodes."""
        for tracer in self.tracers:
            os.killpg(tracer.pid, signal.SIGTERM)  # this makes strace let go of what it traces
        assert wait_until(lambda: not any(node.run("pgrep -x strace")[1] for node in self[:2]), WITHIN)
        found = []
        for node in self[:2]:
            with open(node.place("/root/trace"), encoding="ascii") as file:
                for line in file:
                    if match := EXECVE.search(line):
                        found.append((match[1], shlex.split(match[2].replace('", "', '" "'))))
        return found


@pytest.fixture
def watched(own_pair: Pair) -> Iterator[Watched]:
    nodes = [LabNode(own_pair.lab, "alpha"), LabNode(own_pair.lab, "beta")]
    for node in nodes:
        node.write_ini("syncr.ini", SYNCR_INI)
        with open(node.place("/etc/hotpair/hotpair.ini"), "a", encoding="utf-8") as file:
            file.write(INI)
        code, said = node.run(f"mkdir -m 1777 {OPEN} && hotpair check && hotpair tables")
        assert code == 0, said
    assert nodes[0].run("psync")[0] == 0
    tracers = []
    for node in nodes:
        daemons = node.run("pgrep -x 'incrond|sshd'")[1].split()
        pids = " ".join(f"-p {pid}" for pid in daemons)
        tracers.append(node.start(f"exec strace -qq -f -s 4096 -e trace=execve -o /root/trace {pids}"))
        for pid in daemons:
            status = f"/proc/{pid}/status"
            assert wait_until(partial(traced, node, status), WITHIN)
    yield Watched(nodes[0], nodes[1], tuple(tracers))


def traced(node: LabNode, status: str) -> bool:
    return b"TracerPid:\t0" not in read(node, status)


def read(node: LabNode, path: str) -> bytes:
    with open(node.place(path), "rb") as file:
        return file.read()


def listed(node: LabNode) -> dict[bytes, bytes | None]:
    """Return the content of every file of the set, by its name."""
    folder = os.fsencode(node.place(OPEN))
    found: dict[bytes, bytes | None] = {}
    for name in os.listdir(folder):
        if not name.startswith(b"."):
            with suppress(FileNotFoundError), open(os.path.join(folder, name), "rb") as file:  # removed meanwhile
                found[name] = file.read()
    return found


def constant_lines(nodes: tuple[LabNode, ...]) -> set[str]:
    """Return every line that a shell may be given: what stands in the tables, authorized_keys and syncr.ini."""
    found = {"/usr/local/sbin/syncr-receive", COMMAND}
    for node in nodes:
        for name in ("etc", "open"):
            lines = read(node, f"/etc/incron.d/hotpair-{name}").decode().splitlines()
            found |= {line.split(" ", 2)[2] for line in lines if line.startswith("/")}
    return found


def test_hostile_names_arrive_and_start_nothing(watched):
    wanted = {name: name + b" held by %d" % number for number, name in enumerate(NAMES)}
    constant = constant_lines(watched[:2])
    assert watched.alpha.run(f"{NOBODY} python3 -c {shlex.quote(MAKE)} {OPEN} {shlex.quote(repr(NAMES))}") == (0, "")
    assert wait_until(lambda: listed(watched.beta) == wanted, WITHIN, 0.1)
    # the same names again, from the other side: changed there, then removed
    assert watched.beta.run(f'cd {OPEN} && for f in *; do echo more >>./"$f" && chmod 600 ./"$f"; done') == (0, "")
    assert wait_until(lambda: listed(watched.alpha) == {n: c + b"more\n" for n, c in wanted.items()}, WITHIN, 0.1)
    assert watched.alpha.run(f"{NOBODY} find {OPEN} -maxdepth 1 -type f -delete") == (0, "")
    assert wait_until(lambda: not listed(watched.beta), WITHIN, 0.1)
    started = watched.started()
    assert {"bash", "syncr", "syncr-receive"} <= {os.path.basename(program) for program, _ in started}  # it was seen
    for program, words in started:
        assert os.path.basename(program) in OURS, words
        if words[0] != "cat":  # that one was given the name as one word by the command that root wrote
            assert "PWN" not in " ".join(words)
        if os.path.basename(program) in ("bash", "sh"):
            assert words[1] == "-c" and words[2] in constant
    for node in watched[:2]:
        assert node.run("find / -xdev -name PWN -not -path '/proc/*'") == (0, "")


def test_name_in_a_log_is_one_line_without_control_characters(watched):
    """A file that cannot be carried is named in the log and in the status."""
    name = b"forged\nNov 1 00:00:00 sshd[1]: Accepted \x1b[2J"
    place = shlex.quote(repr(name))
    watched.alpha.run(f"cd {OPEN} && {NOBODY} python3 -c 'import os, sys; os.mkfifo(eval(sys.argv[1]))' {place}")
    watched.alpha.run("psync")
    said = watched.alpha.run("hotpair status")[1] + watched.alpha.run("grep hotpair /var/log/lab/syslog")[1]
    assert "forged\\nNov 1" in said
    assert not any(line.startswith("Nov 1 00:00:00") for line in said.splitlines())
    assert "\x1b" not in said
