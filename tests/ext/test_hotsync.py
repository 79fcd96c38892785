"""hotsync between two prefixes through the real door: what goes over, what is said of it, and what keeps it back."""

import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ext.standbys import PASSWORD, Standby, contents, needed
from tests.ext.twonodes import BIN, Node, Said

OUT = "/var/lib/hotpair/hotsync/out"
ALWAYS_NEW = {f"{OUT}/config.tar.xz", f"{OUT}/config.tar.xz.sha256"}
NOT_STATE = ("/run", "/var/log")  # locks, and the log of the daemon
SENDMAIL = "#!/bin/sh\n{ cat; echo ---; } >>$HOTPAIR_ROOT/mails\n"
WRITES = (
    "open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,"
    "mknod,mknodat,chmod,fchmod,fchmodat,chown,lchown,fchown,fchownat,utimensat,truncate,ftruncate,setxattr,lsetxattr,"
    "fsetxattr,flock,mount,execve"
)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standby]:
    needed()
    pair = Standby(tmp_path_factory.mktemp("hotsync"))
    (pair.beta.root / "srv/small").mkdir()
    small = ("-t", "tmpfs", "-o", "size=1m,mode=0755", "hotpair-test", str(pair.beta.root / "srv/small"))
    mounted = not subprocess.run(["mount", *small], capture_output=True).returncode
    sendmail = pair.alpha.root / "usr/sbin/sendmail"
    sendmail.write_text(SENDMAIL)
    sendmail.chmod(0o755)
    try:
        said = pair.open()
        assert said.code == 0, (said, (pair.beta.root / "var/log/hotpair.log").read_text())
        yield pair
    finally:
        pair.close()
        if mounted:
            subprocess.run(["umount", "--lazy", str(pair.beta.root / "srv/small")], check=True)


