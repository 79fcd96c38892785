"""The failover drill: the master dies, the standby takes its place, the old master comes back and takes over again."""

import json
import time
from collections.abc import Callable

from tests.lab import lan
from tests.lab.demo_story import verify
from tests.lab.drill_world import Shop
from tests.lab.lan import Client
from tests.lab.spaces import wait_until
from tests.lab.visitors import PORTS, Visitors

WITHIN = 60.0  # seconds for what takes a few: two CPUs, and others are at work
BY_CRON = 60 + 30.0  # seconds until cron's next minute, and for what it starts then
REFUSED = "this node is standby of epoch 2"  # what an old master's hotsync says
OTHERS = "-not -path '/var/log/*' -not -path '/var/lib/hotpair/*'"  # what a node writes of itself
CRON_JOB = "CMD (/usr/local/sbin/hotsync --cron)"  # in syslog, by cron itself


def role_of(shop: Shop, name: str) -> tuple[str, int]:
    """Return what `hotpair status` says of a node's role and epoch."""
    said = json.loads(shop.node(name).run("hotpair status --json")[1])
    return said["role"], said["epoch"]


def log_of(shop: Shop, name: str) -> list[str]:
    """Return the lines of a node's syslog."""
    seen = shop.node(name).look("/var/log/lab/syslog")
    return seen.content.decode(errors="replace").splitlines() if seen else []


def pushed(shop: Shop) -> bool:
    """Say whether alpha knows of a push that came to its end."""
    state = shop.alpha.look("/var/lib/hotpair/hotsync/state.json")
    return state is not None and bool(json.loads(state.content).get("last_complete"))


def copy(shop: Shop) -> None:
    """Copy to the standby by hand, and sell something more that it will not have."""
    shop.sell("copied")
    shop.does(shop.alpha, "hotsync")
    shop.sell("lost")


def cron_copies(shop: Shop, visitors: Visitors, say: Callable[[str], None]) -> dict[str, str]:
    """Let alpha's cron make the first push, while beta gets its servers, and sell something that beta will not have.

    Returns the server that each visitor was sent to meanwhile, once beta knows it too.
    """
    shop.sell("copied")
    verify(shop.beta.look("/srv/shop/note") is None, "beta has the note before any push")
    with shop.cron(shop.alpha):
        began = time.monotonic()
        shop.furnish(shop.beta)
        verify(wait_until(lambda: pushed(shop), BY_CRON - (time.monotonic() - began), 0.1), "cron has pushed nothing")
        say(f"alpha's cron has pushed, {time.monotonic() - began:.0f} s after it was started")
        sent_to = visitors.visit()
        verify(set(sent_to.values()) == set(PORTS), "all visitors were sent to one server")
        verify(wait_until(lambda: len(known_visitors(shop)) == len(sent_to), BY_CRON, 0.2), "beta knows no visitors")
    note = shop.beta.look("/srv/shop/note")
    verify(note is not None and note.content == b"note-copied\n", "beta has not what alpha's cron pushed")
    verify(any(CRON_JOB in line for line in log_of(shop, "alpha")), "it was not cron that started hotsync")
    shop.sell("lost")
    return sent_to


def known_visitors(shop: Shop) -> list[str]:
    """Return those whose servers beta has heard of."""
    tables = [json.loads(line) for line in shop.beta.run("ssync show --json")[1].splitlines() if line.startswith("[")]
    return [entry["key"] for table in tables for entry in table[1:]]


def stayed(visitors: Visitors, sent_to: dict[str, str], say: Callable[[str], None]) -> None:
    """Let all visitors come again: each is to be sent to the server that he had."""
    moved = [source for source, server in visitors.visit().items() if server != sent_to[source]]
    say(f"visitors that were moved to another server: {len(moved)} of {len(sent_to)}")
    verify(not moved, f"{moved} were moved")


def fail_over(shop: Shop, client: Client, say: Callable[[str], None]) -> None:
    """Let alpha die and beta be promoted."""
    verify(client.reads("bought-lost", WITHIN), "the client does not read what alpha has")
    shop.strike(shop.alpha)
    began = time.monotonic()
    said = shop.does(shop.beta, "hotsync-slave promote --master-is-dead 'cables pulled'")
    say("beta$ hotsync-slave promote --master-is-dead 'cables pulled'")
    say(said)
    verify(client.reads("note-copied sold-first,sold-copied bought-first,bought-copied", WITHIN), "beta does not serve")
    say(f"promoted and serving {time.monotonic() - began:.1f} s after the word")
    verify(role_of(shop, "beta") == ("master", 2), f"beta is {role_of(shop, 'beta')}")


def come_back(shop: Shop, say: Callable[[str], None]) -> None:
    """Let alpha, which believes to be master, be reached again, and its cron run: nothing of it may reach beta."""
    shop.sell("after", shop.beta)
    known = len(log_of(shop, "alpha"))
    shop.revive(shop.alpha)
    verify(role_of(shop, "alpha") == ("master", 1), f"alpha is {role_of(shop, 'alpha')} before it has heard anything")

    def refused() -> list[str]:
        lines = log_of(shop, "alpha")[known:]
        ran = any(CRON_JOB in line for line in lines)
        return [line for line in lines if " hotsync[" in line and REFUSED in line] if ran else []

    with shop.cron(shop.alpha):
        said = wait_until(refused, BY_CRON, 0.1)
    verify(bool(said), f"alpha's cron was not refused: {log_of(shop, 'alpha')[known:]}")
    say(f"alpha's cron, refused: {said[-1]}")
    verify(role_of(shop, "alpha") == ("standby", 2), "alpha does not know that it is no longer master")
    note = shop.beta.look("/srv/shop/note")
    verify(note is not None and note.content == b"note-after\n", "the new master's file was overwritten")


