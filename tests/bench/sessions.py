"""Measure dump and load of session tables next to the bare tools, in a network namespace of their own.

`sessions.py KIND ENTRIES PAIRS` is what `measure` starts there, once for each kind and size; it prints JSON.
"""

import functools
import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "lib")]

from tests.bench.figures import Cost, Report, Row, paired  # noqa: E402

LIMIT = 1.5  # times the bare tool
SIZES = 10_000, 50_000
TOOLS = {"recent": "iptables", "nft": "nft", "ipset": "ipset", "haproxy": "haproxy", "conntrack": "conntrack"}
BARE = {  # what dumps and what loads without hotpair
    "recent": ("cat /proc/net/xt_recent/*", "a loop of writes"),
    "nft": ("nft -j list set", "nft -f"),
    "ipset": ("ipset save", "ipset restore"),
    "haproxy": ("show table", "ready-made lines of 100 set table"),
    "conntrack": ("conntrack -L -o save", "conntrack -R"),
}
RECENT_MOST = 100  # entries of one table of xt_recent, unless the kernel was told otherwise
PROC = "/proc/net/xt_recent"


class Bench(NamedTuple):
    """One kind of table, filled."""

    dump: Callable[[], object]  # as each cycle of a mirror does it
    bare_dump: Callable[[], object]
    load: Callable[[], object]
    bare_load: Callable[[], object]


def addresses(number: int) -> list[str]:
    return [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(1, number + 1)]


def run(*argv: str, text: bytes = b"") -> bytes:
    return subprocess.run(argv, input=text, stdout=subprocess.PIPE, check=True).stdout


