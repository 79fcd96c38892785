"""Two nodes on two prefixes, their programs run in forked children that can be killed between any two lines.

A child runs the real `main` of a program; only the start of Python is saved. rsync and the commands are real.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

LIBRARY = str(Path(__file__).resolve().parents[2] / "lib" / "hotpair")
BLIND = 0.02  # seconds that are waited for incrond, for there is none
END = f"""\
import sys
sys.path.insert(0, {os.path.dirname(LIBRARY)!r})
from hotpair import packages
packages.add()
from hotpair import run, storm
run.BLIND = storm.ARMED = {BLIND}
from hotpair.cmd.syncr_receive import main
from hotpair.exits import guard
sys.exit(guard(main))
"""
NEVER = 1 << 60  # a number of lines that no run executes


def fork(child: Callable[[], int]) -> int:
    """Run `child` in a new process and return its pid; its exit code is what `child` returns."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        code = child()
    finally:
        os._exit(code)


def die_after(lines: int) -> None:
    """Kill this process, as kill -9 does, once it has executed so many lines of hotpair."""
    left = lines

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(LIBRARY):
            return None
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    if lines < NEVER:
        sys.settrace(trace)


def own_streams() -> None:
    """Write to this process's descriptors, not to what pytest put in their place before the fork."""
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)


class Forked:
    """The peer's end, with the face that subprocess.Popen shows to hotpair.peer."""

    def __init__(self, child: Callable[[], int]) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        ours_err, theirs_err = os.pipe()

        def run() -> int:
            for number, fd in enumerate((theirs_in, theirs_out, theirs_err)):
                os.dup2(fd, number)
            os.closerange(3, max(ours_out, ours_in, ours_err, theirs_in, theirs_out, theirs_err) + 1)
            return child()

        self.pid = fork(run)
        for fd in (theirs_in, theirs_out, theirs_err):
            os.close(fd)
        self.stdin = os.fdopen(ours_out, "wb", buffering=0)
        self.stdout = os.fdopen(ours_in, "rb", buffering=0)
        self.stderr = os.fdopen(ours_err, "rb", buffering=0)
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout or 3600)
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG if timeout else 0)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("syncr-receive", timeout or 0)
            else:
                time.sleep(0.001)
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


