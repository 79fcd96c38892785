"""hotsync through a real sshd: the forced command lets the push in, and nothing else of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.conftest import Pair, living
from tests.lab.mirrors import does

SECTION = """
[hotsync]
role = {role}
transport = ssh
databases = disabled
config = /etc/motd
include =
    /srv/shop
"""
INI = "/etc/hotpair/hotpair.ini"
PASSWORD = "umask 077; echo {word} >/etc/hotpair/hotsync.password"
SSH = "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile=/etc/hotpair/known_hosts"
# who has the key of the peer, and not the password, may start rsync's daemon and talk to it: it tells and takes nothing
RSYNC = (
    f"RSYNC_CONNECT_PROG='{SSH} -i /etc/hotpair/id_ed25519 root@beta hotsync-slave door' RSYNC_PASSWORD=a-wrong-word"
    " timeout 20 rsync {words}"
)
OTHER_COMMANDS = (
    "touch /srv/got-in",
    "'hotsync-slave door; touch /srv/got-in'",
    "hotsync-slave promote --master-is-dead x",
    "hotsync-slave door --config=/tmp/x",
    "rsync --server --daemon --config=/tmp/x .",
    "rsync --server -a . /srv",
)


@pytest.fixture(scope="module")
def by_ssh(may_build: None) -> Iterator[Pair]:
    """alpha is master, beta its standby, and hotsync goes through ssh."""
    with contextmanager(living)(may_build) as pair:
        for node, role in ((pair.beta, "standby"), (pair.alpha, "master")):
            does(node, f"cat >>{INI}", SECTION.format(role=role))
            does(node, PASSWORD.format(word="the-word-of-both-nodes"))
            does(node, "mkdir -p /srv/shop && hotsync-slave doors")
        yield pair


def test_a_file_arrives_through_sshd_and_nothing_else_listens(by_ssh: Pair) -> None:
    does(by_ssh.alpha, "echo hello >/srv/shop/first")
    does(by_ssh.alpha, "hotsync")
    assert does(by_ssh.beta, "cat /srv/shop/first") == "hello\n"
    assert "Accepted publickey for root" in does(by_ssh.beta, "cat /var/log/lab/syslog")
    assert ":873" not in does(by_ssh.beta, "ss -Hltn")  # neither stunnel nor rsync's daemon
    assert by_ssh.beta("hotsync").code == 75  # the standby sends nothing back


def test_a_stranger_gets_nothing_and_the_peer_gets_the_door_alone(by_ssh: Pair) -> None:
    alpha, beta = by_ssh.alpha, by_ssh.beta
    does(alpha, "echo hello >/srv/shop/second && ssh-keygen -q -t ed25519 -N '' -f /etc/hotpair/stranger")
    role = does(beta, "cat /var/lib/hotpair/role.json")

    stranger = alpha(f"{SSH} -i /etc/hotpair/stranger root@beta hotsync-slave door </dev/null")
    assert (stranger.code, stranger.out) == (255, "") and "Permission denied" in stranger.err
    for command in OTHER_COMMANDS:
        said = alpha(f"{SSH} -i /etc/hotpair/id_ed25519 root@beta {command} </dev/null")
        assert (said.code, said.out) == (76, ""), (command, said)
    assert alpha(RSYNC.format(words="rsync://hotpair@standby/")).out == ""  # no list of modules
    written = alpha(RSYNC.format(words="/srv/shop/second rsync://hotpair@standby/hotsync/srv/shop/second"))
    assert written.code == 5, written  # rsync(1): error starting client-server protocol

    does(alpha, PASSWORD.format(word="another-word-than-beta"))
    assert alpha("hotsync").code == 76
    does(alpha, PASSWORD.format(word="the-word-of-both-nodes"))
    # a kept connection would serve whoever has no key
    does(alpha, f"rm -f /run/hotpair/ssh-*; sed -i '/^peer/a ssh-key = /etc/hotpair/stranger' {INI}")
    assert alpha("hotsync").code == 75  # as if nobody were there
    assert beta("ls /srv/got-in /srv/shop/second").out == ""
    assert does(beta, "cat /var/lib/hotpair/role.json") == role

    does(alpha, f"sed -i '/^ssh-key/d' {INI} && hotsync")  # and all that kept it out was the key
    assert does(beta, "cat /srv/shop/second") == "hello\n"
