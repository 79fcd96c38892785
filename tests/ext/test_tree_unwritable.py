"""What cannot be written on the peer holds up that path, and says why; all else of the batch crosses."""

import subprocess
from contextlib import contextmanager

import pytest

from tests.ext.trees import Trees, fill

LARGE = "x" * 100_000  # a content that rsync carries


@pytest.fixture
def pair(tmp_path):
    pair = Trees(tmp_path)
    fill(pair.alpha, "f", "other")
    pair.alpha.live("/srv/data/large").write_text(LARGE)
    pair.sync()
    return pair


@contextmanager
def immutable(path):
    if subprocess.run(["chattr", "+i", path], capture_output=True).returncode:
        pytest.skip("this file system knows no immutable files, or we are not root")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


def assert_one_failed(pair, path):
    """What was not carried is listed as failed on the sender, with the reason; nothing is a fault of ours."""
    status = pair.alpha.hotpair("status").out
    assert f"data: {path}: failed" in status and "Operation not permitted" in status, status
    log = pair.beta.root / "var/log/hotpair.log"
    assert "internal error" not in (log.read_text() if log.exists() else "")


def test_content_that_rsync_would_replace_and_may_not(pair):
    pair.alpha.live("/srv/data/large").write_text(LARGE + "y")
    pair.alpha.live("/srv/data/other").write_text("edited")
    with immutable(pair.beta.live("/srv/data/large")):
        assert pair.alpha.run("psync").code == 75
        assert pair.beta.text("/srv/data/other") == "edited"
        assert_one_failed(pair, "/srv/data/large")
    pair.sync()


@pytest.mark.parametrize("size", [1, 100_000], ids=["in the conversation", "by rsync"])
def test_content_that_cannot_be_staged(pair, size):
    pair.alpha.live("/srv/data/f").write_text("y" * size)
    pair.alpha.live("/srv/data/other").chmod(0o600)
    with immutable(pair.beta.live("/srv/data/.hotpair/data")):
        assert pair.alpha.run("psync").code == 75
        assert pair.beta.live("/srv/data/other").stat().st_mode & 0o777 == 0o600
        assert_one_failed(pair, "/srv/data/f")
    pair.sync()
    assert list(pair.beta.live("/srv/data/.hotpair/data").iterdir()) == []
