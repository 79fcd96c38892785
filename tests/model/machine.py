"""The state machine: users edit on two nodes, runs are killed, links cut; after every step the promises are looked at.

The observer reads both trees itself: it knows what every user wrote, and asks hotpair for nothing but exit codes.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import sys
import time
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model.nodes import NEVER, Node, make_pair, random_lines, remove

NAMES = [
    b"a.conf",
    b"b c.conf",
    b"x;id;y.conf",
    b"-rf $(id) 'q\" .conf",
    b"new\nline.conf",
    b"\xff\xfe.conf",
    b"n" * 250 + b".conf",
]
PATHS = [os.fsdecode(b"/etc/pair/" + name) for name in NAMES] + ["/etc/motd"]
BIG = 40_000  # bytes: above what travels inside the conversation, so that rsync carries it
paths = st.sampled_from(PATHS)
seeds = st.integers(0, 2**32)
sides = st.booleans()


class Thing(NamedTuple):
    """What the observer sees at a path."""

    kind: str
    content: bytes
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    xattrs: tuple[tuple[str, bytes], ...]


def see(path: str) -> Thing | None:
    """Read a path as an outsider does."""
    try:
        found = os.lstat(path)
        owner = (found.st_uid, found.st_gid)
        if stat.S_ISLNK(found.st_mode):
            return Thing("link", os.fsencode(os.readlink(path)), 0, owner, found.st_mtime_ns, ())
        mode = stat.S_IMODE(found.st_mode)
        attributes = tuple((name, os.getxattr(path, name)) for name in sorted(os.listxattr(path)))
        if stat.S_ISDIR(found.st_mode):
            return Thing("directory", b"", mode, owner, 0, attributes)
        return Thing("file", Path(path).read_bytes(), mode, owner, found.st_mtime_ns, attributes)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EISDIR, errno.ENOTDIR):  # it became another kind between two calls
            return see(path)
        raise


class Pair(RuleBasedStateMachine):
    """One history."""

    @initialize(prefer=st.sampled_from(["newest", "newest", "alpha"]))
    def begin(self, prefer: str) -> None:
        self.home, self.alpha, self.beta = make_pair(prefer, keep=1000)
        self.nodes = (self.alpha, self.beta)
        self.written: dict[str, set[tuple[str, bytes]]] = {path: set() for path in PATHS}  # P2
        self.removed: set[str] = set()
        self.fresh: dict[tuple[str, str], tuple[str, bytes]] = {}  # content that stands and no run has yet seen
        self.noticed: set[tuple[str, bytes]] = set()  # P1
        self.changes = self.faults = self.stamp = 0
        self.away = False
        # From here on, what comes is a change.
        assert self._program(self.alpha, "psync", ["--force"], NEVER, NEVER) == 0

    def teardown(self) -> None:
        if hasattr(self, "home"):
            try:
                if sys.exc_info()[0] is None:
                    self.away = False
                    self.come_to_rest()
            finally:
                if sys.exc_info()[0] is not None:
                    self._tell()
                remove(self.home)

    def _tell(self) -> None:
        """Print what the programs said, for whoever has to find out why a history failed."""
        for log in sorted([*self.home.glob("*.said"), *self.home.glob("*/var/log/hotpair.log")]):
            print(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}")

    # What users do

    def _content(self, source: random.Random) -> bytes:
        self.stamp += 1
        text = b"%d:%d\n" % (self.stamp, source.getrandbits(64))
        return text if source.random() < 0.7 else text + source.randbytes(BIG) + b"." * source.randrange(9)

    def _put(self, node: Node, path: str, thing: tuple[str, bytes]) -> None:
        self.written[path].add(thing)
        self.fresh[node.name, path] = thing
        self.changes += 1

    def _clear(self, live: str) -> None:
        if os.path.isdir(live) and not os.path.islink(live):
            os.rmdir(live)

    @rule(side=sides, path=paths, seed=seeds, in_place=st.booleans())
    def write(self, side: bool, path: str, seed: int, in_place: bool) -> None:
        node, source = self.nodes[side], random.Random(seed)
        live, data = node.live(path), self._content(source)
        self._clear(live)
        target = live if in_place and not os.path.islink(live) else node.live("/etc/editor~")
        with open(target, "wb") as out:
            out.write(data)
        if target != live:
            os.rename(target, live)
        self._put(node, path, ("file", data))

    @rule(side=sides, path=paths, seed=seeds)
    def rewrite_same_size_and_mtime(self, side: bool, path: str, seed: int) -> None:
        node = self.nodes[side]
        before = see(node.live(path))
        if before is None or before.kind != "file" or len(before.content) < 8:
            return
        data = random.Random(seed).randbytes(8) + before.content[8:]
        with open(node.live(path), "r+b") as out:
            out.write(data)
        os.utime(node.live(path), ns=(before.mtime_ns, before.mtime_ns))
        self._put(node, path, ("file", data))

    @rule(side=sides, path=paths, seed=seeds)
    def link(self, side: bool, path: str, seed: int) -> None:
        node = self.nodes[side]
        self.stamp += 1
        value = f"../{self.stamp}-{seed}"
        self._clear(node.live(path))
        os.symlink(value, node.live("/etc/editor~"))
        os.rename(node.live("/etc/editor~"), node.live(path))
        self._put(node, path, ("link", value.encode()))

    @rule(side=sides, path=paths)
    def mkdir(self, side: bool, path: str) -> None:
        node = self.nodes[side]
        self._delete(node, path)
        os.mkdir(node.live(path))
        self._put(node, path, ("directory", b""))

    def _delete(self, node: Node, path: str) -> None:
        live = node.live(path)
        if os.path.lexists(live):
            os.rmdir(live) if os.path.isdir(live) and not os.path.islink(live) else os.unlink(live)
            self.removed.add(path)
            self.fresh.pop((node.name, path), None)
            self.changes += 1

    @rule(side=sides, path=paths)
    def delete(self, side: bool, path: str) -> None:
        self._delete(self.nodes[side], path)

    @rule(side=sides, path=paths, to=paths)
    def rename(self, side: bool, path: str, to: str) -> None:
        node = self.nodes[side]
        thing = see(node.live(path))
        if path == to or thing is None or thing.kind == "directory":
            return
        self._clear(node.live(to))
        os.rename(node.live(path), node.live(to))
        self.removed.add(path)
        self.fresh.pop((node.name, path), None)
        self._put(node, to, (thing.kind, thing.content))

    @rule(side=sides, path=paths, seed=seeds)
    def metadata(self, side: bool, path: str, seed: int) -> None:
        live, source = self.nodes[side].live(path), random.Random(seed)
        if os.path.islink(live) or not os.path.isfile(live):
            return
        os.chmod(live, source.choice([0o600, 0o644, 0o755, 0o640]))
        if source.random() < 0.5:
            os.utime(live, ns=(source.randrange(2**60), source.randrange(2**61)))
        if source.random() < 0.3:
            os.setxattr(live, "user.note", b"%d" % seed)

    # What machines do

    def _program(self, node: Node, program: str, arguments: list[str], lines: int, peer_lines: int) -> int:
        code = self._wait(node.start(program, arguments, lines, peer_lines, self.away))
        self.faults += (lines < NEVER) + (peer_lines < NEVER)
        assert code in (0, 75, -9), f"{program} {arguments} ended with {code}"
        if code in (0, 75):
            self._has_noticed(node)
        return code

    def _wait(self, pid: int) -> int:
        """Return a program's exit code, looking at the trees all the while."""
        deadline = time.monotonic() + 60
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, f"run {pid} hangs"
            self.whole()
            time.sleep(0.002)

    def _has_noticed(self, node: Node) -> None:
        """A run ended well: what stood here before it is now its promise to keep."""
        for (name, path), thing in list(self.fresh.items()):
            if name == node.name:
                if thing[0] != "directory":
                    self.noticed.add(thing)
                del self.fresh[name, path]

    @rule(side=sides)
    def run(self, side: bool) -> None:
        self._program(self.nodes[side], "syncr", ["etc", "0"], NEVER, NEVER)
        self.kept()

    @rule(side=sides)
    def sweep(self, side: bool) -> None:
        code = self._program(self.nodes[side], "psync", ["--force"], NEVER, NEVER)
        if code == 0:
            self.equal()
        self.kept()

    @rule(side=sides, seed=seeds, peer_dies=st.booleans(), program=st.sampled_from(["syncr", "psync"]))
    def die(self, side: bool, seed: int, peer_dies: bool, program: str) -> None:
        lines = random_lines(random.Random(seed))
        arguments = ["etc", "0"] if program == "syncr" else ["--force"]
        self._program(self.nodes[side], program, arguments, *((NEVER, lines) if peer_dies else (lines, NEVER)))
        self.kept()

    @rule()
    def both_at_once(self) -> None:
        pids = [node.start("syncr", ["etc", "0"], NEVER, NEVER, self.away) for node in self.nodes]
        codes = [self._wait(pid) for pid in pids]
        assert set(codes) <= {0, 75}, codes
        for node in self.nodes:
            self._has_noticed(node)
        self.faults += 1
        self.kept()

    @rule()
    def cut_or_heal(self) -> None:
        self.away = not self.away

    # What was promised

    def whole(self) -> None:
        """P2: every path holds one content that a user wrote there, or nothing because a user removed it."""
        for node in self.nodes:
            for path in PATHS:
                thing = see(node.live(path))
                if thing is None:
                    continue
                assert (thing.kind, thing.content) in self.written[path], (
                    f"{node.name}:{path!r} holds {thing.kind} {thing.content[:40]!r} that nobody wrote"
                )

    def kept(self) -> None:
        """P1: what was noticed is live or a generation on one node at least."""
        found: set[tuple[str, bytes]] = set()
        for node in self.nodes:
            for folder, _, names in os.walk(node.live("/var/lib/hotpair/generations")):
                for name in names:
                    thing = see(f"{folder}/{name}")
                    if thing:
                        found.add((thing.kind, thing.content))
            for path in PATHS:
                thing = see(node.live(path))
                if thing:
                    found.add((thing.kind, thing.content))
        lost = self.noticed - found
        assert not lost, f"lost: {[(kind, content[:40]) for kind, content in lost]}"

    def equal(self) -> None:
        """P3 and P8: a program that says so means that both nodes are equal in everything."""
        for path in PATHS:
            here, there = (see(node.live(path)) for node in self.nodes)
            assert here == there, f"{path!r}: alpha {_brief(here)}, beta {_brief(there)}"

    def come_to_rest(self) -> None:
        """P3: two sweeps make both equal. P4: two more move nothing, and no change was sent twice. P6: commands ran."""
        codes = [self._program(node, "psync", ["--force"], NEVER, NEVER) for node in self.nodes]
        assert codes == [0, 0], f"two sweeps did not come to rest: {codes}"
        self.equal()
        self.kept()
        self.whole()
        for path in PATHS:  # P5
            if see(self.alpha.live(path)) is None and self.written[path]:
                assert path in self.removed, f"{path!r} was removed by nobody"
        before = self._snapshot()
        for node in self.nodes:
            assert self._program(node, "psync", [], NEVER, NEVER) == 0
        assert self._snapshot() == before, "two more sweeps changed something"
        sent = sum(node.payloads() for node in self.nodes)
        assert sent <= self.changes + self.faults * len(PATHS), f"{sent} contents sent for {self.changes} changes"
        self._commands_ran()

    def _snapshot(self) -> list[tuple[str, str, int]]:
        """Payloads sent, and inode and ctime of every live path and generation."""
        found = [("payloads", node.name, node.payloads()) for node in self.nodes]
        for node in self.nodes:
            for path in PATHS:
                if os.path.lexists(node.live(path)):
                    found.append((node.name, path, os.lstat(node.live(path)).st_ctime_ns))
        return found

    def _commands_ran(self) -> None:
        """P6: the commands ran after the newest content was in place (the tests' command copies the file)."""
        deadline = time.monotonic() + 20
        for node in self.nodes:
            for path in PATHS[:-1]:
                thing = see(node.live(path))
                if thing is None or thing.kind != "file":
                    continue
                while (ran := see(node.live("/ran/" + path.rsplit("/", 1)[1]))) is None or ran.content != thing.content:
                    assert time.monotonic() < deadline, f"{node.name}: the command for {path!r} did not run"
                    time.sleep(0.01)


def _brief(thing: Thing | None) -> str:
    return "nothing" if thing is None else repr(thing._replace(content=thing.content[:30]))
