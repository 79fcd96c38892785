"""Rules decide what is shared as rsync's filter would, and keep a peer out of what is not."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hotpair.rules import REMEMBERED, BadRule, Rules, parse, parse_line, parse_tempfile


def rules(*lines: str) -> Rules:
    return Rules(parse(lines))


def split(path: str) -> tuple[str, bool]:
    """Return a path as rsync prints it, a directory with a slash at its end, as the two arguments of a question."""
    return path.removesuffix("/"), path.endswith("/")


# One pattern


@pytest.mark.parametrize(
    "pattern, matched, others",
    [
        ("*.o", "a.o x/y/a.o .o a.o/", "a.oo a.o.c"),
        ("foo", "foo foo/ x/foo x/y/foo/", "afoo foob"),
        ("/foo", "foo foo/", "x/foo"),
        ("foo/", "foo/ x/foo/", "foo x/foo"),
        ("/foo/", "foo/", "foo x/foo/"),
        ("foo/bar", "foo/bar x/foo/bar foo/bar/", "afoo/bar foo/x/bar bar"),
        ("/foo/bar", "foo/bar", "x/foo/bar"),
        ("foo/*/bar", "foo/x/bar y/foo/x/bar", "foo/bar foo/x/y/bar"),
        ("/foo/**/bar", "foo/x/bar foo/x/y/bar", "foo/bar x/foo/y/bar"),
        ("/foo/**", "foo/x foo/x/y foo/x/", "foo foo/ x/foo/y"),
        ("foo/***", "foo/ foo/x foo/x/y x/foo/", "foo x/foo"),
        ("/foo/***", "foo/ foo/x foo/x/y", "foo x/foo/ x/foo/y"),
        ("**/foo", "foo x/foo", "xfoo"),
        ("**foo", "foo x/foo xfoo", "foox"),
        ("f**o", "foo f/x/o x/fo", "foox"),
        ("a?c", "abc aéc a\udcffc a\nc x/abc", "ac a/c abbc"),
        ("/a?c", "abc", "a/c"),
        ("[a-c]x", "ax bx x/cx", "dx -x"),
        ("[!a-c]x", "dx -x éx", "ax x /x"),
        ("[^a]x", "bx", "ax"),
        ("/a[!x]c", "abc", "a/c"),
        ("[]x]", "] x", "a"),
        ("/a[+-9]b", "a.b a1b", "a/b"),
        ("**a*b", "ab a/axb x/ab", "a/b"),
        ("/a*x/*y", "ax/y axx/yy abx/by", "ax/x/y"),
        ("[[:digit:]a]b", "1b ab", "bb ²b"),
        ("[a\\]]b", "]b ab", "\\b"),
        ("[z-ac]b", "zb cb", "ab mb -b"),
        ("*", "a .a a/ x/y", ""),
        ("*/", "a/ x/y/", "a x/y"),
        ("foo\\bar", "foo\\bar", "foobar"),
        ("foo\\bar*", "foobar foobarx", "foo\\bar"),
        ("foo\\\\bar*", "foo\\bar", "foobar"),
        ("a\\*b", "a*b", "a\\*b axb"),
        (".*.sw?", ".a.swp .a.swo", "a.swp"),
        ("a\nb", "a\nb", "a"),
        ("re:\\.mp3$", "a.mp3 x/a.mp3", "a.mp3/ a.mp3.txt a.MP3"),
        ("re:(?i)\\.mp3$", "a.MP3", "a.mp3/"),
        ("re:/Thumbs\\.db$", "Thumbs.db x/Thumbs.db", "xThumbs.db"),
        ("re:^/cache/$", "cache/", "cache x/cache/"),
        ("re:^/cache/", "cache/ cache/x", "cache"),
        ("re:/____archive____/", "____archive____/ x/____archive____/y", "____archive____"),
        (r"re:/(\w)\1$", "aa x/bb", "ab"),
        ("re:^/\udcff", "\udcffa", "a"),
    ],
)
def test_a_pattern_matches_what_rsync_says_it_does(pattern: str, matched: str, others: str) -> None:
    one = rules(f"- {pattern}")
    apart = re.compile("[ ]")  # newlines are part of names here
    assert [path for path in filter(None, apart.split(matched)) if not one.excluded(*split(path))] == []
    assert [path for path in filter(None, apart.split(others)) if one.excluded(*split(path.lstrip("/")))] == []


def test_the_first_rule_that_matches_decides_and_what_none_matches_is_shared() -> None:
    one = rules("- *.o", "+ /keep/*.bak", "- *.bak", "- cache/", r"- re:\.mp3$")
    shared = [
        path
        for path in ("a.o", "keep/a.bak", "a.bak", "x/keep/a.bak", "cache/", "cache", "a.mp3", "a")
        if not one.excluded(*split(path))
    ]
    assert shared == ["keep/a.bak", "cache", "a"]


def test_rules_of_all_kinds_keep_their_order_when_they_decide_differently() -> None:
    for first, second in (("+ a*", "- *b"), ("+ re:a", "- *b"), ("+ /**a*", "- ab"), ("+ ab", "- re:b")):
        assert not rules(first, second).excluded("ab", False)
        assert rules(second, first).excluded("ab", False)
        assert rules(second.replace("- ", "+ "), first.replace("+ ", "- ")).excluded("ab", False) is False


def test_expressions_with_groups_and_flags_of_their_own_do_not_disturb_each_other() -> None:
    one = rules(r"- re:(x)\1", r"- re:(?P<n>y)(?P=n)", r"- re:(?P<n>z)(?P=n)", "- re:(?i)q", "- re:a|b")
    for path in ("xx", "yy", "zz", "Q", "a", "b"):
        assert one.excluded(path, False), path
    for path in ("x", "y", "z", "A", "c"):
        assert not one.excluded(path, False), path


# What a peer may write


def test_nothing_below_an_excluded_directory_is_covered_whatever_includes_it() -> None:
    one = rules("+ *.txt", "- cache/", "- /a/b")
    assert not one.excluded("cache/x.txt", False)
    for path in ("cache/x.txt", "x/cache/y/z.txt", "a/b", "a/b/x.txt", "cache/"):
        assert not one.covers(*split(path)), path
    for path in ("x.txt", "a/x.txt", "cache", "a/bb/x", "a/"):
        assert one.covers(*split(path)), path


def test_a_name_is_judged_as_what_it_is_at_the_end_and_as_a_directory_above() -> None:
    one = rules("- x/")
    assert one.covers("x", False)
    assert not one.covers("x/y", False)
    assert one.covers("x", False), "the answer for the directory is not that for a file of its name"


@pytest.mark.parametrize("path", [".hotpair/", ".hotpair", ".hotpair/inbox/1/a", "a/.hotpair/b", "a/.hotpair"])
def test_the_own_directory_is_excluded_whatever_rules_say(path: str) -> None:
    for one in (rules(), rules("+ .hotpair", "+ *"), rules(r"+ re:\.hotpair")):
        assert one.excluded(*split(path))
        assert not one.covers(*split(path))


def test_a_name_that_only_resembles_the_own_directory_is_shared() -> None:
    assert rules().covers("a.hotpair/.hotpairs/x", False)
    assert not rules().excluded("a.hotpair", True)


def test_the_root_itself_is_always_shared() -> None:
    for one in (rules(), rules("- *"), rules("- re:.")):
        assert one.covers("", True)
        assert not one.excluded("", True)


def test_a_path_with_more_parts_than_python_has_frames_is_judged() -> None:
    deep = "/".join("a" * 2000)
    assert rules("- b").covers(deep, False)
    assert not rules("- b").covers("b/" + deep, False)


def test_what_is_remembered_of_directories_has_an_end() -> None:
    one = rules("- bad")
    for number in range(REMEMBERED * 2):
        assert one.covers(f"{number}/x", False)
        assert not one.covers(f"bad/{number}/x", False)
    assert len(one._covered) <= REMEMBERED + 3


def test_a_name_made_to_make_a_glob_try_again_and_again_costs_nothing() -> None:
    start = time.process_time()
    for pattern in ("*a*a*a*a*a*b", "/*a*a*a*a*a*b", "**a**a**a**a**b", "**a/**a/**a/**a/**b"):
        assert rules(f"- {pattern}").covers("a" * 255, False)
        assert rules(f"- {pattern}").covers("a/" * 500 + "a", False)
    assert time.process_time() - start < 5


# Temporary files


def test_tempfiles_are_looked_at_before_the_filter() -> None:
    one = Rules(parse(["+ *"]), (parse_tempfile("*.tmp"), parse_tempfile(r"re:\.~tmp~|/~\$")))
    for path in ("a.tmp", "x/a.tmp", "a.~tmp~b", "~$a.doc", "x/~$a.doc"):
        assert one.excluded(*split(path)), path
    assert not one.excluded("a$b", False)


@pytest.mark.parametrize("line", ["- *.tmp", "+ a", "a/b", "a/", "**", "", "re:", "[a"])
def test_a_tempfile_that_is_no_pattern_of_a_name_is_refused(line: str) -> None:
    with pytest.raises(BadRule):
        parse_tempfile(line)


# What is refused


@pytest.mark.parametrize(
    "line, said",
    [
        ("", "'' is no rule that hotpair knows: write `- PATTERN` to leave out, `+ PATTERN` to share"),
        ("*.o", "'*.o' is no rule that hotpair knows: write `- PATTERN` to leave out, `+ PATTERN` to share"),
        ("!", "'!' is no rule"),
        (". /etc/rules", "'. /etc/rules' is no rule"),
        (": .rules", "': .rules' is no rule"),
        ("merge x", "'merge x' is no rule"),
        ("exclude x", "'exclude x' is no rule"),
        ("P x", "'P x' is no rule"),
        ("-s x", "'-s x' has no space after its sign, and modifiers are not known: write `- PATTERN`"),
        ("-! x", "'-! x' has no space after its sign"),
        ("+,r x", "'+,r x' has no space after its sign, and modifiers are not known: write `+ PATTERN`"),
        ("-x", "'-x' has no space after its sign"),
        ("-_x", "'-_x' has no space after its sign"),
        ("-", "'-' has no space after its sign"),
        ("- ", "a rule without a pattern: write what it shall match"),
        ("-  x", "' x' begins or ends with a space: write one space after the sign, [ ] for one in a name"),
        ("- /", "'/' can match no path: write it without //, . and ..; / at its start is the root"),
        ("- a//b", "'a//b' can match no path"),
        ("- ./a", "'./a' can match no path"),
        ("- a/../b", "'a/../b' can match no path"),
        ("- [a", r"'[a' has a [ without an end: write ] where it ends, without / in between, or \["),
        ("- /a[/b]c", "'a[/b]c' has a [ without an end: write ] where it ends, without / in between"),
        ("- []", "'[]' has a [ without an end"),
        ("- [[:bad:]]", "'[[:bad:]]' has a [ without an end"),
        ("- *\\", r"'*\\' ends with a backslash: write \\ for a backslash"),
        ("- re:", "a rule without a pattern"),
        ("- re:(", "'(' is no regular expression of Python: missing ), unterminated subpattern"),
        ("- re:[[:alpha:]]", "'[[:alpha:]]' is no regular expression of Python: Possible nested set"),
    ],
)
def test_a_line_that_is_no_rule_is_refused_with_what_to_write(line: str, said: str) -> None:
    with pytest.raises(BadRule) as refused:
        parse_line(line)
    assert str(refused.value).startswith(said)
    assert str(refused.value) == f"{refused.value.what}: {refused.value.remedy}"


# Against rsync itself

PIECES = ["a", "b", "c", ".", "\n", "\\", "\udcff", " ", "-", "]", "!"]
NAMES = st.text(st.sampled_from(PIECES), min_size=1, max_size=3).filter(lambda name: name.strip(".") != "")
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
GLOBS = st.lists(
    st.sampled_from(
        [*PIECES, "/", "/", "*", "*", "**", "***", "?", "[ab]", "[!a]", "[^b-c]", "[[:alpha:]]", "\\*", "\\a"]
    ),
    min_size=1,
    max_size=6,
).map("".join)
LINES = st.builds(str.__add__, st.sampled_from(["- ", "- ", "+ "]), GLOBS)
needs_rsync = pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not installed: nothing to compare with")


def grow(top: Path, paths: list[str]) -> None:
    """Make a file of each path, and of each that ends in a slash or stands above another a directory."""
    for path in paths:
        at = top / path.rpartition("/")[0]
        if not any(above.is_file() for above in (at, *at.parents)):
            at.mkdir(parents=True, exist_ok=True)
            if not (top / path).exists():
                (top / path).touch()


def walk(top: Path, one: Rules) -> set[str]:
    """Return what is shared, as rsync prints it."""
    found = set()
    for directory, directories, files in os.walk(top):
        rel = "" if directory == str(top) else os.path.relpath(directory, top) + "/"
        directories[:] = [name for name in directories if not one.excluded(rel + name, True)]
        found |= {f"{rel}{name}/" for name in directories}
        found |= {rel + name for name in files if not one.excluded(rel + name, False)}
    return found


def everything(top: Path) -> set[str]:
    return walk(top, Rules())


def rsync(top: Path, lines: list[str]) -> set[str]:
    filters = [f"--filter={line}" for line in lines]
    command = ["rsync", "-rn8", *filters, "--out-format=%n", f"{top}/", f"{top}.none/"]
    done = subprocess.run(command, capture_output=True, check=True)
    names = [re.sub(rb"\\#(\d{3})", lambda code: bytes([int(code[1], 8)]), name) for name in done.stdout.split(b"\n")]
    return {os.fsdecode(name) for name in names} - {"", "./"}


@needs_rsync
@settings(max_examples=120, deadline=None)
@given(st.lists(PATHS, min_size=1, max_size=12), st.lists(LINES, min_size=1, max_size=4))
def test_rsync_shares_the_same_files_of_any_tree_with_the_same_rules(paths: list[str], lines: list[str]) -> None:
    kept = [line for line in lines if known(line)]
    assume(kept)
    with tempfile.TemporaryDirectory() as place:
        top = Path(place, "tree")
        grow(top, paths)
        one = rules(*kept)
        assert walk(top, one) == rsync(top, kept)
        covered = {path for path in everything(top) if one.covers(*split(path))}
        assert covered == walk(top, one), "what may be written is what a walk finds"


def known(line: str) -> bool:
    try:
        return bool(parse_line(line))
    except BadRule:
        return False


@needs_rsync
def test_a_pattern_that_is_refused_leaves_nothing_out_with_rsync(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    grow(top, ["a", "b/a/c", "b/[a", "b/\\", "b/[/x", "c/a/b"])
    for pattern in (
        "[a",
        "a[",
        "*[]",
        "[!]",
        "b/[a",
        "[[:bad:]]",
        "[[::]]",
        "*\\",
        "b//a",
        "./a",
        "b/../a",
        "/./a",
        "/",
    ):
        assert not known(f"- {pattern}"), pattern
        assert rsync(top, [f"- {pattern}"]) == everything(top), pattern


@needs_rsync
def test_sets_and_escapes_are_read_as_rsync_reads_them(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    grow(top, [char + "b" for char in "-abcmz][!^\\:1A. ~"] + ["b", "[b]", "x/ab", "x/\\b"])
    sets = [
        "[z-ac]b",
        "[!z-a]b",
        "[]a]b",
        "[^]a]b",
        "[a-]b",
        "[-a]b",
        "[a\\]c]b",
        "[\\a-c]b",
        "[a-\\c]b",
        "[[:alpha:]]b",
    ]
    sets += [
        "[[:punct:]1]b",
        "[![:upper:]-]b",
        "[[:]b",
        "[[:a]b",
        "[a-[:z]b",
        "[[]b",
        "[a-c-z]b",
        "\\[b*",
        "[\\\\]b",
        "x/[!x]b",
    ]
    for pattern in sets:
        assert walk(top, rules(f"- {pattern}")) == rsync(top, [f"- {pattern}"]), pattern
