"""What a tree may ask of rsync: each option makes its client ask the other end for words that are let through."""

import subprocess
from pathlib import Path

import pytest

from hotpair import rsync_options

# as payload.send_large starts it
CLIENT = ["rsync", "-rL", "--ignore-times", "--sparse", "--timeout=60", "--partial-dir=.partial", "--copy-dest=BASIS"]
ASKED = [
    *("", "-z", "--compress", "--bwlimit=100", "--bwlimit=1.5m", "-W", "--whole-file", "--block-size=4096", "--fsync"),
    *("--no-sparse", "--preallocate", "--compress-level=9"),
    *(f"--compress-choice={name}" for name in ("zstd", "lz4", "zlibx", "zlib")),
    *(f"--checksum-choice={name}" for name in ("xxh128", "xxh3", "xxh64", "md5")),
    "-z -W --no-sparse",
    "--preallocate --fsync --bwlimit=5m --block-size=512 --checksum-choice=xxh3 --compress-choice=lz4",
]
REFUSED = [
    *(
        "-a",
        "-H",
        "-X",
        "-zX",
        "--delete",
        "--delete-after",
        "--rsync-path=sh",
        "-e",
        "--rsh=sh",
        "--inplace",
        "--log-file=x",
    ),
    *(
        "--bwlimit=$(id)",
        "--compress-choice=none",
        "--remove-source-files",
        "--backup-dir=/x",
        "--temp-dir=/",
        "x",
        "--",
    ),
    *("--write-devices", "--files-from=x", "--bwlimit=1\n", "--block-size", "-M--delete", "--copy-links", "--daemon"),
]


def words(tmp_path: Path, options: str) -> str:
    """Return what a real client asks the server end to be run with."""
    shell = tmp_path / "shell"
    shell.write_text(f'#!/bin/sh\nshift\necho "$*" >{tmp_path}/words\nexit 1\n')
    shell.chmod(0o755)
    subprocess.run(
        [*CLIENT, *options.split(), "-e", shell, f"{tmp_path}/", "peer:INBOX"], capture_output=True, check=False
    )
    return (tmp_path / "words").read_text().rstrip("\n")


@pytest.mark.parametrize("options", ASKED)
def test_what_an_allowed_option_makes_rsync_ask_for_is_let_through(tmp_path: Path, options: str) -> None:
    assert all(map(rsync_options.allowed, options.split()))
    assert rsync_options.SERVER.fullmatch(words(tmp_path, options))


@pytest.mark.parametrize("option", REFUSED)
def test_another_option_is_not_allowed(option: str) -> None:
    assert not rsync_options.allowed(option)


@pytest.mark.parametrize("options", ["-a", "-H", "-X", "--delete", "--backup", "--fuzzy", "-u"])
def test_what_another_option_makes_rsync_ask_for_is_refused(tmp_path: Path, options: str) -> None:
    assert not rsync_options.SERVER.fullmatch(words(tmp_path, options))
