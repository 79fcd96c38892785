"""The network that clients reach the pair by: a third namespace with a bridge, and a client there that asks all day."""

import functools
import subprocess
import threading
from itertools import pairwise
from typing import NamedTuple

from tests.lab.pairlab import NODES, READY_WITHIN, Lab
from tests.lab.spaces import LabError, run, wait_until

LAN = "lan0"  # the interface, alike on both nodes
ADDRESSES = {"alpha": "10.98.0.1/24", "beta": "10.98.0.2/24", "client": "10.98.0.9/24"}
SHARED = "10.98.0.100"  # the address that clients know
CLIENT = """\
import sys, time, urllib.request
for line in sys.stdin:
    try:
        with urllib.request.urlopen(line.strip(), timeout=0.5) as answer:
            print(time.monotonic(), answer.read().decode(), flush=True)
    except OSError:
        print(time.monotonic(), "-", flush=True)
"""


class Answer(NamedTuple):
    """What a client got at a moment of the monotonic clock: "-" for nothing."""

    at: float
    text: str


def connect(lab: Lab) -> None:
    """Start the third namespace of a lab that runs, and connect both nodes with it. `lab down` removes it too."""
    subprocess.Popen(
        ["unshare", "--net", "--pid", "--fork", "--kill-child", "sleep", "infinity"],
        stdin=subprocess.DEVNULL,
        env=lab.environment("client"),
        start_new_session=True,
    )
    client = wait_until(functools.partial(lab.pid, "client"), READY_WITHIN)
    if not client:
        raise LabError("the client's namespace did not start")
    inside = ["nsenter", "-t", client, "-n", "ip"]
    run(*inside, "link", "add", "lan", "type", "bridge")
    for name in NODES:
        node = lab.running(name)
        run("ip", "link", "add", "name", LAN, "netns", node, "type", "veth", "peer", "name", name, "netns", client)
        run(*inside, "link", "set", name, "master", "lan", "up")
        run("nsenter", "-t", node, "-n", "ip", "address", "add", ADDRESSES[name], "dev", LAN)
        run("nsenter", "-t", node, "-n", "ip", "link", "set", LAN, "up")
    run(*inside, "address", "add", ADDRESSES["client"], "dev", "lan")
    run(*inside, "link", "set", "lan", "up")


def plug(lab: Lab, name: str, into: bool) -> None:
    """Put a node's cable into the clients' network, or pull it."""
    inside = ["nsenter", "-t", lab.running("client"), "-n", "ip"]
    run(*inside, "link", "set", name, "up" if into else "down")


class Client:
    """Somebody in the third namespace who reads the service again and again, as `answers` tells."""

    def __init__(self, lab: Lab, url: str, pause: float = 0.05) -> None:
        self.url, self.pause = url, pause
        self.answers: list[Answer] = []
        self.process = subprocess.Popen(
            ["nsenter", "-t", lab.running("client"), "-n", "/usr/bin/python3", "-I", "-c", CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=lab.environment(),
        )
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.thread.start()

    def _ask(self) -> None:
        assert self.process.stdin and self.process.stdout
        while not self.ended.wait(self.pause):
            self.process.stdin.write(self.url + "\n")
            self.process.stdin.flush()
            at, _, text = self.process.stdout.readline().rstrip("\n").partition(" ")
            if not at:
                return
            self.answers.append(Answer(float(at), text))

    def reads(self, text: str, seconds: float) -> bool:
        """Wait until an answer from now on has a text in it; say whether one came."""
        known = len(self.answers)
        return wait_until(lambda: any(text in answer.text for answer in self.answers[known:]), seconds, 0.02)

    def without_service(self) -> float:
        """Return the longest time (seconds) between two answers."""
        good = [answer.at for answer in self.answers if answer.text != "-"]
        return max((after - before for before, after in pairwise(good)), default=0.0)

    def close(self) -> None:
        self.ended.set()
        self.thread.join(10)
        self.process.kill()
        self.process.wait()