def fail_back(shop: Shop, client: Client, say: Callable[[str], None]) -> None:
    """Bring alpha up to date as standby, and make it master again."""
    said = shop.does(shop.alpha, "hotsync-slave demote")
    say("alpha$ hotsync-slave demote")
    say(said)
    verify("/srv/shop/note" in said, "what beta never saw is not listed")
    shop.does(shop.beta, "hotsync")
    said = shop.does(shop.alpha, "hotsync-slave failback")
    say("alpha$ hotsync-slave failback")
    say(said)
    verify(client.reads("note-after sold-first,sold-copied,sold-after", WITHIN), "alpha does not serve what beta had")
    verify(role_of(shop, "alpha") == ("master", 3), f"alpha is {role_of(shop, 'alpha')}")
    shop.does(shop.alpha, "hotsync")
    verify(role_of(shop, "beta") == ("standby", 3), f"beta is {role_of(shop, 'beta')}")


def files_of(shop: Shop, name: str) -> dict[str, str]:
    """Return inode and time of change of each file that a push may bring to a node, by its path."""
    out = "/var/lib/hotpair/hotsync/out"
    find = f"find /etc /home /root /srv /var -xdev -type f {OTHERS} -printf '%p\\t%i %C@\\n'; find {out} -type f"
    said = shop.does(shop.node(name), f"{find} -printf '%p\\t%i %C@\\n'")
    return dict(line.split("\t") for line in said.splitlines())


def dry_run(shop: Shop, say: Callable[[str], None]) -> None:
    """Ask what would be sent, then send it: the same files, and asking has changed nothing."""
    shop.sell("planned")
    before = files_of(shop, "beta")
    plan = json.loads(shop.does(shop.alpha, "hotsync --dry-run --json"))
    named = {item["path"] for item in plan["items"] if item["act"] == "send"}
    verify(files_of(shop, "beta") == before, "the dry run changed something")
    shop.does(shop.alpha, "hotsync")
    sent = {path for path, found in files_of(shop, "beta").items() if before.get(path) != found}
    verify(named == sent, f"the dry run and the run differ in {sorted(named ^ sent)}")
    verify("/srv/shop/note" in sent, "the note was not sent")
    say(f"alpha$ hotsync --dry-run named the {len(named)} files that hotsync then sent, and no other")


def both_alive(shop: Shop, say: Callable[[str], None]) -> None:
    """Cut the link between two that live, and promote the standby all the same: neither pushes onto the other."""
    epoch = role_of(shop, "beta")[1]
    shop.lab.cut()
    code, said = shop.beta.run("hotsync-slave promote --master-is-dead 'a wrong guess'")
    verify(code != 0 and lan.SHARED in said, f"beta took an address that alpha has: {said}")
    lan.plug(shop.lab, "alpha", False)
    say(shop.does(shop.beta, "hotsync-slave promote"))
    lan.plug(shop.lab, "alpha", True)
    shop.lab.heal()
    verify(role_of(shop, "alpha") == ("master", epoch), "alpha is no longer master before it has heard anything")
    verify(role_of(shop, "beta") == ("master", epoch + 1), "beta is not master")
    for node in (shop.alpha, shop.beta):
        shop.sell(f"by-{node.name}", node)
    for node in (shop.beta, shop.alpha, shop.beta):
        code, said = node.run("hotsync")
        verify(code != 0, f"{node.name} pushed onto the other one")
        say(f"{node.name}$ hotsync\n{said}")
    for node in (shop.alpha, shop.beta):
        note, (code, said) = node.look("/srv/shop/note"), node.run("hotpair status")
        verify(note is not None and note.content == f"note-by-{node.name}\n".encode(), f"{node.name} was overwritten")
        verify(code == 2 and "demote" in said, f"{node.name} does not say what to do: {said}")


def keepalived_decides(shop: Shop, say: Callable[[str], None]) -> None:
    """Let VRRP see that alpha has died, and come back as standby."""
    shop.furnish(shop.beta)
    for node in (shop.alpha, shop.beta):
        shop.keepalived(node)
    client = shop.client()
    try:
        verify(client.reads("note-first", WITHIN), "keepalived gives alpha no address")
        copy(shop)
        shop.strike(shop.alpha)
        verify(client.reads("note-copied sold-first,sold-copied", WITHIN), "beta does not serve")
        say(f"longest time without service, keepalived deciding: {client.without_service():.1f} s")
        verify(role_of(shop, "beta") == ("master", 2), f"beta is {role_of(shop, 'beta')}")
        shop.revive(shop.alpha)
        shop.keepalived(shop.alpha)
        verify(wait_until(lambda: role_of(shop, "alpha") == ("standby", 2), WITHIN, 0.5), "alpha is no standby")
        verify(client.reads("note-copied", WITHIN), "beta lost the address to the one that came back")
    finally:
        client.close()


def play(shop: Shop, say: Callable[[str], None]) -> None:
    """Hold the whole drill. Raises Untrue for what it does not show, LabError for a command that fails."""
    client = shop.client()
    try:
        visitors = Visitors(shop.lab)
        sent_to = cron_copies(shop, visitors, say)
        fail_over(shop, client, say)
        stayed(visitors, sent_to, say)
        say(f"longest time without service for the client: {client.without_service():.1f} s")
        come_back(shop, say)
        fail_back(shop, client, say)
        dry_run(shop, say)
    finally:
        client.close()
