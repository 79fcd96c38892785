"""A service that is worth a failover: it answers with a file's text and the rows of two databases."""

import http.server
import subprocess
from pathlib import Path

NOTE = Path("/srv/shop/note")
QUERIES = (
    ["mariadb", "-N", "-e", "SELECT group_concat(what ORDER BY id) FROM shop.sold"],
    ["runuser", "-u", "postgres", "--", "psql", "-tA", "-d", "shop", "-c", "SELECT string_agg(what, ',') FROM bought"],
)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every request alike."""

    def do_GET(self) -> None:
        try:
            words = [NOTE.read_text(encoding="utf-8").strip()]
            words += [
                subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip() for query in QUERIES
            ]
        except (OSError, subprocess.CalledProcessError):
            self.send_error(503)
            return
        body = " ".join(words).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
