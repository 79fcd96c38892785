"""What rsync prints, read back: names of any bytes, the end of a run, and complaints sorted by what they mean."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpair.hotsync import itemize
from hotpair.hotsync.itemize import Complaints, Item


def shown(name: bytes) -> str:
    r"""Show a name as rsync does: \#ooo for what is not printable, and for a backslash that would be read as such."""
    raw = re.sub(rb"\\(?=#[0-7]{3})|[\x00-\x1f\x7f-\xff]", lambda found: b"\\#%03o" % found[0][0], name)
    return raw.decode()


@pytest.mark.parametrize(
    "line, expected",
    [
        (">>> <f+++++++++ 12 srv/a b", Item("/srv/a b", "send", "file", 12, True)),
        (">>> <f.st...... 7 etc/x", Item("/etc/x", "send", "file", 7)),
        (">>> .f...p..... 7 etc/x", Item("/etc/x", "change", "file", 0)),
        (">>> .d..t...... 4096 srv/data/", Item("/srv/data", "change", "directory", 0)),
        (">>> cd+++++++++ 4096 srv/new/", Item("/srv/new", "make", "directory", 0, True)),
        (">>> cL+++++++++ 3 srv/l", Item("/srv/l", "make", "link", 0, True)),
        (">>> cLc.t...... 3 srv/l", Item("/srv/l", "make", "link", 0)),
        (">>> hf+++++++++ 5 srv/hard", Item("/srv/hard", "make", "file", 0, True)),
        (">>> cS+++++++++ 0 srv/fifo", Item("/srv/fifo", "make", "special", 0, True)),
        (">>> cD+++++++++ 0 srv/null", Item("/srv/null", "make", "device", 0, True)),
        (">>> *deleting   0 srv/old/", Item("/srv/old", "delete", "directory", 0)),
        (">>> *deleting   0 srv/>>> <f+++++++++ 1 x", Item("/srv/>>> <f+++++++++ 1 x", "delete", "file", 0)),
        (r">>> <f+++++++++ 1 a\#012b\#134#012\#377", Item("/a\nb\\#012\udcff", "send", "file", 1, True)),
        (">>> .d..t...... 4096 ./", Item("/", "change", "directory", 0)),
    ],
)
def test_a_line_is_an_item(line: str, expected: Item) -> None:
    assert itemize.item(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Number of files: 3",
        "<f+++++++++ 12 srv/a",
        ">>> srv/a",
        ">>> <f+++++++++ srv/a",
        "sending incremental list",
    ],
)
def test_any_other_line_is_none(line: str) -> None:
    assert itemize.item(line) is None


@given(st.binary(min_size=1).filter(lambda name: not name.endswith(b"/") and b"\0" not in name))
def test_every_name_comes_back_as_it_was(name: bytes) -> None:
    found = itemize.item(f">>> <f+++++++++ 3 {shown(name)}")
    assert found and found.path.encode(errors="surrogateescape") == b"/" + name


@given(st.text())
def test_no_line_is_more_than_a_line(text: str) -> None:
    found = itemize.item(text)
    assert found is None or text.startswith(">>> ")
    itemize.complaints(text, "/prefix")


@given(st.text())
def test_what_follows_the_mark_is_an_item_or_none(text: str) -> None:
    found = itemize.item(">>> " + text)
    assert found is None or (found.path.startswith("/") and found.size >= 0)


def test_the_numbers_of_a_run_are_read() -> None:
    lines = ["Number of files: 13 (reg: 7, dir: 4)", "Number of created files: 9", "Total bytes sent: 330", "x: 1"]
    assert itemize.stats(lines) == {"Number of files": 13, "Total bytes sent": 330}


@pytest.mark.parametrize(
    "text, expected",
    [
        ('file has vanished: "/p/srv/a b"', Complaints(vanished=("/srv/a b",))),
        (
            'rsync: [sender] send_files failed to open "/p/srv/x": Permission denied (13)',
            Complaints(partial=(("/srv/x", "Permission denied (13)"),)),
        ),
        (
            'rsync: [sender] opendir "/p/srv/d" failed: Input/output error (5)\n'
            "IO error encountered -- skipping file deletion",
            Complaints(partial=(("/srv/d", "Input/output error (5)"),)),
        ),
        (
            'rsync: [generator] recv_generator: mkdir "/srv/d" (in hotsync) failed: Too many levels (40)\n'
            "*** Skipping any contents from this failed directory ***",
            Complaints(partial=(("/srv/d", "Too many levels (40)"),)),
        ),
        (
            'skipping daemon-excluded file "srv/x"',
            Complaints(partial=(("/srv/x", "the standby does not accept it"),), refused=("/srv/x",)),
        ),
        (
            'ERROR: daemon refused to receive directory "srv/e"',
            Complaints(partial=(("/srv/e", "the standby does not accept it"),), refused=("/srv/e",)),
        ),
        (
            "stunnel is fine\n@ERROR: auth failed on module hotsync\n"
            "rsync error: x (code 5) at main.c(1) [sender=3.2.7]",
            Complaints(reasons=("auth failed on module hotsync", "stunnel is fine")),
        ),
        ("[ ] Compression disabled\n[!] Configuration failed", Complaints(reasons=("stunnel: Configuration failed",))),
        (
            "2026.11.25 16:26:24 LOG3[ui]: s_connect: Connection refused\n2026.11.25 16:26:24 LOG5[ui]: hello",
            Complaints(reasons=("stunnel: s_connect: Connection refused",)),
        ),
        (r'file has vanished: "/p/srv/\#012"', Complaints(vanished=("/srv/\n",))),
        ('file has vanished: "/p/srv/"quoted" name"', Complaints(vanished=('/srv/"quoted" name',))),
    ],
)
def test_a_complaint_is_sorted_by_what_it_means(text: str, expected: Complaints) -> None:
    assert itemize.complaints(text, "/p") == expected
