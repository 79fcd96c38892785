"""A load balancer on the pair: two servers behind it, and visitors each of whom is to stay on the server he had.

Each comes twice: known by his address at one port, by his cookie at the other.
"""

import json
import subprocess

from tests.lab import lan
from tests.lab.pairlab import Lab
from tests.lab.spaces import LabError, wait_until

PORTS = {"one": 9001, "two": 9002}  # of the servers, in the clients' namespace
SOURCES = [f"10.98.0.{n}" for n in range(20, 40)]
SERVER = """\
import http.server, secrets, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        if "Cookie" not in self.headers:
            self.send_header("Set-Cookie", "SID=" + secrets.token_hex(8))
        self.end_headers()
        self.wfile.write(sys.argv[1].encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", int(sys.argv[2])), Handler).serve_forever()
"""
VISIT = """\
import http.client, json, sys
found = {}
cookies = json.load(sys.stdin)
for source in sys.argv[2:]:
    for port, by in (8080, "address"), (8081, "cookie"):
        visit = http.client.HTTPConnection(sys.argv[1], port, timeout=5, source_address=(source, 0))
        visit.request("GET", "/", headers={"Cookie": cookies[source]} if by == "cookie" and source in cookies else {})
        answer = visit.getresponse()
        found[f"{source} by {by}"] = answer.read().decode()
        if by == "cookie":
            cookies.setdefault(source, answer.getheader("Set-Cookie"))
print(json.dumps([found, cookies]))
"""
HAPROXY = """\
global
    stats socket /run/haproxy/admin.sock mode 600 level admin
    maxconn 200
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend strangers
    bind :8080
    default_backend by-address
frontend members
    bind :8081
    default_backend by-cookie
"""
BACKENDS = """\
backend by-address
    balance roundrobin
    stick-table type ip size 10k expire 30m
    stick on src
{servers}
backend by-cookie
    balance roundrobin
    stick-table type string len 32 size 10k expire 30m
    stick store-response res.cook(SID)
    stick match req.cook(SID)
{servers}
"""


def configuration(names: list[str]) -> str:
    """Return haproxy.cfg with the servers in some order: it differs between the nodes, and so do their numbers."""
    address = lan.ADDRESSES["client"].partition("/")[0]
    servers = "\n".join(f"    server {name} {address}:{PORTS[name]}" for name in names)
    return HAPROXY + BACKENDS.format(servers=servers)


class Visitors:
    """Twenty of them, and the servers that they reach through the shared address."""

    def __init__(self, lab: Lab) -> None:
        self.inside = ["nsenter", "-t", lab.running("client"), "-n"]
        self.environment = lab.environment()
        self.cookies: dict[str, str] = {}  # by source
        for source in SOURCES:
            subprocess.run([*self.inside, "ip", "address", "add", f"{source}/24", "dev", "lan"], check=True)
        for name, port in PORTS.items():
            words = ["/usr/bin/python3", "-I", "-c", SERVER, name, str(port)]
            subprocess.Popen([*self.inside, *words], env=self.environment, start_new_session=True)
        if not wait_until(self._served, 20):
            raise LabError("the servers behind the load balancer do not start")

    def _served(self) -> bool:
        found = subprocess.run([*self.inside, "ss", "-Hltn"], capture_output=True, text=True).stdout
        return all(f":{port} " in found for port in PORTS.values())

    def visit(self) -> dict[str, str]:
        """Let each come to both ports, and return which servers he was sent to."""
        words = [*self.inside, "/usr/bin/python3", "-I", "-c", VISIT, lan.SHARED, *SOURCES]
        known = json.dumps(self.cookies)
        done = subprocess.run(words, input=known, env=self.environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise LabError(f"a visitor was not served: {done.stderr.strip().splitlines()[-1]}")
        found: dict[str, str]
        found, self.cookies = json.loads(done.stdout)
        return found
