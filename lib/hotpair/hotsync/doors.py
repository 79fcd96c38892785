"""The door of a node: rsync's daemon on the loopback behind stunnel. Written from templates, opened, closed."""

import contextlib
import hashlib
import os
import shlex
import stat

from hotpair import child, ini, locks, paths, peer, watch
from hotpair.config import Config
from hotpair.exits import ConfigFail
from hotpair.hotsync import admit, background, confine, lists, templates
from hotpair.hotsync.background import Piece
from hotpair.hotsync.settings import Hotsync

LOCK, LISTENING = "hotsync-door", ("rsyncd", "stunnel")
USER = "hotpair"  # of rsync's daemon; no user of the system
RSYNC, STUNNEL = "/usr/bin/rsync", "stunnel"
# What push.py asks for; rsync names an option by its long word. Everything else is refused, whatever a later rsync has.
WANTED = (
    "archive acls hard-links xattrs relative numeric-ids no-implied-dirs"
    " delete delete-delay dry-run timeout log-format stats modify-window"
)
ONLY_ROOT = "chown root {0} && chmod 600 {0}"


def settings_of(config: Config) -> Hotsync:
    """Return [hotsync]. Raises ConfigFail without it."""
    if config.hotsync is None:
        raise ConfigFail(f"{paths.config_file('hotpair.ini')}: no section [hotsync]", "write one, see hotpair.ini(5)")
    return config.hotsync


def rsyncd_conf() -> str:
    return paths.state("hotsync", "rsyncd.conf")


def stunnel_conf() -> str:
    return paths.state("hotsync", "stunnel.conf")


def write(config: Config) -> None:
    """Write the configuration of both ends of the door. A file that is right is not touched."""
    settings = settings_of(config)
    rules = "".join(f"{rule}\n" for rule in admit.daemon(lists.accepted(settings)))
    texts = {
        "rsyncd.rules": rules,
        "rsyncd.secrets": f"{USER}:{password(settings)}\n",
        "rsyncd.conf": _rsyncd(settings),
        **({"stunnel.conf": _stunnel(settings)} if settings.transport == "stunnel" else {}),
    }
    paths.make_private(paths.state())
    paths.make_private(paths.state("hotsync"))
    for name, text in texts.items():
        if watch.read(path := paths.state("hotsync", name)) != text:
            watch.replace(path, text, 0o600)


def problems(settings: Hotsync) -> list[str]:
    """Return one line for each file that the door needs and that is not as it must be."""
    lines = []
    for look in (password, *([tls] if settings.transport == "stunnel" else [])):
        try:
            look(settings)
        except ConfigFail as fail:
            lines.append(str(fail))
    return lines


def _rsyncd(settings: Hotsync) -> str:
    log = paths.under("/var/log/hotpair-rsyncd.log")
    return templates.fill(
        "rsyncd.conf",
        rsyncd_port=settings.rsyncd_port,
        log=log if paths.root() else "",  # else syslog; its socket is outside a prefix
        view=confine.view(),
        secrets=paths.state("hotsync", "rsyncd.secrets"),
        lock=paths.runtime("hotsync-rsyncd.lock"),
        timeout=f"{settings.timeout:.0f}",
        gate=shlex.join([peer.program("hotsync-slave"), "gate"]),
        landed=shlex.join([peer.program("hotsync-slave"), "landed"]),
        rules=paths.state("hotsync", "rsyncd.rules"),
        refused=" ".join(["*", *(f"!{option}" for option in WANTED.split())]),
    )


def _stunnel(settings: Hotsync) -> str:
    log = paths.under("/var/log/hotpair-stunnel.log")
    on_every_address = f":::{settings.port}" if os.path.exists("/proc/net/if_inet6") else str(settings.port)
    return templates.fill(
        "stunnel-server.conf",
        accept=on_every_address,
        rsyncd_port=settings.rsyncd_port,
        log=log if paths.root() else "/dev/null",
        syslog="no" if paths.root() else "yes",
        **tls(settings),
    )


