"""Syncr's own syncr.ini becomes hotpair's, with every command as it was."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotpair import sections
from hotpair.convert import Foreign, convert

README = """\
[/etc/rsyslog.d/xenserver.conf]
systemctl stop rsyslog
sleep 5s
systemctl start rsyslog

[/etc/sysconfig/iptables]
systemctl restart iptables.service
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    for directory in (tmp_path / "etc", tmp_path / "etc/hotpair"):
        directory.mkdir(mode=0o755)
    return tmp_path


def read(root: Path, text: str) -> dict[str, list[tuple[str, ...]]]:
    """Return what hotpair makes of a text: the argv lists of each section."""
    file = root / "etc/hotpair/syncr.ini"
    file.write_bytes(os.fsencode(text))
    file.chmod(0o644)
    found, problems = sections.examine()
    assert problems == [], text
    return {one.pattern: [sections.words(line) for line in one.run] for one in found}


def one_line(line: str) -> str:
    """Return the line that a single command becomes."""
    return convert(f"[/a]\n{line}\n").splitlines()[-1].strip()


def test_the_example_of_the_seed_gives_the_same_commands(root: Path) -> None:
    assert read(root, convert(README)) == {
        "/etc/rsyslog.d/xenserver.conf": [
            ("systemctl", "stop", "rsyslog"),
            ("sleep", "5s"),
            ("systemctl", "start", "rsyslog"),
        ],
        "/etc/sysconfig/iptables": [("systemctl", "restart", "iptables.service")],
    }


def test_nothing_but_run_and_indentation_is_added() -> None:
    assert convert(README) == (
        "[/etc/rsyslog.d/xenserver.conf]\nrun =\n    systemctl stop rsyslog\n    sleep 5s\n"
        "    systemctl start rsyslog\n\n[/etc/sysconfig/iptables]\nrun =\n    systemctl restart iptables.service\n"
    )


def test_comments_and_blank_lines_stay_and_a_comment_gets_a_line_of_its_own(root: Path) -> None:
    text = convert("# top\n\n[/a]\n# inside\nid -u # who\n\nid -g\n# end")
    assert text == "# top\n\n[/a]\nrun =\n# inside\n    # who\n    id -u\n\n    id -g\n# end"
    assert read(root, text) == {"/a": [("id", "-u"), ("id", "-g")]}


@pytest.mark.parametrize(
    "line",
    [
        "systemctl restart x.service",
        "/usr/bin/rsync -a --delete /a/ /b/",
        "logger -t syncr 'it is; done & gone'",
        'logger "two words" x=y',
        "sleep 5s",
        "echo done",
    ],
)
def test_a_line_that_needs_no_shell_stays_as_it_is(line: str) -> None:
    assert one_line(line) == line


@pytest.mark.parametrize(
    "line",
    [
        "a | b",
        "a && b",
        "a; b",
        "a &",
        "a > /tmp/x",
        "a < /tmp/x",
        "(a)",
        "a $HOME",
        "a `b`",
        "a *.conf",
        "a x?",
        "a x#y",
        "a ~/x",
        "a !x",
        "a b\\ c",
        'a "$b"',
        'a "b\\"c"',
        "a [xy]",
        "a {x}",
        "a 'open",
        "LANG=C a",
        "cd /tmp && a",
        "exec a",
        "wait",
        "[ -f /x ] && a",
        "./a",
        "bin/a",
        "'' a",
        "a +%s",
        "'exit' 1",
        ";a",
        "sh: a",
    ],
)
def test_a_line_that_needs_a_shell_gets_the_prefix(line: str, root: Path) -> None:
    text = convert(f"[/a]\n{line}\n")
    assert text == f"[/a]\nrun =\n    sh: {line}\n"
    assert read(root, text) == {"/a": [("/bin/sh", "-c", line)]}


