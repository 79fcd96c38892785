"""A rules file of clsync becomes the lines of a filter that decide the same of every path."""

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iniconfig import IniConfig

from hotpair.convert import Foreign
from hotpair.convert_clsync import convert
from hotpair.rules import Rules, parse

LIBC = ctypes.CDLL(None)
EXTENDED, NOSUB = 1, 8  # regex.h


def regcomp(expression: str) -> ctypes.Array[ctypes.c_char] | None:
    """Return the expression compiled as clsync compiles it, or None where the C library refuses it."""
    compiled = ctypes.create_string_buffer(256)  # a regex_t has 64 bytes
    return None if LIBC.regcomp(compiled, expression.encode(), EXTENDED | NOSUB) else compiled


def clsync(lines: list[str], path: str, directory: bool) -> bool:
    """Say whether rules of the letters f, d and * exclude a path."""
    for line in lines:
        compiled = regcomp(line[2:])
        if line[1] in ("*", "d" if directory else "f") and not LIBC.regexec(compiled, path.encode(), 0, None, 0):
            return line[0] == "-"
    return False


def filters(text: str) -> list[str]:
    """Return the lines of the filter as hotpair reads them."""
    value: str = IniConfig("hotpair.ini", data=f"[tree a]\n{text}")["tree a"]["filter"]
    return [line.strip() for line in value.split("\n") if line.strip()]


def hotpair(text: str) -> Rules:
    return Rules(parse(filters(text)))


def test_the_page_of_clsync_has_an_example_that_comes_out_the_same() -> None:
    text = (
        "# which files to sync:\n+f^passwd$\n+f^ssh/sshd_config$\n\n# directories:\n+W^$\n+W^ssh$\n\n# the rest:\n-*\n"
    )
    assert convert(text) == (
        "filter =\n    # which files to sync:\n    + re:^/passwd$\n    + re:^/ssh/sshd_config$\n\n    # directories:\n"
        "    # not converted, hotpair always shares the root of a tree: +W^$\n"
        "    # hotpair shares the next directory itself as well, clsync only looked into it\n"
        "    + re:^/ssh/$\n\n    # the rest:\n    - *\n"
    )
    one = hotpair(convert(text))
    shared = [path for path in ("passwd", "ssh/sshd_config", "ssh/x", "x", "x/passwd") if one.covers(path, False)]
    assert shared == ["passwd", "ssh/sshd_config"]


@pytest.mark.parametrize(
    "rule, lines",
    [
        ("-*", ["- *"]),
        ("+*.*", ["+ *"]),
        ("-d", ["- */"]),
        ("-f", ["- re:(?!^).*(?<!/)$"]),
        ("-d^dev$", ["- re:^/dev/$"]),
        ("-D^dev$", ["- re:^/dev/$"]),
        ("-d^(a|b)$", ["- re:^/(a|b)/$"]),
        ("-f\\.lock$", ["- re:\\.lock$"]),
        ("-d/sess(ion)?s?$", ["- re:(?!^)/sess(ion)?s?/$"]),
        ("-f/tmp/", ["- re:(?!^)/tmp/.*(?<!/)$"]),
        ("-f/var/log/.*", ["- re:(?!^)/var/log/.*(?<!/)$"]),
        ("-d^var/lib/layman/", ["- re:^/var/lib/layman/.*/$"]),
        ("-*\\.bak$", ["- re:\\.bak$", "- re:\\.bak/$"]),
        ("+f^a|^b$", ["+ re:(?!^)(?:(?<=^/)a|(?<=^/)b$).*(?<!/)$"]),
        ("-f^[[:digit:]_]+\\.o$", ["- re:^/[0-9_]+\\.o$"]),
        ("-f^a\u2028b $", ["- re:^/a\\U00002028b $"]),
        ("-f^a ", ["- re:^/a .*(?<!/)$"]),
    ],
)
def test_a_rule_becomes_lines_that_a_person_can_read(rule: str, lines: list[str]) -> None:
    assert filters(convert(f"+d^$\n{rule}\n")) == lines


@pytest.mark.parametrize(
    "expression, path",
    [
        ("a.$", "a"),  # a directory has a slash there
        ("a/$", "a"),
        ("^ka++$", "k"),
        ("^ka?+b$", "kb"),
        ("\\>a", "a"),
        ("a\\>", "a"),
        ("(a)\\10", "aa0"),
        ("[b-]a", "-a"),
    ],
)
def test_an_expression_means_what_it_means_to_the_c_library(expression: str, path: str) -> None:
    for rule in (f"-f{expression}", f"-d{expression}", f"-*{expression}"):
        for directory in (False, True):
            expected = clsync([rule], path, directory)
            assert hotpair(convert(f"{rule}\n")).excluded(path, directory) == expected, (rule, directory)


def test_bytes_that_are_no_text_stay_what_they_are() -> None:
    one = hotpair(convert("-f^\udcff.$\n"))
    assert one.excluded("\udcffa", False)
    assert not one.excluded("a", False)


