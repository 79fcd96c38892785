"""Every mistake in an INI file is said with its line, all at once; a file that others could write is not read."""

import os
from pathlib import Path

import pytest

from hotpair import ini
from hotpair.exits import ConfigFail


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTPAIR_ROOT", str(tmp_path))
    directory = tmp_path / "etc/hotpair"
    directory.mkdir(parents=True)
    for step in (tmp_path, tmp_path / "etc", directory):
        step.chmod(0o755)
    path = directory / "hotpair.ini"
    path.write_text("[a]\nx = 1\n")
    path.chmod(0o644)
    return path


def said(text: str) -> list[str]:
    return [str(problem) for problem in ini.Ini("f", text).problems]


def values(text: str) -> dict[str, dict[str, str]]:
    return {section.name: section.values for section in ini.Ini("f", text).sections()}


@pytest.mark.parametrize(
    "text, expected",
    [
        pytest.param("[a]\nx = 1\nx = 2\n", ["f:3: duplicate name 'x': write it once"], id="a key is there twice"),
        pytest.param("[a]\nx = 1\n\n[a]\ny = 1\n", ["f:4: duplicate section 'a': write it once"], id="a section twice"),
        pytest.param(
            "[a]\nnonsense\n",
            ["f:2: unexpected line: 'nonsense': write `key = value`, and indent its further lines"],
            id="a line without a value",
        ),
        pytest.param(
            "x = 1\n[a]\ny = 1\n",
            ["f:1: no section header defined: write `key = value`, and indent its further lines"],
            id="a key before the first section",
        ),
        pytest.param("[]\nx = 1\n", ["f:1: empty section name: write `[NAME]` at the start of a line"], id="no name"),
    ],
)
def test_a_mistake_is_said_with_its_line_and_what_to_write(text: str, expected: list[str]) -> None:
    assert said(text) == expected


def test_all_mistakes_are_said_at_once() -> None:
    text = "[a]\nx = 1\nx = 2\nnonsense\n[a]\nz = 1\n[b\ny = 1\n[c]\nw = 1\nw = 2\n"
    assert [line.split(":")[1] for line in said(text)] == ["3", "4", "5", "7", "11"]


def test_what_stands_under_a_bad_header_belongs_to_no_section() -> None:
    assert values("[a]\nx = 1\n[a]\nx = 2\ny = 3\n[b]\nz = 4\n") == {"a": {"x": "1"}, "b": {"z": "4"}}


def test_comment_signs_inside_a_value_belong_to_it() -> None:
    # the rule: commands need `;` and `#`
    assert values("[a]\nrun =\n    one; two # three\n    # a comment\n    four\n") == {
        "a": {"run": "one; two # three\nfour"}
    }


def test_the_line_of_an_item_is_its_own() -> None:
    section = next(ini.Ini("f", "[a]\n\npaths =\n    /x\n    # no\n    /y\n").sections())
    assert (section.line_of("paths"), section.line_of("paths", "/x"), section.line_of("paths", "/y")) == (3, 4, 6)


def test_a_file_that_is_root_s_alone_is_read(file: Path) -> None:
    assert ini.read(str(file)).problems == []


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646], ids=oct)
def test_a_file_that_others_can_write_is_not_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigFail, match=f"can be written by others: chmod go-w {file}"):
        ini.read(str(file))


@pytest.mark.parametrize("above", ["etc/hotpair", "etc", "."])
def test_a_file_below_a_directory_that_others_can_write_is_not_read(file: Path, tmp_path: Path, above: str) -> None:
    (tmp_path / above).chmod(0o777)
    with pytest.raises(ConfigFail, match="can be written by others"):
        ini.read(str(file))


def test_a_link_to_where_others_can_write_is_not_followed(file: Path, tmp_path: Path) -> None:
    # the file and the way to the link are clean: what can be swapped is a directory behind the link
    hidden = tmp_path / "srv/open/inner"
    hidden.mkdir(parents=True)
    file.rename(hidden / "hotpair.ini")
    file.symlink_to(hidden / "hotpair.ini")
    for step in (tmp_path / "srv", hidden):
        step.chmod(0o755)
    (tmp_path / "srv/open").chmod(0o755)
    assert ini.read(str(file)).problems == []
    (tmp_path / "srv/open").chmod(0o777)
    with pytest.raises(ConfigFail, match="srv/open can be written by others"):
        ini.read(str(file))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_read(file: Path) -> None:
    os.chown(file, 65534, 65534)
    with pytest.raises(ConfigFail, match="belongs to user 65534: chown root"):
        ini.read(str(file))


def test_a_file_that_is_missing_is_a_failure_only_where_it_is_needed(file: Path) -> None:
    file.unlink()
    assert list(ini.read(str(file), missing_ok=True).sections()) == []
    with pytest.raises(ConfigFail, match="not there: copy the one that hotpair ships"):
        ini.read(str(file))


def test_a_byte_that_is_no_character_goes_through(file: Path) -> None:
    file.write_bytes(b"[a]\npaths = /srv/\xff\n")
    assert next(ini.read(str(file)).sections()).values["paths"] == "/srv/\udcff"