class Node:
    """One prefix, and how its programs are run."""

    def __init__(self, home: Path, name: str, peer: str, sets: str, commands: str) -> None:
        self.name, self.root, self.other = name, home / name, home / peer
        self.log = home / f"{name}.payloads"
        etc = self.root / "etc" / "hotpair"
        etc.mkdir(parents=True, mode=0o755)
        (etc / "hotpair.ini").write_text(f"[node]\nname = {name}\npeer = local:{self.other}\nio-timeout = 20\n\n{sets}")
        (self.root / "ran").mkdir()
        copy = 'rm -rf "$0/ran/${1##*/}"; cp -a "$0$1" "$0/ran/" || true'
        (etc / "syncr.ini").write_text(
            f"[{commands}]\nrun =\n    sh: xargs -0 -n1 sh -c '{copy}' '{self.root}' 2>/dev/null\n"
        )

    def live(self, path: str) -> str:
        return f"{self.root}{path}"

    def install_table(self, set_name: str) -> None:
        """Write the incron table of a set, which says which folder has which watch."""

        def child() -> int:
            self._become(self.root)
            from hotpair import config, watch

            files = config.load().named(set_name)
            watch.prepare(set_name)
            watch.replace(f"{self.root}/etc/incron.d/hotpair-{set_name}", watch.table(files, "/usr/local/sbin"))
            return 0

        os.mkdir(f"{self.root}/etc/incron.d")
        assert os.waitpid(fork(child), 0)[1] == 0

    def watch_id(self, live: str) -> str:
        from hotpair import folder

        return folder.watch_id(live)

    def start(self, program: str, arguments: Sequence[str], lines: int, peer_lines: int, away: bool) -> int:
        """Start a program; it dies after `lines` lines, the peer's end after `peer_lines`. Returns the pid."""

        def child() -> int:
            self._become(self.root)
            said = os.open(f"{self.root}.said", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.dup2(said, 1)
            os.dup2(said, 2)
            own_streams()
            import hotpair.detect
            import hotpair.peer
            import hotpair.run
            import hotpair.storm

            hotpair.detect.ABSENT = 0.03
            hotpair.run.BLIND = hotpair.storm.ARMED = BLIND
            hotpair.peer.spawn = lambda _node, set_name: self._peer(set_name, peer_lines, away)  # type: ignore
            self._count_payloads()
            main = __import__(f"hotpair.cmd.{program}", fromlist=["main"]).main
            from hotpair.exits import guard

            sys.argv = [program, *arguments]
            die_after(lines)
            return guard(main)

        return fork(child)

    def _become(self, root: Path) -> None:
        os.environ["HOTPAIR_ROOT"] = str(root)
        os.environ.pop("SSH_CONNECTION", None)
        os.umask(0o077)

    def _peer(self, set_name: str, lines: int, away: bool) -> Any:
        if away:
            return subprocess.Popen(
                ["/bin/false"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )

        def child() -> int:
            sys.settrace(None)
            own_streams()
            self._become(self.other)
            import hotpair.log
            import hotpair.peer

            hotpair.log.person = False  # psync, which we were forked from, was started by a person
            from hotpair.cmd import syncr_receive
            from hotpair.exits import guard

            hotpair.peer.spawn = self._another_end  # for its own run, when asked
            self.log = self.log.with_name(f"{self.other.name}.payloads")
            self._count_payloads()
            sys.argv = ["syncr-receive", set_name]
            die_after(lines)
            return guard(syncr_receive.main)

        return Forked(child)

    def _another_end(self, node: Any, set_name: str) -> subprocess.Popen[bytes]:
        """Start our end as a program, for the peer's own run: SQLite must not be forked with a file open."""
        environment = {"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(self.root)}
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen([sys.executable, "-ISc", END, set_name], bufsize=0, env=environment, **pipes)

    def _count_payloads(self) -> None:
        """Count contents on their way, outside of what is tested."""
        import hotpair.payload as payload

        # A forked peer inherits our wrappers: it must wrap the real functions.
        small: Any = getattr(payload.send_small, "real", payload.send_small)
        large: Any = getattr(payload.send_large, "real", payload.send_large)

        def count(number: int) -> None:
            with open(self.log, "a") as out:
                out.write("x" * number)

        def send_small(*what: Any) -> None:
            count(1)
            small(*what)

        def send_large(wire: Any, files: Any, wanted: list[Any], *rest: Any) -> None:
            count(len(wanted))
            large(wire, files, wanted, *rest)

        send_small.real, send_large.real = small, large  # type: ignore[attr-defined]
        payload.send_small, payload.send_large = send_small, send_large  # type: ignore[assignment]

    def payloads(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0


def make_pair(sets: str, commands: str, directory: str) -> tuple[Path, tuple[Node, Node]]:
    """Make two fresh prefixes on a file system in memory if there is one, and preload what the children need.

    sets: the sets in hotpair.ini; commands: the glob of the paths that the tests' command copies; directory: what the
    sets need.
    """
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    home = Path(tempfile.mkdtemp(prefix="hotpair-model-", dir=base))
    for name in ("compare", "run", "plan", "tasks", "restore", "cmd.syncr", "cmd.psync", "cmd.syncr_receive"):
        __import__(f"hotpair.{name}")
    import filelock
    import sh

    assert filelock and sh
    nodes = Node(home, "alpha", "beta", sets, commands), Node(home, "beta", "alpha", sets, commands)
    for node in nodes:
        os.makedirs(node.live(directory))
    return home, nodes


def remove(home: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # a mount point is busy while another namespace still has a copy of it
        with suppress(OSError):
            shutil.rmtree(home)
            return
        time.sleep(0.1)
    shutil.rmtree(home)


def random_lines(source: random.Random) -> int:
    """Return where to die: any line of a run, early ones and late ones alike."""
    return int(10 ** source.uniform(1, 4.2))
