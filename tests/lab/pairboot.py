"""Become pid 1 of one node: build its root, start its daemons, then keep its syslog and bury its dead.

The root is one tmpfs, so that /etc, /var/lib and /root share a file system and links between them work as on a
server. Only /usr is this machine's, read-only. Everything that hotpair reads or writes is the node's own.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable

from tests.lab.pairlab import LINK, NODES, peer_of
from tests.lab.spaces import BASE_ENVIRONMENT, wait_until

SYSLOG = "/var/log/lab/syslog"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
# What a node must not take over from this machine's /etc: its own jobs, its keys, its hotpair.
CRON_FOLDERS = ("cron.d", "cron.hourly", "cron.daily", "cron.weekly", "cron.monthly", "cron.yearly")
NOT_COPIED = ("hotpair", "pair", "incron.d", "ssh", *CRON_FOLDERS)
DIRECTORIES = {
    "/dev/pts": 0o755,
    "/dev/shm": 0o1777,
    "/etc/pair": 0o755,
    "/home": 0o755,
    "/opt": 0o755,
    "/mnt": 0o755,
    "/root/.ssh": 0o700,
    "/root": 0o700,
    "/run/lock": 0o1777,
    "/run/sshd": 0o755,
    "/srv": 0o755,
    "/sys": 0o755,
    "/tmp": 0o1777,
    "/var/cache": 0o755,
    "/var/lib/hotpair": 0o700,
    "/var/log/lab": 0o755,
    "/var/tmp": 0o1777,
}
MIRRORED = ("/etc/cron.d", "/etc/incron.d", "/var/spool/cron/crontabs", "/var/spool/incron")
SSHD_CONFIG = """\
# UsePAM no: the node has no login sessions to register.
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
UsePAM no
"""
HOTPAIR_INI = """\
[node]
name = {name}
peer = ssh:{peer}

