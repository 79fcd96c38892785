"""The demo: it shows what it says, it does not say what is not so, and it leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab import spaces

TOP = Path(__file__).parents[2]
DEMO = "tests/lab/demo"
HALF = "Six generations"  # a heading in the middle of the story


def demo(top: Path, *words: str, tmp: Path) -> subprocess.Popen[str]:
    tmp.mkdir(exist_ok=True)
    out = subprocess.PIPE
    environment = {**os.environ, "TMPDIR": str(tmp)}
    return subprocess.Popen([str(top / DEMO), *words], stdout=out, stderr=out, text=True, env=environment)


def broken_copy(tmp_path: Path, program: str, text: str) -> Path:
    """Return a copy of the checkout in which one program does nothing good."""
    top = tmp_path / "copy"
    for folder in ("bin", "lib", "tests/lab"):
        shutil.copytree(TOP / folder, top / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (top / "tests/__init__.py").touch()
    (top / ".venv").symlink_to(TOP / ".venv")
    (top / program).write_text(text)
    return top


def test_two_directories_show_everything(tmp_path):
    process = demo(TOP, "--prefixes", tmp=tmp_path / "tmp")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("hotpair: two directories") and "calls `syncr` itself" in out
    assert "All of this was seen and verified" in out
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("program", "text", "complaint"),
    [
        ("bin/syncr-receive", "#!/bin/sh\nexit 1\n", "NOT in sync"),
        ("bin/syncr", "#!/bin/sh\n", "beta has None"),
    ],
    ids=["peer refuses", "no trigger"],
)
def test_what_does_not_happen_is_not_claimed(tmp_path, program, text, complaint):
    process = demo(broken_copy(tmp_path, program, text), "--prefixes", tmp=tmp_path / "tmp")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "demo: FAILED" in err and complaint in err
    assert "verified" not in out
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("where", ["lab", "prefixes"])
def test_an_interrupted_demo_leaves_nothing(tmp_path, where):
    if where == "lab" and (reason := spaces.may_build()):
        pytest.skip(reason)
    process = demo(TOP, *(["--prefixes"] if where == "prefixes" else []), tmp=tmp_path / "tmp")
    deadline = time.monotonic() + 60
    while HALF not in process.stdout.readline():
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130, err
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not os.path.exists(f"/run/hotpair-demo-{process.pid}")
    owned = f"HOTPAIR_LAB_OWNED=/run/hotpair-demo-{process.pid}".encode()
    assert not [pid for pid in filter(str.isdigit, os.listdir("/proc")) if owned in spaces.environment_of(pid)]


def test_the_lab_shows_everything(tmp_path):
    if reason := spaces.may_build():
        pytest.skip(reason)
    process = demo(TOP, tmp=tmp_path / "tmp")
    out, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("hotpair: two nodes on this machine, each with its own incrond")
    assert "22 contents were written on one node, 22 arrived on the other" in out
    assert "All of this was seen and verified" in out
