"""What syncr.ini means, and what is said about its mistakes."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hotpair import sections
from hotpair.exits import ConfigFail
from hotpair.sections import Section

SHIPPED = Path(__file__).parents[2] / "etc/hotpair/syncr.ini"
RSYSLOG = """\
[/etc/rsyslog.d/*.conf]
check = rsyslogd -N1 -f %s
run =
    systemctl stop rsyslog
    sleep 5
    systemctl start rsyslog
"""
AS_READ = Section(
    "/etc/rsyslog.d/*.conf",
    ("rsyslogd", "-N1", "-f", "%s"),
    ("systemctl stop rsyslog", "sleep 5", "systemctl start rsyslog"),
    "both",
    60.0,
)
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that makes a text this node's syncr.ini."""
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    for directory in (tmp_path / "etc", tmp_path / "etc/hotpair"):
        directory.mkdir(mode=0o755)
    file = tmp_path / "etc/hotpair/syncr.ini"

    def to(text: str) -> Path:
        file.write_text(text)
        file.chmod(0o644)
        return file

    return to


def said(write: Write, text: str) -> list[str]:
    """Return every problem of a text as `line: what: what to write`."""
    file = write(text)
    return [str(problem).removeprefix(f"{file}:") for problem in sections.examine()[1]]


def test_the_example_of_the_design_reads_with_defaults_filled_in(write: Write) -> None:
    write(RSYSLOG)
    assert sections.load() == (AS_READ,)


def test_no_file_is_no_sections(write: Write) -> None:
    assert sections.load() == ()


def test_a_file_that_others_can_write_is_refused(write: Write) -> None:
    write(RSYSLOG).chmod(0o666)
    with pytest.raises(ConfigFail, match="can be written by others"):
        sections.load()


def test_the_shipped_file_runs_nothing_and_shows_every_key_with_its_default(write: Write) -> None:
    text = SHIPPED.read_text()
    assert said(write, text) == [] and sections.load() == ()
    example = re.findall(r"^# ?(\[/.*\]|[a-z]+ = ?.*|    .*)$", text, re.MULTILINE)
    assert said(write, "\n".join(example)) == []
    assert sections.load() == (AS_READ,)
    shown = {line.partition("=")[0].strip() for line in example if re.match(r"[a-z]+ =", line)}
    assert shown == set(sections.OPTIONS)


def test_sections_keep_the_order_of_the_file(write: Write) -> None:
    write("[/z]\nrun = true\n[/a]\nrun = true\n[/m]\nrun = true\n")
    assert [section.pattern for section in sections.load()] == ["/z", "/a", "/m"]


def test_hashes_and_semicolons_in_a_command_stay(write: Write) -> None:
    write("[/a]\nrun =\n    # a comment\n    sh: echo a; echo '#b'\n\n    printf ';#'\n")
    assert sections.load()[0].run == ("sh: echo a; echo '#b'", "printf ';#'")


@pytest.mark.parametrize(
    "text, problem",
    [
        pytest.param("[/a]\nrun = true\nuser = me", "3: unknown key 'user': write one of", id="unknown key"),
        pytest.param("[etc/a]\nrun = true", "1: [etc/a] is a relative path: write [/etc/a]", id="relative path"),
        pytest.param("[/etc//a]\nrun = true", "1: [/etc//a] is not a plain path", id="double slash"),
        pytest.param("[/etc/../a]\nrun = true", "1: [/etc/../a] is not a plain path", id="dots"),
        pytest.param("[/etc/]\nrun = true", "1: [/etc/] is not a plain path", id="slash at the end"),
        pytest.param("[/a/.hotpair/b]\nrun = true", "1: [/a/.hotpair/b] is hotpair's own", id="the inbox"),
        pytest.param("[/a]\non = here", "1: [/a] has neither run nor check: write `run =`", id="nothing to do"),
        pytest.param("[/a]\nrun = true\non = left", "3: on cannot be 'left': write both, here or peer", id="on"),
        pytest.param("[/a]\nrun = true\ntimeout = soon", "3: timeout cannot be 'soon': write seconds", id="timeout"),
        pytest.param("[/a]\nrun = true\ntimeout = 0", "3: timeout cannot be '0': write seconds", id="no time"),
        pytest.param("[/a]\nrun = true\ntimeout = nan", "3: timeout cannot be 'nan': write seconds", id="nan"),
        pytest.param("[/a]\nrun =\n  true\n  echo 'x", '4: "echo \'x": no closing quotation: close', id="quotes"),
        pytest.param("[/a]\nrun =\n  true\n  sh:", "4: 'sh:' names no command: write a command", id="empty sh"),
        pytest.param("[/a]\nrun =\n  true\n  ''", "4: \"''\" names no command: write a command", id="empty word"),
        pytest.param(
            "[/a]\nrun = bin/x y", "2: 'bin/x' is a relative path: write the whole path", id="relative command"
        ),
        pytest.param("[/a]\nrun =\n  true\n  A=b x", "4: 'A=b' is a variable for a shell: write `sh: A=b x`", id="A=b"),
        pytest.param("[/a]\nrun =\n  true\n  cat %s", "4: %s is for check alone: the path is in", id="%s in run"),
        pytest.param("[/a]\nrun = cat --x=%s", "2: %s is for check alone: the path is in", id="%s inside a run word"),
        pytest.param("[/a]\ncheck = visudo -c", "2: check has %s 0 times: write %s once", id="no %s in check"),
        pytest.param("[/a]\ncheck = cmp %s %s", "2: check has %s 2 times: write %s once", id="two %s"),
        pytest.param("[/a]\ncheck = %s -c", "2: check would start %s: name a command", id="%s is the command"),
        pytest.param("[/a]\ncheck = cat '%s", '2: "cat \'%s": no closing quotation: close', id="quotes in check"),
        pytest.param(
            "[/a]\ncheck =\n  cat %s\n  cmp %s", "4: check has more than one line: write one", id="two checks"
        ),
        pytest.param(
            "[/a]\ncheck = sh: cat %s", "2: a file name would meet a shell: write `/bin/sh -c", id="sh: check"
        ),
        pytest.param("[/a]\ncheck = sh -c 'x %s'", "2: a file name would meet a shell: write", id="%s in sh -c"),
        pytest.param("[/a]\ncheck = env A=b bash -ec %s", "2: a file name would meet a shell: write", id="bash -ec %s"),
        *(
            pytest.param(
                f"[/a]\nrun =\n  true\n  {line}", f"4: {line!r}: {operator} is for a shell: write `sh:", id=line
            )
            for line, operator in {
                "true && systemctl reload x": "&&",
                "logger a; logger b": ";",
                "true | cat": "|",
                "echo hi >/tmp/x": ">",
                "sleep 9 &": "&",
                "cp $HOTPAIR_PATH /tmp": "$HOTPAIR_PATH",
                "echo $(date)": "$(",
                'echo "a" `date`': "`",
            }.items()
        ),
        pytest.param("systemctl restart x", "1: unexpected line", id="no section"),
        pytest.param("[/a]\nrun = x\n[/a]\nrun = y", "3: duplicate section '/a': write it once", id="twice"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_what_to_write(write: Write, text: str, problem: str) -> None:
    found = said(write, text)
    assert len(found) == 1
    assert found[0].startswith(problem)


@pytest.mark.parametrize(
    "line, argv",
    [
        ("visudo -c -f %s", ("visudo", "-c", "-f", "%s")),
        ("nginx '--conf=%s' -t", ("nginx", "--conf=%s", "-t")),
        ("""/bin/sh -c 'test -s "$1"' check %s""", ("/bin/sh", "-c", 'test -s "$1"', "check", "%s")),
        ("bash -n %s", ("bash", "-n", "%s")),
    ],
)
def test_a_check_takes_the_path_as_one_word_or_inside_one(write: Write, line: str, argv: tuple[str, ...]) -> None:
    assert said(write, f"[/a]\ncheck = {line}") == []
    assert sections.load()[0].check == argv


@pytest.mark.parametrize(
    "line",
    [
        "find /a -name b -exec rm {} \\;",
        "sed 's/a;b/c&d/' /x",
        "sh -c 'a && echo $HOTPAIR_PATH'",
        'sh -c "a > \\"$HOTPAIR_PATH\\""',
        "printf a&b $HOME",
    ],
)
def test_what_is_quoted_or_means_nothing_alone_is_for_the_command(write: Write, line: str) -> None:
    assert said(write, f"[/a]\nrun =\n  {line}") == []


def test_a_line_for_the_shell_may_hold_what_its_author_wrote(write: Write) -> None:
    assert said(write, "[/a]\nrun =\n    sh: date +%s > /tmp/x\n    sh: A=b; echo \"it's $A") == []


def test_a_command_that_is_not_installed_is_no_mistake_of_the_file(write: Write) -> None:
    assert said(write, "[/a]\nrun =\n    no-such-command-here\n    /no/such/path") == []


def test_every_mistake_is_collected_and_load_names_the_first_and_how_many(write: Write) -> None:
    file = write("[/a]\non = up\n[b]\nrun = true\n")
    problems = sections.examine()[1]
    assert [problem.line for problem in problems] == [2, 1, 3]
    with pytest.raises(ConfigFail) as failed:
        sections.load()
    assert str(failed.value).startswith(f"{file}:2: on cannot be 'up'")
    assert "(and 2 more" in str(failed.value)


@pytest.mark.parametrize(
    "line, argv",
    [
        ("systemctl restart x", ("systemctl", "restart", "x")),
        ("printf 'a b' \"c d\" e\\ f", ("printf", "a b", "c d", "e f")),
        ("echo a; id", ("echo", "a;", "id")),
        ("echo $HOME `id` # x", ("echo", "$HOME", "`id`", "#", "x")),
        ("sh: echo $HOME; id", ("/bin/sh", "-c", "echo $HOME; id")),
        ("sh:id", ("/bin/sh", "-c", "id")),
    ],
)
def test_a_line_becomes_argv_without_a_shell_unless_it_asks_for_one(line: str, argv: tuple[str, ...]) -> None:
    assert sections.words(line) == argv


def section(pattern: str, on: str = "both") -> Section:
    return Section(pattern, None, (f"true {pattern} {on}",), on, 60.0)


@pytest.mark.parametrize("here, wanted", [(True, ["both", "here"]), (False, ["both", "peer"])])
def test_on_says_whether_the_node_of_the_change_or_the_other_runs(here: bool, wanted: list[str]) -> None:
    found = sections.for_path(tuple(section("/a", on) for on in ("both", "here", "peer")), "/a", here)
    assert [one.on for one in found] == wanted


def test_a_path_gets_every_section_that_matches_in_the_order_of_the_file() -> None:
    patterns = ("/etc/*.conf", "/etc/a.conf", "/etc/b.conf", "/etc/*/a.conf", "/etc/?.conf")
    found = sections.for_path(tuple(map(section, patterns)), "/etc/a.conf", True)
    assert [one.pattern for one in found] == ["/etc/*.conf", "/etc/a.conf", "/etc/?.conf"]
