"""The pure parts of hotsync: rules of both ends, the brake, what a run is called, what is mailed."""

import os
from pathlib import Path

import pytest

from hotpair import alerts, brake
from hotpair.exits import ConfigFail
from hotpair.hotsync import admit, outcome, preview, push, templates
from hotpair.hotsync.identity import OUT
from hotpair.hotsync.itemize import Complaints, Item
from hotpair.hotsync.lists import Lists
from hotpair.hotsync.push import Run
from hotpair.hotsync.settings import Hotsync, read
from hotpair.ini import Ini


def settings(text: str = "") -> Hotsync:
    return read(next(Ini("x", f"[hotsync]\nrole = master\n{text}").sections()))


NONE = Complaints()


def run(*items: Item, entries: int = 0, complaints: Complaints = NONE) -> Run:
    return Run(0, items, {"Number of files": entries, "Total bytes sent": 5}, complaints, 1.0)


def lists(*include: str, missing: tuple[str, ...] = (), failures: tuple[str, ...] = ()) -> Lists:
    return Lists(include, (), missing, failures)


def first(rules: list[str], path: str) -> str:
    """Return the sign of the first rule that is of exactly this path or of all below one above it."""
    for rule in rules:
        sign, pattern = rule.split(" ", 1)
        if pattern == path or (pattern.endswith("/**") and path.startswith(pattern[:-2])) or pattern == "*":
            return sign
    raise AssertionError(path)


def test_the_daemon_lets_in_what_is_accepted_and_never_what_is_the_nodes_own() -> None:
    rules = list(admit.daemon(["/etc", "/srv/data/"]))
    assert first(rules, "/srv/data") == first(rules, "/srv/data/x/y") == first(rules, "/etc/motd") == "+"
    assert first(rules, "/srv/dat") == first(rules, "/srv/data2") == first(rules, "/root/x") == "-"
    assert first(rules, "/etc/hostname") == first(rules, "/etc/hotpair/hotpair.ini") == "-"
    assert first(rules, "/var/lib/hotpair/role.json") == "-" and first(rules, f"{OUT}/config.tar.xz") == "+"
    assert "+ /srv/" in rules and rules[-1] == "- *"


def test_the_sender_leaves_out_the_nodes_own_before_its_lists_are_asked() -> None:
    rules = list(admit.sender(["+ /etc/hostname", "*.tmp"]))
    assert first(rules, "/etc/hostname") == "-" and rules[-1] == "*.tmp"


@pytest.mark.parametrize(
    "lost, there, held",
    [(0, 0, False), (1, 1, False), (2, 2, True), (9, 10, False), (10, 19, True), (10, 20, False), (50, 99, True)],
)
def test_more_than_half_of_what_is_there_is_not_removed_unasked(lost: int, there: int, held: bool) -> None:
    assert brake.lost_too_much(lost, there, settings().max_delete) == held


def test_what_is_new_on_the_standby_does_not_count_as_there() -> None:
    gone = [Item(f"/g{number}", "delete", "file", 0) for number in range(12)]
    new = [Item(f"/n{number}", "send", "file", 1, True) for number in range(90)]
    with pytest.raises(push.Held, match="12 of 22 paths"):
        push.brake(run(*gone, *new, entries=100), settings())
    push.brake(run(*gone, *new, entries=100), settings("max-delete = 60%"))


def test_a_run_is_complete_only_if_every_part_of_it_was() -> None:
    whole = outcome.of(run(), lists(missing=("/x",)), (), 1.0)
    assert (whole.result, whole.code, whole.missing, outcome.alert(whole)) == ("complete", os.EX_OK, 1, "")
    for part in (
        outcome.of(run(complaints=Complaints(partial=(("/a", "no"),))), lists(), (), 1.0),
        outcome.of(run(), lists(failures=("mysql: exit 1",)), (), 1.0),
        outcome.of(run(), lists(), ("/etc/x: unreadable",), 1.0),
    ):
        assert (part.result, part.code) == ("partial", os.EX_IOERR)
        assert outcome.alert(part).startswith("partial: ")


def test_a_preview_names_what_the_run_makes_anew_once() -> None:
    planned = run(Item(f"{OUT}/config.tar.xz", "send", "file", 9), Item("/srv/x", "delete", "file", 0), entries=5)
    found = preview.preview(planned, lists(f"{OUT}/dumps/mysql.sql", missing=("/gone",)), settings())
    sent = [item.path for item in found.items if item.act == "send"]
    assert sorted(sent) == sorted({*preview.BACKUP, f"{OUT}/dumps/mysql.sql"}) and len(sent) == len(set(sent))
    assert "skip /gone: not here" in preview.lines(found)


def test_a_mail_has_no_control_bytes_in_its_subject_and_names_of_any_bytes() -> None:
    mail = alerts.message("alpha", "root", "hotsync", "partial: a\x1b[2J\u2028\udcff é\nBcc: me@example\n/x\r\n", "now")
    subject = mail["Subject"]
    assert subject.isprintable() and subject.isascii() and "\\x1b[2J" in subject
    assert mail["Bcc"] is None and "Bcc: me@example" in mail.get_content()
    assert bytes(mail)


def test_only_the_first_line_without_its_numbers_tells_one_failure_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    told: list[str] = []

    def tell(_topic: str, failing: str, _known: object) -> bool:
        told.append(failing)
        return True

    monkeypatch.setattr(alerts, "_tell", tell)
    for failing in ("", "3 paths", "4 paths\n/more", "away", "", "", "away"):
        alerts.report("hotsync", failing)
    assert told == ["3 paths", "away", "", "away"]


def test_a_mail_that_could_not_be_sent_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    answers = [False, True]
    monkeypatch.setattr(alerts, "_tell", lambda topic, failing, known: answers.pop(0))
    for _ in range(3):
        alerts.report("hotsync", "away")
    assert answers == []


def test_a_value_cannot_add_a_line_to_a_configuration() -> None:
    with pytest.raises(ConfigFail, match="cannot stand in a configuration"):
        templates.fill("stunnel-client.conf", host="h\nverifyPeer = no")
