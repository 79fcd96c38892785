"""Test servers that behave as the notes on session tables describe two Pounds. They are not Pound.

RestPound speaks the HTTP of Pound 4's control socket; ZevenetPound the `-s` socket, the control socket, and what the
`poundctl` of it prints. Where Pound would die of a request they die too: `dead` is set, and nobody listens any more.
"""

import json
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hotpair.sessions import zevenet_wire as wire

POUNDCTL = """#!/usr/bin/python3 -IS
import socket, sys
found = socket.socket(socket.AF_UNIX)
try:
    found.connect(sys.argv[2])
except OSError as error:
    raise SystemExit(f"connect: {error.strerror}")
found.sendall(bytes(144))
while data := found.recv(65536):
    sys.stdout.buffer.write(data)
"""


class Server:
    """Listens at a path, one thread for each connection."""

    def __init__(self, path: Path) -> None:
        self.path, self.dead = path, False
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                self.accepted(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def accepted(self, connection: socket.socket) -> None:
        """Note who has come, in the order of coming."""

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection:
            self.serve(connection)

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def die(self) -> None:
        self.dead = True
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()


class Raw(Server):
    """Answers whatever it is told to, in pieces, and then holds the connection or closes it."""

    def __init__(self, path: Path, pieces: list[bytes], pause: float = 0, holds: bool = False) -> None:
        self.pieces, self.pause, self.holds = pieces, pause, holds
        super().__init__(path)

    def serve(self, connection: socket.socket) -> None:
        connection.recv(65536)
        for piece in self.pieces:
            connection.sendall(piece)
            time.sleep(self.pause)
        while self.holds and connection.recv(65536):
            continue


class RestPound(Server):
    """Listeners 0 (control) and main, with services web (sessions by IP) and plain (none)."""

    def __init__(self, path: Path, ttl: float = 300, version: str = "4.23", emergency: bool = False) -> None:
        self.ttl, self.version, self.requests = ttl, version, list[str]()
        self.refused = ""  # a key
        self.weights = [0, 0, 65535] if emergency else [0, 0, 0]
        self.ports = [8081, 8082, 8083]
        self.rows: dict[str, tuple[int, datetime]] = {}
        self.lock = threading.Lock()
        super().__init__(path)

    def serve(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        method, url, _ = data.split(b"\r\n")[0].decode("latin-1").split(" ")
        with self.lock:
            self.requests.append(f"{method} {url}")
            status, body = self._answer(method, url)
        text = json.dumps(body).encode()
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text))
        if b"Connection: close" not in data:
            connection.recv(1)  # it waits for the next request

    def _answer(self, method: str, url: str) -> tuple[int, Any]:
        now = datetime.now()
        self.rows = {key: row for key, row in self.rows.items() if row[1] > now}
        if method == "GET":
            return (200, self._everything(now)) if url == "/" else (404, None)
        path, _, key = url.partition("?key=")
        key = key.partition("&")[0]
        _, _, listener, service, *backend = path.split("/")
        if listener not in ("main", "1") or service not in ("web", "plain", "0", "1"):
            return 404, None
        if len(key) > 127 or (key and key == self.refused):
            return 400, None
        if service in ("plain", "1"):
            self.die()
            raise OSError("segmentation fault")
        if method == "DELETE":
            self.rows.pop(key, None)
        else:
            self.rows[key] = (int(backend[0]), now + timedelta(seconds=self.ttl))
        return 200, self._service()

    def _shown(self, index: int) -> int:
        others = sum(weight != self.weights[index] for weight in self.weights)
        return others + sum(weight == self.weights[index] for weight in self.weights[:index])

    def _service(self) -> dict[str, Any]:
        rows = [
            {"backend": self._shown(backend), "expire": expire.isoformat(timespec="microseconds"), "key": key}
            for key, (backend, expire) in sorted(self.rows.items(), key=lambda one: one[1][1])
        ]
        pairs = zip(self.ports, self.weights, strict=True)
        backends = [{"address": f"127.0.0.1:{port}", "type": "backend", "weight": weight} for port, weight in pairs]
        return {"name": "web", "session_type": "IP", "sessions": rows, "backends": backends}

    def _everything(self, now: datetime) -> dict[str, Any]:
        control = {"name": None, "session_type": "NONE", "sessions": None, "backends": [{"type": "control"}]}
        plain: dict[str, Any] = {"name": "plain", "session_type": "NONE", "sessions": None, "backends": []}
        listeners = [{"name": None, "services": [control]}, {"name": "main", "services": [self._service(), plain]}]
        core = {"timestamp": now.isoformat(timespec="microseconds"), "version": self.version}
        if self.version < "4.18":
            return {**core, "listeners": listeners, "services": []}
        return {"kind": "pound", "core": core, "listeners": listeners, "services": []}