@pytest.fixture
def pair(opened: Standby) -> Standby:
    """Both nodes as they were before the first run, with a few things to send."""
    for node in opened.nodes:
        for path in (*node.live("/srv/data").iterdir(), node.live("/srv/one"), node.live(OUT)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    for name in ("mails", "var/lib/hotpair/hotsync/state.json", "var/lib/hotpair/alerts.json"):
        (opened.alpha.root / name).unlink(missing_ok=True)
    opened.alpha.live("/srv/one").write_text("one\n")
    opened.alpha.live("/srv/data/a b").write_text("first\n")
    opened.alpha.live("/srv/data/sub").mkdir(mode=0o750)
    opened.alpha.live("/srv/data/sub/new\nline\\#134é").write_text("second\n")
    opened.alpha.live("/srv/data/link").symlink_to("a b")
    os.chown(opened.alpha.live("/srv/data/sub"), 1234, 4321)
    return opened


@pytest.fixture
def promoted(pair: Standby) -> Iterator[Standby]:
    """The standby has been made the master, and alpha does not know."""
    assert pair.hotsync().code == 0
    roles = [node.root / "var/lib/hotpair/role.json" for node in pair.nodes]
    before = [role.read_text() for role in roles]
    pair.beta.python("from hotpair.failover import role; role.become('master', 2, 'test')")
    yield pair
    for role, text in zip(roles, before, strict=True):
        role.write_text(text)
    for node in pair.nodes:
        (node.root / "var/lib/hotpair/hotsync/peer.json").unlink(missing_ok=True)


@contextmanager
def configured(pair: Standby, change: Callable[[str], str], *nodes: Node) -> Iterator[None]:
    """Have another configuration for a while."""
    inis = [node.root / "etc/hotpair/hotpair.ini" for node in nodes]
    before = [ini.read_text() for ini in inis]
    try:
        for ini, text in zip(inis, before, strict=True):
            ini.write_text(change(text))
        if pair.beta in nodes:
            assert pair.open().code == 0
        yield
    finally:
        for ini, text in zip(inis, before, strict=True):
            ini.write_text(text)
        if pair.beta in nodes:
            pair.open()


def landed(pair: Standby) -> None:
    """Wait until the standby has written down that the last push came in."""
    until = time.monotonic() + 10
    while '"pid": ""' not in pair.beta.text("/var/lib/hotpair/hotsync/received.json"):
        assert time.monotonic() < until
        time.sleep(0.02)


def state(pair: Standby) -> Any:
    return json.loads((pair.alpha.root / "var/lib/hotpair/hotsync/state.json").read_text())


def mails(pair: Standby) -> list[str]:
    file = pair.alpha.root / "mails"
    return file.read_text().split("---\n")[:-1] if file.exists() else []


def subject(mail: str) -> str:
    found = re.search(r"^Subject: (.*(?:\n .*)*)", mail, re.MULTILINE)
    assert found
    return found[1]


def files(pair: Standby, *words: str) -> set[str]:
    """Return the files that a dry run says would be sent."""
    plan = json.loads(pair.hotsync("--dry-run", "--json", *words).out)
    return {item["path"] for item in plan["items"] if item["act"] == "send"}


def traced(pair: Standby, directory: Path, *words: str, strace: tuple[str, ...] = ()) -> tuple[Said, str]:
    """Run hotsync under strace; return what it said, and the trace of it and all its children."""
    trace = directory / "trace"
    argv = ["strace", "-f", "-qq", "-s", "4096", "-v", "-o", str(trace), *strace, sys.executable, "-IS"]
    done = subprocess.run(
        [*argv, str(BIN / "hotsync"), *words],
        env={"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(pair.alpha.root), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    return Said(done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)), trace.read_text(errors="replace")


strace = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")


def test_what_was_changed_within_the_second_and_has_the_same_size_is_sent(pair: Standby) -> None:
    ours, theirs = (node.live("/srv/one") for node in pair.nodes)
    for text, when in (("first", 10**18 + 1), ("later", 10**18 + 2)):
        ours.write_text(text)
        os.utime(ours, ns=(when, when))
        os.utime(ours.with_name("data"), ns=(when, when))
        assert pair.hotsync().code == 0
        assert theirs.read_text() == text
        assert [path.stat().st_mtime_ns for path in (theirs, theirs.with_name("data"))] == [when, when]


def test_the_first_run_copies_all_and_the_next_one_only_what_is_always_new(pair: Standby) -> None:
    said = pair.hotsync()
    assert said.code == 0 and said.out.startswith("complete: "), said
    for path in ("/srv/one", "/srv/data"):
        ours, theirs = (
            {live: found for live, found in contents(node).items() if live.startswith(path)} for node in pair.nodes
        )
        assert ours == theirs
    assert state(pair)["result"]["files"] >= 5
    again = json.loads(pair.hotsync("--json").out)
    assert again["result"] == "complete" and again["deletions"] == 0 and again["files"] <= 3, again
    assert pair.beta.live(f"{OUT}/config.tar.xz").read_bytes() == pair.alpha.live(f"{OUT}/config.tar.xz").read_bytes()


def test_a_dry_run_names_what_the_run_then_sends_and_changes_nothing(pair: Standby) -> None:
    assert pair.hotsync().code == 0
    pair.alpha.live("/srv/data/a b").write_text("changed\n")
    pair.alpha.live("/srv/data/sub/x").write_text("new\n")
    pair.alpha.live("/srv/one").unlink()
    pair.alpha.live("/srv/data/link").unlink()
    landed(pair)
    before = [contents(node, *NOT_STATE) for node in pair.nodes]
    said = pair.hotsync("--dry-run")
    assert said.code == 0, said
    assert "delete /srv/data/link\n" in said.out and "skip /srv/one: not here\n" in said.out, said
    named = files(pair)
    assert [contents(node, *NOT_STATE) for node in pair.nodes] == before
    assert pair.hotsync().code == 0
    after = contents(pair.beta, *NOT_STATE)
    changed = {path for path, found in after.items() if stat.S_ISREG(found[0]) and found != before[1].get(path)}
    ours = {path for path in changed if not path.startswith("/var/lib/hotpair") or path.startswith(f"{OUT}/")}
    assert named == ours == {"/srv/data/a b", "/srv/data/sub/x", *ALWAYS_NEW}
    assert set(before[1]) - set(after) == {"/srv/data/link"}


@strace
def test_a_dry_run_makes_no_call_that_writes(pair: Standby, tmp_path: Path) -> None:
    assert pair.hotsync().code == 0
    pair.alpha.live("/srv/data/a b").write_text("changed\n")
    said, trace = traced(pair, tmp_path, "--dry-run", strace=("-e", f"trace={WRITES}"))
    assert said.code == 0 and "send /srv/data/a b (8 bytes)" in said.out, said
    done = [line for line in trace.splitlines() if " = -1 " not in line and "execve(" not in line]
    lent = re.compile(rf'"{pair.alpha.root}/run/hotpair/hotsync-|"(include|exclude|hello)"')  # gone when it ends
    done = [line for line in done if not lent.search(line)]
    assert not list((pair.alpha.root / "run/hotpair").glob("hotsync-*/"))
    opened = [line for line in done if re.search(r" open(at)?\(", line)]
    assert opened and "execve(" in trace
    assert [line for line in done if line not in opened and "(" in line and "resumed" not in line] == []
    wrote = [line for line in opened if re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND", line)]
    assert [line for line in wrote if '"/dev/null"' not in line and '"/dev/tty"' not in line] == []


@strace
def test_a_run_has_no_secret_in_an_argument_and_nothing_in_tmp(pair: Standby, tmp_path: Path) -> None:
    said, trace = traced(pair, tmp_path, strace=("-e", "trace=execve,open,openat,creat,mkdir,rename,symlink,link"))
    assert said.code == 0, said
    assert "execve(" in trace and "stunnel" in trace and PASSWORD not in trace
    made = [
        line for line in trace.splitlines() if "O_CREAT" in line or re.search(r" (mkdir|rename|symlink|link)\(", line)
    ]
    assert [line for line in made if not re.search(rf'"({pair.alpha.root}|{pair.beta.root}|/dev)/', line)] == []


def test_what_is_gone_here_goes_there_and_nothing_beside_it(pair: Standby) -> None:
    pair.beta.live("/srv/other").mkdir(exist_ok=True)
    pair.beta.live("/srv/other/theirs").write_text("x")
    assert pair.hotsync().code == 0
    shutil.rmtree(pair.alpha.live("/srv/data/sub"))
    said = pair.hotsync("--json")
    assert json.loads(said.out)["deletions"] == 2, said
    assert not pair.beta.live("/srv/data/sub").exists() and pair.beta.live("/srv/other/theirs").exists()


def test_a_second_run_says_so_and_changes_nothing(pair: Standby) -> None:
    (pair.alpha.root / "run/hotpair").mkdir(parents=True, exist_ok=True)
    with (pair.alpha.root / "run/hotpair/hotsync.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        said = pair.hotsync()
    assert said.code == os.EX_TEMPFAIL and "a run of hotsync is under way" in said.err, said
    assert not pair.beta.live("/srv/one").exists()


def test_a_standby_sends_nothing(pair: Standby) -> None:
    said = pair.beta.run("hotsync")
    assert said.code == os.EX_TEMPFAIL and "standby of epoch 1" in said.err and str(pair.alpha.root) in said.err, said
    assert pair.beta.run("hotsync", "--cron") == (0, "", "")


def test_a_promoted_standby_takes_nothing_and_the_sender_is_told_why(promoted: Standby) -> None:
    pair = promoted
    pair.alpha.live("/srv/one").write_text("old master\n")
    said = pair.hotsync()
    assert said.code == os.EX_TEMPFAIL and "beta was promoted to epoch 2" in said.err, said
    assert pair.beta.text("/srv/one") == "one\n"
    assert "standby of epoch 2" in state(pair)["failure"] and state(pair)["last_complete"]
    assert pair.hotsync("--cron").code == os.EX_TEMPFAIL, "silent, though nobody has kept what it alone has"


def test_a_path_that_the_standby_does_not_accept_is_partial_and_named(pair: Standby) -> None:
    pair.alpha.live("/srv/refused").write_text("x")
    with configured(pair, lambda text: text.replace("/srv/one", "/srv/one\n    /srv/refused"), pair.alpha):
        said = pair.hotsync()
    assert said.code == os.EX_IOERR, said
    assert "/srv/refused: the standby does not accept it: name it in include or accept there" in said.err
    assert not pair.beta.live("/srv/refused").exists() and pair.beta.text("/srv/one") == "one\n"
    assert state(pair)["last_complete"] is None and state(pair)["result"]["partial"][0]["path"] == "/srv/refused"


@strace
def test_what_vanishes_meanwhile_is_named_and_the_run_is_complete(pair: Standby, tmp_path: Path) -> None:
    inject = ("-P", "srv/data/a b", "-P", "a b", "-e", "trace=openat,open", "-e", "inject=openat,open:error=ENOENT")
    said, _ = traced(pair, tmp_path, "--json", strace=inject)
    found = json.loads(said.out)
    assert said.code == 0 and found["result"] == "complete" and found["vanished"] == ["/srv/data/a b"], said
    assert "/srv/data/a b: vanished" in said.err


@strace
def test_what_cannot_be_read_is_named_and_nothing_is_deleted(pair: Standby, tmp_path: Path) -> None:
    assert pair.hotsync().code == 0
    pair.alpha.live("/srv/one").write_text("one, changed\n")
    pair.alpha.live("/srv/data/a b").unlink()
    inject = ("-P", "srv/data/sub", "-P", "sub", "-e", "trace=openat,open", "-e", "inject=openat,open:error=EIO")
    said, _ = traced(pair, tmp_path, strace=inject)
    assert said.code == os.EX_IOERR and "/srv/data/sub: Input/output error" in said.err, said
    assert pair.beta.text("/srv/one") == "one, changed\n"
    assert pair.beta.live("/srv/data/a b").exists() and os.listdir(pair.beta.live("/srv/data/sub"))


def test_too_many_deletions_wait_for_a_person(pair: Standby) -> None:
    for number in range(30):
        pair.alpha.live(f"/srv/data/{number}").write_text("x")
    assert pair.hotsync().code == 0
    shutil.rmtree(pair.alpha.live("/srv/data"))
    pair.alpha.live("/srv/data").mkdir()
    pair.alpha.live("/srv/one").write_text("one, changed\n")
    said = pair.hotsync("--dry-run")
    assert "\nhold " in said.out and "hotsync --force" in said.out, said
    said = pair.hotsync()
    assert said.code == os.EX_TEMPFAIL and "would be removed: nothing is sent" in said.err, said
    assert pair.beta.text("/srv/one") == "one\n" and len(os.listdir(pair.beta.live("/srv/data"))) > 30
    assert pair.hotsync("--force").code == 0
    assert os.listdir(pair.beta.live("/srv/data")) == [] and pair.beta.text("/srv/one") == "one, changed\n"


def test_a_full_disk_on_the_standby_is_a_failure_and_deletes_nothing(pair: Standby) -> None:
    if not os.path.ismount(pair.beta.live("/srv/small")):
        pytest.skip("cannot mount here")
    small = pair.alpha.live("/srv/small")
    small.mkdir()
    (small / "a").write_text("x")
    with configured(pair, lambda text: text.replace("/srv/one", "/srv/one\n    /srv/small"), *pair.nodes):
        assert pair.hotsync().code == 0
        (small / "a").unlink()
        (small / "large").write_bytes(os.urandom(2 << 20))
        said = pair.hotsync()
    assert said.code == os.EX_TEMPFAIL and "No space left on device" in said.err, said
    assert os.listdir(pair.beta.live("/srv/small")) == ["a"]
    assert state(pair)["result"]["result"] == "failed"


def test_a_mail_is_sent_once_for_each_change_and_at_the_end(pair: Standby) -> None:
    assert pair.hotsync("--cron") == (0, "", "") and mails(pair) == []
    key = pair.alpha.live("/etc/hotpair/hotsync.password")
    key.write_text("quite another one\n")
    assert [pair.hotsync("--cron").code for _ in range(2)] == [os.EX_PROTOCOL] * 2
    [mail] = mails(pair)
    assert subject(mail).startswith("hotpair alpha: hotsync: failed: the standby refuses: auth failed"), mail
    assert "\nTo: root\n" in "\n" + mail
    since = state(pair)["failing_since"]
    pair.alpha.live("/srv/one").write_text("changed\n")
    key.chmod(0o644)
    assert pair.hotsync("--cron").code == os.EX_CONFIG
    assert len(mails(pair)) == 2 and state(pair)["failing_since"] == since
    key.chmod(0o600)
    key.write_text(PASSWORD + "\n")
    assert [pair.hotsync("--cron").code for _ in range(2)] == [0, 0]
    assert len(mails(pair)) == 3 and "all is well again" in subject(mails(pair)[2])


def test_a_standby_that_is_away_is_said_with_the_reason(pair: Standby) -> None:
    pair.close()
    try:
        said = pair.hotsync()
    finally:
        pair.open()
    assert said.code == os.EX_TEMPFAIL and "Connection refused" in said.err, said


def test_another_certificate_than_the_pinned_one_is_sent_nothing(pair: Standby) -> None:
    pinned = pair.alpha.live("/etc/hotpair/hotsync-peer.crt")
    good = pinned.read_text()
    pinned.write_text(pair.alpha.text("/etc/hotpair/hotsync.crt"))
    try:
        said = pair.hotsync()
    finally:
        pinned.write_text(good)
    assert said.code == os.EX_TEMPFAIL and "certificate verify failed" in said.err, said
    assert not pair.beta.live("/srv/one").exists()


def test_through_ssh_it_is_the_same_door(pair: Standby) -> None:
    with configured(pair, lambda text: text + "transport = ssh\n", *pair.nodes):
        assert not list((pair.beta.root / "run/hotpair").glob("hotsync-stunnel.pid"))
        pair.alpha.live("/srv/one").write_text("through ssh\n")
        said = pair.hotsync()
        assert said.code == 0 and pair.beta.text("/srv/one") == "through ssh\n", said


def test_a_terminal_sees_a_bar(pair: Standby) -> None:
    import pty

    pair.alpha.live("/srv/data/large").write_bytes(os.urandom(1 << 20))
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-IS", str(BIN / "hotsync")],
        env={"PATH": os.environ["PATH"], "HOTPAIR_ROOT": str(pair.alpha.root), "TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stdin=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        out, _ = process.communicate(timeout=60)
    shown = os.read(ours, 1 << 16)
    os.close(ours)
    assert process.returncode == 0 and out.startswith(b"complete") and b"hotsync" in shown, (out, shown)


def test_a_session_table_that_nobody_stored_is_no_empty_answer(pair: Standby) -> None:
    pair.say(pair.beta, "standby", "[sessions]\n")
    assert pair.beta.run("ssync", "show").code == 0
    said = pair.beta.run("ssync", "show", "nft", "inet", "filter", "seen")
    assert said.code == os.EX_NOINPUT and "nft inet filter seen: there is no such table" in said.err
