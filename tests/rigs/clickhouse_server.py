"""ClickHouse's HTTP interface for tests. The engine behind it is ClickHouse's own: chdb, in a process.

    python -m rigs.clickhouse_server PORT [PASSWORD]

It answers as the server does in what a client sees: the format that the client asked for, errors with their code, 516
for a wrong password, and 164 for a statement that writes in a request with the setting `readonly`. It doesn't support
several databases, compression or sessions.
"""

import base64
import re
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, urlsplit

# What the server runs with the setting `readonly`.
_READS = re.compile(r"\s*(SELECT|WITH|SHOW|DESCRIBE|DESC|EXISTS|EXPLAIN)\b", re.IGNORECASE)


class Handler(BaseHTTPRequestHandler):
    engine: Any  # chdb's functions have no types
    password: str

    def do_GET(self) -> None:
        self._answer(200, b"Ok.\n")

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        settings = parse_qs(url.query)
        query = "\n".join([*settings.get("query", []), body])
        _, _, credentials = self.headers.get("Authorization", "").partition("Basic ")
        password = base64.b64decode(credentials).decode().partition(":")[2]
        if password != self.password:
            self._refuse(403, 516, "Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)")
            return
        if settings.get("readonly", ["0"]) != ["0"] and not _READS.match(query):
            self._refuse(500, 164, "Code: 164. DB::Exception: Cannot execute query in readonly mode. (READONLY)")
            return
        asked = self.headers.get("X-ClickHouse-Format", "TabSeparated")
        try:
            self._answer(200, self.engine.query(query, asked).bytes())
        # chdb and chdb-core both install chdb/__init__.py. The one installed last decides which class is raised.
        except Exception as error:
            found = re.search(r"Code: (\d+)", str(error))
            if found is None:
                raise
            self._refuse(500, int(found[1]), str(error))

    def log_message(self, *_: object) -> None:
        pass

    def _refuse(self, status: int, code: int, text: str) -> None:
        self._answer(status, text.encode(), ("X-ClickHouse-Exception-Code", str(code)))

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body))), ("X-ClickHouse-Timezone", "UTC")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    Handler.engine = import_module("chdb.session").Session()
    Handler.password = sys.argv[2] if len(sys.argv) > 2 else ""
    with HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
