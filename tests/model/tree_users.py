"""What users do in a tree: every rule is one act on one node, and the observer knows what was written by it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model.history import History, Wrote, seeds, sides
from tests.model.nodes import Node
from tests.model.observer import Thing, see, tree

TOP = "/srv/data"
STAYS = "stays"  # a file that no rule touches, so that no history empties the tree and sets off the brake
NAMES = [
    os.fsdecode(name)
    for name in (
        b"a.conf",
        b"b c.conf",
        b"x;id;y.conf",
        b"-rf $(id) 'q\" .conf",
        b"new\nline.conf",
        b"\xff\xfe.conf",
        b"n" * 250 + b".conf",
    )
]
DEPTH = 3  # levels of names; a directory that is moved may bring more
MOST = 30  # entries, above which nothing is made
BIG = 40_000  # bytes: above what travels inside the conversation, so that rsync carries it
picks = st.integers(0, 40)  # which of the entries that are there
names = st.sampled_from(NAMES)


class Users(History):
    """The rules of users."""

    written: set[Wrote]  # P2
    moves: set[tuple[str, str]]
    removed: set[str]  # P5: paths that a user removed, moved away or made another kind of

    def before(self, side: bool) -> Node:
        """Begin an act: the machines rest, so that no file is swapped under a user's hands."""
        self.quiet()
        self.dirty.add(side)
        return self.nodes[side]

    def after(self) -> None:
        """End an act: what is gone now was destroyed by users."""
        raise NotImplementedError

    dirty: set[bool]  # the nodes on which something changed since both were equal

    # Where

    def there(self, node: Node) -> dict[str, Thing]:
        found = tree(node.live(TOP))
        found.pop(STAYS, None)
        return found

    def pick(self, node: Node, number: int, *kinds: str) -> str:
        """Return the path of an entry that is there, "" when there is none of these kinds."""
        found = [path for path, thing in self.there(node).items() if not kinds or thing.kind in kinds]
        return found[number % len(found)] if found else ""

    def place(self, node: Node, number: int, name: str) -> str:
        """Return a path of this name in a directory that is there, the root among them."""
        found = ["", *(path for path, thing in self.there(node).items() if thing.kind == "directory")]
        found = [path for path in found if not path or path.count("/") < DEPTH - 1]
        directory = found[number % len(found)]
        return f"{directory}/{name}" if directory else name

    def live(self, node: Node, path: str) -> str:
        return node.live(f"{TOP}/{path}")

    # How

    def tell(self, node: Node, what: str) -> None:
        self.story.append(f"{node.name}: {what}".replace("n" * 250, "nnn"))

    def content(self, source: random.Random) -> bytes:
        self.stamp += 1
        text = b"%d:%d\n" % (self.stamp, source.getrandbits(64))
        return text if source.random() < 0.85 else text + source.randbytes(BIG) + b"." * source.randrange(9)

    def put_file(self, node: Node, path: str, data: bytes, in_place: bool = False) -> None:
        live = self.live(node, path)
        self.tell(node, f"write {path!r} {data[:12]!r} {'in place' * in_place}")
        self.written.add(("file", data))
        if in_place and os.path.isfile(live) and not os.path.islink(live):
            with open(live, "wb") as out:
                out.write(data)
        else:
            with open(node.live("/srv/editor~"), "wb") as out:
                out.write(data)
            self.clear(node, path)
            os.rename(node.live("/srv/editor~"), live)
        self.changes += 1

    def clear(self, node: Node, path: str) -> None:
        """Remove what stands at a path, and remember all of it as removed."""
        live = self.live(node, path)
        if not os.path.lexists(live):
            return
        self.tell(node, f"remove {path!r}")
        for one in self.family(path):
            self.removed.add(one)
            self.changes += 1
        if os.path.isdir(live) and not os.path.islink(live):
            shutil.rmtree(live)
        else:
            os.unlink(live)

    def family(self, path: str) -> Iterator[str]:
        """Yield a path and all below it on either node."""
        yield path
        for node in self.nodes:
            yield from (one for one in self.there(node) if one.startswith(path + "/"))

    def gone(self, path: str, seen: frozenset[str] = frozenset()) -> bool:
        """P5: say whether a user removed a path or moved it away, by its name or by one it had before a move."""
        parts = path.split("/")
        if any("/".join(parts[: n + 1]) in self.removed for n in range(len(parts))):
            return True
        before = {old + path[len(new) :] for old, new in self.moves if f"{path}/".startswith(f"{new}/")}
        return any(self.gone(one, seen | {path}) for one in before - seen)

    def move(self, node: Node, path: str, to: str) -> None:
        """Rename, which replaces a file."""
        self.tell(node, f"rename {path!r} {to!r}")
        self.moves.add((path, to))
        for one in self.family(path):
            self.removed.add(one)
            self.changes += 1
        os.rename(self.live(node, path), self.live(node, to))

    # The rules

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
            self.changes += 1
        self.after()

    @rule(side=sides, pick=picks, name=names, seed=seeds)
    def link(self, side: bool, pick: int, name: str, seed: int) -> None:
        node = self.before(side)
        if len(self.there(node)) < MOST:
            path = self.place(node, pick, name)
            self.put_link(node, path, seed)
        self.after()

    def put_link(self, node: Node, path: str, seed: int) -> None:
        self.stamp += 1
        value = f"../{self.stamp}-{seed}"
        self.tell(node, f"link {path!r} {value!r}")
        self.written.add(("link", value.encode()))
        self.clear(node, path)
        os.symlink(value, self.live(node, path))
        self.changes += 1

    @rule(side=sides, pick=picks, name=names, seed=seeds, files=st.integers(0, 3))
    def mkdir(self, side: bool, pick: int, name: str, seed: int, files: int) -> None:
        node, source = self.before(side), random.Random(seed)
        path = self.place(node, pick, name)
        if len(self.there(node)) < MOST and not os.path.isdir(self.live(node, path)):
            self.put_directory(node, path, source, files)
        self.after()

    def put_directory(self, node: Node, path: str, source: random.Random, files: int) -> None:
        self.clear(node, path)
        self.tell(node, f"mkdir {path!r}")
        os.mkdir(self.live(node, path))
        self.changes += 1
        for name in source.sample(NAMES, files):
            self.put_file(node, f"{path}/{name}", self.content(source))

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

    @rule(side=sides, pick=picks, seed=seeds)
    def metadata(self, side: bool, pick: int, seed: int) -> None:
        node, source = self.before(side), random.Random(seed)
        if path := self.pick(node, pick):
            self.tell(node, f"metadata {path!r}")
            self.change_metadata(self.live(node, path), source)
            self.changes += 1
        self.after()

    def change_metadata(self, live: str, source: random.Random) -> None:
        link, directory = os.path.islink(live), os.path.isdir(live)
        if source.random() < 0.5 and not link:
            os.chmod(live, source.choice([0o700, 0o2755, 0o750] if directory else [0o600, 0o4755, 0o755, 0o640]))
        if source.random() < 0.4:
            os.utime(live, ns=(1, source.randrange(2**61)), follow_symlinks=False)
        if source.random() < 0.4 and os.geteuid() == 0:
            os.chown(live, source.choice([0, 1, 1234]), source.choice([0, 1, 4321]), follow_symlinks=False)
        if source.random() < 0.3 and not link:
            os.setxattr(live, "user.note", b"%d" % source.getrandbits(20))
