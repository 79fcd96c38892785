"""The rehearsal: each thing that would stand in the way of a promotion is found, and nothing is touched."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from hotpair import config, paths
from hotpair.exits import ConfigFail
from hotpair.failover import rehearse
from hotpair.failover.rehearse import CRITICAL, OK, WARNING, Finding, Report
from hotpair.hotsync import backup, inventory
from tests.ext.trees import tree_of

INI = """\
[node]
name = beta
peer = ssh:alpha
[hotsync]
role = standby
transport = ssh
config =
    /etc/init.d
    /etc/passwd
[failover]
services =
    web.service
    db
address =
    192.0.2.10/24 dev eth0
"""
RESTORE = """\
#!/bin/sh
[ "$1" = rehearse ] && [ -e "$2/rows.sql" ] && [ "$HOTPAIR_NODE" = beta ] && exit
echo "no rows"
exit 3
"""


class Standby:
    """A prefix in which all is well, without certificates and without a program that loads dumps."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.chmod(0o755)
        self.write("/etc/hotpair/hotpair.ini", INI, 0o644)
        self.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1001:1001::/home/ann:/bin/sh\n")
        self.write("/etc/group", "root:x:0:\nann:x:1001:\n")
        for name in ("db", "web"):
            self.write(f"/etc/init.d/{name}", "#!/bin/sh\n", 0o755)
            self.write(f"/etc/rc2.d/S01{name}", "")
        self.received()
        self.write("/var/lib/hotpair/hotsync/out/dumps/rows.sql", "rows")
        self.write("/etc/hotpair/promote.d/README", "")
        self.write("/etc/hotpair/promote.d/mail", "#!/bin/sh\n", 0o755)
        self.synced(60)

    def write(self, live: str, text: str, mode: int = 0o600) -> Path:
        file = Path(f"{self.root}{live}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def received(self) -> None:
        """Have what the master made here, as it is when both are alike."""
        settings = config.load().hotsync
        assert settings
        assert backup.make(settings) == ()

    def synced(self, seconds: float) -> None:
        self.write("/var/lib/hotpair/hotsync/state.json", json.dumps({"last_complete": time.time() - seconds}))

    def certificate(self, name: str, days: int) -> None:
        file, key = f"{self.root}/etc/hotpair/{name}.crt", f"{self.root}/etc/hotpair/{name}.key"
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        argv += ["-subj", "/CN=x", "-days", str(days), "-keyout", key, "-out", file]
        subprocess.run(argv, check=True, capture_output=True)

    def rehearse(self) -> Report:
        return rehearse.rehearse(config.load())

    def finding(self, topic: str) -> Finding:
        """Return the worst finding of a topic."""
        found = [finding for finding in self.rehearse().findings if finding.topic == topic]
        return max(found, key=lambda finding: rehearse.LEVELS.index(finding.level))


@pytest.fixture
def standby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standby:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    monkeypatch.setattr(inventory, "packages", lambda: "vim 9\n")
    monkeypatch.setattr(inventory, "installed", lambda: {"vim": "9"})
    monkeypatch.setattr(inventory, "systemd", lambda: False)
    return Standby(tmp_path)


@pytest.fixture
def whole(standby: Standby) -> Standby:
    """The same with both."""
    standby.write("/etc/hotpair/hotpair.ini", INI.replace("transport = ssh\n", ""), 0o644)
    standby.write("/etc/hotpair/restore.d/sql", RESTORE, 0o755)
    standby.certificate("hotsync", 100)
    for tail in ("crt", "key"):
        shutil.copy(f"{standby.root}/etc/hotpair/hotsync.{tail}", f"{standby.root}/etc/hotpair/hotsync-peer.{tail}")
    return standby


def test_where_all_is_well_it_says_so_with_the_time_it_would_take(whole: Standby) -> None:
    report = whole.rehearse()
    assert {finding.level for finding in report.findings} == {OK}, list(report.lines())
    assert report.level == 0
    assert {finding.topic for finding in report.findings} >= {
        *("sync", "backup", "packages", "units", "services", "users", "dumps", "space", "certificate", "promote.d")
    }
    assert report.parts["services"] == 2 * rehearse.START
    assert report.parts["configuration"] > 0
    assert report.parts["dumps of sql"] > 0
    assert report.seconds == sum(report.parts.values())
    assert list(report.lines())[-1].startswith("expected time until services run: ")


def test_it_touches_nothing(whole: Standby) -> None:
    before = {path: path.stat().st_ctime_ns for path in whole.root.rglob("*")}, tree_of(whole.root)
    whole.rehearse()
    assert ({path: path.stat().st_ctime_ns for path in whole.root.rglob("*")}, tree_of(whole.root)) == before


def test_json_has_all_of_it(standby: Standby) -> None:
    report = standby.rehearse()
    said = json.loads(report.json())
    assert (said["level"], said["seconds"]) == (0, report.seconds)
    assert said["findings"][0] == {"topic": "sync", "level": "ok", "text": report.findings[0].text, "remedy": ""}


@pytest.mark.parametrize("minutes, level", [(34, OK), (36, WARNING), (121, CRITICAL), (-5, WARNING)])
def test_how_old_the_last_complete_sync_is(standby: Standby, minutes: float, level: str) -> None:
    standby.synced(minutes * 60)
    assert standby.finding("sync").level == level


@pytest.mark.parametrize("text", ["", "{}", "[]", "{", '{"last_complete": null}', '{"last_complete": "x"}'])
def test_no_complete_sync_is_critical(standby: Standby, text: str) -> None:
    standby.write("/var/lib/hotpair/hotsync/state.json", text)
    assert standby.finding("sync").level == CRITICAL
    os.unlink(paths.state("hotsync", "state.json"))
    assert standby.finding("sync").level == CRITICAL


def test_what_came_in_counts_before_what_was_sent(standby: Standby) -> None:
    begun = time.time() - 8000
    standby.write("/var/lib/hotpair/hotsync/received.json", json.dumps({"begun": begun + 7000, "complete": {}}))
    assert standby.finding("sync").level == OK
    standby.write("/var/lib/hotpair/hotsync/received.json", json.dumps({"complete": {"begun": begun}}))
    assert standby.finding("sync").level == CRITICAL


def test_a_damaged_backup_or_none_is_critical(standby: Standby) -> None:
    Path(backup.archive()).write_bytes(b"x" + Path(backup.archive()).read_bytes()[1:])
    assert standby.finding("backup").level == CRITICAL
    os.unlink(backup.archive())
    assert standby.finding("backup").level == CRITICAL
    assert standby.rehearse().level == 2


def test_dumps_that_do_not_load_are_critical_and_the_program_says_why(whole: Standby) -> None:
    os.rename(paths.state("hotsync", "out", "dumps", "rows.sql"), paths.state("hotsync", "out", "dumps", "other"))
    finding = whole.finding("dumps")
    assert (finding.level, finding.text) == (CRITICAL, "sql: exit 3: no rows")


def test_packages_users_and_units_that_are_missing_are_named(standby: Standby, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "installed", lambda: {})
    standby.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    for name in ("db", "web"):
        os.unlink(standby.root / f"etc/init.d/{name}")
    for topic, text in (("packages", "missing: vim"), ("users", "missing: ann")):
        assert standby.finding(topic)[1:3] == (WARNING, text)
    assert standby.finding("services").level == OK, "both come with the configuration"
    standby.write("/etc/hotpair/hotpair.ini", INI.replace("    /etc/init.d\n", ""), 0o644)
    standby.received()
    assert standby.finding("units")[1:3] == (WARNING, "missing: db, web")
    assert standby.finding("services")[1:3] == (CRITICAL, "missing: db, web.service")


def test_users_with_other_numbers_are_counted(standby: Standby) -> None:
    standby.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1005:1001::/home/ann:/bin/sh\n")
    texts = [finding.text for finding in standby.rehearse().findings if finding.topic == "users"]
    assert texts == ["all there", "1 with other numbers: a promotion gives their files to them"]


@pytest.mark.parametrize("free, level", [(50, OK), (7, WARNING), (2, CRITICAL)])
def test_how_much_space_is_free(standby: Standby, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    real = os.statvfs(standby.root)
    values = [*real]
    values[2:5] = 100_000_000, free * 1_000_000, free * 1_000_000
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(values))
    assert standby.finding("space").level == level


def test_dumps_larger_than_the_space_are_critical(standby: Standby) -> None:
    with open(paths.state("hotsync", "out", "dumps", "rows.sql"), "wb") as file:
        file.truncate(os.statvfs(standby.root).f_bavail * os.statvfs(standby.root).f_frsize // 4)
    assert standby.finding("space").level == CRITICAL


@pytest.mark.parametrize("days, level", [(40, OK), (20, WARNING), (5, CRITICAL)])
def test_how_long_the_certificates_are_good_for(whole: Standby, days: int, level: str) -> None:
    whole.certificate("hotsync-peer", days)
    assert whole.finding("certificate").level == level


def test_a_certificate_that_is_missing_or_none_is_critical(whole: Standby) -> None:
    whole.write("/etc/hotpair/hotsync.crt", "none")
    assert whole.finding("certificate").level == CRITICAL
    os.unlink(whole.root / "etc/hotpair/hotsync.crt")
    assert whole.finding("certificate").level == CRITICAL


def test_a_hook_that_others_can_write_is_critical_and_one_that_cannot_be_run_is_named(standby: Standby) -> None:
    standby.write("/etc/hotpair/promote.d/vpn", "#!/bin/sh\n")
    assert standby.finding("promote.d")[1:3] == (WARNING, "not executable: vpn")
    standby.write("/etc/hotpair/promote.d/vpn", "#!/bin/sh\n", 0o777)
    finding = standby.finding("promote.d")
    assert finding.level == CRITICAL
    assert "vpn" in finding.text
    assert "can be written by others" in finding.text


def test_without_a_section_hotsync_there_is_nothing_to_rehearse(standby: Standby) -> None:
    standby.write("/etc/hotpair/hotpair.ini", "[node]\nname = beta\npeer = ssh:alpha\n", 0o644)
    with pytest.raises(ConfigFail):
        standby.rehearse()
