"""The programs that carry a tree from alpha to beta: how each is configured, started, and told that there is work.

One line of contract: after prepare() both sides are in sync; a resident program then finds the work by itself, any
other is started with command() when the work is done. All use one ssh connection that is kept open.
"""

import os
import shutil
from collections.abc import Sequence

from tests.bench.ground import Ground
from tests.bench.pairs import LSYNCD, put
from tests.bench.trees import Work
from tests.lab.pairlab import NODES

FIRST = 600.0  # seconds for a first look at a large tree
LIST = "/tmp/bench.list"
LUA = "/root/bench.lua"
RSYNCSSH = """\
settings {{ nodaemon = true }}
sync {{
    default.rsyncssh,
    source = "{source}",
    host = "root@beta",
    targetdir = "{target}",
    delay = 0,
    rsync = {{ archive = true, rsh = "{rsh}" }},
    ssh = {{ binary = "{ssh}", _extra = {{ {options} }} }},
}}
"""
CLSYNC = ["--config-file", "/NULL/", "-M", "rsyncdirect", "-S", "/usr/bin/rsync", "-t", "1", "-w", "1", "-x", "24"]
CLSYNC_LISTS = "/tmp/bench.clsync"
UNISON = ["-batch", "-silent", "-log=false", "-owner", "-group", "-numericids", "-times", "-perms", "-1"]
INI = "/etc/hotpair/hotpair.ini"
SECTION = "\n[tree {name}]\nroot = {root}\n"


class Rival:
    """A program, or a pair of flags of one."""

    name = ""
    program = ""
    resident = True
    judged = False  # a goal is about it, or compares with it

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def why_not(self) -> str:
        """Return why it cannot take part, "" if it can."""
        return "" if shutil.which(self.program) else f"no {self.program} here: `make bench` installs it"

    def prepare(self, root: str, work: Work) -> None:
        """Bring both sides of a tree in sync and, when resident, watch it. Raises RuntimeError."""

    def command(self, root: str, work: Work) -> Sequence[str]:
        """Return what carries the work, for one that is not resident."""
        raise NotImplementedError

    def sweep(self, root: str) -> Sequence[str]:
        """Return what compares both sides of a whole tree, () when there is no such thing."""
        return ()

    def stop(self) -> None:
        """Undo what prepare() configured; its processes are killed by others."""


class Bare(Rival):
    """rsync that is told what to do: the least that can be done over this connection."""

    name, program, resident, judged = "bare rsync", "rsync", False, True

    def prepare(self, root: str, work: Work) -> None:
        put(self.ground.bench.roots["alpha"], LIST, "".join(f"{name}\n" for name in work.new))

    def command(self, root: str, work: Work) -> Sequence[str]:
        return self._rsync(root, f"--files-from={LIST}" if work.new else "--delete")

    def sweep(self, root: str) -> Sequence[str]:
        return self._rsync(root)

    def _rsync(self, root: str, *options: str) -> Sequence[str]:
        return ["rsync", "-a", "-e", self.ground.rsh, *options, f"{root}/", f"root@beta:{root}/"]


class Lsyncd(Rival):
    """lsyncd as it comes, without its delay."""

    name, program = "lsyncd delay=0", "lsyncd"

    def prepare(self, root: str, work: Work) -> None:
        put(self.ground.bench.roots["alpha"], LUA, self.configuration(root))
        self.ground.start("alpha", ["lsyncd", "-nodaemon", LUA])

    def configuration(self, root: str) -> str:
        return LSYNCD.format(source=root, target=root, rsh=self.ground.rsh)


class LsyncdSsh(Lsyncd):
    """lsyncd that renames on the peer by ssh."""

    name, judged = "lsyncd rsyncssh delay=0", True

    def configuration(self, root: str) -> str:
        ssh, *words = self.ground.rsh.split()
        options = ", ".join(f'"{word}"' for word in words)
        return RSYNCSSH.format(source=root, target=root, rsh=self.ground.rsh, ssh=ssh, options=options)


class Clsync(Rival):
    """clsync with its shortest delays; it calls rsync itself."""

    name, program = "clsync -t1 -w1", "clsync"

    def prepare(self, root: str, work: Work) -> None:
        self.stop()
        os.mkdir(self.ground.place("alpha", CLSYNC_LISTS), 0o700)
        words = [*CLSYNC, "-u", "0", "-g", "0", "-L", CLSYNC_LISTS, "-W", root, "-D", f"root@beta:{root}"]
        self.ground.start("alpha", ["env", f"RSYNC_RSH={self.ground.rsh}", "clsync", *words])

    def stop(self) -> None:
        shutil.rmtree(self.ground.place("alpha", CLSYNC_LISTS), ignore_errors=True)


class Unison(Rival):
    """unison, started once when the work is done."""

    name, program, resident = "unison, one-shot", "unison", False

    def prepare(self, root: str, work: Work) -> None:
        self.ground.run("alpha", self.sweep(root), FIRST)  # its archives: without them it would compare contents

    def command(self, root: str, work: Work) -> Sequence[str]:
        return self.sweep(root)

    def sweep(self, root: str) -> Sequence[str]:
        ssh, _, options = self.ground.rsh.partition(" ")
        return ["unison", root, f"ssh://root@beta/{root}", "-sshcmd", ssh, "-sshargs", options, *UNISON]

    def stop(self) -> None:
        for place in self.ground.places("/root/.unison"):
            shutil.rmtree(place, ignore_errors=True)


class Hotpair(Rival):
    """hotpair, fired by incrond; a set of a new name each time, so that nothing is known from the last."""

    name, judged = "hotpair", True

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self.number = 0
        with open(ground.place("alpha", INI), encoding="utf-8") as alpha:
            self.plain = {"alpha": alpha.read()}
        with open(ground.place("beta", INI), encoding="utf-8") as beta:
            self.plain["beta"] = beta.read()

    def why_not(self) -> str:
        self._configure(SECTION.format(name="data", root="/srv"))
        try:
            self.ground.run("alpha", ["hotpair", "check"])
        except RuntimeError as refusal:
            return f"`hotpair check` refuses a [tree] section: {refusal}"
        finally:
            self._configure("")
        return ""

    def prepare(self, root: str, work: Work) -> None:
        self.number += 1
        self._configure(SECTION.format(name=self._set(), root=root))
        for node in NODES:
            self.ground.run(node, ["hotpair", "tables"])
        for node in NODES:
            self.ground.run(node, ["psync", self._set()], FIRST)

    def sweep(self, root: str) -> Sequence[str]:
        return ["psync", self._set()]

    def stop(self) -> None:
        self._configure("")
        for node in NODES:
            self.ground.run(node, ["hotpair", "tables"])

    def _set(self) -> str:
        return f"data{self.number}"

    def _configure(self, section: str) -> None:
        for node, text in self.plain.items():
            put(self.ground.bench.roots[node], INI, text + section, 0o600)


# In the order of a round: hotpair stands beside what it is compared with.
ALL: tuple[type[Rival], ...] = (Unison, Lsyncd, Bare, Hotpair, LsyncdSsh, Clsync)
