"""The state machine: users edit on two nodes, runs are killed, links cut; after every step the promises are looked at.

The observer reads both trees itself: it knows what every user wrote, and asks hotpair for nothing but exit codes.
"""

from __future__ import annotations

import os
import random
import time

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.model.history import BIG, LARGE, NAMES, History, Wrote, seeds, sides
from tests.model.nodes import Node, make_pair
from tests.model.observer import brief, see

PATHS = [f"/etc/pair/{name}" for name in NAMES] + ["/etc/motd"]
paths = st.sampled_from(PATHS)
SETS = "large = {large}\n[files etc]\npaths =\n    /etc/pair/*.conf\n    /etc/motd\nkeep = 1000\nprefer = {prefer}\n"


class Pair(History):
    """One history of a files set."""

    set_name = "etc"

    @initialize(prefer=st.sampled_from(["newest", "newest", "alpha"]), large=LARGE)
    def begin(self, prefer: str, large: int) -> None:
        self.begin_history(*make_pair(SETS.format(prefer=prefer, large=large), "/etc/pair/*.conf", "/etc/pair"))
        self.written: dict[str, set[Wrote]] = {path: set() for path in PATHS}  # P2
        self.removed: set[str] = set()
        # From here on, what comes is a change.
        assert self.program(self.nodes[0], "psync", ["--force"]) == 0

    # What users do

    def _content(self, source: random.Random) -> bytes:
        self.stamp += 1
        text = b"%d:%d\n" % (self.stamp, source.getrandbits(64))
        return text if source.random() < 0.7 else text + source.randbytes(BIG) + b"." * source.randrange(9)

    def _put(self, path: str, thing: Wrote) -> None:
        self.written[path].add(thing)
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
        self._put(path, ("file", data))

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
        self._put(path, ("file", data))

    @rule(side=sides, path=paths, seed=seeds)
    def link(self, side: bool, path: str, seed: int) -> None:
        node = self.nodes[side]
        self.stamp += 1
        value = f"../{self.stamp}-{seed}"
        self._clear(node.live(path))
        os.symlink(value, node.live("/etc/editor~"))
        os.rename(node.live("/etc/editor~"), node.live(path))
        self._put(path, ("link", value.encode()))

    @rule(side=sides, path=paths)
    def mkdir(self, side: bool, path: str) -> None:
        node = self.nodes[side]
        self._delete(node, path)
        os.mkdir(node.live(path))
        self._put(path, ("directory", b""))

    def _delete(self, node: Node, path: str) -> None:
        live = node.live(path)
        if os.path.lexists(live):
            os.rmdir(live) if os.path.isdir(live) and not os.path.islink(live) else os.unlink(live)
            self.removed.add(path)
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
        self._put(to, thing.wrote)

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

    # What was promised

    def standing(self, node: Node, folder: str | None) -> set[Wrote]:
        things = [see(node.live(path)) for path in PATHS]
        return {thing.wrote for thing in things if thing and thing.kind != "directory"}

    def whole(self) -> None:
        """P2: every path holds one content that a user wrote there, or nothing because a user removed it."""
        for node in self.nodes:
            for path in PATHS:
                thing = see(node.live(path))
                if thing is None:
                    continue
                assert thing.wrote in self.written[path], (
                    f"{node.name}:{path!r} holds {thing.kind} {thing.content[:40]!r} that nobody wrote"
                )

    def kept(self) -> None:
        """P1: what was noticed is live or a generation on one node at least."""
        found: set[Wrote] = set()
        for node in self.nodes:
            for folder, _, names in os.walk(node.live("/var/lib/hotpair/generations")):
                for name in names:
                    thing = see(f"{folder}/{name}")
                    if thing:
                        found.add(thing.wrote)
            for path in PATHS:
                thing = see(node.live(path))
                if thing:
                    found.add(thing.wrote)
        lost = self.noticed - found
        assert not lost, f"lost: {[(kind, content[:40]) for kind, content in lost]}"

    def equal(self) -> None:
        """P3 and P8: a program that says so means that both nodes are equal in everything."""
        for path in PATHS:
            here, there = (see(node.live(path)) for node in self.nodes)
            assert here == there, f"{path!r}: alpha {brief(here)}, beta {brief(there)}"

    def come_to_rest(self) -> None:
        """P3: two sweeps make both equal. P4: two more move nothing, and no change was sent twice. P6: commands ran."""
        codes = [self.program(node, "psync", ["--force"]) for node in self.nodes]
        assert codes == [0, 0], f"two sweeps did not come to rest: {codes}"
        self.equal()
        self.kept()
        self.whole()
        for path in PATHS:  # P5
            if see(self.nodes[0].live(path)) is None and self.written[path]:
                assert path in self.removed, f"{path!r} was removed by nobody"
        before = self._snapshot()
        for node in self.nodes:
            assert self.program(node, "psync", []) == 0
        assert self._snapshot() == before, "two more sweeps changed something"
        sent = self.payloads()
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