[files etc]
paths =
    /etc/pair/*.conf
    /etc/motd
"""


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, env=BASE_ENVIRONMENT)


def put(path: str, text: str, mode: int = 0o644) -> None:
    with open(path, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)


def read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def bind(source: str, target: str, *options: str) -> None:
    run("mount", "--bind", *options, source, target)


def system_folders(new: str) -> None:
    """Lend the node this machine's programs: /usr read-only, and /bin, /lib and so on as they are here."""
    os.mkdir(new + "/usr")
    bind("/usr", new + "/usr", "-o", "ro")
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink("/" + name):
            os.symlink(os.readlink("/" + name), f"{new}/{name}")
        elif os.path.isdir("/" + name):
            os.mkdir(f"{new}/{name}")
            bind("/" + name, f"{new}/{name}", "-o", "ro")


def copy_etc(new: str) -> None:
    """Give the node a copy of this machine's /etc without what would make it this machine."""
    run("cp", "-a", "/etc", new + "/etc")
    for name in NOT_COPIED:
        shutil.rmtree(f"{new}/etc/{name}", ignore_errors=True)
    put(new + "/etc/crontab", "")
    # sshd without PAM lets nobody in whose password is locked with "!".
    put(new + "/etc/shadow", re.sub(r"^root:!+", "root:*", read(new + "/etc/shadow"), flags=re.M), 0o640)


def own_folders(new: str) -> None:
    for directory, mode in DIRECTORIES.items():
        os.makedirs(new + directory, exist_ok=True)
        os.chmod(new + directory, mode)
    for directory in MIRRORED:
        found = os.stat(directory)
        os.makedirs(new + directory)
        os.chown(new + directory, found.st_uid, found.st_gid)
        os.chmod(new + directory, stat.S_IMODE(found.st_mode))
    os.symlink("/run", new + "/var/run")
    os.symlink("/run/lock", new + "/var/lock")


def devices(new: str) -> None:
    """Make a /dev of its own, because syslog's socket is in it."""
    for device in DEVICES:
        put(f"{new}/dev/{device}", "")
        bind(f"/dev/{device}", f"{new}/dev/{device}")
    for link, target in DEVICE_LINKS.items():
        os.symlink(target, f"{new}/dev/{link}")
    run("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", new + "/dev/pts")


def installed_tree(new: str, stage: str, venv: str) -> None:
    """Install hotpair in the node: its programs read-only, the rest of /usr/local the node's own."""
    local = new + "/usr/local"
    run("mount", "-t", "tmpfs", "-o", "mode=755", "hotpair-lab", local)
    for name in ("bin", "lib/hotpair", "sbin"):
        os.makedirs(f"{local}/{name}")
    run("cp", "-a", f"{stage}/usr/local/sbin", local)
    bind(f"{stage}/usr/local/lib/hotpair", local + "/lib/hotpair", "-o", "ro")
    bind(venv, local + "/lib/hotpair/.venv", "-o", "ro")
    run("cp", "-a", f"{stage}/etc/hotpair", new + "/etc/hotpair")


def build_root(new: str, stage: str, venv: str) -> None:
    """Put together the node's root directory at `new`; main() moves there."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "hotpair-lab", new)
    system_folders(new)
    copy_etc(new)
    own_folders(new)
    devices(new)
    os.mkdir(new + "/proc")
    run("mount", "-t", "proc", "proc", new + "/proc")
    installed_tree(new, stage, venv)


def identity(name: str, keys: dict[str, str]) -> None:
    """Be `name`: host name, keys, what is known of the peer, configuration. This is what an administrator does once."""
    peer = peer_of(name)
    run("hostname", name)
    put("/etc/hostname", name + "\n")
    put("/etc/hosts", "127.0.0.1 localhost\n" + "".join(f"{address} {node}\n" for node, address in NODES.items()))
    os.mkdir("/etc/ssh")
    put("/etc/ssh/sshd_config", SSHD_CONFIG)
    put("/etc/ssh/ssh_host_ed25519_key", keys[f"{name}-host"], 0o600)
    put("/etc/hotpair/id_ed25519", keys[f"{name}-user"], 0o600)
    put("/etc/hotpair/known_hosts", f"{peer},{NODES[peer]} {keys[f'{peer}-host.pub']}")
    forced = 'restrict,command="/usr/local/sbin/syncr-receive" '
    put("/root/.ssh/authorized_keys", forced + keys[f"{peer}-user.pub"], 0o600)
    put("/etc/hotpair/hotpair.ini", HOTPAIR_INI.format(name=name, peer=peer), 0o600)


def wait_for(what: str, is_so: Callable[[], bool], seconds: float = 15.0) -> None:
    if not wait_until(is_so, seconds):
        sys.exit(f"{what} after {seconds:g} s")


def connect(name: str) -> None:
    """Bring up the network; `lab up` puts the link in as soon as it sees both nodes."""
    run("ip", "link", "set", "lo", "up")
    wait_for(f"no interface {LINK}", lambda: LINK in [found for _, found in socket.if_nameindex()])
    run("ip", "address", "add", f"{NODES[name]}/24", "dev", LINK)
    run("ip", "link", "set", LINK, "up")


def start_daemons(name: str, cron: bool) -> None:
    """Start what a server would have running, each ready to serve when this returns."""
    connect(name)
    run("/usr/sbin/sshd")
    run("/etc/init.d/incron", "start")
    if cron:
        run("/usr/sbin/cron")
    wait_for("incrond is not ready", lambda: "ready to process filesystem events" in read(SYSLOG))


def bury(*_: object) -> None:
    """Reap every child that has died: whatever is orphaned in the node becomes a child of pid 1."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def keep_syslog(log: socket.socket) -> None:
    """Write what arrives at /dev/log to a file, for ever, one line a message, without its priority number."""
    with open(SYSLOG, "ab", buffering=0) as file:
        while True:
            message = re.sub(rb"^<\d+>", b"", log.recv(65536)).rstrip(b"\0\n")
            with contextlib.suppress(OSError):  # a test may fill the disk; the node lives on
                file.write(message.replace(b"\n", b" ") + b"\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NODES)
    parser.add_argument("lab")
    parser.add_argument("venv")
    parser.add_argument("report", type=int, help="descriptor that hears how the start went")
    parser.add_argument("--cron", action="store_true")
    return parser.parse_args()


def main() -> None:
    wanted = arguments()
    os.set_inheritable(wanted.report, False)
    os.umask(0o022)
    keys = {entry.name: read(entry.path) for entry in os.scandir(wanted.lab) if re.search(r"-(host|user)", entry.name)}
    new = os.path.join(wanted.lab, wanted.name)
    os.mkdir(new)
    build_root(new, os.path.join(wanted.lab, "stage"), wanted.venv)
    os.chroot(new)
    os.chdir("/")
    identity(wanted.name, keys)
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind("/dev/log")
    os.chmod("/dev/log", 0o666)
    put(SYSLOG, "")
    signal.signal(signal.SIGCHLD, bury)
    if os.fork():
        os.close(wanted.report)  # the child speaks
        keep_syslog(log)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log.close()
    said = b"failed"
    try:
        start_daemons(wanted.name, wanted.cron)
        said = b"ready"
    finally:
        os.write(wanted.report, said)


if __name__ == "__main__":
    main()
