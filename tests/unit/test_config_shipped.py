"""The hotpair.ini that is shipped, and the man page, against the options that there are."""

import re
from pathlib import Path

import pytest
from iniconfig import IniConfig

from hotpair import config, filesset, treeset
from hotpair.failover import settings as failover
from hotpair.hotsync import settings as hotsync
from hotpair.options import Option
from hotpair.sessions import settings as sessions
from tests.unit.written import SHIPPED, Write, said


def _uncommented() -> str:
    """The shipped file with every option switched on: `#` without a space begins one."""
    return re.sub(r"^#(?! |$)|^#(?=    \S)", "", SHIPPED.read_text(), flags=re.MULTILINE)


every_kind = pytest.mark.parametrize(
    "section, page, options, required",
    [
        pytest.param("node", "[node]", config.NODE, {"name", "peer"}, id="node"),
        pytest.param("files etc", "[files NAME]", filesset.OPTIONS, {"paths"}, id="files"),
        pytest.param("tree home", "[tree NAME]", treeset.OPTIONS, {"root"}, id="tree"),
        pytest.param("hotsync", "[hotsync]", hotsync.OPTIONS, {"role"}, id="hotsync"),
        pytest.param("failover", "[failover]", failover.OPTIONS, set(), id="failover"),
        pytest.param("sessions", "[sessions]", sessions.OPTIONS, set(), id="sessions"),
    ],
)


def test_the_shipped_file_is_sound_with_every_option_switched_on(write: Write) -> None:
    write(_uncommented())
    assert config.examine()[1] == []


def test_the_shipped_file_has_a_section_of_each_kind() -> None:
    kinds = ["node", "files etc", "tree home", "hotsync", "failover", "sessions"]
    assert list(IniConfig(str(SHIPPED), _uncommented()).sections) == kinds


@every_kind
def test_the_shipped_file_has_every_option_with_its_default(
    section: str, page: str, options: dict[str, Option], required: set[str]
) -> None:
    written = IniConfig(str(SHIPPED), _uncommented()).sections[section]
    assert list(written) == list(options)
    for key, option in options.items():
        assert written[key] == option.default or not option.default, key


def test_the_shipped_file_asks_for_what_has_no_default(write: Write) -> None:
    found = said(write, SHIPPED.read_text())
    line = SHIPPED.read_text().split("\n").index("[node]") + 1
    assert [text.split(":")[0] for text in found] == [str(line)] * 2
    assert "name is missing" in found[0] and "peer is missing" in found[1]


def test_every_option_of_the_shipped_file_is_explained() -> None:
    # the rule: an option stands under a comment, alone or right below another option of the same paragraph
    for paragraph in SHIPPED.read_text().split("\n\n"):
        if re.search(r"^#[a-z]", paragraph, re.MULTILINE):
            assert paragraph.startswith("# ") or paragraph.startswith("[node]"), paragraph


EVERY = (config.NODE, filesset.OPTIONS, treeset.OPTIONS, hotsync.OPTIONS, failover.OPTIONS, sessions.OPTIONS)


def test_the_shipped_file_says_of_every_option_without_a_default_what_nothing_means() -> None:
    for paragraph in SHIPPED.read_text().split("\n\n"):
        for key in re.findall(r"^#([a-z-]+) =", paragraph, re.MULTILINE):
            if any(key in kind and not kind[key].default for kind in EVERY):
                assert "efault" in paragraph, key


@every_kind
def test_the_man_page_has_every_option_with_its_default(
    section: str, page: str, options: dict[str, Option], required: set[str]
) -> None:
    text = (Path(__file__).parents[2] / "docs/man/hotpair.ini.5").read_text()
    about = re.split(r"^\.S[sh] ", text.partition(f"\n.Ss {page}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.split(r"^\.It Cm ", about, flags=re.MULTILINE)[1:]
    assert [entry.split("\n")[0] for entry in found] == list(options)
    for entry, (key, option) in zip(found, options.items(), strict=True):
        default = " ".join(option.default.split())
        said = f"\nThe default is\n.Li {default} .\n", f"\nThe default is\n.Pa {default} .\n"
        none = "Must be given" if key in required else "By default there is none."
        assert none in entry if not option.default else any(text in entry for text in said), entry