class ZevenetPound:
    """The farm's two sockets. One listener, one service, two backends."""

    def __init__(self, folder: Path, ttl: float = 300) -> None:
        self.ttl, self.rows, self.lock = ttl, dict[bytes, tuple[int, int]](), threading.Lock()
        self.dead, self.stopped, self.asked = False, False, False
        self.piece = 0  # bytes of one send; 0: one packet
        self.slow = 0.001  # seconds before it looks at what has come
        self.clients, self.lost, self.sent = 0, 0, 0
        self.last: socket.socket | None = None  # the client that all packets go to, whoever asked
        self.sync = _Sync(folder / "farmX.sync", self)
        self.control = _Control(folder / "farmX.control", self)
        (folder / "poundctl").write_text(POUNDCTL)
        (folder / "poundctl").chmod(0o755)

    def tell(self, *packets: bytes) -> None:
        """Send to the last client. The lock is held, as Pound's is: when nobody reads, all of it stands still."""
        text = b"".join(packets)
        pieces = [text[at : at + self.piece] for at in range(0, len(text), self.piece)] if self.piece else packets
        if self.asked and not self.stopped and self.last:
            try:
                for piece in pieces:
                    self.last.sendall(piece)
                    self.sent += 1
            except OSError:
                self.stopped = True  # until it is started again

    def die(self) -> None:
        self.dead = True
        for one in (self.sync, self.control):
            with suppress(OSError):
                one.die()


class _Sync(Server):
    def __init__(self, path: Path, pound: ZevenetPound) -> None:
        self.pound = pound
        super().__init__(path)

    def accepted(self, connection: socket.socket) -> None:
        self.pound.last = connection
        self.pound.clients += 1

    def serve(self, connection: socket.socket) -> None:
        pound, data = self.pound, b""
        left = select.poll()
        left.register(connection, select.POLLRDHUP)
        while chunk := connection.recv(65536):
            if left.poll(pound.slow * 1000):  # a client that leaves overtakes what it has sent
                pound.lost += 1
                return
            data += chunk
            while len(data) >= 5 and len(data) >= (size := int.from_bytes(data[3:5], "little")):
                packet, data = data[:size], data[size:]
                self._take(packet)

    def _take(self, packet: bytes) -> None:
        pound, action = self.pound, packet[5]
        if action == wire.SYNC_REQUEST:
            with pound.lock:
                pound.asked = True
                pound.tell(*[self._row(key, *row) for key, row in pound.rows.items()])
        elif action == wire.WRITE:
            at = 7 + packet[6]
            _, service, backend = struct.unpack_from("<III", packet, at)
            size = packet[at + 12]
            key, rest = packet[at + 13 : at + 13 + size], packet[at + 13 + size :]
            if service != 0 or not size or not rest[0] or not key.endswith(b"\0"):
                pound.die()
                raise OSError("segmentation fault")
            seconds = int.from_bytes(rest[1 + rest[0] :], "little") or int(time.time())
            if backend < 2 and seconds + pound.ttl > time.time():
                with pound.lock:
                    pound.rows[key[:-1]] = (backend, seconds)

    @staticmethod
    def _row(key: bytes, backend: int, last: int) -> bytes:
        head = b"\xef\xab\x06\x05\x00\x02\x05farmX" + struct.pack("<III", 0, 0, backend)
        return head + bytes([len(key)]) + key + b"\x09127.0.0.%d" % (backend + 1) + struct.pack("<Q", last)


class _Control(Server):
    def __init__(self, path: Path, pound: ZevenetPound) -> None:
        self.pound = pound
        super().__init__(path)

    def serve(self, connection: socket.socket) -> None:
        data = b""
        while len(data) < 144:
            data += connection.recv(144)
        command, _, _, _, key = struct.unpack("<iiii128s", data)
        with self.pound.lock:
            if command == 9:
                name = key.partition(b"\0")[0]
                if self.pound.rows.pop(name, None):
                    self.pound.tell(b"\xef\xab\x06\x05\x00\x03\x05farmX" + bytes([*bytes(12), len(name)]) + name)
            elif command == 0:
                connection.sendall(self._listed())

    def _listed(self) -> bytes:
        lines = [b"<pound>", b'<queue size="0"/>', b'<listener index="0" protocol="http" address="a" status="active">']
        lines.append(b'<service index="0" name="s" status="active">')
        for number in (0, 1):
            lines.append(b'<backend index="%d" key="" address="127.0.0.%d:80" avg="0" />' % (number, number + 1))
        for number, (key, row) in enumerate(self.pound.rows.items()):
            lines.append(b'<session index="%d" key="%s" backend="%d" />' % (number, key, row[0]))
        return b"\n".join([*lines, b"</service>", b"</listener>", b"</pound>", b""])
