"""Session tables between two nodes: what is told, stored and loaded, with a table in memory in place of a kernel's."""

import json
import os
import threading
import time

import pytest

from hotpair import paths
from hotpair.exits import NoInput, Refused, UsageFail
from hotpair.failover import role
from hotpair.sessions import apply, check, files, mirror, record, store, switches
from hotpair.sessions.backend import Deadline, Loaded, Missing, TableError
from hotpair.sessions.backends import Backends
from hotpair.sessions.reaper import Reaper
from hotpair.sessions.record import Entry, Origin, Table, Unreadable
from hotpair.sessions.settings import Sessions
from hotpair.wire import Wire

ALPHA = Origin("alpha", "a boot", 1)


class Memory:
    """A kind of table in memory; `broken` tables raise."""

    name = "ipset"

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Entry]] = {"one": {}}
        self.loads: list[tuple[str, bool]] = []  # name, and whether it went on from a former load
        self.reaped: list[str] = []
        self.broken = ""

    def names(self) -> list[str]:
        return list(self.tables)

    def dump(self, name: str) -> Table:
        if name not in self.tables:
            raise Missing(f"there is no {name}")
        if name == self.broken:
            raise TableError("broken")
        return table(*self.tables[name].values(), name=name, facts={"size": len(name)})

    def load(self, wanted: Table, last: Table | None) -> Loaded:
        if wanted.name == self.broken:
            raise TableError("broken")
        self.loads.append((wanted.name, last is not None))
        self.tables[wanted.name] = dict(wanted.entries)
        return Loaded(len(wanted.entries), (), {key: Deadline(1000.0, "m") for key in wanted.entries if key == "old"})

    def reap(self, name: str, due: dict[str, str]) -> None:
        self.reaped += due


def table(
    *entries: Entry, name: str = "one", clock: float = 5000.0, origin: Origin = ALPHA, facts: object = None
) -> Table:
    found = {entry.key: entry for entry in entries}
    return Table("ipset", name, time.time(), clock, found, dict(facts or {}), origin=origin)  # type: ignore[call-overload]


@pytest.fixture
def memory(tmp_path, monkeypatch) -> Memory:
    """A standby of epoch 1 whose tables are in memory."""
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    found = Memory()
    monkeypatch.setattr(Backends, "_make", lambda *_: found)
    role.become("standby", 1, by="a test")
    return found


def receiver(origin: Origin = ALPHA) -> apply.Receiver:
    return apply.Receiver(Backends(Sessions()), origin)


# The record

BEFORE = table(Entry("a", 2, (100.0, 50.0)), Entry("b", 1, (10.0,), 9000.0, {"server": "s1"}), clock=1000.0)
AFTER = table(Entry("b", 1, (1010.0,), 8000.0, {"server": "s1"}), Entry("c", 3, (4.0,)), clock=2000.0)


def test_a_table_survives_its_lines() -> None:
    written = BEFORE._replace(at=1e9)
    assert list(record.tables(record.lines(written))) == [written]


def test_half_a_dump_is_no_dump() -> None:
    lines = list(record.lines(BEFORE))
    for number in range(1, len(lines)):
        with pytest.raises(Unreadable):
            list(record.tables(lines[:number]))
    with pytest.raises(Unreadable):
        list(record.tables([*lines[:-1], lines[-1][:-1]]))


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"[]\n",
        b'{"ssync":2}\n',
        b"[" * 100_000 + b"\n",
        json.dumps({**next(record.messages(BEFORE)), "entries": -1}).encode() + b"\n",
        json.dumps({**next(record.messages(BEFORE)), "clock_ms": float("nan")}).encode() + b"\n",
        json.dumps({**next(record.messages(BEFORE)), "facts": 5}).encode() + b"\n",
    ],
)
def test_what_is_no_header_is_refused(line: bytes) -> None:
    with pytest.raises(Unreadable):
        list(record.tables([line]))


def test_time_that_passes_makes_hits_older_and_ends_what_expires() -> None:
    later = record.aged(BEFORE, 8999.0)
    assert later.entries["a"].ages_ms == (9099.0, 9049.0)
    assert later.entries["b"].remaining_ms == 1.0
    assert list(record.aged(BEFORE, 9000.0).entries) == ["a"]


def test_a_delta_has_what_happened_and_not_the_passing_of_time() -> None:
    step = record.delta(BEFORE, AFTER)
    assert (list(step.entries), step.gone) == (["c"], ("a",))
    told = next(record.tables(record.lines(step)))
    assert record.changed(BEFORE, told).entries == AFTER.entries


def test_a_delta_of_another_dump_is_refused() -> None:
    with pytest.raises(Unreadable):
        record.changed(None, record.delta(BEFORE, AFTER))
    with pytest.raises(Unreadable):
        record.changed(BEFORE._replace(origin=Origin("alpha", "another boot", 1)), record.delta(BEFORE, AFTER))


# The standby


