"""A lab pair for measuring: hotpair in sync, and beside it lsyncd and a Syncr-like script over ssh of their own."""

import contextlib
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hotpair import config, peer
from tests.bench.figures import Group, counted
from tests.lab.pairlab import NODES, Lab
from tests.lab.spaces import wait_until

KEY = "/root/.ssh/bench"  # a key without a forced command, for the others
NODE = config.Node("alpha", "ssh:beta", "root", 22, KEY, "/etc/hotpair/known_hosts", 5.0, 60.0, 32768, 16 << 20)
POLL = 0.0005  # seconds between two looks at the peer's file
LSYNCD = """\
settings {{ nodaemon = true }}
sync {{
    default.rsync,
    source = "{source}",
    target = "root@beta:{target}",
    delay = 0,
    rsync = {{ archive = true, rsh = "{rsh}" }},
}}
"""
TABLE = "{file} IN_CLOSE_WRITE SYNCR_PEER=beta SYNCR_RSH='{rsh}' /usr/local/bin/syncr-like {file} change\n"


class Tool(NamedTuple):
    """A way to carry a file from alpha to beta, and where the file is on either, as this machine sees it."""

    name: str
    source: Path
    target: Path

    def arrived(self, content: bytes) -> bool:
        try:
            return self.target.read_bytes() == content
        except OSError:
            return False

    def write(self, content: bytes) -> float:
        """Write the file in place and return when it was closed."""
        with open(self.source, "wb") as file:
            file.write(content)
        return time.perf_counter()

    def carry(self, content: bytes, seconds: float = 15.0) -> float:
        """Write the file; return the seconds until the peer has it. Raises TimeoutError."""
        began = self.write(content)
        if not wait_until(lambda: self.arrived(content), seconds, POLL):
            raise TimeoutError(f"{self.name}: nothing arrived within {seconds:g} s")
        return time.perf_counter() - began


class Bench:
    """The running pair."""

    def __init__(self, lab: Lab, group: Group | None) -> None:
        self.lab, self.group = lab, group
        self.roots = {name: Path(f"/proc/{lab.running(name)}/root") for name in NODES}
        self.started: list[subprocess.Popen[str]] = []
        if group:
            for node in NODES:
                for pid in inside(lab.running(node)):
                    group.take(pid)

    def start(self, node: str, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command in a node, counted like everything there."""
        argv, environment = self.lab.entry(node, list(command))
        join = f"echo 0 >{shlex.quote(self.group.place)}/cgroup.procs; " if self.group else ""
        process = subprocess.Popen(
            ["/bin/sh", "-c", join + 'exec "$@"', "sh", *argv],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, node: str, *command: str) -> str:
        """Run a command in a node and return what it said. Raises RuntimeError when it fails."""
        process = self.start(node, command)
        said = process.communicate()[0]
        self.started.remove(process)
        if process.returncode:
            raise RuntimeError(f"{node}: {' '.join(command)}: exit {process.returncode}: {said.strip()[-300:]}")
        return said

    def tool(self, name: str, source: str, target: str = "") -> Tool:
        return Tool(name, Path(f"{self.roots['alpha']}{source}"), Path(f"{self.roots['beta']}{target or source}"))

    def hotpair(self) -> Tool:
        return self.tool("hotpair", "/etc/pair/x.conf")

    def open_key(self) -> None:
        """Let alpha's root into beta with a key that may run anything."""
        self.run("alpha", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY)
        line = Path(f"{self.roots['alpha']}{KEY}.pub").read_text()
        with open(f"{self.roots['beta']}/root/.ssh/authorized_keys", "a", encoding="ascii") as file:
            file.write(line)

    def rsh(self, kept: bool) -> str:
        """Return rsync's remote shell: hotpair's own ssh with another key; kept=False: without a kept connection."""
        argv = peer.ssh_command(NODE, "syncr-receive", "etc")
        words = [word.replace("/run/hotpair/ssh-", "/run/bench-") for word in argv[: argv.index("-p")]]
        if not kept:
            words = [word.replace("ControlMaster=auto", "ControlMaster=no") for word in words]
            words = [word.replace("ControlPath=/run/bench-%C", "ControlPath=none") for word in words]
        return " ".join(["/usr/bin/ssh", *words[1:]])

    def lsyncd(self, kept: bool) -> Tool:
        """Start lsyncd with delay = 0 over one ssh or the other."""
        word = "kept" if kept else "stock"
        source, target = f"/srv/{word}-source", f"/srv/{word}-target"
        self.run("alpha", "mkdir", source)
        self.run("beta", "mkdir", target)
        put(self.roots["alpha"], f"/root/{word}.lua", LSYNCD.format(source=source, target=target, rsh=self.rsh(kept)))
        tool = self.tool(f"lsyncd delay=0, {word} ssh", f"{source}/x.conf", f"{target}/x.conf")
        tool.source.write_bytes(b"first\n")  # carried by its first sync: then it watches
        self.start("alpha", ["lsyncd", "-nodaemon", f"/root/{word}.lua"])
        if not wait_until(lambda: tool.arrived(b"first\n"), 15):
            raise TimeoutError(f"{tool.name}: its first sync does not come")
        return tool

    def syncr_like(self) -> Tool:
        """Let incrond start the Syncr-like script."""
        file = "/srv/syncr/x.conf"
        for node in NODES:
            self.run(node, "mkdir", "/srv/syncr")
        alpha = self.roots["alpha"]
        script = Path(__file__).with_name("syncr-like").read_text(encoding="utf-8")
        put(alpha, "/usr/local/bin/syncr-like", script, 0o755)
        put(alpha, "/etc/incron.d/.syncr-like", TABLE.format(file=file, rsh=self.rsh(True)))
        put(alpha, file, "first\n")
        os.rename(f"{alpha}/etc/incron.d/.syncr-like", f"{alpha}/etc/incron.d/syncr-like")
        time.sleep(0.5)  # incrond reads it
        return self.tool("incron + Syncr-like bash, kept ssh", file)


def inside(first: str) -> list[str]:
    """Return the pids, as this machine sees them, of every process of the node whose pid 1 is `first`."""

    def space(pid: str) -> str:
        try:
            return os.readlink(f"/proc/{pid}/ns/pid")
        except OSError:  # gone meanwhile
            return ""

    return [pid for pid in os.listdir("/proc") if pid.isdigit() and space(pid) == space(first)]


def put(root: Path, path: str, text: str, mode: int = 0o644) -> None:
    file = Path(f"{root}{path}")
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Build a private pair, bring it in sync, and leave no trace of it."""
    with counted() as group, tempfile.TemporaryDirectory(prefix="hotpair-lab.", ignore_cleanup_errors=True) as folder:
        lab = Lab(os.path.join(folder, "lab"))
        found: Bench | None = None
        try:
            lab.up()
            found = Bench(lab, group)
            found.run("alpha", "psync")
            found.run("beta", "psync")
            found.open_key()
            yield found
        finally:
            lab.down()
            for process in found.started if found else []:
                process.wait()
