"""A small web server for tests: files by path, and a way of answering by the path's first part."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WAYS = ("range", "whole", "chunked", "cut", "flaky", "moved", "down", "denied", "short", "hangs-up")
HALF_WAY = 20_000


class Web(ThreadingHTTPServer):
    """Serves `files` at http://127.0.0.1:PORT/WAY/NAME."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.asked: Counter[str] = Counter()
        self.hang_up = threading.Event()

    def url(self, way: str, name: str) -> str:
        """The address of a file, answered in this way."""
        assert way in WAYS
        return f"http://127.0.0.1:{self.server_port}/{way}/{name}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        _, way, name = self.path.split("/", 2)
        self.server.asked[f"{self.command} {way}"] += 1
        if way == "moved":
            self._head(302, b"", {"Location": self.server.url("range", name)})
            return
        status = {"down": 503, "denied": 403}.get(way, 200 if name in self.server.files else 404)
        if way == "flaky" and body and self.server.asked["GET flaky"] % 2:
            self.close_connection = True  # hung up on without an answer
            return
        if status != 200:
            self._head(status, b"no", {}, body)
            return
        data, headers = self.server.files[name], {}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked and way in ("range", "flaky"):
            size = len(data)
            first = int(asked[1]) if asked[1] else size - int(asked[2])
            last = min(int(asked[2]) if asked[1] and asked[2] else size - 1, size - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            status, data = 206, data[first : last + 1]
        if way in ("range", "flaky"):
            headers["Accept-Ranges"] = "bytes"
        if way == "chunked":
            self._chunked(data if body else None)
        elif way == "hangs-up":  # half way, when it is told to; what is short it says whole
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has enough
                self._chunked(data[:HALF_WAY] if body else None, ended=len(data) <= HALF_WAY)
        elif way == "cut":
            self._head(200, data, headers, body and len(data) // 2)
            self.close_connection = True
        elif way == "short":  # a server that ends early and says so nowhere
            self._head(200, data[: len(data) // 2], headers, body)
        else:
            self._head(status, data, headers, body)

    def _head(self, status: int, data: bytes, headers: dict[str, str], body: bool | int = True) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if body is not False:
            with suppress(BrokenPipeError, ConnectionResetError):  # the client wanted only a part
                self.wfile.write(data if body is True else data[:body])

    def _chunked(self, data: bytes | None, *, ended: bool = True) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(data or b""), 1000):
            piece = (data or b"")[at : at + 1000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if data is not None and not ended:
            self.wfile.flush()
            self.server.hang_up.wait(10)
            self.close_connection = True
        if data is not None and ended:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Web]:
    """The server while it runs."""
    server = Web(files)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
