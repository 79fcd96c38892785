"""What the demo shows: each step makes a change on one node and says what was then seen on the other, and when."""

import hashlib
import json
import time
from collections.abc import Callable
from statistics import median

from tests.lab.demo_world import SET, Contents, Node, Seen
from tests.lab.spaces import wait_until

WITHIN = 20.0  # seconds for what takes a tenth of one: this machine may be busy
FILE = "/etc/pair/site.conf"
CHECKED = "/etc/pair/checked.conf"
LARGE = "/etc/pair/large.conf"
TRACE = "/var/log/demo-commands"
SYNCR_INI = """\
[/etc/pair/*.conf]
on = both
run = sh:echo "$HOTPAIR_PATH" >>{trace}

[/etc/pair/checked.conf]
check = grep -q ^valid %s
"""


class Untrue(Exception):
    """Something that the demo says was not so."""


def verify(true: bool, otherwise: str) -> None:
    if not true:
        raise Untrue(otherwise)


def text(seen: Seen | None) -> str:
    return "(nothing)" if seen is None else seen.content.decode(errors="replace")


class Story:
    """The demo, told to standard output."""

    def __init__(self, alpha: Node, beta: Node) -> None:
        self.alpha, self.beta = alpha, beta
        self.nodes = alpha, beta
        self.times: list[float] = []
        self.contents = 0  # content changes made since the count began
        self.counters: list[Contents] = []
        self.started = time.monotonic()

    def other(self, node: Node) -> Node:
        return self.beta if node is self.alpha else self.alpha

    def tell(self) -> None:
        """Tell all of it. Raises Untrue at the first thing that is not as said."""
        self.prepare()
        for node in self.nodes:
            self.changes_of(node)
        self.a_large_file()
        self.generations()
        self.equal_size_and_mtime()
        self.a_failing_check()
        self.transfers()
        self.status()
        print(
            f"\nAll of this was seen and verified, in {time.monotonic() - self.started:.0f} s."
            f" From a change to the peer: median {median(self.times):.0f} ms, most {max(self.times):.0f} ms."
        )

    def prepare(self) -> None:
        """Give both nodes their commands, and let a first file cross each way, so that all is warm."""
        for node in self.nodes:
            node.write_ini("syncr.ini", SYNCR_INI.format(trace=node.run(f"printf %s $R{TRACE}")[1]))
            code, said = node.run("mkdir -p $R/etc/pair && hotpair check && hotpair tables")
            verify(code == 0, f"{node.name} cannot be configured: {said}")
        heading("The two greet each other: psync")
        code, said = self.alpha.run("psync")  # what stands there already is no change, and runs no commands
        verify(code == 0, said)
        print(indented(said))
        for node in self.nodes:
            path = f"/etc/pair/{node.name}.conf"
            self.change(node, "a first file", f"echo hello >$R{path}", path)
        self.counters = [Contents(node.place(f"/etc/pair/.hotpair/{SET}")) for node in self.nodes]
        self.times, self.contents = [], 0

    def changes_of(self, node: Node) -> None:
        """Make one change of each kind on a node."""
        heading(f"Changes made on {node.name}, seen on {self.other(node).name}")
        name = f"$R{FILE}"
        self.change(node, "a new file", f"echo one >{name}", FILE)
        self.change(node, "an edit in place", f"echo two >>{name}", FILE)
        self.change(node, "sed -i", f"sed -i s/two/three/ {name}", FILE)
        self.change(node, "mv over it", "cd $R/etc/pair; echo four >new; mv new site.conf", FILE)
        self.change(node, "chmod", f"chmod 600 {name}", FILE, contents=0)
        self.change(node, "delete", f"rm {name}", FILE, contents=0)

    def a_large_file(self) -> None:
        heading("A large file goes through rsync, which sends only what differs")
        self.change(self.alpha, "8 MB", f"head -c 8000000 /dev/urandom >$R{LARGE}", LARGE)
        self.change(self.alpha, "a line more", f"echo more >>$R{LARGE}", LARGE)

    def generations(self) -> None:
        """Edit seven times, look at what is kept, bring number 3 back."""
        heading("Six generations, and one of them back")
        for number in range(1, 8):
            self.change(self.alpha, f"edit {number}", f"echo version {number} >$R{FILE}", FILE)
        wanted = [hashlib.blake2b(f"version {n}\n".encode(), digest_size=32).hexdigest() for n in range(7, 0, -1)]
        for node in self.nodes:
            said = node.run(f"hotpair history {FILE} --json")[1]
            kept = [(entry["number"], entry["digest"]) for entry in json.loads(said)["contents"]]
            verify(kept == list(enumerate(wanted)), f"{node.name} does not keep what was written: {said}")
        print(indented(self.beta.run(f"hotpair history {FILE}")[1]))
        print(f"  {self.alpha.name} keeps the same")
        self.change(self.beta, "restore number 3", f"hotpair restore {FILE} 3", FILE)
        verify(text(self.alpha.look(FILE)) == "version 4\n", f"that is not number 3: {text(self.alpha.look(FILE))!r}")

    def equal_size_and_mtime(self) -> None:
        heading("A change that neither size nor time gives away")
        before = self.alpha.look(FILE)
        line = "cd $R/etc/pair; sed s/v/V/ site.conf >new; touch -r site.conf new; mv new site.conf"
        self.change(self.alpha, "same size, same mtime", line, FILE)
        after = self.beta.look(FILE)
        verify(bool(before and after), f"{FILE} is gone")
        assert before and after
        verify(before.mtime_ns == after.mtime_ns and len(before.content) == len(after.content), "they were not equal")
        verify(after.content == b"Version 4\n", f"{self.beta.name} has {after.content!r}")

    def a_failing_check(self) -> None:
        """Write what the check of the other node refuses, and then mend it."""
        heading("A check that fails keeps the old file live: check = grep -q ^valid %s")
        self.change(self.alpha, "a valid file", f"echo valid one >$R{CHECKED}", CHECKED)
        line, told = f"echo broken >$R{CHECKED}", f"{self.beta.name}: check failed, the old file stays"
        self.say(self.alpha, "a broken one", line)
        code, said = self.alpha.run(line)
        verify(code == 0, said)
        self.contents += 1
        self.alpha.notice()
        wait_until(lambda: told in self.alpha.run("hotpair status")[1], WITHIN, 0.1)
        code, said = self.alpha.run("hotpair status")
        verify(code == 2 and told in said, f"{self.alpha.name} was not told: {said}")
        print(indented("\n".join(line for line in said.splitlines() if told in line)))
        kept = text(self.beta.look(CHECKED))
        verify(kept == "valid one\n", f"{self.beta.name} has {kept!r}")
        print(f"  {self.beta.name} still has: {kept.strip()}")
        self.change(self.alpha, "mended", f"echo valid two >$R{CHECKED}", CHECKED)

    def transfers(self) -> None:
        heading("What went over the line")
        arrived = sum(counter.arrived() for counter in self.counters)
        print(
            f"  {self.contents} contents were written on one node, {arrived} arrived on the other (counted by inotify)"
        )
        verify(arrived == self.contents, "they should be equal: something was sent twice, echoed, or not sent")

    def status(self) -> None:
        heading("Both compare everything once more")
        for node in self.nodes:
            code, said = node.run("psync && hotpair status")
            print(indented(said))
            verify(code == 0, f"{node.name} is not in sync: exit {code}")
        arrived = sum(counter.arrived() for counter in self.counters)
        verify(arrived == self.contents, "the comparison sent contents again")
        trees = [tree(node) for node in self.nodes]
        verify(trees[0] == trees[1], f"the nodes differ: {trees}")

    def say(self, node: Node, what: str, line: str) -> None:
        print(f"  {node.name:5} {what:22} {line.replace('$R', '')}")

    def change(self, node: Node, what: str, line: str, path: str, contents: int = 1) -> None:
        """Make a change on a node; see that the other gets exactly that, and that both run their commands."""
        self.say(node, what, line)
        ran = {each: traced(each, path) for each in self.nodes}
        before, seen_at = node.look(path), watch(node, self.other(node), line, path)
        verify(node.look(path) != before, f"nothing was changed on {node.name}")
        taken = (seen_at - node.changed_at(path)) * 1000
        self.times.append(taken)
        self.contents += contents
        wait_until(lambda: all(traced(each, path) > ran[each] for each in self.nodes), WITHIN)
        idle = [each.name for each in self.nodes if traced(each, path) == ran[each]]
        verify(not idle, f"the commands for {path} did not run on {' and '.join(idle)}")
        print(f"  {self.other(node).name:5} has it after {taken:.0f} ms; the commands ran on both")


