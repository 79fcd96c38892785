"""What users do in a tree: every rule is one act on one node."""

from __future__ import annotations

import os
import random
import shutil

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model.history import seeds, sides
from tests.model.observer import see
from tests.model.tree_acts import MOST, Acts, names, picks


class Users(Acts):
    """The rules of users."""

    @rule(side=sides, pick=picks, seed=seeds, in_place=st.booleans())
    def write(self, side: bool, pick: int, seed: int, in_place: bool) -> None:
        node = self.before(side)
        if path := self.pick(node, pick, "file", "link"):
            data = b"" if seed % 20 == 0 else self.content(random.Random(seed))
            self.put_file(node, path, data, in_place)
        self.after()

    @rule(side=sides, pick=picks, name=names, seed=seeds, both=st.booleans())
    def create(self, side: bool, pick: int, name: str, seed: int, both: bool) -> None:
        """Make a file, replacing what has the name; now and then on both nodes at once."""
        node, source = self.before(side), random.Random(seed)
        if len(self.there(node)) < MOST:
            path = self.place(node, pick, name)
            self.put_file(node, path, self.content(source))
            if both and os.path.isdir(self.live(self.nodes[not side], path).rpartition("/")[0]):
                self.dirty.add(not side)
                self.put_file(self.nodes[not side], path, self.content(source))
        self.after()

    @rule(side=sides, pick=picks, seed=seeds)
    def rewrite_same_size_and_mtime(self, side: bool, pick: int, seed: int) -> None:
        node = self.before(side)
        path = self.pick(node, pick, "file")
        thing = see(self.live(node, path)) if path else None
        if thing and len(thing.content) >= 8:
            data = random.Random(seed).randbytes(8) + thing.content[8:]
            self.written.add(("file", data))
            self.tell(node, f"rewrite {path!r}, size and mtime as before")
            with open(self.live(node, path), "r+b") as out:
                out.write(data)
            os.utime(self.live(node, path), ns=(thing.mtime_ns, thing.mtime_ns))
            self.changes += os.lstat(self.live(node, path)).st_nlink
        self.after()

    @rule(side=sides, pick=picks, name=names, seed=seeds)
    def link(self, side: bool, pick: int, name: str, seed: int) -> None:
        node = self.before(side)
        if len(self.there(node)) < MOST:
            path = self.place(node, pick, name)
            self.put_link(node, path, seed)
        self.after()

    @rule(side=sides, pick=picks, name=names, seed=seeds, files=st.integers(0, 3))
    def mkdir(self, side: bool, pick: int, name: str, seed: int, files: int) -> None:
        node, source = self.before(side), random.Random(seed)
        path = self.place(node, pick, name)
        if len(self.there(node)) < MOST and not os.path.isdir(self.live(node, path)):
            self.put_directory(node, path, source, files)
        self.after()

    @rule(side=sides, pick=picks)
    def delete(self, side: bool, pick: int) -> None:
        node = self.before(side)
        if path := self.pick(node, pick):
            self.clear(node, path)
        self.after()

    @rule(side=sides, pick=picks)
    def delete_file(self, side: bool, pick: int) -> None:
        node = self.before(side)
        if path := self.pick(node, pick, "file", "link"):
            self.clear(node, path)
        self.after()

    @rule(side=sides, pick=picks, seed=seeds)
    def retype(self, side: bool, pick: int, seed: int) -> None:
        """Make a file, a directory or a link another kind of thing."""
        node, source = self.before(side), random.Random(seed)
        if path := self.pick(node, pick):
            kind = see(self.live(node, path))
            assert kind
            wanted = source.choice([one for one in ("file", "link", "directory") if one != kind.kind])
            self.clear(node, path)
            if wanted == "file":
                self.put_file(node, path, self.content(source))
            elif wanted == "link":
                self.put_link(node, path, seed)
            else:
                self.put_directory(node, path, source, source.randrange(3))
        self.after()

    @rule(side=sides, pick=picks, kind=st.sampled_from(["directory", "file", "any"]), to=picks, name=names)
    def rename(self, side: bool, pick: int, kind: str, to: int, name: str) -> None:
        node = self.before(side)
        source, target = self.pick(node, pick, *(() if kind == "any" else (kind,))), self.place(node, to, name)
        if source and source != target and not f"{target}/".startswith(f"{source}/"):
            thing, over = see(self.live(node, source)), see(self.live(node, target))
            assert thing
            directories = thing.kind == "directory", over is not None and over.kind == "directory"
            if over is None or directories == (False, False):
                self.move(node, source, target)
            elif not f"{source}/".startswith(f"{target}/"):  # what a user does whose `mv` says no
                self.clear(node, target)
                self.move(node, source, target)
        self.after()

    @rule(side=sides, pick=picks, other=picks, kind=st.sampled_from(["directory", "file", "any"]))
    def exchange(self, side: bool, pick: int, other: int, kind: str) -> None:
        node = self.before(side)
        kinds = () if kind == "any" else (kind,)
        one, two = self.pick(node, pick, *kinds), self.pick(node, other, *kinds)
        apart = not f"{one}/".startswith(f"{two}/") and not f"{two}/".startswith(f"{one}/")
        if one and two and apart:
            self.tell(node, f"exchange {one!r} {two!r}")
            self.moves |= {(one, two), (two, one)}
            aside = node.live("/srv/aside~")
            for path in [*self.family(one), *self.family(two)]:
                self.removed.add(path)
                self.changes += 1
            os.rename(self.live(node, one), aside)
            os.rename(self.live(node, two), self.live(node, one))
            os.rename(aside, self.live(node, two))
        self.after()

    @rule(side=sides, pick=picks, to=picks, name=names)
    def copy(self, side: bool, pick: int, to: int, name: str) -> None:
        """Copy a file, time and all: two paths with one content."""
        node = self.before(side)
        source, target = self.pick(node, pick, "file"), self.place(node, to, name)
        live = self.live(node, target)
        if source and source != target and len(self.there(node)) < MOST and not os.path.isdir(live):
            self.clear(node, target)
            self.tell(node, f"copy {source!r} {target!r}")
            shutil.copy2(self.live(node, source), live)
            self.changes += 1
        self.after()

    @rule(side=sides, pick=picks, to=picks, name=names)
    def hard_link(self, side: bool, pick: int, to: int, name: str) -> None:
        """Give a file one more name."""
        node = self.before(side)
        source, target = self.pick(node, pick, "file"), self.place(node, to, name)
        live = self.live(node, target)
        if source and source != target and len(self.there(node)) < MOST and not os.path.isdir(live):
            self.clear(node, target)
            self.tell(node, f"hard link {source!r} {target!r}")
            os.link(self.live(node, source), live)
            self.changes += 1
        self.after()

    @rule(side=sides, pick=picks, seed=seeds)
    def metadata(self, side: bool, pick: int, seed: int) -> None:
        node, source = self.before(side), random.Random(seed)
        if path := self.pick(node, pick):
            self.tell(node, f"metadata {path!r}")
            self.change_metadata(self.live(node, path), source)
            self.changes += 1
        self.after()