def test_what_comes_is_loaded_and_stored(memory: Memory) -> None:
    node = receiver()
    node.take([table(Entry("a", 1), Entry("b", 1))])
    assert list(memory.tables["one"]) == ["a", "b"]
    (stored,) = store.everything()
    assert (stored.loaded, list(stored.table.entries), stored.table.origin) == (True, ["a", "b"], ALPHA)
    assert os.stat(store.places()[0]).st_mode & 0o777 == 0o600


def test_a_delta_whose_dump_is_not_here_is_asked_for_whole(memory: Memory) -> None:
    node = receiver()
    node.take([record.delta(BEFORE, AFTER)])
    assert (node.again, memory.loads, store.everything()) == (["ipset one"], [], [])


def test_one_table_that_fails_spares_the_others(memory: Memory) -> None:
    memory.broken = "one"
    node = receiver()
    node.take(
        [table(Entry("a")), table(Entry("b"), name="two"), table(name="three")._replace(complete=False, error="x")]
    )
    assert list(memory.tables["two"]) == ["b"]
    assert node.problems == {"ipset one": ["not loaded: broken"], "ipset three": ["not dumped: x"]}
    assert {one.table.name: one.loaded for one in store.everything()} == {"one": False, "two": True}


def test_a_full_disk_keeps_no_table_from_being_loaded(memory: Memory, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(store, "put", full)
    node = receiver()
    node.take([table(Entry("a"))])
    assert list(memory.tables["one"]) == ["a"]
    assert node.problems == {"ipset one": ["not stored: No space left on device"]}


def test_a_table_that_failed_is_loaded_from_its_beginning_the_next_time(memory: Memory) -> None:
    node, first = receiver(), table(Entry("a", 1))
    node.take([first])
    memory.broken = "one"
    node.take([record.delta(first, second := table(Entry("a", 2), clock=6000.0))])
    memory.broken = ""
    node.take([record.delta(second, table(Entry("a", 2), clock=7000.0))])
    assert memory.loads == [("one", False), ("one", False)]


def test_an_empty_table_of_a_master_that_booted_empties_nothing_here(memory: Memory) -> None:
    receiver().take([table(Entry("a"))])
    node = receiver(rebooted := ALPHA._replace(boot="the next boot"))
    node.take([table(origin=rebooted)])
    assert list(memory.tables["one"]) == ["a"]
    assert "kept" in node.problems["ipset one"][0]
    assert list(store.everything()[0].table.entries) == ["a"]


def test_an_empty_table_of_the_same_boot_empties_the_one_here(memory: Memory) -> None:
    receiver().take([table(Entry("a"))])
    receiver().take([table()])
    assert memory.tables["one"] == {}


def test_once_promoted_a_standby_takes_nothing(memory: Memory) -> None:
    node = receiver()
    role.become("master", 2, by="a promotion")
    with pytest.raises(Refused, match="master of epoch 2"):
        node.take([table(Entry("a"))])
    assert memory.loads == []


def test_what_a_table_would_keep_too_long_is_ended_in_time_by_whoever_runs_then(memory: Memory, monkeypatch) -> None:
    receiver().take([table(Entry("old"), Entry("new"))])
    now = store.boottime_ms()
    monkeypatch.setattr(store, "boottime_ms", lambda: now + 900)
    Reaper().reap(Backends(Sessions()))
    assert memory.reaped == []
    monkeypatch.setattr(store, "boottime_ms", lambda: now + 1100)
    Reaper().reap(Backends(Sessions()))
    Reaper().reap(Backends(Sessions()))
    assert memory.reaped == ["old"]


def test_whoever_waits_ends_each_entry_when_its_time_has_come(memory: Memory) -> None:
    Reaper().add("ipset one", {"soon": Deadline(60.0, ""), "later": Deadline(60_000.0, "")})
    began = time.monotonic()
    mirror.reap(Backends(Sessions()), 5.0)
    assert memory.reaped == ["soon"]
    assert 0.05 < time.monotonic() - began < 5.0


def test_differences_between_the_nodes_are_named(memory: Memory) -> None:
    backends = Backends(Sessions())
    assert check.differences(backends, table(facts={"size": 3})) == []
    assert check.differences(backends, table(facts={"size": 9})) == ["size is 3 on the standby and 9 on alpha"]
    assert check.differences(backends, table(name="none")) == ["missing on the standby: there is no none"]


# The conversation


def test_the_master_tells_what_changed_and_the_standby_has_it_all(memory: Memory, tmp_path, monkeypatch) -> None:
    master, said = Memory(), list[dict[str, object]]()
    backends = Backends(Sessions())
    backends._made["ipset"] = master
    switches.switch("ipset one", True)
    up, down = os.pipe(), os.pipe()
    mine, theirs = Wire(down[0], up[1], 5.0), Wire(up[0], down[1], 5.0)
    spoken = mine.send

    def send(**message: object) -> None:
        said.append(message)
        spoken(**message)

    monkeypatch.setattr(mine, "send", send)
    node = receiver()

    def standby() -> None:
        for number in (1, 2):
            node.take(apply._cycle(theirs)[0])
            theirs.send(cycle=number, problems=node.problems, again=node.again)

    thread = threading.Thread(target=standby, daemon=True)
    thread.start()
    talk = mirror.Mirror(backends, ALPHA, mine)
    master.tables["one"] = {f"k{number}": Entry(f"k{number}", 1) for number in range(50)}
    talk.cycle()
    master.tables["one"]["k7"] = Entry("k7", 2)
    del master.tables["one"]["k8"]
    before = len(said)
    talk.cycle()
    thread.join(5)
    assert memory.tables["one"] == master.tables["one"]
    assert [message.get("key") for message in said[before:]] == [None, "k7", None]
    assert memory.loads == [("one", False), ("one", True)]


def test_what_is_seen_again_and_again_is_told_before_it_looks_too_old(memory: Memory, monkeypatch) -> None:
    backends = Backends(Sessions())
    backends._made["ipset"] = Memory()
    talk = mirror.Mirror(backends, ALPHA, Wire(0, os.open(os.devnull, os.O_WRONLY), 5.0))
    seen, now = list[str](), table(Entry("a", 0, (), 60_000.0), clock=1000.0)
    monkeypatch.setattr(talk.wire, "send", lambda **message: seen.append(message.get("key", "")))
    for second in range(4):  # each second the client comes again, and has the whole minute before him
        talk._tell(now._replace(clock_ms=1000.0 + 1000.0 * second))
    assert seen.count("a") == 2, "in the first dump, and when two seconds were missing"


# Files, and what is stored


def test_a_dump_in_a_file_is_roots_alone_and_loads_elsewhere(memory: Memory, tmp_path) -> None:
    place = str(tmp_path / "dump")
    memory.tables["one"] = {"a": Entry("a", 1, (), 60_000.0)}
    files.dump(place, Backends(Sessions()).dump(["ipset one"], ALPHA))
    assert os.stat(place).st_mode & 0o777 == 0o600
    memory.tables["one"] = {}
    result = files.load(files.of(place), Backends(Sessions()), lambda _: True)
    assert (result.done, result.problems) == ({"ipset one": 1}, [])
    remaining = memory.tables["one"]["a"].remaining_ms
    assert remaining is not None
    assert 50_000 < remaining < 60_000


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (table(Entry("a"))._replace(complete=False, error="no such table"), "it was not dumped (no such table)"),
        (table(), "it is empty"),
        (table(Entry("a"), origin=Origin("alpha", "", 0)), "it is of epoch 0, and this node knows of 1"),
    ],
)
def test_failed_empty_and_outlived_dumps_are_never_loaded(memory: Memory, found: Table, why: str) -> None:
    memory.tables["one"] = {"mine": Entry("mine")}
    result = files.load([found], Backends(Sessions()), lambda _: True)
    assert result.problems == [f"ipset one: not loaded: {why}"]
    assert list(memory.tables["one"]) == ["mine"]