def tls(settings: Hotsync) -> dict[str, object]:
    """Return what both templates of stunnel are told. Raises ConfigFail for a file that is not there or not trusted."""
    files = {
        "key": private(settings.key),
        "certificate": _readable(settings.certificate),
        "peer_certificate": _readable(settings.peer_certificate),
    }
    # the other end may sort and delete for long without a word; rsync's own time-out is the one that counts
    return {**files, "timeout": f"{settings.timeout:.0f}", "idle": f"{settings.timeout * 2:.0f}"}


def password(settings: Hotsync) -> str:
    """Return the password of rsync's daemon. Raises ConfigFail for a file that others can read, or without one."""
    word = (watch.read(private(settings.password)) or "").partition("\n")[0].strip()
    if len(word) < 8 or not word.isprintable():
        raise ConfigFail(f"{settings.password}: no password of 8 characters or more", "openssl rand -hex 32 >FILE")
    return word


def private(live: str) -> str:
    """Return where a file of root's alone is. Raises ConfigFail when it is not, or can be read by others."""
    path = _readable(live)
    if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
        raise ConfigFail(f"{path}: can be read by others", ONLY_ROOT.format(path))
    return path


def _readable(live: str) -> str:
    path = paths.under(live)
    try:
        why = ini.untrusted(path)
    except OSError as error:
        raise ConfigFail(f"{path}: {error.strerror}", "see THE DOOR in hotsync(8) for how it is made") from error
    if why:
        raise ConfigFail(f"{path}: not used, because {why.partition(': ')[0]}", why.partition(": ")[2])
    return path


def _pieces(settings: Hotsync) -> list[Piece]:
    """Return what is to run, and the text that tells whether it runs as it is configured now."""
    daemon = [RSYNC, "--daemon", "--no-detach", f"--config={rsyncd_conf()}"]
    keys = "".join(_stamp(live) for live in (settings.key, settings.certificate, settings.peer_certificate))
    return [
        Piece("rsyncd", daemon, settings.rsyncd_port, _digest(watch.read(rsyncd_conf()) or ""), confine.enter),
        Piece("stunnel", [STUNNEL, stunnel_conf()], settings.port, _digest((watch.read(stunnel_conf()) or "") + keys)),
    ]


def _stamp(live: str) -> str:
    found = os.stat(paths.under(live))
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def open(config: Config) -> list[str]:  # noqa: A001 (used as doors.open)
    """Start what is not running as it is configured, and return the names of what was started.

    Through ssh each push starts a daemon of its own: nothing listens then.
    """
    settings = settings_of(config)
    with locks.state(LOCK):
        write(config)
        if settings.transport == "ssh":
            for name in LISTENING:
                background.end(name)
            return []
        for name in background.recorded():
            if not background.running(name):
                background.end(name)
        if _blind():
            background.end("rsyncd")
        return [piece.name for piece in _pieces(settings) if background.ensure(piece)]


def _blind() -> bool:
    """Say whether the daemon no longer sees the disks that the node sees."""
    daemon = background.running("rsyncd")
    return bool(daemon and confine.stale(os.getpid(), daemon))


def renew() -> None:
    """Have the gate see to the daemon's view before a push. Raises Fail when the push must not come in."""
    confine.renew(background.running("stunnel"))


def close(config: Config) -> list[str]:
    """End the door and each push that is under way; return the names of what was ended."""
    settings_of(config)
    with locks.state(LOCK):
        return [name for name in background.recorded() if background.end(name)]


def serve(config: Config) -> None:
    """Be rsync's daemon for one connection on standard input and output. Does not return."""
    with contextlib.suppress(PermissionError):  # sshd has made a session of it already
        os.setsid()
    with locks.state(LOCK):
        write(config)
        with background.record(f"door-{os.getpid()}") as fd:
            child.sign(fd)
    confine.enter()
    os.execve(RSYNC, [RSYNC, "--server", "--daemon", f"--config={rsyncd_conf()}", "."], child.environment())