@pytest.mark.parametrize(
    "text, comment",
    [
        ("-w^a$\n", "not converted, hotpair shares a directory with what is in it or neither: -w^a$"),
        ("+m^a$\n", "not converted, hotpair shares a directory with what is in it or neither: +m^a$"),
        ("-S^a$\n", "not converted, hotpair shares a directory with what is in it or neither: -S^a$"),
        ("-l^a$\n", "not converted, clsync knows no such letter either: -l^a$"),
        ("-\n", "not converted, clsync knows no such letter either: -"),
        ("+d^$\n", "not converted, hotpair always shares the root of a tree: +d^$"),
        ("-f[[=a=]]\n", "not converted, Python has no collating elements: -f[[=a=]]"),
        ("-fa{2}*\n", "not converted, a repetition is repeated: -fa{2}*"),
        ("-fa\\Bb\n", "not converted, \\B is not the same beside a slash: -fa\\Bb"),
        ("-l\x0ba\n", "not converted, clsync knows no such letter either: -l\\x0ba"),
    ],
)
def test_what_cannot_be_said_is_a_comment_with_the_reason(text: str, comment: str) -> None:
    assert convert(text) == f"filter =\n    # {comment}\n"
    assert filters(convert(text)) == []


def test_a_comment_of_the_file_stays_on_its_line() -> None:
    assert convert("# a\x0b- *\n-*\n").splitlines()[1:3] == [
        "    # a\\x0b- *",
        "    # " + convert("-*\n").split("# ")[1].split("\n")[0],
    ]


def test_rules_that_kept_clsync_out_of_its_own_root_are_pointed_out() -> None:
    warned = "    # clsync did not look into the watched directory because of the next rule, hotpair always does"
    for rule in ("-*", "-d", "-d^a*"):
        assert warned in convert(f"+f^a$\n{rule}\n").splitlines()
    for text in ("-d^a$\n", "-f\n", "+w^$\n-*\n", "+d^$\n-*\n", "+*\n-*\n"):
        assert warned not in convert(text).splitlines()


def test_a_last_line_that_no_newline_ends_is_pointed_out() -> None:
    assert convert("-f^ab") == (
        "filter =\n    # clsync lost the last character of the next rule, as no newline ends it: it is converted as it"
        " is written\n    - re:^/ab.*(?<!/)$\n"
    )
    assert "lost" not in convert("-f^ab\n# end")


def test_windows_line_ends_are_none_of_the_expression() -> None:
    assert convert("-f^a$\r\n\r\n") == "filter =\n    - re:^/a$\n"


@pytest.mark.parametrize(
    "text, line, what",
    [
        ("# x\n f^a$\n", 2, "' ' begins no rule: write + or - for it"),
        ("-fa\n-f(a\n", 2, "'(a' is no regular expression"),
        ("-f[a\n", 1, r"'[a' has a [ without an end: write \[ for a bracket"),
        ("-f[[:bad:]]\n", 1, "'[[:bad:]]' has a [ without an end"),
        ("-f*a\n", 1, "* in '*a' has nothing to repeat: repair the expression"),
        ("-fa$*\n", 1, "* in 'a$*' has nothing to repeat"),
        ("-fa|+b\n", 1, "+ in 'a|+b' has nothing to repeat"),
        ("-fa{\n", 1, r"{ in 'a{' is no repetition: write \{ for a brace"),
        ("-fa\\\n", 1, r"a backslash at the end: write \\ for a backslash"),
        ("-f[z-a]\n", 1, "'[z-a]' is no regular expression: bad character range z-a"),
    ],
)
def test_what_ended_clsync_is_refused_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(Foreign) as refused:
        convert(text)
    assert refused.value.line == line
    assert str(refused.value).startswith(f"line {line}: {what}")
    assert not regcomp(text.rstrip("\n").split("\n")[-1][2:]) or " begins no rule" in what


PIECES = [
    "a",
    "b",
    "-",
    "/",
    "/",
    ".",
    ".*",
    "\\.",
    "\\d",
    "[ab]",
    "[^a]",
    "[/b]",
    "[]^\\]",
    "[a-b-]",
    "[[:alpha:]]",
    "^",
    "$",
]
PIECES += [
    "(",
    ")",
    "|",
    "*",
    "+",
    "?",
    "{2}",
    "{0,1}",
    "{,2}",
    "\\<",
    "\\>",
    "\\w",
    "\\W",
    "\\b",
    "\\1",
    "}",
    "]",
    "\\/",
    "\\'",
]
EXPRESSIONS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
LINES = st.builds("".join, st.tuples(st.sampled_from("+-"), st.sampled_from("fd*"), EXPRESSIONS))
PATHS = st.lists(st.text("ab-.d", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join)


@settings(max_examples=1500, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=3), st.lists(st.tuples(PATHS, st.booleans()), min_size=1, max_size=8))
def test_every_path_is_judged_as_the_c_library_and_clsync_judge_it(
    lines: list[str], paths: list[tuple[str, bool]]
) -> None:
    text = "".join(line + "\n" for line in lines)
    valid = all(regcomp(line[2:]) for line in lines)
    try:
        converted = convert(text)
    except Foreign:
        assert not valid, "what clsync takes is converted"
        return
    assert valid, "what ended clsync is refused"
    unsaid = {line for line in lines if f": {line}\n" in converted}
    one = hotpair(converted)
    for path, directory in paths:
        expected = clsync([line for line in lines if line not in unsaid], path, directory)
        assert one.excluded(path, directory) == expected, (path, directory, converted)