def test_a_promotion_writes_what_the_old_master_sent(memory: Memory) -> None:
    receiver().take([table(Entry("a"))])
    memory.tables["one"] = {}
    role.become("master", 2, by="a promotion")
    role.become("master", 3, by="a promotion that a reboot cut short")
    assert files.load(files.stored(), Backends(Sessions()), lambda _: True).done == {"ipset one": 1}
    assert list(memory.tables["one"]) == ["a"]


def test_a_file_that_is_no_dump_is_named(memory: Memory, tmp_path) -> None:
    for text in ("", "{}", "junk\n"):
        (tmp_path / "dump").write_text(text)
        with pytest.raises(NoInput, match="dump"):
            files.of(str(tmp_path / "dump"))


# Which tables follow


def test_a_table_is_switched_on_and_off_beside_the_configuration(memory: Memory) -> None:
    configured = Sessions(tables=("ipset one",))
    switches.switch("ipset two", True)
    assert switches.switched_on(configured) == ("ipset one", "ipset two")
    switches.switch("ipset one", False)
    assert switches.switched_on(configured) == ("ipset two",)
    switches.switch("ipset one", True)
    assert switches.switched_on(configured) == ("ipset one", "ipset two")


def test_one_table_is_left_out_of_all_of_its_kind(memory: Memory) -> None:
    memory.tables = {"ssh": {}, "web": {}}
    switches.switch("recent ssh", False)
    found = Backends(Sessions(tables=("recent",))).followed()
    assert found == ["recent web"]


def test_what_names_no_table_is_refused(memory: Memory) -> None:
    for label in ("", "nft inet filter", "http", "conntrack all", "mysql x"):
        with pytest.raises(UsageFail):
            switches.switch(label, True)
    assert not os.path.exists(paths.state("sessions", "switches.json"))
