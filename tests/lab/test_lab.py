"""The lab itself: its nodes are real, apart from this machine and from each other, and leave nothing behind."""

import os
import signal
import subprocess

import pytest

from tests.lab import pairlab, spaces

DAEMONS = ("incrond", "sshd", "cron")


def daemons_here() -> set[str]:
    """Return the pids of the daemons that run on this machine outside every node."""
    found = subprocess.run(["pgrep", "-x", "|".join(DAEMONS)], capture_output=True, text=True).stdout.split()
    return {pid for pid in found if len(spaces.field_of(pid, "NSpid")) == 1}


def traces(lab):
    """Return what is left of a lab: processes, its directory, mounts of it, namespaces that nobody is in."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        mounts = [line for line in file if lab.directory in line]
    return [pid for pid, _ in lab.processes()] + mounts + [lab.directory] * os.path.lexists(lab.directory)


def network_namespaces():
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
        except OSError:
            continue  # gone meanwhile
    return found


@pytest.mark.parametrize("name", pairlab.NODES)
@pytest.mark.parametrize("daemon", ["incrond", "sshd"])
def test_daemon_runs_in_the_node(pair, name, daemon):
    assert getattr(pair, name)(["pgrep", "-x", daemon]).code == 0


def test_no_daemon_is_started_on_this_machine(may_build, tmp_path):
    before = daemons_here()
    lab = pairlab.Lab(str(tmp_path / "lab"))
    try:
        lab.up(cron=True)
        assert daemons_here() == before
        assert lab.running("alpha") != lab.running("beta")
    finally:
        lab.down()


def test_nodes_share_no_file_with_each_other_or_this_machine(pair):
    pair.alpha("for d in /etc /root /run /srv /home /tmp /var/lib/hotpair /usr/local/bin; do echo x >$d/lab-mark; done")
    # neither the other node nor this machine sees what alpha wrote
    assert pair.beta("ls /etc/lab-mark /root/lab-mark /srv/lab-mark /tmp/lab-mark /var/lib/hotpair/lab-mark").out == ""
    assert not any(os.path.exists(folder + "/lab-mark") for folder in ("/etc", "/root", "/run", "/srv", "/tmp"))
    # and what is this machine's cannot be written
    assert pair.alpha("touch /usr/bin/lab-mark").code != 0


def test_command_gets_stdin_and_gives_its_exit_code(pair):
    done = pair.alpha("cat; hostname; echo oops >&2; exit 7", stdin="hello\n")
    assert (done.code, done.out, done.err) == (7, "hello\nalpha\n", "oops\n")


def test_orphans_are_reaped(pair):
    pair.alpha("for i in 1 2 3 4 5 6 7 8; do (sleep 0.05 &) ; done")
    assert pair.wait_until(lambda: pair.alpha("ps -eo stat,comm | grep -e sleep").out == "", 20)


def test_incrond_fires_on_a_table(pair):
    pair.alpha("mkdir -p /srv/watched")
    pair.alpha("echo '/srv/watched IN_CLOSE_WRITE,recursive=false touch /srv/fired' >/etc/incron.d/.lab.tmp")
    pair.alpha("mv /etc/incron.d/.lab.tmp /etc/incron.d/lab")

    def fired():
        return pair.alpha("echo x >/srv/watched/file; test -e /srv/fired").code == 0

    assert pair.wait_until(fired, 10, pause=0.05)
    pair.alpha("rm /etc/incron.d/lab")


def test_service_restarts_incrond(pair):
    before = pair.beta(["pgrep", "-x", "incrond"]).out
    pair.beta("kill -9 $(pgrep -x incrond)")
    assert pair.beta(["service", "incron", "restart"]).code == 0
    assert pair.wait_until(lambda: pair.beta(["pgrep", "-x", "incrond"]).out, 10) not in ("", before)


def test_peer_key_starts_the_receiver_and_nothing_else(pair):
    ssh = "ssh -o BatchMode=yes -i /etc/hotpair/id_ed25519 -o UserKnownHostsFile=/etc/hotpair/known_hosts"
    pair.alpha(f"{ssh} root@beta 'touch /srv/by-key' </dev/null", seconds=20)
    # the command that the key's owner asked for did not run
    assert pair.beta(["test", "-e", "/srv/by-key"]).code != 0
    # what ran is what authorized_keys forces, and it got in: the host key was known, the key accepted
    assert "Accepted publickey for root" in pair.beta("cat /var/log/lab/syslog").out
    # no way round it through a forwarded port either
    forward = pair.alpha(f"{ssh} -o ExitOnForwardFailure=yes -R 9999:localhost:22 root@beta </dev/null", seconds=20)
    assert "forwarding failed" in forward.err


@pytest.mark.parametrize("silent", [False, True], ids=["plug pulled", "packets vanish"])
def test_link_is_cut_and_heals(pair, silent):
    reach = ["timeout", "2", "bash", "-c", ": </dev/tcp/beta/22"]
    assert pair.alpha(reach).code == 0
    pair.cut(silent=silent)
    try:
        assert pair.alpha(reach).code != 0
    finally:
        pair.heal()
    assert pair.wait_until(lambda: pair.alpha(reach).code == 0, 10)


def test_second_pair_lives_beside_the_first(pair, own_pair):
    own_pair.alpha("echo second >/srv/which")
    pair.alpha("echo first >/srv/which")
    assert own_pair.alpha("cat /srv/which").out == "second\n"


def test_pair_that_runs_is_not_built_over(pair):
    with pytest.raises(spaces.LabError, match="runs already"):
        pair.lab.up()


@pytest.mark.parametrize("victims", [[], ["alpha"], ["alpha", "beta"]], ids=["whole", "one dead", "both dead"])
def test_down_leaves_nothing(may_build, tmp_path, victims):
    lab = pairlab.Lab(str(tmp_path / "lab"))
    lab.up(cron=True)
    networks = {os.readlink(f"/proc/{lab.pid(name)}/ns/net") for name in pairlab.NODES}
    for name in victims:
        os.kill(int(lab.pid(name)), signal.SIGKILL)
    lab.down()
    assert traces(lab) == []
    assert spaces.wait_until(lambda: not networks & network_namespaces(), 20)


def test_up_clears_a_crashed_build(may_build, tmp_path):
    command = [pairlab.ROOT + "/tests/lab/lab"]
    lab = pairlab.Lab(str(tmp_path / "lab"))
    environment = {**os.environ, "HOTPAIR_LAB": lab.directory}
    building = subprocess.Popen([*command, "up"], env=environment, stdout=subprocess.DEVNULL)
    assert spaces.wait_until(lambda: lab.pid("alpha"), 30, pause=0.001)
    building.kill()
    building.wait()
    try:
        assert subprocess.run([*command, "up"], env=environment, stdout=subprocess.DEVNULL).returncode == 0
        assert subprocess.run([*command, "status"], env=environment, stdout=subprocess.DEVNULL).returncode == 0
    finally:
        lab.down()
    assert traces(lab) == []


def test_down_spares_a_directory_that_is_no_lab(may_build, tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(spaces.LabError, match="is not a lab"):
        pairlab.Lab(str(tmp_path)).down()
    assert (tmp_path / "precious").exists()
