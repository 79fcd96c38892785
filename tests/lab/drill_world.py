"""Where the failover drill takes place: the lab, a shop on it (MariaDB, PostgreSQL, HTTP), and clients beside it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab import lan, visitors
from tests.lab.demo_world import LabNode
from tests.lab.pairlab import NODES, ROOT, Lab, peer_of
from tests.lab.spaces import LabError, may_build, run

NEEDED = {
    "stunnel": "stunnel4",
    "mariadbd": "mariadb-server",
    "pg_createcluster": "postgresql",
    "arping": "iputils-arping",
    "haproxy": "haproxy",
}
INI = """\
[node]
name = {name}
peer = ssh:{peer}
connect-timeout = 2

[hotsync]
role = {role}
include =
    /srv/shop
config =
    /etc/shop

[failover]
services =
    mariadb
    postgresql
    shop
    haproxy
{address}
[sessions]
tables =
    haproxy by-address
    haproxy by-cookie
every = 1
"""
ADDRESS = f"""\
address =
    {lan.SHARED}/24 dev {lan.LAN}
"""
INIT = """\
#!/bin/sh
case $1 in
start)
    start-stop-daemon --start --oknodo --background --make-pidfile --pidfile /run/shop.pid \\
        --startas /usr/bin/python3 -- /usr/local/lib/shop.py
    ;;
