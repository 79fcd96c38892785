"""One change crosses the pair: made by a user on either node, noticed by real incrond, carried by real ssh."""

import json
import os
import stat
import time
from statistics import median
from typing import NamedTuple

import pytest

from tests.lab.conftest import Pair
from tests.lab.demo_world import Contents, LabNode, Seen

WITHIN = 15.0  # seconds for what takes a fifth of one: two CPUs, and others are at work
TRACE = "/var/log/commands"
SYNCR_INI = """\
[/etc/pair/*.conf]
run = sh:echo "both $HOTPAIR_PATH" >>/var/log/commands

[/etc/pair/here-*.conf]
on = here
run = sh:echo "here $HOTPAIR_PATH" >>/var/log/commands

[/etc/pair/peer-*.conf]
on = peer
run = sh:echo "peer $HOTPAIR_PATH" >>/var/log/commands

[/etc/pair/checked-*.conf]
check = grep -q ^valid %s
"""


class Way(NamedTuple):
    """A direction: where users work, and where that has to arrive."""

    pair: Pair
    here: LabNode
    there: LabNode
    counters: tuple[Contents, Contents]  # of the contents that arrive here and there

    def path(self, name: str) -> str:
        return f"/etc/pair/{name}-from-{self.here.name}.conf"

    def begin(self, path: str, line: str = "echo first >{}") -> None:
        """Make a file, and let it cross."""
        self.crosses(path, line)

    def crosses(self, path: str, line: str) -> float:
        """Make a change; return the seconds until the other node had exactly that, fail when it never had."""
        before, had = self.here.look(path), self.there.look(path)
        assert self.here.run(line.format(path)) == (0, "")
        assert self.here.look(path) != before, "the test changed nothing"
        self.pair.wait_until(lambda: self.there.look(path) == self.here.look(path) != had, WITHIN, 0.002)
        taken = time.time() - self.here.changed_at(path)
        assert self.there.look(path) == self.here.look(path)
        return taken

    def arrived(self) -> tuple[int, int]:
        """Return how many contents have arrived here and there."""
        return self.counters[0].arrived(), self.counters[1].arrived()

    def text(self, path: str) -> bytes:
        seen = self.there.look(path)
        assert seen is not None
        return seen.content


@pytest.fixture(scope="module")
def ready(pair):
    """Both nodes with their commands, compared equal, and a first file of each on the other."""
    nodes = [LabNode(pair.lab, "alpha"), LabNode(pair.lab, "beta")]
    for node in nodes:
        node.write_ini("syncr.ini", SYNCR_INI)
        assert node.run("mkdir -p /etc/pair; hotpair tables >/dev/null") == (0, "")
    assert nodes[0].run("psync")[0] == 0
    for here, there in (nodes, nodes[::-1]):
        here.run(f"echo hello >/etc/pair/hello-from-{here.name}.conf")
        arrives = f"/etc/pair/hello-from-{here.name}.conf"
        assert pair.wait_until(lambda there=there, arrives=arrives: there.look(arrives), WITHIN)
    return [(node, Contents(node.place("/etc/pair/.hotpair/etc"))) for node in nodes]


@pytest.fixture(params=["alpha", "beta"])
def way(request, pair, ready):
    here, there = ready if request.param == "alpha" else ready[::-1]
    return Way(pair, here[0], there[0], (here[1], there[1]))


