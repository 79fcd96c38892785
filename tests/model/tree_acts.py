"""How users act in a tree, and what the observer remembers of it."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator

from hypothesis import strategies as st

from tests.model.history import BIG, NAMES, History, Wrote
from tests.model.nodes import Node
from tests.model.observer import Thing, see, tree

TOP = "/srv/data"
STAYS = "stays"  # a file that no rule touches, so that no history empties the tree and sets off the brake
DEPTH = 3  # levels of names; a directory that is moved may bring more
MOST = 30  # entries, above which nothing is made
SWEPT_AWAY = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL)
picks = st.integers(0, 40)  # which of the entries that are there
names = st.sampled_from(NAMES)


class Acts(History):
    """What users have done, and how they do it."""

    written: set[Wrote]  # P2
    moves: set[tuple[str, str]]  # from one path to another
    removed: set[str]  # P5: paths that a user removed, moved away or made another kind of
    had: tuple[set[Wrote], set[Wrote]]  # contents that each node is known to have had
    dirty: set[bool]  # the nodes on which something changed since both were equal

    def before(self, side: bool) -> Node:
        """Begin an act: the machines rest, so that no file is swapped under a user's hands."""
        self.quiet()
        self.dirty.add(side)
        return self.nodes[side]

    def after(self) -> None:
        """End an act: what is gone now was destroyed by users."""
        raise NotImplementedError

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
            self.destroys(node, path)
            with open(live, "wb") as out:
                out.write(data)
            self.changes += os.lstat(live).st_nlink - 1  # under its other names
        else:
            with open(node.live("/srv/editor~"), "wb") as out:
                out.write(data)
            self.clear(node, path)
            os.rename(node.live("/srv/editor~"), live)
        self.changes += 1

    def put_link(self, node: Node, path: str, seed: int) -> None:
        self.stamp += 1
        value = f"../{self.stamp}-{seed}"
        self.tell(node, f"link {path!r} {value!r}")
        self.written.add(("link", value.encode()))
        self.clear(node, path)
        os.symlink(value, self.live(node, path))
        self.changes += 1

    def put_directory(self, node: Node, path: str, source: random.Random, files: int) -> None:
        self.clear(node, path)
        self.tell(node, f"mkdir {path!r}")
        os.mkdir(self.live(node, path))
        self.changes += 1
        for name in source.sample(NAMES, files):
            self.put_file(node, f"{path}/{name}", self.content(source))

    def clear(self, node: Node, path: str) -> None:
        """Remove what stands at a path, and remember all of it as removed."""
        live = self.live(node, path)
        if not os.path.lexists(live):
            return
        self.tell(node, f"remove {path!r}")
        self.destroys(node, path)
        for one in self.family(path):
            self.removed.add(one)
            self.changes += 1
        if os.path.isdir(live) and not os.path.islink(live):
            shutil.rmtree(live)
        else:
            os.unlink(live)

    def destroys(self, node: Node, path: str) -> None:
        """Remember that a node had what a user destroys there, which may have come in this instant."""
        live = self.live(node, path)
        things = [see(live), *(tree(live).values() if os.path.isdir(live) and not os.path.islink(live) else ())]
        had = self.had[self.nodes.index(node)]
        had.update(thing.wrote for thing in things if thing and thing.kind != "directory")

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
        self.destroys(node, to)
        os.rename(self.live(node, path), self.live(node, to))

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

    def act(self, node: Node, source: random.Random) -> None:
        """Do something while machines work: what is there now may not be there in the next instant."""
        kind = source.choice(["file", "file", "directory"])
        path, target = self.pick(node, source.randrange(40), kind), self.place(node, source.randrange(9), NAMES[0])
        what = source.choice(["in place", "replace", "create", "delete", "move", "move", "mode"])
        try:
            if what == "create" or not path:
                self.put_file(node, target, self.content(source))
            elif what in ("in place", "replace") and kind == "file":
                self.put_file(node, path, self.content(source), what == "in place")
            elif what == "delete":
                self.clear(node, path)
            elif what == "move" and not f"{target}/".startswith(f"{path}/"):
                self.move(node, path, target)
            else:
                self.change_metadata(self.live(node, path), source)
                self.changes += 1
        except OSError as error:
            if error.errno not in SWEPT_AWAY:
                raise
            self.tell(node, f"(not done: {error.strerror})")
