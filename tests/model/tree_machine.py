"""The state machine of a tree: users change whole directories on two nodes, machines die, and the promises hold."""

from __future__ import annotations

import os
import random
import time

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.model import disk
from tests.model.history import LARGE, NAMES, Wrote, seeds, sides
from tests.model.nodes import NEVER, Node, make_pair, random_lines
from tests.model.observer import Thing, brief, see, tree
from tests.model.tree_acts import MOST, STAYS, TOP, picks
from tests.model.tree_users import Users

SETS = """large = {large}
[tree data]
root = /srv/data
keep = 1000
max-delete = 100%
prefer = {prefer}
conflict = {conflict}
"""
COMMANDS = "/srv/data/*.conf"
KEPT = "/srv/data/.hotpair/data.kept"
INBOX = "/srv/data/.hotpair/data"
LEFT = [0, 1 << 16, 8 << 20]  # bytes free on a full disk
MOMENTS = 0.06  # seconds that a run takes
COPY = ".sync-conflict-"
SWEEPS = 2  # that must bring both to rest


class Trees(Users):
    """One history of a tree."""

    set_name = "data"

    @initialize(
        prefer=st.sampled_from(["newest", "newest", "alpha"]),
        conflict=st.sampled_from(["generations", "beside"]),
        large=LARGE,
        small=st.integers(0, 3),
        seed=seeds,
    )
    def begin(self, prefer: str, conflict: str, large: int, small: int, seed: int) -> None:
        self.begin_history(*make_pair(SETS.format(prefer=prefer, conflict=conflict, large=large), COMMANDS, TOP))
        self.disks: list[str] = []
        self.begun = False
        if small == 0:
            self.disks = [node.live("/srv") for node in self.nodes if disk.mount(node.live("/srv"))]
            for node in self.nodes:
                os.makedirs(node.live(TOP), exist_ok=True)
        self.written, self.moves, self.removed, self.dirty = set(), set(), set(), set()
        self.had: tuple[set[Wrote], set[Wrote]] = set(), set()  # what was ever live on each node
        self.created: set[str] = set()  # P5
        self.furnish(random.Random(seed))
        assert self.program(self.nodes[0], "psync", ["--force"]) == 0  # from here on, what comes is a change
        self.begun = True
        self.found()
        for node in self.nodes:
            node.install_table("data")

    def furnish(self, source: random.Random) -> None:
        """Have something in the tree from the start, so that the first acts find what they act on."""
        node = self.nodes[0]
        self.put_file(node, STAYS, b"for ever")
        for _ in range(source.randrange(4)):
            path = self.place(node, source.randrange(9), source.choice(NAMES))
            self.put_directory(node, path, source, source.randrange(3))
        self.created.update(self.there(node))

    def clean_up(self) -> None:
        for mounted in self.disks:
            disk.unmount(mounted)

    # What machines do

    @rule(side=sides, pick=picks, seed=seeds, dies=st.sampled_from([False, False, False, True]))
    def event(self, side: bool, pick: int, seed: int, dies: bool) -> None:
        """One event in one folder, as incrond tells it."""
        node = self.nodes[side]
        folders = ["", *(path for path, thing in self.there(node).items() if thing.kind == "directory")]
        folder = folders[pick % len(folders)]
        watch = node.watch_id(f"{TOP}/{folder}" if folder else TOP)
        lines = random_lines(random.Random(seed)) if dies else NEVER
        self.program(node, "syncr", ["data", watch], lines, folder=folder)
        self.kept()

    @rule(side=sides, full=sides, leave=st.sampled_from(LEFT), program=st.sampled_from(["syncr", "psync"]))
    def full_disk(self, side: bool, full: bool, leave: int, program: str) -> None:
        """Run while one node's file system is full, or has no room for contents."""
        if not self.disks:
            return
        self.quiet()
        before = set(self.noticed)
        filled = disk.fill(self.disks[full], leave)
        self.tell(self.nodes[full], f"only {leave} bytes are free")
        try:
            self.program(self.nodes[side], program, ["data", "0"] if program == "syncr" else ["--force"])
        finally:
            os.unlink(filled)
        self.noticed = before  # nobody can keep what there is no room for
        self.faults += 1
        self.kept()

    @rule(side=sides, runs=sides, seed=seeds, program=st.sampled_from(["syncr", "psync"]))
    def meanwhile(self, side: bool, runs: bool, seed: int, program: str) -> None:
        """A user acts while a run is under way, on the node that sends or on the one that receives."""
        node, source = self.before(side), random.Random(seed)
        fleeting: set[Wrote] = set()

        def act() -> None:
            until = time.monotonic() + source.random() * MOMENTS
            while time.monotonic() < until:
                self.whole()
            known, before = set(self.noticed), self.places(node)
            self.act(node, source)
            after = self.places(node)
            fleeting.update({wrote for path, wrote in before.items() if after.get(path) != wrote} - known)

        arguments = ["data", "0"] if program == "syncr" else ["--force"]
        self.program(self.nodes[runs], program, arguments, meanwhile=act)
        self.noticed -= fleeting  # gone, or moved to where the run had looked, before it could see it, perhaps
        self.faults += 1
        self.after()

    def ran(self, side: bool, code: int) -> None:
        """P3 without a sweep: who alone had changes has none when its run ended well."""
        if code == 0 and self.dirty <= {side} and not self.away:
            self.equal()

    # What was promised

    def look(self, node: Node) -> dict[str, Thing]:
        """Return what stands in a node's tree. A conflict copy is from then on the users' own, as any new file is."""
        found = tree(node.live(TOP))
        for had in self.had:
            had.update(thing.wrote for path, thing in found.items() if COPY in path)
        return found

    def places(self, node: Node) -> dict[str, Wrote]:
        """Return what is live on a node, and where."""
        return {path: thing.wrote for path, thing in self.look(node).items() if thing.kind != "directory"}

    def standing(self, node: Node, folder: str | None) -> set[Wrote]:
        return {w for path, w in self.places(node).items() if folder is None or path.rpartition("/")[0] == folder}

    def whole(self) -> None:
        """P2: every path holds one content that a user wrote somewhere in the tree."""
        for node in self.nodes:
            found = self.look(node)
            assert STAYS in found or not self.begun, f"{node.name}: {STAYS!r} is gone"
            for path, thing in found.items():
                if thing.kind != "directory":
                    assert thing.wrote in self.written, f"{node.name}:{path!r} holds {brief(thing)} that nobody wrote"

    def found(self, final: bool = False) -> set[Wrote]:
        """Return what is live or kept on either node; what a crash left in mid-exchange counts until the end."""
        things: set[Wrote] = set()
        for node, had in zip(self.nodes, self.had, strict=True):
            live = {thing.wrote for thing in self.look(node).values() if thing.kind != "directory"}
            had.update(live)
            things |= live
            for place in (KEPT,) if final else (KEPT, INBOX):
                things |= {thing.wrote for thing in tree(node.live(place)).values() if thing.kind != "directory"}
        return things

    def lost(self, final: bool = False) -> set[Wrote]:
        return self.noticed - self.found(final)

    def after(self) -> None:
        """P1 of what users destroy: only what both nodes had, or none has taken notice of, is theirs to destroy."""
        lost = self.lost()
        alone = {thing for thing in lost if not all(thing in had for had in self.had)}
        assert not alone, f"the only copy was with the user: {[(kind, content[:40]) for kind, content in alone]}"
        self.noticed -= lost
        for node in self.nodes:
            self.created.update(self.there(node))

    def kept(self) -> None:
        """P1: what was noticed is live or kept on one node at least."""
        if self.lost():
            self.quiet()  # a generation may just have got another number
            lost = self.lost()
            assert not lost, f"lost: {[(kind, content[:40]) for kind, content in lost]}"

    def equal(self) -> None:
        """P3 and P8: both nodes are equal in everything."""
        here, there = (tree(node.live(TOP)) for node in self.nodes)
        for path in sorted(here.keys() | there.keys()):
            one, two = here.get(path), there.get(path)
            assert one == two, f"{path!r}: alpha {brief(one)}, beta {brief(two)}"
        self.dirty.clear()

    def come_to_rest(self) -> None:
        """P3: two sweeps make both equal. P4: two more move nothing. P5: nothing vanished. P6: commands ran."""
        self.quiet()
        codes = [self.program(self.nodes[n % 2], "psync", ["--force"]) for n in range(SWEEPS)]
        assert codes[-1] == 0, f"sweeps did not come to rest: {codes}"
        self.equal()
        lost = self.lost(final=True)
        assert not lost, f"lost: {[(kind, content[:40]) for kind, content in lost]}"
        self.whole()
        standing = tree(self.nodes[0].live(TOP))
        for path in self.created - standing.keys():
            assert self.gone(path), f"{path!r} was removed by nobody"
        before = self._snapshot()
        for node in self.nodes:
            assert self.program(node, "psync", []) == 0
        assert self._snapshot() == before, "two more sweeps changed something"
        sent = self.payloads()
        assert sent <= self.changes + self.faults * 2 * MOST, f"{sent} contents sent for {self.changes} changes"
        self._commands_ran()

    def _snapshot(self) -> list[tuple[str, str, int]]:
        """Payloads sent, and the ctime of every live path and of all that is kept or staged."""
        found = [("payloads", node.name, node.payloads()) for node in self.nodes]
        for node in self.nodes:
            for top in (TOP, KEPT, INBOX):
                found += [(node.name, f"{top}/{path}", self._ctime(node, top, path)) for path in tree(node.live(top))]
        return found

    def _ctime(self, node: Node, top: str, path: str) -> int:
        return os.lstat(node.live(f"{top}/{path}")).st_ctime_ns

    def _commands_ran(self) -> None:
        """P6: the commands ran after the newest content was in place (the tests' command copies the file)."""
        self.quiet()
        for node in self.nodes:
            for path, thing in tree(node.live(TOP)).items():
                if "/" not in path and path.endswith(".conf") and thing.kind == "file":
                    ran = see(node.live(f"/ran/{path}"))
                    assert ran and ran.content == thing.content, f"{node.name}: the command for {path!r} did not run"
