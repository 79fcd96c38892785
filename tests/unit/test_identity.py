"""What makes a node itself."""

import pytest

from hotpair.hotsync import identity


@pytest.mark.parametrize(
    "path",
    [
        "/etc/hotpair",
        "/etc/hotpair/id_ed25519",
        "/etc//hotpair/x",
        "/etc/./shadow",
        "/etc/shadow-",
        "/etc/ssh/ssh_host_rsa_key.pub",
        "/etc/sysconfig/network-scripts/ifcfg-eth0",
        "/etc/udev/rules.d/70-persistent-net.rules",
        "/etc/incron.d/hotpair-web",
        "/etc/incron.d/.hotpair-web.away",
        "/var/lib/hotpair/role.json",
        "/var/lib/hotpair/hotsync",
        "/var/lib/hotpair/hotsync/outer",
        "/var/lib/hotpair/hotsync/out/../../role.json",
        "/root/.ssh/authorized_keys",
        "/srv/../etc/shadow",
        "/srv/data/.hotpair",
        "/etc/.hotpair/web/staged",
    ],
)
def test_a_node_is_itself_by(path: str) -> None:
    assert identity.is_own(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/etc",
        "/etc/passwd.conf",
        "/etc/ssh/sshd_config",
        "/etc/ssh",
        "/etc/hotpair2",
        "/etc/sysconfig/iptables",
        "/etc/cron.d/backup",
        "/etc/incron.d/web",
        "/var/lib",
        "/var/lib/hotpair/hotsync/out",
        "/var/lib/hotpair/hotsync/out/dumps/mysql.sql",
        "/srv/etc/hotpair",
        "/root/notes",
    ],
)
def test_the_other_node_may_send(path: str) -> None:
    assert not identity.is_own(path)
