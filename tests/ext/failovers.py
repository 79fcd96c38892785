"""Two prefixes with a role each, and services that are scripts: what a failover is tried on."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotpair import child, config, watch
from hotpair.failover import notes, peer_role, role, standing, takeover
from hotpair.failover.takeover import Order
from hotpair.hotsync import backup, inventory
from tests.ext.twonodes import Node

SECTIONS = """[hotsync]
role = {role}
include =
    /srv
config = /etc/app.conf
[failover]
services =
    db
    web.service
{more}
"""
# a service writes what it is to a file, and everything that happens to the trace
SERVICE = """#!/bin/sh
echo "$1 {name}" >> {root}/trace
case $1 in start) echo up ;; *) echo down ;; esac > {root}/{name}.is
"""
HOOK = '#!/bin/sh\necho "{what} $*" >> {root}/trace\n'
OLD = time.time() - 3 * 3600
DEAD = Order("test", "it burns", dead=True)


class FailoverNode(Node):
    """A prefix with two services and hooks that leave a trace."""

    def sections(self, role_: str, more: str = "") -> None:
        self.configure(SECTIONS.format(role=role_, more=more))

    def script(self, path: str, text: str) -> None:
        file = self.live(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("{root}", str(self.root)))
        file.chmod(0o755)

    def furnish(self) -> None:
        for name in ("db", "web"):
            self.script(f"/etc/init.d/{name}", SERVICE.replace("{name}", name))
        for what in ("promote", "demote"):
            self.script(f"/etc/hotpair/{what}.d/10-trace", HOOK.replace("{what}", what))
        loader = '#!/bin/sh\necho $1 >> {root}/trace\n[ $1 = rehearse ] || cat "$2/rows" > {root}/rows\n'
        self.script("/etc/hotpair/restore.d/10-db", loader)

    def trace(self) -> list[str]:
        file = self.root / "trace"
        return file.read_text().splitlines() if file.exists() else []

    def own_role(self) -> role.Role:
        """Return what this node is, as its file says."""
        text = (self.root / "var/lib/hotpair/role.json").read_text()
        return role.Role(**json.loads(text)["history"][-1])

    def is_(self, service: str) -> str:
        return self.text(f"/{service}.is").strip()


class Both:
    """alpha is the master, beta its standby, which has had one complete push."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, backed_up: tuple[bytes, str]) -> None:
        directory.chmod(0o755)
        self.patch, self.archive = monkeypatch, backed_up
        self.alpha = FailoverNode(directory / "alpha", directory / "beta")
        self.beta = FailoverNode(directory / "beta", directory / "alpha")
        for node, role_ in ((self.alpha, "master"), (self.beta, "standby")):
            node.sections(role_)
            node.furnish()
        self.on(self.alpha)
        role.begin("master")
        role.confirm()
        monkeypatch.setattr(inventory, "packages", lambda: "")  # which takes seconds to ask
        self.push()

    def on(self, node: Node) -> None:
        """Be on a node, for what is done in this process."""
        self.patch.setenv("HOTPAIR_ROOT", str(node.root))

    def push(self) -> None:
        """Have alpha's data on beta as a complete push leaves it there."""
        self.on(self.beta)
        out = self.beta.root / "var/lib/hotpair/hotsync/out"
        (out / "dumps").mkdir(parents=True)
        (out / "dumps/rows").write_text("rows of alpha\n")
        (out / "config.tar.xz").write_bytes(self.archive[0])
        (out / "config.tar.xz.sha256").write_text(self.archive[1])
        role.begin("standby")
        now = time.time()
        known = {"begun": now, "pid": "", "epoch": role.current().epoch}
        notes.write(notes.RECEIVED, {**known, "complete": {"begun": now, "ended": now, "epoch": known["epoch"]}})

    def lose_alpha(self) -> None:
        (self.alpha.root / "etc/hotpair/hotpair.ini").rename(self.alpha.root / "etc/hotpair/away")

    def alpha_is_back(self) -> None:
        (self.alpha.root / "etc/hotpair/away").rename(self.alpha.root / "etc/hotpair/hotpair.ini")


def backup_of_alpha(directory: Path) -> tuple[bytes, str]:
    """Make alpha's configuration backup; return it and its digest."""
    node = FailoverNode(directory / "alpha", directory / "beta")
    node.sections("master")
    node.live("/etc/app.conf").write_text("of alpha\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTPAIR_ROOT", str(node.root))
        settings = config.load().hotsync
        assert settings
        backup.make(settings)
        return Path(backup.archive()).read_bytes(), Path(backup.archive() + backup.SUM).read_text()


def promote(order: Order = DEAD) -> dict[str, Any]:
    return takeover.promote(config.load(), order)


def me() -> tuple[str, int]:
    return role.current()[:2]


def remarks() -> dict[str, str]:
    return {one.kind: one.what for one in standing.remarks(config.load(), role.current())}


class Killer:
    """Kill this process before its n-th change of anything."""

    def __init__(self, at: int) -> None:
        self.left = at

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*words: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*words, **more)

        return wrapped


def killed_at(at: int, do: Callable[[], object], *changes: tuple[Any, str]) -> bool:
    """Do something in a process that is killed before its n-th change; say whether it came to its end before."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            killer = Killer(at)
            for module, name in ((watch, "replace"), (child, "run"), (os, "rename"), *changes):
                setattr(module, name, killer.wrap(getattr(module, name)))
            do()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    return status == 0


def ends_when_killed(
    home: Path,
    patch: pytest.MonkeyPatch,
    backed_up: tuple[bytes, str],
    begin: Callable[[Both], None],
    until: Callable[[int], bool],
    state: Callable[[Both], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Kill something before its first change, its second and so on, and do it again; return what each ended in.

    The last is that of one which came to its end. until: do it, killed before its n-th change; say whether it ended.
    """
    patch.setattr(peer_role, "ask", lambda _: None)  # the other node is away: that takes time to find out
    child.run(["true"], child.environment(), 5)  # what is imported for it is imported once
    states: list[dict[str, Any]] = []
    ended = False
    while not ended:
        at = len(states)
        (home / str(at)).mkdir()
        both = Both(home / str(at), patch, backed_up)
        begin(both)
        ended = until(at)
        if not ended:
            assert until(10**6)
        states.append(state(both))
    return states
