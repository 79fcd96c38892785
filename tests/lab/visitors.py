"""A load balancer on the pair: two servers behind it, and visitors each of whom is to stay on the server he had."""

import json
import subprocess

from tests.lab import lan
from tests.lab.pairlab import Lab
from tests.lab.spaces import LabError, wait_until

PORTS = {"one": 9001, "two": 9002}  # of the servers, in the clients' namespace
SOURCES = [f"10.98.0.{n}" for n in range(20, 40)]
SERVER = """\
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sys.argv[1].encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", int(sys.argv[2])), Handler).serve_forever()
"""
VISIT = """\
import http.client, json, sys
found = {}
for source in sys.argv[2:]:
    visit = http.client.HTTPConnection(sys.argv[1], 8080, timeout=5, source_address=(source, 0))
    visit.request("GET", "/")
    found[source] = visit.getresponse().read().decode()
print(json.dumps(found))
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
frontend visitors
    bind :8080
    default_backend servers
backend servers
    balance roundrobin
    stick-table type ip size 10k expire 30m
    stick on src
"""


def configuration(names: list[str]) -> str:
    """Return haproxy.cfg with the servers in some order: it differs between the nodes, and so do their numbers."""
    address = lan.ADDRESSES["client"].partition("/")[0]
    return HAPROXY + "".join(f"    server {name} {address}:{PORTS[name]}\n" for name in names)


class Visitors:
    """Twenty of them, and the servers that they reach through the shared address."""

    def __init__(self, lab: Lab) -> None:
        self.inside = ["nsenter", "-t", lab.running("client"), "-n"]
        self.environment = lab.environment()
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
        """Let each come once, and return which server he was sent to."""
        words = ["/usr/bin/python3", "-I", "-c", VISIT, lan.SHARED, *SOURCES]
        done = subprocess.run([*self.inside, *words], env=self.environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise LabError(f"a visitor was not served: {done.stderr.strip().splitlines()[-1]}")
        found: dict[str, str] = json.loads(done.stdout)
        return found
