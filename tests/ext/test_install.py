"""`make install` and `make uninstall`, into a directory of the test's own."""

import os
import stat
import subprocess
import sys

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
PROGRAMS = sorted(os.listdir(os.path.join(ROOT, "bin")))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin/python")


def make(target, destdir, *variables):
    # make hands its own variables down; a test run by `make test` must not get them
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    argv = ["make", "-s", "-C", ROOT, target, f"DESTDIR={destdir}", *variables]
    return subprocess.run(argv, capture_output=True, text=True, env=environment)


def installed(destdir):
    """Return the files and links below destdir, as paths from there."""
    return {
        os.path.relpath(os.path.join(folder, name), destdir)
        for folder, folders, files in os.walk(destdir)
        for name in files + [entry for entry in folders if os.path.islink(os.path.join(folder, entry))]
    }


@pytest.fixture(params=[f"PYTHON={PYTHON}", f"VENV={VENV}"], ids=["PYTHON", "VENV"])
def destdir(request, tmp_path):
    # a space, since a path may have one
    destdir = tmp_path / "dest dir"
    done = make("install", destdir, request.param)
    assert done.returncode == 0, done.stderr
    return destdir


@pytest.mark.parametrize("program", PROGRAMS)
def test_installed_program_is_linked_and_starts(destdir, program):
    link = destdir / "usr/local/sbin" / program
    # the link is relative, so that it also leads somewhere inside DESTDIR
    assert not os.readlink(link).startswith("/")
    assert os.access(link, os.X_OK)


def test_installed_hotpair_prints_its_help(destdir):
    done = subprocess.run([destdir / "usr/local/sbin/hotpair", "--help"], capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert "hotpair" in done.stdout


def test_first_line_names_the_interpreter(tmp_path):
    for variable, line in {f"PYTHON={PYTHON}": f"#!{PYTHON} -IS", f"VENV={VENV}": "#!/usr/bin/python3 -IS"}.items():
        assert make("install", tmp_path, variable).returncode == 0
        for program in PROGRAMS:
            assert (tmp_path / "usr/local/lib/hotpair/bin" / program).read_text().splitlines()[0] == line


def test_configuration_is_for_its_owner_alone(destdir):
    for folder, _, files in os.walk(destdir / "etc/hotpair"):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o755
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) & 0o077 == 0


def test_second_install_keeps_what_the_administrator_wrote(tmp_path):
    assert make("install", tmp_path, f"VENV={VENV}").returncode == 0
    ini = tmp_path / "etc/hotpair/syncr.ini"
    shipped = ini.read_text()
    ini.write_text("# mine\n")
    done = make("install", tmp_path, f"VENV={VENV}")
    assert done.returncode == 0
    assert ini.read_text() == "# mine\n"
    assert (tmp_path / "etc/hotpair/syncr.ini.new").read_text() == shipped
    # and the person is told
    assert "syncr.ini.new" in done.stdout


def test_uninstall_leaves_the_configuration_and_nothing_else(destdir):
    strange = destdir / "usr/local/sbin/not-ours"
    strange.write_text("")
    done = make("uninstall", destdir)
    assert done.returncode == 0
    left = {path for path in installed(destdir) if not path.startswith("etc/hotpair/")}
    assert left == {"usr/local/sbin/not-ours"}
    assert "kept" in done.stdout


def test_byte_code_names_no_build_directory(destdir):
    found = list((destdir / "usr/local/lib/hotpair/lib").rglob("*.pyc"))
    assert found
    assert not any(os.fsencode(destdir) in path.read_bytes() for path in found)


@pytest.mark.parametrize(
    ("variable", "complaint"),
    [
        ("PYTHON=relative/python3", "does not begin with a slash"),
        ("PYTHON=/nonexistent", "lacks a package"),
        ("VENV=/nonexistent", "lacks a package"),
        ("PREFIX=relative", "does not begin with a slash"),
    ],
)
def test_bad_variable_is_refused_before_anything_is_written(tmp_path, variable, complaint):
    done = make("install", tmp_path, variable)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert installed(tmp_path) == set()


def test_uninstall_of_nothing_says_so(tmp_path):
    done = make("uninstall", tmp_path)
    assert done.returncode != 0
    assert "nothing at" in done.stderr


def test_pinned_versions_are_what_runs_here():
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--exclude-editable"], capture_output=True, text=True, check=True
    ).stdout.lower()
    with open(os.path.join(ROOT, "requirements.txt"), encoding="utf-8") as file:
        pins = [line.strip().lower() for line in file if "==" in line]
    assert [pin for pin in pins if pin not in listed] == []