@pytest.mark.parametrize(
    "line",
    [
        "[[ -f /x ]] && a",
        "a &> /x",
        "source /x; a",
        "a <(b)",
        "a $'x'",
        "a {1..3}",
        "a x{b,c}",
        "((a=1)); b",
        "a <<< b",
    ],
)
def test_a_line_that_only_bash_reads_goes_to_bash(line: str, root: Path) -> None:
    text = convert(f"[/a]\n{line}\n")
    [argv] = read(root, text)["/a"]
    assert argv[:2] == ("/bin/sh", "-c")
    assert shlex.split(argv[2]) == ["exec", "/bin/bash", "-c", line]


@pytest.mark.parametrize("line", ["cd /tmp", "export A=b", "A=b", "umask 077", "A=b B=c"])
def test_a_line_that_was_there_for_the_next_ones_is_pointed_out(line: str) -> None:
    above = convert(f"[/a]\n{line}\nmake\n").splitlines()[2]
    assert above.strip().startswith("# the line below")


def test_a_variable_for_one_command_is_not_pointed_out() -> None:
    assert "the line below" not in convert("[/a]\nA=b make\ncd /x && make\n")


def test_a_section_without_commands_becomes_a_comment(root: Path) -> None:
    text = convert("[/a]\n[/b]\nid\n")
    assert text == "# [/a]\n[/b]\nrun =\n    id\n"
    assert read(root, text) == {"/b": [("id",)]}


def test_a_name_that_looks_like_a_glob_still_means_itself(root: Path) -> None:
    [pattern] = read(root, convert("[/etc/a[1]*?.conf]\nid\n"))
    assert sections.for_path(sections.load(), "/etc/a[1]*?.conf", True)
    assert not sections.for_path(sections.load(), "/etc/a1bc.conf", True)


def test_windows_line_ends_are_none_of_the_command() -> None:
    assert convert("[/a]\r\nid -u\r\n") == "[/a]\nrun =\n    id -u\n"


@pytest.mark.parametrize(
    "text, line, what",
    [
        ("# x\nid\n[/a]\n", 2, "a command before any section: write [/path] above it"),
        ("[/a]\nid\n[etc/b]\nid\n", 3, "[etc/b] names no absolute path: write [/path]"),
        ("[/a]\nid\n[/a]\nid\n", 3, "[/a] is there twice"),
        ("[/a//b]\nid\n", 1, "/a//b is not a plain path"),
        ("[/a#b]\nid\n", 1, "a header cannot hold # or ;: write ? for it"),
        ("[/a\nid\n", 1, "[/a names no absolute path"),
        ("[/a]\nrun =\n    id\n", 2, "this is hotpair's format already"),
        ("[/a]\nid\x0bid\n", 2, "a control character that ends a line"),
    ],
)
def test_what_is_not_the_seeds_format_is_refused_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(Foreign) as refused:
        convert(text)
    assert refused.value.line == line
    assert str(refused.value).startswith(f"line {line}: {what}")


PIECES = st.sampled_from(
    ["a", "é", "-x", "/b/c", "k=v", " ", "\t", "'q r'", '"q r"', "'", '"', "'\"'", '"\'"', "$A", "`", "\\", ";", "|"]
    + ["&", "<", ">", "(", ")", "*", "?", "{x,y}", "~", "!", "#", " #c", "%s", "^", "@", ":", ",", ".", "+", "[", "]"]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=8).map("".join))
def test_what_stays_without_a_shell_is_what_a_shell_would_have_made_of_it(root: Path, tail: str) -> None:
    text = convert(f"[/a]\nprintf {tail}\n")
    [[*argv]] = read(root, text)["/a"]
    if argv[0] == "/bin/sh":
        return
    script = f"printf() {{ command printf '%s\\0' printf \"$@\"; }}\neval {shlex.quote('printf ' + tail)}"
    seen = subprocess.run(["/bin/bash", "-c", script], capture_output=True, check=True, cwd=root)
    assert os.fsdecode(seen.stdout).split("\0")[:-1] == argv