def of_backend(kind: str, names: list[str]) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what dumps some tables, and what loads them as a promotion does."""
    from hotpair.sessions.backends import Backends
    from hotpair.sessions.settings import Sessions

    socket_path = os.environ.get("BENCH_SOCKET", "/nowhere")
    settings = Sessions(haproxy_socket=socket_path)
    writer, reader = Backends(settings), Backends(settings).of(kind)
    dumped = [reader.dump(name) for name in names]

    def load() -> None:
        writer._made.clear()
        for table in dumped:
            loaded = writer.of(kind).load(table, None)
            assert not loaded.problems, loaded.problems[:3]

    return lambda: [reader.dump(name) for name in names], load


def recent(number: int) -> Iterator[Bench]:
    tables = [f"t{n}" for n in range(number // RECENT_MOST)]
    rules = [f"-A INPUT -i nosuch0 -m recent --name {name} --set" for name in tables]
    run("iptables-restore", text="\n".join(["*filter", *rules, "COMMIT", ""]).encode())
    keys = [address.encode() for address in addresses(RECENT_MOST)]

    def write() -> None:
        for name in tables:
            fd = os.open(f"{PROC}/{name}", os.O_WRONLY)
            for key in keys:
                os.lseek(fd, 0, 0)
                os.write(fd, b"+" + key)
            os.close(fd)

    def clear() -> None:
        for name in tables:
            Path(PROC, name).write_bytes(b"/")

    write()
    dump, load = of_backend("recent", tables)
    yield Bench(
        dump, lambda: run("cat", *(f"{PROC}/{name}" for name in tables)), cleared(clear, load), cleared(clear, write)
    )


def nft(number: int) -> Iterator[Bench]:
    head = "table inet f { set s { type ipv4_addr; flags timeout; timeout 1h; size 100000; }; }\n"
    elements = ",\n".join(f"{address} expires 59m59s500ms" for address in addresses(number))  # as nft lists them
    text = f"flush set inet f s\nadd element inet f s {{ {elements} }}\n".encode()
    run("nft", "-f", "-", text=head.encode())
    run("nft", "-f", "-", text=text)
    dump, load = of_backend("nft", ["inet f s"])
    yield Bench(
        dump, lambda: run("nft", "-j", "list", "set", "inet", "f", "s"), load, lambda: run("nft", "-f", "-", text=text)
    )


def ipset(number: int) -> Iterator[Bench]:
    create = "create {} hash:ip maxelem 100000 timeout 3600\n"
    adds = "".join(f"add {{}} {address} timeout 3000\n" for address in addresses(number))
    run("ipset", "restore", text=(create + adds).replace("{}", "s").encode())
    swap = (create + adds).replace("{}", "n") + "swap n s\ndestroy n\n"
    dump, load = of_backend("ipset", ["s"])
    yield Bench(dump, lambda: run("ipset", "save", "s"), load, lambda: run("ipset", "restore", text=swap.encode()))


def conntrack(number: int) -> Iterator[Bench]:
    run("sysctl", "-qw", "net.netfilter.nf_conntrack_max=200000")
    flow = "-A -t 3000 -u SEEN_REPLY,ASSURED -s {0} -d 192.0.2.1 -r 192.0.2.1 -q {0} -p tcp --sport 1000 --dport 80"
    flow += " --reply-port-src 80 --reply-port-dst 1000 --state ESTABLISHED\n"
    with tempfile.NamedTemporaryFile("w", suffix=".flows") as file:
        file.writelines(flow.format(address) for address in addresses(number))
        file.flush()
        run("conntrack", "-R", file.name)
        dump, load = of_backend("conntrack", [""])
        clear = functools.partial(run, "conntrack", "-F")
        bare = functools.partial(run, "conntrack", "-R", file.name)
        yield Bench(dump, lambda: run("conntrack", "-L", "-o", "save"), cleared(clear, load), cleared(clear, bare))


def haproxy(number: int) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as place:
        os.environ["BENCH_SOCKET"] = path = f"{place}/admin"
        table = "stick-table type ip size 100k expire 1h store gpc0,http_req_cnt"
        lines = [f"global\n stats socket {path} level admin", "defaults\n mode http\n timeout connect 1s"]
        lines += [
            " timeout client 1s\n timeout server 1s",
            f"backend b\n {table}\n stick on src",
            " server s1 127.0.0.1:1",
        ]
        Path(place, "cfg").write_text("\n".join(lines) + "\n")
        daemon = subprocess.Popen(["haproxy", "-db", "-f", f"{place}/cfg"])
        try:
            while not os.path.exists(path):
                time.sleep(0.02)
            sets = [f"set table b key {a} data.server_id 1 data.gpc0 3 data.http_req_cnt 7" for a in addresses(number)]
            batches = ["; ".join(sets[n : n + 100]) + "\n" for n in range(0, number, 100)]

            def write() -> None:
                for batch in batches:
                    ask(path, batch)

            empty = functools.partial(ask, path, "clear table b\n")
            empty()
            write()
            dump, load = of_backend("haproxy", ["b"])
            yield Bench(dump, lambda: ask(path, "show table b\n"), cleared(empty, load), cleared(empty, write))
        finally:
            daemon.kill()
            daemon.wait()


def cleared(clear: Callable[[], object], what: Callable[[], object]) -> Callable[[], object]:
    """Return what does something to a table that is emptied before, which is not counted."""

    def do() -> float:
        clear()
        began = time.perf_counter()
        what()
        return time.perf_counter() - began

    return do


def ask(path: str, words: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as talk:
        talk.connect(path)
        talk.sendall(words.encode())
        return b"".join(iter(lambda: talk.recv(1 << 16), b""))


FILLED = {"recent": recent, "nft": nft, "ipset": ipset, "conntrack": conntrack, "haproxy": haproxy}


def timed(what: Callable[[], object]) -> float:
    """Return how long something took (seconds), or what it says of that itself."""
    began = time.perf_counter()
    found = what()
    return found if isinstance(found, float) else time.perf_counter() - began


def ratios(ours: Callable[[], object], bare: Callable[[], object], pairs: int) -> list[float]:
    timed(ours), timed(bare)  # not counted: imports and caches
    both = paired(lambda: Cost(0.0, timed(ours)), lambda: Cost(0.0, timed(bare)), pairs, 1)
    return [mine.wall / theirs.wall for mine, theirs in both]


def main(kind: str, number: str, pairs: str) -> None:
    gc.disable()  # as ssync does
    filled = FILLED[kind](int(number))
    bench = next(filled)
    found = {
        "dump": ratios(bench.dump, bench.bare_dump, int(pairs)),
        "load": ratios(bench.load, bench.bare_load, int(pairs)),
    }
    next(filled, None)
    print(json.dumps(found))


def measure(report: Report, pairs: int, scale: int) -> None:
    """Add a row for dump and for load of each kind and size."""
    for kind, tool in TOOLS.items():
        if not shutil.which(tool):
            report.note(f"sessions: left out: {kind}: no {tool} here")
            continue
        for size in SIZES:
            words = [sys.executable, __file__, kind, str(size // scale), str(pairs)]
            done = subprocess.run(["unshare", "--net", *words], capture_output=True, text=True)
            if done.returncode:
                report.note(f"sessions: {kind}, {size // scale:,}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
                continue
            for what, samples in json.loads(done.stdout.splitlines()[-1]).items():
                name = f"{kind}: {what} of {size // scale:,} entries: wall"
                report.rows.append(Row(name, BARE[kind][what == "load"], tuple(samples), "T1", LIMIT))


if __name__ == "__main__":
    main(*sys.argv[1:])