def heading(title: str) -> None:
    print(f"\n{title}")


def indented(said: str) -> str:
    return "\n".join("  | " + line for line in said.splitlines())


def traced(node: Node, path: str) -> int:
    """Return how often a node's commands ran for a path."""
    seen = node.look(TRACE)
    return 0 if seen is None else seen.content.decode().splitlines().count(path)


def tree(node: Node) -> dict[str, Seen | None]:
    names = [FILE, CHECKED, LARGE, *(f"/etc/pair/{name}.conf" for name in ("alpha", "beta"))]
    return {name: node.look(name) for name in names}


def watch(node: Node, other: Node, line: str, path: str) -> float:
    """Run a line on one node and return the time at which the other's path became what it is on the first."""
    last, seen_at = other.look(path), 0.0

    def same(until: Callable[[], bool]) -> bool:
        nonlocal last, seen_at
        now = other.look(path)
        if now != last:
            last, seen_at = now, time.time()
        return until()

    process = node.start(line)
    wait_until(lambda: same(lambda: process.poll() is not None), WITHIN, 0.001)
    said = process.communicate()[0]
    verify(process.returncode == 0, f"`{line}` on {node.name}: {said}")
    node.notice()
    arrived = wait_until(lambda: same(lambda: last == node.look(path)), WITHIN, 0.001)
    verify(arrived and seen_at > 0, f"{other.name} has {last}, {node.name} has {node.look(path)}")
    return seen_at