stop) start-stop-daemon --stop --oknodo --retry 5 --remove-pidfile --pidfile /run/shop.pid ;;
esac
"""
SERVERS = """\
set -e
rm -rf /etc/ldap/slapd.d # of this machine
install -d -o mysql -g mysql -m 750 /var/lib/mysql
install -d -o mysql -g mysql /run/mysqld /var/log/mysql
mariadb-install-db --user=mysql --skip-test-db --auth-root-authentication-method=socket
install -d -o postgres -g postgres -m 755 /var/lib/postgresql /var/log/postgresql
install -d -o postgres -g postgres -m 2775 /run/postgresql
rm -rf /etc/postgresql/15
pg_createcluster 15 main -- --auth-local=peer
mkdir -p /srv/shop /etc/shop
echo open >/etc/shop/hours
"""
ROWS = """\
set -e
mariadb -e 'CREATE DATABASE shop; CREATE TABLE shop.sold (id INT AUTO_INCREMENT PRIMARY KEY, what TEXT) ENGINE=InnoDB'
runuser -u postgres -- psql -qc 'CREATE DATABASE shop'
runuser -u postgres -- psql -qd shop -c 'CREATE TABLE bought (id SERIAL, what TEXT)'
"""
SELL = """\
set -e
mariadb shop -e "INSERT INTO sold (what) VALUES ('sold-{what}')"
runuser -u postgres -- psql -qd shop -c "INSERT INTO bought (what) VALUES ('bought-{what}')"
echo note-{what} >/srv/shop/note
"""

# In the file that `hotpair tables` wrote, hotsync's */15 becomes *: nobody waits a quarter of an hour for a drill.
CRON = "sed -i '/hotsync --cron$/s|^[*]/15 |* |' /etc/cron.d/hotpair && cron"
NO_CRON = "pkill -x cron; while pgrep -f '[h]otsync --cron' >/dev/null; do sleep 0.05; done"


def why_not() -> str:
    """Return why the drill cannot be held here, "" if it can."""
    for program, package in NEEDED.items():
        if not shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"):
            return f"no {program} here: apt-get install {package}"
    return may_build(tempfile.gettempdir())


class Shop:
    """The pair: alpha serves the shop, beta stands by."""

    def __init__(self, lab: Lab, keepalived: bool = False) -> None:
        self.lab = lab
        self.alpha, self.beta = (LabNode(lab, name) for name in NODES)
        self.address = "" if keepalived else ADDRESS

    def node(self, name: str) -> LabNode:
        return self.alpha if name == "alpha" else self.beta

    def does(self, node: LabNode, line: str, seconds: float = 90) -> str:
        """Run a line on a node and return what it said; it must succeed."""
        code, said = node.run(line, seconds)
        if code:
            raise LabError(f"{node.name}: {line.strip().splitlines()[-1]}: exit {code}: {said.strip()[-2000:]}")
        return said

    def build(self) -> None:
        """Do on both nodes what their administrator did, and open the shop on alpha; see `furnish` for beta's."""
        lan.connect(self.lab)
        self._identify()
        for name, role in zip(NODES, ("master", "standby"), strict=True):
            node = self.node(name)
            node.write_ini("hotpair.ini", INI.format(name=name, peer=peer_of(name), role=role, address=self.address))
            shutil.copy(f"{ROOT}/tests/lab/shop.py", node.place("/usr/local/lib/shop.py"))
            with open(node.place("/etc/init.d/shop"), "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o755)
                file.write(INIT)
            self.does(node, "mkdir -p /run/haproxy /etc/haproxy")
            with open(node.place("/etc/haproxy/haproxy.cfg"), "w", encoding="utf-8") as file:
                file.write(visitors.configuration(sorted(visitors.PORTS, reverse=name == "beta")))
        self.furnish(self.alpha)
        self.does(self.alpha, "/etc/init.d/mariadb start && /etc/init.d/postgresql start && " + ROWS)
        self.sell("first")
        for node in (self.beta, self.alpha):  # what cron does each minute: it also starts what the master serves
            self.does(node, "hotpair tables && hotsync-slave doors")

    def furnish(self, node: LabNode) -> None:
        """Have empty database servers on a node."""
        self.does(node, SERVERS)

    def _identify(self) -> None:
        """Make a certificate for each node, give each the other's, and both one password."""
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
        for name in NODES:
            key, certificate = self.lab.path(f"{name}.key"), self.lab.path(f"{name}.crt")
            run("openssl", "req", "-x509", *kind, "-subj", f"/CN={name}", "-keyout", key, "-out", certificate)
        for name in NODES:
            files = {
                f"{name}.key": "hotsync.key",
                f"{name}.crt": "hotsync.crt",
                f"{peer_of(name)}.crt": "hotsync-peer.crt",
            }
            etc = self.node(name).place("/etc/hotpair")
            for source, target in files.items():
                shutil.copy(self.lab.path(source), f"{etc}/{target}")
                os.chmod(f"{etc}/{target}", 0o600)
            with open(
                f"{etc}/hotsync.password", "w", opener=lambda p, f: os.open(p, f, 0o600), encoding="utf-8"
            ) as file:
                file.write("the-word-of-both-nodes\n")

    def sell(self, what: str, node: LabNode | None = None) -> None:
        """Have a row in each database, and a file's text, that were not there before."""
        self.does(node or self.alpha, SELL.format(what=what))

    @contextmanager
    def cron(self, node: LabNode) -> Iterator[None]:
        """Have cron run on a node, no longer: it would push what is to be lost, and meet what is done by hand."""
        self.does(node, CRON)
        try:
            yield
        finally:
            node.run(NO_CRON)

    def client(self) -> lan.Client:
        return lan.Client(self.lab, f"http://{lan.SHARED}:8000/")

    def keepalived(self, node: LabNode) -> None:
        """Start keepalived on a node, with the configuration that hotpair ships."""
        with open(f"{ROOT}/etc/keepalived/hotpair.conf", encoding="utf-8") as file:
            text = file.read().replace("@SBINDIR@", "/usr/local/sbin").replace("192.0.2.10/24", f"{lan.SHARED}/24")
        own, other = (lan.ADDRESSES[name].partition("/")[0] for name in (node.name, peer_of(node.name)))
        text = text.replace("192.0.2.1\n", own + "\n").replace("192.0.2.2\n", other + "\n").replace("eth0", lan.LAN)
        self.does(node, "mkdir -p /etc/keepalived")
        with open(node.place("/etc/keepalived/keepalived.conf"), "w", encoding="utf-8") as file:
            file.write(text)
        self.does(node, "keepalived")

    def strike(self, node: LabNode) -> None:
        """Pull a node's cables and kill what it serves with, as a failing power supply does."""
        lan.plug(self.lab, node.name, False)
        self.lab.cut()
        node.run("pkill -KILL 'keepalived|mariadbd|postgres'; pkill -KILL -f /usr/local/lib/shop.py; true")

    def revive(self, node: LabNode) -> None:
        """Let a node that was struck be reached again: its shop is closed, its address is still on it."""
        lan.plug(self.lab, node.name, True)
        self.lab.heal()
