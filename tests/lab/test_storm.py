"""Storm mode and the watchdog with real incrond: few processes for many events, and nothing that stays broken."""

from collections.abc import Iterator

import pytest

from tests.lab.conftest import Node, Pair

TABLE = "/etc/incron.d/hotpair-etc"
FEWER_THAN = 100  # of our processes, for 10,000 files
COUNTED = """#!/bin/sh
echo >>/run/started
exec /usr/local/lib/hotpair/bin/syncr "$@"
"""
WRITE = """
import os, sys
for number in range(int(sys.argv[2])):
    with open(f"/etc/pair/{number}.{sys.argv[1]}", "wb") as file:
        file.write(os.urandom(4096))
    if number == 5000:
        with open("/etc/pair/amid.conf", "w") as file:
            file.write("in the midst of it")
"""


@pytest.fixture
def storming(own_pair: Pair) -> Iterator[Pair]:
    """A pair in sync whose alpha counts how often incrond starts `syncr`."""
    alpha = own_pair.alpha
    alpha("rm /usr/local/sbin/syncr; cat >/usr/local/sbin/syncr; chmod 755 /usr/local/sbin/syncr", COUNTED)
    assert alpha(["psync"]).code == 0
    assert own_pair.wait_until(lambda: resting(alpha), 30)
    alpha("echo >/run/started")
    yield own_pair


def resting(node: Node) -> bool:
    """Say whether no storm is on and no trigger runs."""
    return node(f"test -e {TABLE} && ! pgrep -f 'bin/[s]yncr etc' >/dev/null").code == 0


def started(node: Node) -> int:
    return int(node("wc -l </run/started").out)


def logged(node: Node, words: str) -> int:
    return int(node(["grep", "-c", words, "/var/log/lab/syslog"]).out)


@pytest.mark.parametrize(("suffix", "expected"), [("dat", 1), ("conf", 10_001)], ids=["strangers", "files of the set"])
def test_ten_thousand_files_start_few_processes_and_all_arrive(storming: Pair, suffix: str, expected: int) -> None:
    alpha, beta = storming.alpha, storming.beta
    assert alpha(["python3", "-c", WRITE, suffix, "10000"]).code == 0
    assert storming.wait_until(lambda: beta("ls /etc/pair/*.conf | wc -l").out.strip() == str(expected), 240, 0.2)
    assert beta(["cat", "/etc/pair/amid.conf"]).out == "in the midst of it"
    assert storming.wait_until(lambda: resting(alpha), 60, 0.2)
    assert started(alpha) < FEWER_THAN
    alpha("echo after >/etc/pair/after.conf")  # the watch is on again
    assert storming.wait_until(lambda: beta("cat /etc/pair/after.conf").out == "after\n", 15)


def test_reading_a_table_costs_incrond_nothing(storming: Pair) -> None:
    # it takes a comment of three words for an entry, and searches every directory of the machine
    assert not logged(storming.alpha, "cannot create watch")


def test_the_minute_job_repairs_what_keeps_events_from_arriving(storming: Pair) -> None:
    alpha, beta = storming.alpha, storming.beta

    def arrives(text: str) -> bool:
        alpha(f"echo {text} >/etc/pair/dog.conf")
        return storming.wait_until(lambda: beta("cat /etc/pair/dog.conf").out == text + "\n", 15)

    alpha(f"mv {TABLE} /etc/incron.d/.hotpair-etc.away")  # a run was killed in a storm
    alpha(["psync", "--retry"])
    assert arrives("put-back")

    alpha("kill -9 $(cat /run/incrond.pid)")
    alpha(["psync", "--retry"])
    assert arrives("started-again")
    assert logged(alpha, "incrond was not running: started again") == 1

    alpha("mv /etc/pair /etc/gone && mkdir /etc/pair && cp -a /etc/gone/. /etc/pair && rm -r /etc/gone")
    alpha(["psync", "--retry"])
    assert arrives("same-name-another-directory")


def test_an_incrond_that_hangs_is_seen_and_replaced(storming: Pair) -> None:
    alpha = storming.alpha
    alpha(["psync", "--retry"])  # touches the canary
    assert storming.wait_until(
        lambda: alpha("[ /var/lib/hotpair/sets/etc/canary-answer -nt /etc/hotpair ]").code == 0, 5
    )
    hung = alpha(["cat", "/run/incrond.pid"]).out
    alpha(["kill", "-STOP", hung])
    alpha(["psync", "--retry"])  # touches the canary, which nobody answers
    alpha(["psync", "--retry"])  # reads the table again
    assert logged(alpha, "no event arrived for a minute") == 1
    assert "no event arrives" in alpha(["hotpair", "status"]).out
    alpha(["psync", "--retry"])  # ends it and starts another
    assert alpha(["cat", "/run/incrond.pid"]).out != hung
    alpha("sleep 1; psync --retry")
    assert logged(alpha, "events arrive again") == 1