CONTENTS = {
    "create": ("", "echo new >{}"),
    "create empty": ("", ": >{}"),
    "append in place": ("echo first >{}", "echo more >>{}"),
    "truncate in place": ("echo first >{}", ": >{}"),
    "sed -i": ("echo first >{}", "sed -i s/first/second/ {}"),
    "mv over": ("echo first >{}", "echo second >/etc/pair/new; mv /etc/pair/new {}"),
    "mv from elsewhere": ("echo first >{}", "echo second >/srv/new; mv /srv/new {}"),
    "cp over": ("echo first >{}", "echo second >/srv/new; cp /srv/new {}"),
    "vim": ("echo first >{}", "vim.tiny -es -c %s/first/second/ -c wq {}"),
    "vim with backup": ("echo first >{}", "vim.tiny -es -c 'set backupcopy=no' -c %s/first/second/ -c wq {}"),
    "rsync onto it": ("echo first >{}", "echo second >/srv/new; rsync -a /srv/new {}"),
    "rsync in place": ("echo first >{}", "echo second >/srv/new; rsync -a --inplace /srv/new {}"),
    "larger than a message": ("echo first >{}", "head -c 3000000 /dev/urandom >{}"),
    "bytes of all kinds": ("echo first >{}", "printf '\\000\\r\\n\\377' >{}"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_content_arrives_whole_and_once(way, kind):
    path, (first, line) = way.path(kind.replace(" ", "-")), CONTENTS[kind]
    if first:
        way.begin(path, first)
    here, there = way.arrived()
    way.crosses(path, line)
    assert way.arrived() == (here, there + 1)


METADATA = {
    "mode": "chmod 2640 {}",
    "owner": "chown 1234:4321 {}",
    "mtime": "touch -d '2001-02-03 04:05:06.789012345' {}",
    "ACL": "setfacl -m u:65534:rw {}",
    "xattr": "setfattr -n user.origin -v elsewhere {}",
}


@pytest.mark.parametrize("kind", METADATA)
def test_metadata_arrives_without_content(way, kind):
    path = way.path(kind)
    way.begin(path)
    before = way.arrived()
    way.crosses(path, METADATA[kind])
    assert way.arrived() == before


def test_delete_arrives(way):
    path = way.path("deleted")
    way.begin(path)
    way.crosses(path, "rm {}")
    assert way.there.look(path) is None


def test_link_arrives_as_a_link(way):
    path, before = way.path("link"), way.arrived()
    # nothing is behind the link on the other node: it must be carried, not followed
    way.begin(path, "echo secret >/srv/only-here; ln -s /srv/only-here {0}.tmp; mv {0}.tmp {0}")
    assert os.readlink(way.there.place(path)) == "/srv/only-here"
    way.crosses(path, "ln -sfn nowhere {}")
    assert way.arrived() == before


def test_file_becomes_link_becomes_directory_becomes_file(way):
    path = way.path("changeling")
    way.begin(path)
    steps = {
        stat.S_IFLNK: "ln -sf /etc/motd {}",
        stat.S_IFDIR: "rm {0}; mkdir -m 750 /etc/pair/dir; mv -T /etc/pair/dir {0}",
        stat.S_IFREG: "rmdir {0}; echo again >{0}",
    }
    for kind, line in steps.items():
        way.crosses(path, line)
        seen = way.there.look(path)
        assert seen is not None and seen.kind == kind


def test_equal_size_and_equal_mtime_arrive(way):
    path = way.path("disguised")
    way.begin(path)
    before = way.there.look(path)
    way.crosses(path, "echo FIRST >/etc/pair/new; touch -r {0} /etc/pair/new; mv /etc/pair/new {0}")
    assert way.there.look(path) == before._replace(content=b"FIRST\n")


def commands(node: LabNode, path: str) -> list[str]:
    """Return what ran on a node for a path, in order."""
    seen = node.look(TRACE)
    lines = seen.content.decode().splitlines() if seen else []
    return [line.split()[0] for line in lines if line.endswith(" " + path)]


@pytest.mark.parametrize("line", ["echo second >{}", "chmod 600 {}", "rm {}"], ids=["content", "metadata", "delete"])
@pytest.mark.parametrize("where", ["here", "peer"])
def test_commands_run_on_the_nodes_they_are_meant_for(way, where, line):
    path = f"/etc/pair/{where}-{line.split()[0]}-{way.here.name}.conf"
    expected = ["both", where], ["both"]
    if where == "peer":
        expected = expected[::-1]

    def ran(times: int) -> bool:
        return (commands(way.here, path), commands(way.there, path)) == tuple(words * times for words in expected)

    way.begin(path)
    assert way.pair.wait_until(lambda: ran(1), WITHIN), (commands(way.here, path), commands(way.there, path))
    way.crosses(path, line)
    assert way.pair.wait_until(lambda: ran(2), WITHIN), (commands(way.here, path), commands(way.there, path))


def history(node: LabNode, path: str) -> list[tuple[int, str, str]]:
    """Return number, digest and origin of every content that a node knows of a path."""
    found = json.loads(node.run(f"hotpair history {path} --json")[1])["contents"]
    return [(entry["number"], entry["digest"], entry["node"]) for entry in found]


def test_generations_are_kept_on_both_and_restore_crosses(way):
    path = way.path("history")
    for number in range(1, 8):
        way.crosses(path, f"echo version {number} >{{}}")
    here = history(way.here, path)
    assert here == history(way.there, path)
    assert [number for number, _, _ in here] == [0, 1, 2, 3, 4, 5, 6]  # 0 is what is live
    assert len({digest for _, digest, _ in here}) == 7
    assert {origin for _, _, origin in here} == {way.here.name}
    code, said = way.there.run(f"hotpair restore {path} 3")
    assert code == 0, said
    assert way.pair.wait_until(lambda: way.here.look(path) == way.there.look(path), WITHIN)
    assert way.text(path) == b"version 4\n"
    # what was live before is a generation now, and keep = 6 holds
    kept = history(way.here, path)
    assert [digest for _, digest, _ in kept[1:]] == [digest for _, digest, _ in here[:6]]


def test_failing_check_keeps_the_old_file_live_and_tells_the_sender(way):
    path = f"/etc/pair/checked-{way.here.name}.conf"
    way.begin(path, "echo valid one >{}")
    old = way.there.look(path)
    way.here.run(f"echo broken >{path}")
    told = f"{path}: failed"
    assert way.pair.wait_until(lambda: told in way.here.run("hotpair status")[1], WITHIN, 0.1)
    code, said = way.here.run("hotpair status")
    assert code == 2 and f"{way.there.name}: check failed, the old file stays" in said
    assert way.there.look(path) == old
    way.crosses(path, "echo valid two >{}")
    assert told not in way.here.run("hotpair status")[1]


def sent(node: LabNode) -> int:
    """Return how many bytes a node has put on the link."""
    return json.loads(node.run("ip -s -j link show pair0")[1])[0]["stats64"]["tx"]["bytes"]


def test_line_added_to_a_large_file_costs_the_link_little(way):
    path, size = way.path("large"), 4_000_000
    start = sent(way.here)
    way.begin(path, f"head -c {size} /dev/urandom >{{}}")
    whole = sent(way.here)
    assert size < whole - start < 1.1 * size  # once, and nothing besides
    way.crosses(path, "echo a line more >>{}")
    assert sent(way.here) - whole < size / 10


def test_change_arrives_within_a_second(way):
    path = way.path("quick")
    way.begin(path)
    assert median(way.crosses(path, f"echo {number} >{{}}") for number in range(9)) < 1


def everything(node: LabNode) -> dict[str, Seen | None]:
    paths = [f"/etc/pair/{name}" for name in os.listdir(node.place("/etc/pair")) if name.endswith(".conf")]
    return {path: node.look(path) for path in sorted(paths)}


def test_all_that_happened_left_both_equal_and_two_sweeps_carry_nothing(way):
    assert len(everything(way.here)) > 1
    before = way.arrived()
    for node in (way.here, way.there):
        assert node.run("psync") == (0, "etc: in sync, 0 repaired\n")
    assert everything(way.here) == everything(way.there)
    assert way.arrived() == before
    assert way.here.run("hotpair status")[0] == 0
